//! Flows that last: each must meet the same backend from its first request to its last, however long it was silent.

mod flow;

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use self::flow::Flow;
use super::{LabError, Namespace, Sources};
use crate::model::config::Protocol;

/// How lasting flows behave.
#[derive(Clone, Debug)]
pub struct LastingTraffic {
    /// Where to.
    pub target: SocketAddrV4,
    /// TCP: requests on one connection. UDP: datagrams from one socket.
    pub protocol: Protocol,
    /// Where from: each flow takes the next address.
    pub sources: Sources,
    /// One flow in so many is silent for [`Self::silence`] between two requests; 0: none is.
    pub silent_one_in: u64,
    /// How long silent flows are silent.
    pub silence: Duration,
    /// The others are silent for a random time below this.
    pub longest_pause: Duration,
    /// Flows that begin together are spread over this time.
    pub spread: Duration,
    /// How long a flow waits for its connection, and then for each answer.
    pub timeout: Duration,
}

/// What became of the flows that began in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lives {
    /// Flows that began.
    pub begun: u64,
    /// Those of them that got no first answer.
    pub unopened: u64,
    /// Those that got no answer later: reset, ended, or nothing in time.
    pub broken: u64,
    /// Those that another backend answered.
    pub moved: u64,
    /// Those that ended as asked, after a last request.
    pub ended: u64,
    /// Answered requests.
    pub answers: u64,
    /// UDP: datagrams that were sent again because no answer came in a second.
    pub repeated: u64,
}

impl Lives {
    /// Flows to which something happened.
    #[must_use]
    pub fn harmed(&self) -> u64 {
        self.unopened + self.broken + self.moved
    }

    fn add(&mut self, other: &Self) {
        self.begun += other.begun;
        self.unopened += other.unopened;
        self.broken += other.broken;
        self.moved += other.moved;
        self.ended += other.ended;
        self.answers += other.answers;
        self.repeated += other.repeated;
    }
}

/// What lasting flows met.
#[derive(Clone, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastingTally {
    /// By the step in which the flows began.
    pub steps: BTreeMap<String, Lives>,
    /// The first hundred harms, in words.
    pub harms: Vec<String>,
}

impl LastingTally {
    /// The sum over all steps.
    #[must_use]
    pub fn all(&self) -> Lives {
        let mut sum = Lives::default();
        self.steps.values().for_each(|lives| sum.add(lives));
        sum
    }
}

/// Harms that are told in words; all are counted.
const TOLD_HARMS: usize = 100;

/// Lasting flows at work; they end when dropped.
#[derive(Debug)]
pub struct LastingFlows {
    begin: Option<mpsc::UnboundedSender<Begin>>,
    stop: watch::Sender<bool>,
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Begin {
    step: String,
    count: u64,
}

#[derive(Debug)]
struct Shared {
    traffic: LastingTraffic,
    tally: Mutex<LastingTally>,
    /// Flows that go on: the client's end, and who answers it.
    living: Mutex<BTreeMap<SocketAddr, String>>,
    started: Instant,
}

impl LastingTraffic {
    /// Flows of which every third is silent for a minute at a time and the others for less than eight seconds.
    #[must_use]
    pub fn new(protocol: Protocol, target: SocketAddrV4, sources: Sources) -> Self {
        Self {
            target,
            protocol,
            sources,
            silent_one_in: 3,
            silence: Duration::from_secs(60),
            longest_pause: Duration::from_secs(8),
            spread: Duration::from_secs(1),
            timeout: Duration::from_secs(15),
        }
    }

    /// Makes ready to begin flows in a namespace.
    ///
    /// # Errors
    /// The clients cannot be started.
    pub fn start(self, namespace: &Namespace) -> Result<LastingFlows, LabError> {
        allow_many_descriptors()?;
        let shared = Arc::new(Shared {
            traffic: self,
            tally: Mutex::default(),
            living: Mutex::default(),
            started: Instant::now(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| LabError::system("start clients", error))?;
        let (begin, mut begins) = mpsc::unbounded_channel::<Begin>();
        let (stop, stopped) = watch::channel(false);
        let flows = Arc::clone(&shared);
        let thread = namespace.spawn(move || {
            runtime.block_on(async move {
                let mut tasks = JoinSet::new();
                let mut number = 0;
                while let Some(Begin { step, count }) = begins.recv().await {
                    let step: Arc<str> = step.into();
                    for _ in 0..count {
                        tasks.spawn(live(Arc::clone(&flows), number, Arc::clone(&step), stopped.clone()));
                        number += 1;
                    }
                }
                while tasks.join_next().await.is_some() {}
            });
        })?;
        Ok(LastingFlows { begin: Some(begin), stop, shared, thread: Some(thread) })
    }
}

impl LastingFlows {
    /// Begins more flows and does not wait for them; they are counted under the name of a step.
    pub fn begin(&self, step: impl Into<String>, count: u64) {
        let begin = self.begin.as_ref().expect("it is there until the end");
        begin.send(Begin { step: step.into(), count }).expect("the clients run until the end");
    }

    /// What the flows have met so far.
    #[must_use]
    pub fn tally(&self) -> LastingTally {
        self.shared.tally.lock().expect("no flow panics while it counts").clone()
    }

    /// Flows that have had their first answer and go on: the client's end, and who answers it.
    #[must_use]
    pub fn living(&self) -> BTreeMap<SocketAddr, String> {
        self.shared.living.lock().expect("no flow panics while it counts").clone()
    }

    /// Lets every flow make a last request and end, and returns what all met.
    #[must_use]
    pub fn finish(mut self) -> LastingTally {
        self.end();
        self.tally()
    }

    fn end(&mut self) {
        drop(self.begin.take());
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of a flow was printed; a second one here could abort the process.
            let _ = thread.join();
        }
    }
}

impl Drop for LastingFlows {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn count(&self, step: &str, what: impl FnOnce(&mut Lives)) {
        let mut tally = self.tally.lock().expect("no flow panics while it counts");
        match tally.steps.get_mut(step) {
            Some(lives) => what(lives),
            None => what(tally.steps.entry(step.to_owned()).or_default()),
        }
    }

    fn tell(&self, harm: String) {
        let mut tally = self.tally.lock().expect("no flow panics while it counts");
        if tally.harms.len() < TOLD_HARMS {
            tally.harms.push(format!("after {:.1} s: {harm}", self.started.elapsed().as_secs_f64()));
        }
    }
}

/// The life of one flow.
async fn live(shared: Arc<Shared>, number: u64, step: Arc<str>, stopped: watch::Receiver<bool>) {
    let traffic = &shared.traffic;
    let mut random = Random(number);
    tokio::time::sleep(random.below(traffic.spread)).await;
    shared.count(&step, |lives| lives.begun += 1);
    let source = traffic.sources.at(number);
    let opened = async {
        let mut flow = Flow::open(traffic.protocol, source, traffic.target, traffic.timeout).await?;
        let who = flow.ask(0, || repeated(&shared, &step)).await?;
        io::Result::Ok((flow, who))
    };
    let (mut flow, home) = match opened.await {
        Ok(opened) => opened,
        Err(error) => {
            shared.count(&step, |lives| lives.unopened += 1);
            return shared.tell(format!("flow {number} of {step} from {source} got no first answer: {error}"));
        }
    };
    shared.count(&step, |lives| lives.answers += 1);
    let silent = traffic.silent_one_in > 0 && number.is_multiple_of(traffic.silent_one_in);
    let pause = || if silent { traffic.silence } else { random.below(traffic.longest_pause) };
    let living = || shared.living.lock().expect("no flow panics while it counts");
    living().insert(flow.local(), home.clone());
    let stayed = stay(&shared, &mut flow, &home, &step, pause, stopped).await;
    living().remove(&flow.local());
    match stayed {
        Ok(()) => shared.count(&step, |lives| lives.ended += 1),
        Err(harm) => shared.tell(format!("flow {number} of {step}, {}, of {home}: {harm}", flow.local())),
    }
}

fn repeated(shared: &Shared, step: &str) {
    shared.count(step, |lives| lives.repeated += 1);
}

/// Asks again and again, at last when all are to end. What goes wrong is counted, and told in words.
async fn stay(
    shared: &Shared,
    flow: &mut Flow,
    home: &str,
    step: &str,
    mut pause: impl FnMut() -> Duration,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), String> {
    let mut last = false;
    for request in 1.. {
        let begun = Instant::now();
        let ended = tokio::select! {
            () = tokio::time::sleep(pause()) => None,
            _ = stopped.wait_for(|stopped| *stopped) => { last = true; None }
            error = flow.ended() => Some(error),
        };
        let silent = begun.elapsed().as_secs_f64();
        let answer = match ended {
            Some(error) => Err(error),
            None => flow.ask(request, || repeated(shared, step)).await,
        };
        let harm = match answer {
            Ok(who) if who == home => {
                shared.count(step, |lives| lives.answers += 1);
                if last {
                    break;
                }
                continue;
            }
            Ok(who) => {
                shared.count(step, |lives| lives.moved += 1);
                format!("answered by {who}")
            }
            Err(error) => {
                shared.count(step, |lives| lives.broken += 1);
                format!("broke: {error}")
            }
        };
        return Err(format!("{harm}; request {request}, {silent:.1} s after the one before"));
    }
    Ok(())
}

/// Each flow's own pseudo-random numbers (SplitMix64), the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        limit.mul_f64(mixed as f64 / u64::MAX as f64)
    }
}

/// Each flow holds a descriptor on either side.
fn allow_many_descriptors() -> Result<(), LabError> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is the call's own and lives through both calls.
    let result = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(LabError::system("raise the limit of descriptors", io::Error::last_os_error()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_pauses_fill_their_range() {
        let limit = Duration::from_secs(8);
        let pauses: Vec<_> = (0..4_000).map(|number| Random(number).below(limit)).collect();
        let mean = pauses.iter().sum::<Duration>().as_secs_f64() / 4_000.0;
        // The mean of 4,000 uniform values deviates by 0.037.
        assert!((mean - 4.0).abs() < 0.2, "{mean}");
        assert!(pauses.iter().all(|pause| *pause <= limit));
    }

    #[test]
    fn the_sum_is_over_all_steps() {
        let lives = Lives { begun: 3, unopened: 1, answers: 9, ..Lives::default() };
        let tally =
            LastingTally { steps: [("a".to_owned(), lives), ("b".to_owned(), lives)].into(), harms: Vec::new() };
        assert_eq!((tally.all().begun, tally.all().answers, tally.all().harmed()), (6, 18, 2));
    }
}
