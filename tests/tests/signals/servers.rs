//! Servers and clients with manners of their own, on plain threads.

use std::{
    io::{Read, Write},
    net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use grayxdp::lab::Namespace;

/// How long anybody waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Takes `connections` connections, one thread each, and leaves each to `serve`; the thread ends when all have ended.
pub(crate) fn serve(
    namespace: &Namespace,
    address: SocketAddrV4,
    connections: usize,
    serve: impl Fn(TcpStream) + Clone + Send + 'static,
) -> thread::JoinHandle<()> {
    let listener = namespace.run(|| TcpListener::bind(address)).unwrap();
    namespace
        .spawn(move || {
            let threads: Vec<_> = (0..connections)
                .map(|_| {
                    let (stream, _) = listener.accept().unwrap();
                    let serve = serve.clone();
                    thread::spawn(move || serve(stream))
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        })
        .unwrap()
}

/// Runs `connections` clients at once, each with its own connection from an address of its own.
pub(crate) fn ask(
    namespace: &Namespace,
    sources: impl Fn(u64) -> SocketAddrV4,
    target: SocketAddrV4,
    connections: u64,
    client: impl Fn(TcpStream) + Clone + Send + 'static,
) {
    let threads: Vec<_> = (0..connections)
        .map(|number| {
            let (source, client) = (sources(number), client.clone());
            namespace.spawn(move || client(connect(source, target).unwrap())).unwrap()
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Connects from an address.
pub(crate) fn connect(source: SocketAddrV4, target: SocketAddrV4) -> std::io::Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::V4(source))?;
        tokio::time::timeout(PATIENCE, socket.connect(target.into())).await?
    })?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends a request and reads the answer to its end.
pub(crate) fn request(mut stream: TcpStream, bytes: usize) {
    stream.write_all(&vec![b'?'; bytes]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
}

/// Makes a connection end by a RST when it is dropped.
pub(crate) fn end_by_reset(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(stream);
    // SAFETY: the descriptor is open, and the structure's size is given.
    let set = unsafe {
        libc::setsockopt(
            descriptor,
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "the option exists");
}
