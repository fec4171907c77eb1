//! Reading secrets, each time that they are needed: a rotated one counts at once.

use std::{fs::File, io::Read, os::unix::fs::OpenOptionsExt, path::Path};

use crate::model::plan::SecretSource;

/// Longest secret, in bytes.
const LONGEST: u64 = 64 << 10;

/// Reads a secret.
///
/// # Errors
/// One line that names the source and never the secret.
pub async fn read(source: &SecretSource) -> Result<String, String> {
    let text = match source {
        SecretSource::File(path) => {
            let path = path.clone();
            let read = tokio::task::spawn_blocking(move || read_file(&path)).await;
            read.map_err(|_| "reading it was broken off".to_owned()).and_then(|read| read.map_err(|e| e.to_string()))
        }
        SecretSource::Env(name) => std::env::var(name).map_err(|error| error.to_string()),
    };
    let text = text.map_err(|why| format!("{source}: {why}"))?;
    let secret = text.trim_end_matches(['\n', '\r']);
    if secret.is_empty() {
        return Err(format!("{source} is empty"));
    }
    Ok(secret.to_owned())
}

/// Nothing that could keep the reader waiting is read: a FIFO, a device.
fn read_file(path: &Path) -> std::io::Result<String> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_is_read_anew_each_time_and_never_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let source = SecretSource::File(path.clone());
        let missing = read(&source).await.expect_err("no file");
        assert!(missing.contains("token: No such file"), "{missing}");
        std::fs::write(&path, "first\n").expect("written");
        assert_eq!(read(&source).await, Ok("first".to_owned()));
        std::fs::write(&path, "second").expect("written");
        assert_eq!(read(&source).await, Ok("second".to_owned()));
        std::fs::write(&path, "\n").expect("written");
        assert!(read(&source).await.expect_err("empty").ends_with("is empty"));
        let folder = read(&SecretSource::File(folder.path().to_owned())).await.expect_err("a folder");
        assert!(folder.ends_with("it is no regular file"), "{folder}");
        let unset = read(&SecretSource::Env("GRAYXDP_NO_SUCH_VARIABLE".to_owned())).await.expect_err("unset");
        assert!(unset.starts_with("variable GRAYXDP_NO_SUCH_VARIABLE: "), "{unset}");
    }
}
