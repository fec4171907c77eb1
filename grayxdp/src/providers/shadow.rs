//! Copies of datagrams go to the candidate of a shadow release: each flow from a socket of its own, so that its answers are told
//! from others'. Answers are timed, counted and thrown away; no client hears of them.
//!
//! The data path's thread hands copies on by a queue of limited length and never waits: what finds no room is counted.

mod counts;
mod flow;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    time::{MissedTickBehavior, interval},
};

pub use counts::Counts;

use crate::model::kernel::{Content, Copied, CopySink, ServiceId, VersionId};

/// Datagrams that may wait for their flow to be found.
const QUEUE: usize = 1_024;

/// Datagrams that may wait for the socket of their flow.
const FLOW_QUEUE: usize = 32;

/// Flows that have a socket at one time, of all services; fewer where the process may not have twice as many descriptors.
const MOST_FLOWS: usize = 4_096;

/// How often ended flows are forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// Reads a monotonic clock.
pub(crate) type Clock = fn() -> Duration;

/// A service whose flows are copied to a candidate.
#[derive(Clone, Debug)]
pub struct ShadowTarget {
    /// Number of the rollout, and its attempt.
    pub run: (u64, u64),
    /// The service's epoch: what begins now is counted under it.
    pub epoch: u64,
    /// The candidate: what went there needs no copy.
    pub candidate: VersionId,
    /// Its servers that are up.
    pub backends: Arc<[ShadowBackend]>,
    /// What becomes of the copies.
    pub counts: Arc<Counts>,
}

/// A server that gets copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShadowBackend {
    /// Its address.
    pub address: IpAddr,
    /// Its port; none: the one that the client asked.
    pub port: Option<u16>,
    /// Its part of the flows.
    pub weight: u16,
}

impl PartialEq for ShadowTarget {
    fn eq(&self, other: &Self) -> bool {
        let Self { run, epoch, candidate, backends, counts } = self;
        (run, epoch, candidate, backends) == (&other.run, &other.epoch, &other.candidate, &other.backends)
            && Arc::ptr_eq(counts, &other.counts)
    }
}

impl ShadowTarget {
    /// The server of a flow; none where none is up. Bits that decided about the sample say nothing here.
    fn backend(&self, hash: u64, port: u16) -> Option<SocketAddr> {
        let sum: u64 = self.backends.iter().map(|backend| u64::from(backend.weight)).sum();
        let mut at = (hash.rotate_left(32).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32).checked_rem(sum)?;
        let chosen = self.backends.iter().find(|backend| {
            let weight = u64::from(backend.weight);
            let is_here = at < weight;
            at = at.saturating_sub(weight);
            is_here
        })?;
        Some(SocketAddr::new(chosen.address, chosen.port.unwrap_or(port)))
    }
}

/// All services whose flows are copied to a candidate.
pub type ShadowTargets = Arc<BTreeMap<ServiceId, Arc<ShadowTarget>>>;

/// One copied datagram.
#[derive(Debug)]
pub struct Datagram {
    service: ServiceId,
    client: SocketAddr,
    port: u16,
    hash: u64,
    payload: Vec<u8>,
}

/// What the data path is to give copies to, and the other end of the queue.
#[must_use]
pub fn shadow_queue(targets: watch::Receiver<ShadowTargets>) -> (CopySink, mpsc::Receiver<Datagram>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let take = move |copied: Copied| match copied {
        Copied::Lost(count) => {
            let targets = targets.borrow().clone();
            targets.values().for_each(|target| target.counts.count(|counts| counts.lost += count));
        }
        Copied::Packet(copy) => {
            let explanation = &copy.explanation;
            let service = ServiceId(explanation.service);
            let target = targets.borrow().get(&service).cloned();
            let Some(target) = target.filter(|target| target.candidate.0 != explanation.version) else { return };
            match copy.content {
                Content::Way => {}
                Content::Broken => target.counts.count(|counts| {
                    counts.copied += 1;
                    counts.dropped += 1;
                }),
                Content::Datagram(payload) => {
                    let (client, port, hash) = (copy.client, copy.port, explanation.hash);
                    let sent = sender.try_send(Datagram { service, client, port, hash, payload });
                    target.counts.count(|counts| {
                        counts.copied += 1;
                        counts.dropped += u64::from(sent.is_err());
                    });
                }
            }
        }
    };
    (Arc::new(take), receiver)
}

/// A flow that has a socket.
struct Flow {
    run: (u64, u64),
    more: mpsc::Sender<Vec<u8>>,
}

/// Sends copies until the sender of `targets` or of the queue is gone. `most` descriptors may be open in this process.
pub async fn shadow(
    mut targets: watch::Receiver<ShadowTargets>,
    mut datagrams: mpsc::Receiver<Datagram>,
    most: usize,
    clock: Clock,
) {
    let mut flows: HashMap<(ServiceId, SocketAddr, u16), Flow> = HashMap::new();
    let most = MOST_FLOWS.min(most / 2);
    let mut sweeps = interval(SWEEP);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            datagram = datagrams.recv() => {
                let Some(datagram) = datagram else { return };
                let target = targets.borrow().get(&datagram.service).cloned();
                if let Some(target) = target {
                    send(&mut flows, most, datagram, &target, clock);
                }
            }
            changed = targets.changed() => {
                if changed.is_err() {
                    return;
                }
                let wanted = targets.borrow_and_update().clone();
                // Whose sender is dropped ends.
                flows.retain(|(service, ..), flow| wanted.get(service).is_some_and(|target| target.run == flow.run));
            }
            _ = sweeps.tick() => flows.retain(|_, flow| !flow.more.is_closed()),
        }
    }
}

/// Gives a datagram to its flow, which begins with it where there is none.
fn send(
    flows: &mut HashMap<(ServiceId, SocketAddr, u16), Flow>,
    most: usize,
    datagram: Datagram,
    target: &Arc<ShadowTarget>,
    clock: Clock,
) {
    let Datagram { service, client, port, hash, payload } = datagram;
    let key = (service, client, port);
    let mut payload = Some(payload);
    if let Some(flow) = flows.get(&key).filter(|flow| flow.run == target.run)
        && let Some(more) = payload.take()
    {
        match flow.more.try_send(more) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => return target.counts.count(|counts| counts.dropped += 1),
            Err(TrySendError::Closed(more)) => payload = Some(more),
        }
    }
    flows.remove(&key);
    if flows.len() >= most {
        flows.retain(|_, flow| !flow.more.is_closed());
    }
    let backend = target.backend(hash, port).filter(|_| flows.len() < most);
    let Some((backend, first)) = backend.zip(payload) else {
        return target.counts.count(|counts| counts.dropped += 1);
    };
    let (more, others) = mpsc::channel(FLOW_QUEUE);
    let counts = Arc::clone(&target.counts);
    tokio::spawn(flow::follow(
        flow::Begin { backend, client: client.ip(), epoch: target.epoch, first },
        others,
        counts,
        clock,
    ));
    flows.insert(key, Flow { run: target.run, more });
}
