//! Servers with faults at given rates, and backends that refuse or swallow connections before any server sees them.

use std::{
    io,
    net::SocketAddrV4,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use grayxdp::lab::Namespace;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

/// How a server answers. Parts are in thousandths of its connections, spread evenly over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manners {
    /// The body.
    pub body: Body,
    /// How long every answer takes.
    pub first_byte: Duration,
    /// Connections that are reset in the middle of the answer.
    pub resets: u64,
    /// Connections whose answer takes longer by [`Manners::delay`].
    pub late: u64,
    /// By how much those are late.
    pub delay: Duration,
}

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes.
    Bytes(usize),
    /// These words.
    Words(&'static str),
}

impl Default for Manners {
    fn default() -> Self {
        Self { body: Body::Bytes(2_000), first_byte: Duration::ZERO, resets: 0, late: 0, delay: Duration::ZERO }
    }
}

/// Servers on a thread inside a namespace, an address each; they end when dropped.
#[derive(Debug)]
pub struct FaultyServers {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl FaultyServers {
    /// Starts them; when this returns, they accept connections.
    ///
    /// # Panics
    /// When an address is not the namespace's, or a port is taken.
    #[must_use]
    pub fn start(namespace: &Namespace, servers: Vec<(SocketAddrV4, Manners)>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = std::sync::mpsc::channel();
        let serving = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                for (address, manners) in servers {
                    let listener = TcpListener::bind(address).await.expect("a port is free");
                    tokio::spawn(serve(listener, manners));
                }
                ready.send(()).expect("the starter waits");
                // An error says that the sender was dropped, which is the signal too.
                let _ = stopped.await;
            });
        };
        let thread = namespace.spawn(serving).expect("a thread can be started");
        started.recv().expect("the servers start");
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for FaultyServers {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of a server was printed; a second one here would abort the process.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, manners: Manners) {
    let served = Arc::new(AtomicU64::new(0));
    while let Ok((stream, _)) = listener.accept().await {
        let number = served.fetch_add(1, Ordering::Relaxed);
        // The client's fault, not the server's: it went away.
        tokio::spawn(async move { answer(stream, manners, number).await.unwrap_or(()) });
    }
}

/// Whether a connection of this number is one of so many thousandths.
const fn is_meant(number: u64, thousandths: u64) -> bool {
    number * thousandths / 1_000 != (number + 1) * thousandths / 1_000
}

async fn answer(mut stream: TcpStream, manners: Manners, number: u64) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let late = if is_meant(number, manners.late) { manners.delay } else { Duration::ZERO };
    let wait = manners.first_byte + late;
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let body = match manners.body {
        Body::Bytes(count) => ".".repeat(count),
        Body::Words(words) => words.to_owned(),
    };
    let length = body.len();
    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let text = text.as_bytes();
    if is_meant(number, manners.resets) {
        stream.write_all(&text[..text.len() / 2]).await?;
        stream.set_zero_linger()?;
        return Ok(());
    }
    stream.write_all(text).await?;
    stream.shutdown().await?;
    // Until the client has gone, too.
    stream.read_to_end(&mut request).await.map(drop)
}

/// What a backend's host does to connections to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A RST answers so many thousandths of the SYNs, always those of the same flows.
    Refuse(u64),
    /// Nothing answers so many thousandths of the SYNs, always those of the same flows.
    Swallow(u64),
    /// A RST answers the SYNs of one client.
    RefuseClient(std::net::Ipv4Addr),
}

/// Lets a backend's host do something to connections to a port, by nftables, from now on.
///
/// # Panics
/// When there is no `nft`, or it refuses the rule.
pub fn inflict(namespace: &Namespace, port: u16, fault: Fault) {
    let of_flows = |thousandths: u64| match thousandths {
        1_000.. => String::new(),
        part => format!("jhash ip saddr . tcp sport mod 1000 seed 0x5eed < {part}"),
    };
    let (which, what) = match fault {
        Fault::Refuse(thousandths) => (of_flows(thousandths), "reject with tcp reset"),
        Fault::Swallow(thousandths) => (of_flows(thousandths), "drop"),
        Fault::RefuseClient(client) => (format!("ip saddr {client}"), "reject with tcp reset"),
    };
    let rules = format!(
        "add table ip faults\nadd chain ip faults input {{ type filter hook input priority 0; policy accept; }}\n\
         add rule ip faults input tcp dport {port} tcp flags & (syn|ack) == syn {which} {what}\n"
    );
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    std::fs::write(file.path(), rules).expect("a file can be written");
    let path = file.path().to_string_lossy();
    namespace.output("nft", ["-f", path.as_ref()]).expect("nft takes the rule");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_a_thousand_connections_are_meant_and_no_others() {
        for thousandths in [0, 1, 20, 333, 1_000] {
            let count = (5_000..7_000).filter(|number| is_meant(*number, thousandths)).count() as u64;
            assert_eq!(count, 2 * thousandths);
        }
    }
}
