//! Asks all backends, each at its own time, and tells what changed.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinError, JoinSet},
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    balance::ids::BackendKey,
    health::{
        check::{Check, ask},
        streak::Streak,
    },
};

/// A backend to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// How.
    pub check: Check,
    /// How it stands to begin with.
    pub is_up: bool,
}

/// All backends to be checked. Exchanged as a whole; backends whose check stays the same go on as they are.
pub type Targets = Arc<BTreeMap<BackendKey, Target>>;

/// What changed about a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The backend.
    pub backend: BackendKey,
    /// Whether it is up.
    pub is_up: bool,
    /// Why the last check failed; none if it did not.
    pub error: Option<String>,
}

/// One backend's task.
struct Running {
    check: Check,
    task: AbortHandle,
}

/// Checks what `targets` says until its sender or the receiver of `reports` is gone.
pub async fn run(mut targets: watch::Receiver<Targets>, reports: mpsc::Sender<Report>) {
    let mut running: BTreeMap<BackendKey, Running> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let wanted = targets.borrow_and_update().clone();
        running.retain(|key, running| {
            let stays = wanted.get(key).is_some_and(|target| target.check == running.check);
            if !stays {
                running.task.abort();
            }
            stays
        });
        for (key, target) in wanted.iter() {
            running.entry(key.clone()).or_insert_with(|| {
                let task = tasks.spawn(watch_over(key.clone(), target.clone(), reports.clone()));
                Running { check: target.check.clone(), task }
            });
        }
        loop {
            tokio::select! {
                changed = targets.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(ended) = tasks.join_next_with_id(), if !tasks.is_empty() => {
                    let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
                    if ended.is_ok() {
                        return;
                    }
                    // Aborted ones are forgotten already; one that died is begun anew.
                    let died: Vec<_> = running.iter().filter(|(_, r)| r.task.id() == id).map(|(k, _)| k.clone()).collect();
                    if let Some(key) = died.first() {
                        tracing::error!("the checks of backend {} died and begin anew", key.address);
                        running.remove(key);
                        break;
                    }
                }
            }
        }
    }
}

/// Checks one backend until nobody listens.
async fn watch_over(backend: BackendKey, target: Target, reports: mpsc::Sender<Report>) {
    let Target { check, is_up } = target;
    sleep(jitter(&backend, check.interval)).await;
    let mut times = interval(check.interval);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut streak = Streak::new(is_up, check.rise, check.fall);
    let mut told = None;
    loop {
        times.tick().await;
        let error = ask(&check).await.err();
        let changed = streak.count(error.is_none());
        if changed || told != error {
            told.clone_from(&error);
            let report = Report { backend: backend.clone(), is_up: streak.is_up(), error };
            if reports.send(report).await.is_err() {
                return;
            }
        }
    }
}

/// Where in the interval a backend has its turn, so that not all are asked at once.
fn jitter(backend: &BackendKey, interval: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    (backend.address, backend.virtual_address, backend.protocol).hash(&mut hasher);
    interval.mul_f64((hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::{net::TcpListener, time::timeout};

    use super::*;
    use crate::model::config::Protocol;

    fn key(address: SocketAddr) -> BackendKey {
        let name = |text: &str| text.parse().expect("a name");
        let virtual_address = "192.0.2.10:80".parse().expect("an address");
        BackendKey { service: name("s"), version: name("v1"), address, protocol: Protocol::Tcp, virtual_address }
    }

    fn target(address: SocketAddr) -> Target {
        let (interval, timeout) = (Duration::from_millis(100), Duration::from_millis(50));
        Target { check: Check { address, path: None, interval, timeout, rise: 2, fall: 3 }, is_up: true }
    }

    fn local(listener: &TcpListener) -> SocketAddr {
        listener.local_addr().expect("bound")
    }

    async fn next(reports: &mut mpsc::Receiver<Report>) -> (bool, Option<String>) {
        let report = timeout(Duration::from_secs(5), reports.recv()).await.expect("in time").expect("a report");
        (report.is_up, report.error)
    }

    #[tokio::test]
    async fn a_server_that_dies_is_down_within_fall_intervals_and_up_again_when_it_is_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = local(&listener);
        let (targets, receiver) = watch::channel(Targets::default());
        let (sender, mut reports) = mpsc::channel(8);
        let runner = tokio::spawn(run(receiver, sender));
        targets.send_replace(Arc::new([(key(address), target(address))].into()));
        assert!(timeout(Duration::from_millis(300), reports.recv()).await.is_err(), "nothing to tell");

        drop(listener);
        let begin = tokio::time::Instant::now();
        let refused = || Some("connection refused".to_owned());
        assert_eq!(next(&mut reports).await, (true, refused()));
        assert_eq!(next(&mut reports).await, (false, refused()));
        // Three intervals and a timeout; the rest is for a busy machine.
        assert!(begin.elapsed() < Duration::from_millis(350 + 250), "{:?}", begin.elapsed());

        let _listener = TcpListener::bind(address).await.expect("the same port");
        assert_eq!(next(&mut reports).await, (false, None));
        assert_eq!(next(&mut reports).await, (true, None));
        targets.send_replace(Targets::default());
        assert!(timeout(Duration::from_millis(300), reports.recv()).await.is_err(), "checked no more");
        drop(targets);
        runner.await.expect("it ends by itself");
    }

    #[test]
    fn backends_have_their_turns_at_different_times() {
        let interval = Duration::from_secs(1);
        let turns = (1..=200).map(|port| jitter(&key(SocketAddr::new([10, 0, 0, 1].into(), port)), interval));
        let mut turns: Vec<Duration> = turns.collect();
        assert!(turns.iter().all(|turn| *turn < interval));
        turns.sort();
        // Four quarters of about fifty each.
        let first = turns.iter().filter(|turn| **turn < interval / 4).count();
        assert!((25..75).contains(&first), "{first}");
    }
}
