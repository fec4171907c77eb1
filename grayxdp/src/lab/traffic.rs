//! Many HTTP clients at once, and the count of what they met.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddrV4,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::{LabError, Namespace, Sources, http::Connection};

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Failure {
    /// The connection was refused.
    Refused,
    /// Nothing came in time.
    TimedOut,
    /// The connection ended in the middle.
    Reset,
    /// Anything else, such as an answer that is no answer.
    Other,
}

/// What clients met.
#[derive(Clone, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Answered requests by who answered, as `v1/10.0.1.1`.
    pub answers: BTreeMap<String, u64>,
    /// Failed requests by why.
    pub failures: BTreeMap<Failure, u64>,
}

impl Tally {
    /// Answered requests.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Failed requests.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// All requests that have ended.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.answered() + self.failed()
    }

    /// Requests that a version answered.
    #[must_use]
    pub fn by_version(&self, version: &str) -> u64 {
        let of_version = |who: &str| who.split('/').next() == Some(version);
        self.answers.iter().filter(|(who, _)| of_version(who)).map(|(_, count)| count).sum()
    }

    /// What was added since an earlier tally of the same clients.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self { answers: grown(&self.answers, &earlier.answers), failures: grown(&self.failures, &earlier.failures) }
    }
}

fn grown<K: Clone + Ord>(now: &BTreeMap<K, u64>, earlier: &BTreeMap<K, u64>) -> BTreeMap<K, u64> {
    now.iter()
        .map(|(key, count)| (key.clone(), count - earlier.get(key).unwrap_or(&0)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// So many timeouts in a bounded run say that nothing gets through.
const MAX_TIMEOUTS: u64 = 64;

/// How clients behave.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Where to.
    pub target: SocketAddrV4,
    /// Where from: each connection takes the next address.
    pub sources: Sources,
    /// How many clients at once.
    pub clients: usize,
    /// How many requests on a connection, at least 1.
    pub requests_per_connection: u32,
    /// How long a client waits between two requests.
    pub pause: Duration,
    /// How long a client waits for a connection, and then for an answer.
    pub timeout: Duration,
}

/// Clients at work; they end when dropped.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What clients have in common.
#[derive(Debug)]
struct Shared {
    traffic: Traffic,
    tally: Mutex<Tally>,
    /// Requests that may still begin.
    left: AtomicU64,
    /// Requests that may time out before no other begins.
    max_timeouts: u64,
    connections: AtomicU64,
    stop: AtomicBool,
}

impl Traffic {
    /// 32 clients, a new connection for each request, no pause, five seconds of patience.
    #[must_use]
    pub fn new(target: SocketAddrV4, sources: Sources) -> Self {
        Self {
            target,
            sources,
            clients: 32,
            requests_per_connection: 1,
            pause: Duration::ZERO,
            timeout: Duration::from_secs(5),
        }
    }

    /// Sends a number of requests and returns what they met. Blocks; ends early when nothing gets through: once 64
    /// requests have timed out, no other begins.
    ///
    /// # Errors
    /// The clients cannot be started.
    pub fn send(self, namespace: &Namespace, requests: u64) -> Result<Tally, LabError> {
        self.begin(namespace, requests, MAX_TIMEOUTS).map(Running::finish)
    }

    /// Sends requests until it is stopped.
    ///
    /// # Errors
    /// The clients cannot be started.
    pub fn start(self, namespace: &Namespace) -> Result<Running, LabError> {
        self.begin(namespace, u64::MAX, u64::MAX)
    }

    fn begin(self, namespace: &Namespace, requests: u64, max_timeouts: u64) -> Result<Running, LabError> {
        let shared = Arc::new(Shared {
            traffic: self,
            tally: Mutex::default(),
            left: AtomicU64::new(requests),
            max_timeouts,
            connections: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| LabError::system("start clients", error))?;
        let clients = Arc::clone(&shared);
        let thread = namespace.spawn(move || {
            runtime.block_on(async {
                let mut tasks = tokio::task::JoinSet::new();
                for _ in 0..clients.traffic.clients {
                    tasks.spawn(client(Arc::clone(&clients)));
                }
                while tasks.join_next().await.is_some() {}
            });
        })?;
        Ok(Running { shared, thread: Some(thread) })
    }
}

impl Running {
    /// What the clients have met so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.shared.tally.lock().expect("no client panics while it counts").clone()
    }

    /// Lets requests under way end, and returns what all met.
    #[must_use]
    pub fn stop(self) -> Tally {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.finish()
    }

    /// Waits until all requests have ended.
    fn finish(mut self) -> Tally {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        self.tally()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of a client was printed; a second one here would abort the process.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Whether another request may begin; counts it.
    fn take_request(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        !self.stop.load(Ordering::Relaxed) && self.left.try_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn count(&self, result: io::Result<String>) {
        let mut tally = self.tally.lock().expect("no client panics while it counts");
        match result {
            Ok(who) => *tally.answers.entry(who).or_default() += 1,
            Err(error) => *tally.failures.entry(kind(&error)).or_default() += 1,
        }
        if tally.failures.get(&Failure::TimedOut).is_some_and(|timeouts| *timeouts >= self.max_timeouts) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// One client: connection after connection, request after request.
async fn client(shared: Arc<Shared>) {
    let traffic = &shared.traffic;
    let mut connection = None;
    let mut used = 0;
    while shared.take_request() {
        let result = request(&shared, &mut connection).await;
        used += 1;
        if result.is_err() || used >= traffic.requests_per_connection {
            (connection, used) = (None, 0);
        }
        shared.count(result);
        if !traffic.pause.is_zero() {
            tokio::time::sleep(traffic.pause).await;
        }
    }
}

/// One request, on a new connection where there is none; says who answered.
async fn request(shared: &Shared, connection: &mut Option<Connection>) -> io::Result<String> {
    let traffic = &shared.traffic;
    let mut open = match connection.take() {
        Some(open) => open,
        None => {
            let source = traffic.sources.at(shared.connections.fetch_add(1, Ordering::Relaxed));
            let opening = Connection::open(source, traffic.target, traffic.requests_per_connection == 1);
            tokio::time::timeout(traffic.timeout, opening).await??
        }
    };
    let who = tokio::time::timeout(traffic.timeout, open.ask()).await??;
    *connection = Some(open);
    Ok(who)
}

/// What kind of failure an error is.
fn kind(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::TimedOut => Failure::TimedOut,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => Failure::Reset,
        _ => Failure::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(answers: &[(&str, u64)], refused: u64) -> Tally {
        Tally {
            answers: answers.iter().map(|(who, count)| ((*who).to_owned(), *count)).collect(),
            failures: BTreeMap::from([(Failure::Refused, refused)]),
        }
    }

    #[test]
    fn a_version_counts_the_answers_of_all_its_backends_and_of_no_namesake() {
        let tally = tally(&[("v1/10.0.1.1", 3), ("v1/10.0.2.1", 4), ("v10/10.0.3.1", 50)], 2);
        assert_eq!(tally.by_version("v1"), 7);
        assert_eq!((tally.answered(), tally.failed(), tally.requests()), (57, 2, 59));
    }

    #[test]
    fn a_difference_names_only_what_was_added() {
        let (earlier, later) = (tally(&[("v1/a", 3)], 1), tally(&[("v1/a", 3), ("v2/b", 5)], 4));
        let grown = later.since(&earlier);
        assert_eq!(grown.answers, BTreeMap::from([("v2/b".to_owned(), 5)]));
        assert_eq!(grown.failed(), 3);
    }
}
