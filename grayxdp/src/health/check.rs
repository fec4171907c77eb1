//! One question to one backend.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::model::config::{Backend, CheckType, HealthCheck, Service};

/// Longest beginning of an answer in which its status must stand, in bytes.
const STATUS_LINE: usize = 512;

/// What is asked of one backend, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Where.
    pub address: SocketAddr,
    /// HTTP: what is asked for. None: that the connection is accepted is enough.
    pub path: Option<String>,
    /// Time between the beginnings of two questions.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Good answers in a row.
    pub rise: u32,
    /// Bad answers in a row.
    pub fall: u32,
}

impl Check {
    /// The check of a backend: at the check's port, else at its own, else at the service's first.
    #[must_use]
    pub fn of(service: &Service, backend: &Backend, health: &HealthCheck) -> Self {
        let own = backend.port.or_else(|| service.virtual_ports().first().copied());
        let port = health.port.or(own).unwrap_or_default();
        Self {
            address: SocketAddr::new(backend.address, port),
            path: match health.r#type {
                CheckType::Tcp => None,
                CheckType::Http => Some(health.path.clone().unwrap_or_else(|| "/".to_owned())),
            },
            interval: health.interval,
            timeout: health.timeout,
            rise: health.rise,
            fall: health.fall,
        }
    }
}

/// Asks once.
///
/// # Errors
/// Why the backend does not count as well: one line.
pub async fn ask(check: &Check) -> Result<(), String> {
    let asked = async {
        let mut stream = TcpStream::connect(check.address).await.map_err(|error| said(&error))?;
        match &check.path {
            None => Ok(()),
            Some(path) => get(&mut stream, check.address, path).await,
        }
    };
    let late = || Err(format!("no answer within {}", humantime::format_duration(check.timeout)));
    timeout(check.timeout, asked).await.unwrap_or_else(|_| late())
}

/// HTTP/1.1, one request a connection (RFC 9112); only the status is read.
async fn get(stream: &mut TcpStream, address: SocketAddr, path: &str) -> Result<(), String> {
    let agent = concat!("grayxdp/", env!("CARGO_PKG_VERSION"));
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| said(&error))?;
    let mut answer = [0; STATUS_LINE];
    let mut filled = 0;
    while !answer[..filled].contains(&b'\n') {
        match stream.read(&mut answer[filled..]).await.map_err(|error| said(&error))? {
            0 => return Err("no HTTP answer".to_owned()),
            read => filled += read,
        }
    }
    match status(&answer[..filled]) {
        Some(200..=399) => Ok(()),
        Some(other) => Err(format!("HTTP status {other}")),
        None => Err("no HTTP answer".to_owned()),
    }
}

/// The status of an answer that begins `HTTP/1.1 200`.
fn status(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.")?;
    let (digits, after) = (rest.get(2..5)?, rest.get(5)?);
    let sound = rest[1] == b' ' && matches!(after, b' ' | b'\r' | b'\n') && digits.iter().all(u8::is_ascii_digit);
    sound.then(|| digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')))
}

/// The kernel's words without their number.
fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn check(address: SocketAddr, path: Option<&str>) -> Check {
        let (interval, timeout) = (Duration::from_secs(1), Duration::from_millis(300));
        Check { address, path: path.map(str::to_owned), interval, timeout, rise: 2, fall: 3 }
    }

    /// A server that answers every connection with these bytes after reading something, or with silence.
    async fn server(answer: Option<&'static str>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                if let Some(answer) = answer {
                    let mut buffer = [0; 1_024];
                    let read = stream.read(&mut buffer).await.unwrap_or_default();
                    assert!(buffer[..read].starts_with(b"GET /healthz?deep HTTP/1.1\r\nHost: 127.0.0.1:") || read == 0);
                    // In two parts, as networks do.
                    let (first, second) = answer.split_at(answer.len() / 2);
                    stream.write_all(first.as_bytes()).await.expect("written");
                    stream.write_all(second.as_bytes()).await.expect("written");
                } else {
                    kept.push(stream);
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn a_connection_that_is_accepted_is_well_and_one_that_is_refused_is_not() {
        let address = server(None).await;
        assert_eq!(ask(&check(address, None)).await, Ok(()));
        // Bound and not listening: refused.
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
        let address = socket.local_addr().expect("bound");
        assert_eq!(ask(&check(address, None)).await, Err("connection refused".to_owned()));
    }

    #[tokio::test]
    async fn http_is_well_from_200_to_399() {
        let answers = [
            ("HTTP/1.1 200 OK\r\n\r\n", Ok(())),
            ("HTTP/1.0 204\r\n\r\n", Ok(())),
            ("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", Ok(())),
            ("HTTP/1.1 399 Odd\r\n\r\n", Ok(())),
            ("HTTP/1.1 404 Not Found\r\n\r\n", Err("HTTP status 404")),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", Err("HTTP status 503")),
            ("SSH-2.0-OpenSSH\r\n", Err("no HTTP answer")),
            ("HTTP/1.1 2000 OK\r\n", Err("no HTTP answer")),
            ("HTTP/1.1 OK\r\n", Err("no HTTP answer")),
            ("HTTP/1.1", Err("no HTTP answer")),
            ("", Err("no HTTP answer")),
        ];
        for (answer, expected) in answers {
            let address = server(Some(answer)).await;
            let found = ask(&check(address, Some("/healthz?deep"))).await;
            assert_eq!(found, expected.map_err(str::to_owned), "{answer}");
        }
    }

    #[tokio::test]
    async fn silence_ends_at_the_timeout() {
        let address = server(None).await;
        let begin = tokio::time::Instant::now();
        assert_eq!(ask(&check(address, Some("/"))).await, Err("no answer within 300ms".to_owned()));
        assert!((Duration::from_millis(250)..Duration::from_secs(2)).contains(&begin.elapsed()));
    }
}
