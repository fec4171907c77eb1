//! nginx, which nobody here wrote.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
};

use grayxdp::lab::Process;

use super::{Stand, eventually};

impl Stand {
    /// Starts nginx on a backend at an address of it. It answers `/` with these words, `/big` with as many bytes as [`long_text`] is told,
    /// and `/healthz` with 200 while the file `well` is in the stand's folder of that name, else with 503.
    ///
    /// # Panics
    /// When nginx does not start.
    #[must_use]
    pub fn nginx(&self, backend: usize, end: SocketAddr, name: &str, answer: &str, big: usize) -> Process {
        let folder = self.file(name);
        fs::create_dir(&folder).expect("a folder can be made");
        fs::write(folder.join("well"), "well").expect("a file can be written");
        fs::hard_link(self.long_file(big), folder.join("big")).expect("both are on one file system");
        let configuration = format!(
            "daemon off; master_process off; worker_processes 1; pid {0}/pid; error_log {0}/error.log;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy;\n\
             fastcgi_temp_path {0}/fastcgi; uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;\n\
             server {{ listen {end}; root {0}; location = / {{ return 200 '{answer}'; }}\n\
             location = /healthz {{ try_files /well =503; }} }} }}\n",
            folder.display(),
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration).expect("a file can be written");
        let namespace = self.lab().backend(backend);
        let mut command = namespace.command("nginx");
        command.arg("-c").arg(&file).arg("-p").arg(&folder);
        let process = namespace.start(&mut command).expect("nginx can be run");
        eventually("nginx", || namespace.run(|| TcpStream::connect(end).is_ok()), |ready| *ready);
        process
    }

    /// The file that `/big` of so many bytes is, for all servers of the stand.
    fn long_file(&self, length: usize) -> PathBuf {
        let file = self.file(&format!("big-{length}"));
        if !file.exists() {
            fs::write(&file, long_text(length)).expect("there is room for it");
        }
        file
    }
}

/// Letters in an order that shows what is missing, or stands elsewhere.
#[must_use]
pub fn long_text(length: usize) -> Vec<u8> {
    (0..length).map(|n| b'a' + (((n * 31) >> 3) % 26) as u8).collect()
}
