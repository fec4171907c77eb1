//! Clients that come at a rate of their own, however long the answers take, a connection each.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use grayxdp::lab::{Namespace, Sources};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

/// How often clients begin.
const TICK: Duration = Duration::from_millis(20);

/// Where clients come from, where they go, and how many a second.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where to.
    pub target: SocketAddrV4,
    /// Where from: each connection takes the next address.
    pub sources: Sources,
    /// New connections a second.
    pub per_second: u32,
    /// How long a client waits in all.
    pub patience: Duration,
}

/// Clients at work; they end when dropped.
#[derive(Debug)]
pub struct Loading {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    begun: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Load {
    /// Lets all these clients come until they are stopped.
    ///
    /// # Panics
    /// When no thread can be started.
    #[must_use]
    pub fn start(namespace: &Namespace, loads: Vec<Self>) -> Loading {
        let shared = Arc::new(Shared::default());
        let clients = Arc::clone(&shared);
        let coming = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(come(&clients, &loads));
        };
        let thread = namespace.spawn(coming).expect("a thread can be started");
        Loading { shared, thread: Some(thread) }
    }
}

impl Loading {
    /// Connections whose answer came, and those without one.
    #[must_use]
    pub fn met(&self) -> (u64, u64) {
        (self.shared.answered.load(Ordering::Relaxed), self.shared.failed.load(Ordering::Relaxed))
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the clients was printed; a second one here would abort the process.
            let _ = thread.join();
        }
    }
}

async fn come(shared: &Arc<Shared>, loads: &[Load]) {
    let begin = Instant::now();
    let mut sent = vec![0_u64; loads.len()];
    while !shared.stop.load(Ordering::Relaxed) {
        for (load, sent) in loads.iter().zip(&mut sent) {
            let due = (begin.elapsed().as_secs_f64() * f64::from(load.per_second)) as u64;
            while *sent < due {
                *sent += 1;
                let number = shared.begun.fetch_add(1, Ordering::Relaxed);
                let (load, shared) = (load.clone(), Arc::clone(shared));
                tokio::spawn(async move {
                    let met = tokio::time::timeout(load.patience, ask(&load, number)).await;
                    let count = if matches!(met, Ok(Ok(()))) { &shared.answered } else { &shared.failed };
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
        }
        tokio::time::sleep(TICK).await;
    }
}

async fn ask(load: &Load, number: u64) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((load.sources.at(number), 0)))?;
    let mut stream = socket.connect(load.target.into()).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let is_whole = answer.starts_with(b"HTTP/1.1 200 ");
    if is_whole { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}
