//! Backends that answer clients directly: `dsr`, with the virtual address on each backend's loopback.

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use grayxdp::lab::{Namespace, Process};
use grayxdp_tests::stand::{Setup, Stand, VIP_PORT, eventually, within_five_deviations};

const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of the long download.
const LONG: usize = 100_000_000;

/// A family of addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Ipv4,
    Ipv6,
}

/// A stand whose service keeps the virtual endpoint, which its backends have on their loopback.
struct Direct {
    stand: Stand,
    family: Family,
}

impl Direct {
    fn new(family: Family, setup: Setup) -> Self {
        let fields = [setup.fields.clone(), vec!["forwarding: dsr".to_owned()]].concat();
        let stand = Stand::new(Setup { serves: [false, false], fields, ..setup });
        let direct = Self { stand, family };
        let lab = direct.stand.lab();
        lab.add_ipv6().unwrap();
        let mut text = direct.stand.configuration().replace(", port: 8080", "");
        if family == Family::Ipv6 {
            text = text.replace(&lab.vip().to_string(), &format!("\"{}\"", lab.vip6()));
        }
        for index in 0..2 {
            let old = lab.backend_address(index).to_string();
            text = text.replace(&format!("{old},"), &format!("\"{}\",", direct.backend(index)));
            let width = if family == Family::Ipv4 { 32 } else { 128 };
            lab.backend(index).ip(&[format!("address add {}/{width} dev lo", direct.vip())]).unwrap();
        }
        direct.stand.write("grayxdp.yaml", &text);
        direct
    }

    fn vip(&self) -> IpAddr {
        match self.family {
            Family::Ipv4 => self.stand.lab().vip().into(),
            Family::Ipv6 => self.stand.lab().vip6().into(),
        }
    }

    fn target(&self) -> SocketAddr {
        SocketAddr::new(self.vip(), VIP_PORT)
    }

    fn backend(&self, index: usize) -> IpAddr {
        match self.family {
            Family::Ipv4 => self.stand.lab().backend_address(index).into(),
            Family::Ipv6 => self.stand.lab().backend_address6(index).into(),
        }
    }

    fn source(&self, index: u16) -> IpAddr {
        match self.family {
            Family::Ipv4 => self.stand.lab().sources().at(index.into()).into(),
            Family::Ipv6 => self.stand.lab().source6(index).into(),
        }
    }

    /// nginx on a backend, at the virtual endpoint; it answers with these words, and `/big` with [`LONG`] bytes.
    fn nginx(&self, index: usize, answer: &str) -> Process {
        let folder = self.stand.file(answer);
        fs::create_dir(&folder).unwrap();
        let bytes: Vec<u8> = (0..LONG).map(|n| ((n * 31) >> 3) as u8).collect();
        fs::write(folder.join("big"), bytes).unwrap();
        let configuration = format!(
            "daemon off; master_process off; worker_processes 1; pid {0}/pid; error_log {0}/error.log;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy;\n\
             fastcgi_temp_path {0}/fastcgi; uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;\n\
             server {{ listen {1}; root {0}; location = / {{ return 200 '{answer}'; }} }} }}\n",
            folder.display(),
            self.target(),
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let namespace = self.stand.lab().backend(index);
        let mut command = namespace.command("nginx");
        command.arg("-c").arg(&file).arg("-p").arg(&folder);
        let process = namespace.start(&mut command).unwrap();
        let is_ready = || namespace.run(|| TcpStream::connect(self.target()).is_ok());
        eventually("nginx", is_ready, |ready| *ready);
        process
    }

    /// Answers each datagram to the virtual endpoint with its name and the datagram.
    fn echo(&self, index: usize, name: &'static str) {
        let socket = self.stand.lab().backend(index).run(|| UdpSocket::bind(self.target())).unwrap();
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if &buffer[..length] == b"end" {
                    return;
                }
                socket.send_to(&[name.as_bytes(), &buffer[..length]].concat(), from).unwrap();
            }
        });
    }

    /// Ends what [`Self::echo`] began.
    fn end_echo(&self, index: usize) {
        let any = match self.family {
            Family::Ipv4 => "0.0.0.0:0",
            Family::Ipv6 => "[::]:0",
        };
        self.stand.lab().backend(index).run(|| UdpSocket::bind(any).unwrap().send_to(b"end", self.target())).unwrap();
    }

    /// Runs a line of the shell where clients are.
    fn shell(&self, line: &str) -> String {
        let client: &Namespace = self.stand.lab().client();
        client.output("sh", ["-c", line]).unwrap()
    }
}

/// curl of both versions, the split, a long download with its hash, and what the commands say.
fn serves_http(family: Family) {
    let mut direct = Direct::new(family, Setup { v2_weight: 50, ..Setup::default() });
    let _servers = [(0, "first"), (1, "second")].map(|(index, answer)| direct.nginx(index, answer));
    direct.stand.start();
    let url = format!("http://{}", direct.target());
    let mut of_first = 0;
    for index in 1..=60 {
        let from = direct.source(index);
        let answer = direct.shell(&format!("curl -g -sS --fail --max-time 20 --interface {from} '{url}/'"));
        assert!(answer == "first" || answer == "second", "{answer}");
        of_first += u64::from(answer == "first");
    }
    assert!(within_five_deviations(of_first, 60, 0.5), "{of_first} of 60 by v1");
    let came = direct.shell(&format!("curl -g -sS --fail --max-time 60 '{url}/big' | sha256sum"));
    let sent =
        direct.stand.lab().client().output("sha256sum", [direct.stand.file("first").join("big").as_os_str()]).unwrap();
    assert_eq!(came.split_whitespace().next(), sent.split_whitespace().next(), "each byte of {LONG}");
    let source = SocketAddr::new(direct.source(1), 40_000).to_string();
    let told = direct.stand.done(&["explain", "--src", &source, "--dst", &direct.target().to_string()]);
    assert!(
        told.contains("forwarded") && told.contains(&format!("{}", direct.backend(0)))
            || told.contains(&format!("{}", direct.backend(1))),
        "{told}"
    );
    let status = direct.stand.done(&["status"]);
    assert!(status.contains("  dsr  "), "{status}");
    let service = direct.stand.service();
    assert!(service.reasons.is_empty(), "{:?}", service.reasons);
    let totals: Vec<_> = service.versions.iter().map(|version| version.totals.packets_reverse).collect();
    assert_eq!(totals, [0, 0], "answers do not come by");
}

#[test]
fn dsr_serves_http_over_ipv4() {
    serves_http(Family::Ipv4);
}

#[test]
fn dsr_serves_http_over_ipv6() {
    serves_http(Family::Ipv6);
}

/// Datagrams, whole and in pieces, come back from the version that the weights say.
fn echoes_datagrams(family: Family) {
    let mut direct = Direct::new(family, Setup { protocol: "udp", v2_weight: 50, ..Setup::default() });
    direct.echo(0, "v1/");
    direct.echo(1, "v2/");
    direct.stand.start();
    let mut of_first = 0;
    for flow in 1..=200_u16 {
        let length = if flow % 10 == 0 { 9_000 } else { usize::from(flow) };
        let question: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let answer = direct.stand.lab().client().run(|| {
            let socket = UdpSocket::bind((direct.source(flow), 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send_to(&question, direct.target()).unwrap();
            let mut answer = vec![0; 1 << 16];
            let length = socket.recv(&mut answer).unwrap();
            answer.truncate(length);
            answer
        });
        assert!(
            answer.ends_with(&question) && answer.len() == question.len() + 3,
            "{} bytes of {length}",
            answer.len()
        );
        of_first += u64::from(answer.starts_with(b"v1/"));
    }
    assert!(within_five_deviations(of_first, 200, 0.5), "{of_first} of 200 by v1");
    (0..2).for_each(|index| direct.end_echo(index));
}

#[test]
fn dsr_takes_datagrams_of_ipv4() {
    echoes_datagrams(Family::Ipv4);
}

#[test]
fn dsr_takes_datagrams_of_ipv6() {
    echoes_datagrams(Family::Ipv6);
}

#[test]
fn a_connection_over_dsr_stays_where_it_is_when_all_weight_moves() {
    let mut direct = Direct::new(Family::Ipv4, Setup::default());
    let _servers = [(0, "first"), (1, "second")].map(|(index, answer)| direct.nginx(index, answer));
    direct.stand.start();
    let ask = |stream: &mut TcpStream| {
        use std::io::{Read as _, Write as _};
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let (mut answer, mut buffer) = (String::new(), [0; 4_096]);
        while !answer.ends_with("first") && !answer.ends_with("second") {
            let length = stream.read(&mut buffer).unwrap();
            assert!(length > 0, "{answer}");
            answer.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
        answer.ends_with("first")
    };
    let connect = || {
        let stream = direct.stand.lab().client().run(|| TcpStream::connect(direct.target())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let mut old = connect();
    assert!(ask(&mut old), "all are v1's");
    direct.stand.done(&["weights", "set", "recsys", "v2=100"]);
    let mut new = connect();
    assert!(!ask(&mut new) && !ask(&mut new), "new ones are v2's");
    assert!(ask(&mut old), "this one is still v1's");
    direct.stand.done(&["weights", "set", "recsys", "v1=100"]);
    assert!(!ask(&mut new) && ask(&mut old), "neither moves back");
}
