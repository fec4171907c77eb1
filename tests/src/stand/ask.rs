//! Clients whose every flow is named: address and port.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    time::Duration,
};

use grayxdp::lab::Namespace;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    task::JoinSet,
};

/// How long a client waits for one thing.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How many flows are under way at once.
const AT_ONCE: usize = 32;

/// Who answers each flow, given by the client's address and port. The connections end by a reset, so that the same
/// flows can be asked again.
///
/// # Panics
/// When a flow gets no answer.
#[must_use]
pub fn ask_flows(
    namespace: &Namespace,
    target: SocketAddrV4,
    flows: &[SocketAddrV4],
) -> BTreeMap<SocketAddrV4, String> {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    namespace.run(|| {
        runtime().block_on(async {
            let mut answers = BTreeMap::new();
            for some in flows.chunks(AT_ONCE) {
                let mut tasks = JoinSet::new();
                for &flow in some {
                    tasks.spawn(async move { (flow, flow_answer(flow, target).await) });
                }
                for (flow, answer) in tasks.join_all().await {
                    answers.insert(flow, answer.unwrap_or_else(|error| panic!("{flow}: {error}")));
                }
            }
            answers
        })
    })
}

/// Who answers one flow, or why nobody does; connecting takes at most `patience`.
///
/// # Errors
/// The flow was refused, or got no answer.
pub fn try_flow(
    namespace: &Namespace,
    target: SocketAddrV4,
    flow: SocketAddrV4,
    patience: Duration,
) -> io::Result<String> {
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { tokio::time::timeout(patience, flow_answer(flow, target)).await? })
    })
}

async fn flow_answer(flow: SocketAddrV4, target: SocketAddrV4) -> io::Result<String> {
    let ask = async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::V4(flow))?;
        let mut stream = socket.connect(target.into()).await?;
        stream.set_zero_linger()?;
        stream.write_all(REQUEST.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        body(&answer)
    };
    tokio::time::timeout(TIMEOUT, ask).await?
}

/// The answer of a datagram from `flow`.
///
/// # Errors
/// Nothing came back in time.
pub fn ask_udp(namespace: &Namespace, target: SocketAddrV4, flow: SocketAddrV4, words: &str) -> io::Result<String> {
    namespace.run(|| {
        let socket = UdpSocket::bind(flow)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.connect(target)?;
        socket.send(words.as_bytes())?;
        let mut answer = vec![0; 2_048];
        let length = socket.recv(&mut answer)?;
        answer.truncate(length);
        String::from_utf8(answer).map_err(io::Error::other)
    })
}

/// The body of what a server answers to `GET path`, asked from within a namespace, whatever the status.
///
/// # Errors
/// No connection, or no answer.
pub fn get(namespace: &Namespace, target: SocketAddrV4, path: &str) -> io::Result<(u16, String)> {
    namespace.run(|| {
        let mut stream = TcpStream::connect_timeout(&target.into(), TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {target}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
        Ok((status.ok_or_else(|| io::Error::other(answer.clone()))?, body(&answer)?))
    })
}

const REQUEST: &str = "GET / HTTP/1.0\r\nHost: lab\r\n\r\n";

fn body(answer: &str) -> io::Result<String> {
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other(format!("no answer: {answer:?}")))?;
    Ok(body.to_owned())
}

/// Sends an IPv4 packet as it is from the calling thread's namespace.
///
/// # Panics
/// Without the right to raw sockets.
pub fn send_raw(to: Ipv4Addr, packet: &[u8]) {
    use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
    // SAFETY: the call takes numbers only.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW) };
    assert!(socket >= 0, "raw sockets need root");
    // SAFETY: a descriptor that was just made, and that nobody else knows.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.octets()) },
        sin_zero: [0; 8],
    };
    let (data, length) = (packet.as_ptr().cast(), packet.len());
    let address_len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: packet and address live through the call, with the lengths that they have.
    let sent = unsafe { libc::sendto(socket.as_raw_fd(), data, length, 0, (&raw const address).cast(), address_len) };
    assert_eq!(sent, length as isize, "{}", io::Error::last_os_error());
}
