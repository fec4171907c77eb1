//! The kernel of memory: what it is told it holds, and it dies on purpose.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use grayxdp_common::{
    cells::VERSIONS,
    explanation::{Explanation, Turn},
};

use crate::model::{
    api::{DETACHED, InterfaceStatus},
    config::Protocol,
    kernel::{
        BackendCounters, BackendId, CopySink, Counters, GuardStatus, HeldSlots, Kernel, KernelError, Latch, Observed,
        Published, Question, ServiceId, ServiceStamps, SignalKey, Signals, Sweep, SweptService, TraceQuestion,
        TraceRead, Traced, VersionId, Wanted, WantedBuckets, WantedCopies, WantedService, Way,
    },
};

/// What is in the kernel of memory; it outlives daemons.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) wanted: Wanted,
    pub(super) published: Vec<Published>,
    pub(super) publishes: u32,
    pub(super) counters: BTreeMap<BackendId, BackendCounters>,
    pub(super) signals: BTreeMap<SignalKey, Box<Signals>>,
    pub(super) broken: bool,
    pub(super) panics: bool,
    /// Writes after which the daemon dies, before or after the last of them.
    pub(super) dies_at: Option<(u32, Moment)>,
    pub(super) attached: bool,
    pub(super) detached: bool,
    /// Cells that are stamped every second.
    pub(super) stamps: BTreeMap<ServiceId, ServiceStamps>,
    /// Exceptions that every sweep finds.
    pub(super) swept: BTreeMap<ServiceId, SweptService>,
    pub(super) guards: Vec<GuardStatus>,
    /// What a trace asks for, and what it will be told.
    pub(super) tracing: Option<TraceQuestion>,
    pub(super) told: Vec<Traced>,
    /// What is to be copied, and who gets it.
    pub(super) copied: Option<(WantedCopies, Sink)>,
}

/// Who gets copies.
#[derive(Clone)]
pub(super) struct Sink(pub(super) CopySink);

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sink")
    }
}

/// When a daemon dies at a write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Moment {
    Before,
    After,
}

#[derive(Clone, Debug, Default)]
pub(super) struct FakeKernel(Arc<Mutex<Memory>>);

impl FakeKernel {
    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().expect("no test panics while it holds this")
    }
}

impl Kernel for FakeKernel {
    fn publish(&mut self, wanted: &Wanted) -> Result<(), KernelError> {
        let mut memory = self.memory();
        if memory.broken {
            return Err(KernelError("no memory for the tables; free some".to_owned()));
        }
        memory.publishes += 1;
        let dies = memory.dies_at.filter(|(write, _)| *write == memory.publishes).map(|(_, moment)| moment);
        if dies == Some(Moment::Before) {
            drop(memory);
            panic!("killed on purpose");
        }
        memory.wanted = wanted.clone();
        let published = wanted.services.iter().map(|service| Published {
            id: service.id,
            versions: places(service),
            buckets: service.buckets.clone(),
            epoch: service.epoch,
            rollout: service.rollout,
        });
        memory.published = published.collect();
        drop(memory);
        assert_ne!(dies, Some(Moment::After), "killed on purpose");
        Ok(())
    }

    fn published(&self) -> Result<Vec<Published>, KernelError> {
        Ok(self.memory().published.clone())
    }

    fn counters(&self) -> Result<Counters, KernelError> {
        let memory = self.memory();
        let panics = memory.panics;
        let counters = Counters { backends: memory.counters.clone(), ..Counters::default() };
        drop(memory);
        assert!(!panics, "a fault on purpose");
        Ok(counters)
    }

    fn explain(&mut self, _: SocketAddr, _: SocketAddr, _: Protocol, question: Question) -> Result<Way, KernelError> {
        let service = self.memory().wanted.services[0].clone();
        let backend = service.versions[1].backends[0].id;
        let (bucket, slot, step) = (77, 5, grayxdp_common::explanation::Step::Backend as u32);
        let (service_id, version) = (service.id.0, service.versions[1].id.0);
        let (current_backend, home_backend, turn) = match question {
            Question::First { dscp: _ } => (backend.0, 0, Turn::Chosen),
            Question::Later => (0, backend.0, Turn::Home),
        };
        let explanation = Explanation {
            service: service_id,
            version,
            backend: backend.0,
            bucket,
            slot,
            step,
            epoch: service.epoch,
            current_backend,
            home_backend,
            turns: turn.bit(),
            ..Default::default()
        };
        Ok(Way { reason: None, explanation })
    }

    fn observe(&mut self, now: Duration) -> Result<Observed, KernelError> {
        let memory = self.memory();
        let stamps = memory.stamps.clone();
        let sweep = Sweep { began: now, services: memory.swept.clone(), ..Sweep::default() };
        Ok(Observed { stamps, sweep: Some(sweep), places: 65_536, ..Observed::default() })
    }

    fn held_slots(&self) -> Result<Vec<HeldSlots>, KernelError> {
        let memory = self.memory();
        let versions = memory.wanted.services.iter().flat_map(|service| &service.versions);
        let unsettled = versions.filter(|version| version.slots.states.is_some());
        Ok(unsettled.map(|version| HeldSlots { version: version.id, slots: version.slots.clone() }).collect())
    }

    fn signals(&self, of: Option<ServiceId>) -> Result<BTreeMap<SignalKey, Box<Signals>>, KernelError> {
        let memory = self.memory();
        let services = memory.wanted.services.iter().filter(|service| of.is_none_or(|of| of == service.id));
        let read: BTreeSet<_> = services.flat_map(|service| &service.versions).map(|version| version.id).collect();
        let is_read = |key: &SignalKey| of.is_none() || read.contains(&key.version);
        Ok(memory.signals.iter().filter(|(key, _)| is_read(key)).map(|(key, read)| (*key, read.clone())).collect())
    }

    fn guards(&self) -> Vec<GuardStatus> {
        self.memory().guards.clone()
    }

    fn renew_lease(&mut self, service: ServiceId, until: Duration) {
        for guard in self.memory().guards.iter_mut().filter(|guard| guard.service == service) {
            guard.lease_until = Some(until);
        }
    }

    fn clear_latch(&mut self, service: ServiceId, latch: Latch) {
        for guard in self.memory().guards.iter_mut().filter(|guard| guard.service == service) {
            match latch {
                Latch::Tripped => guard.tripped = None,
                Latch::LeaseExpired => guard.expired = None,
            }
        }
    }

    fn on_event(&mut self, _: Box<dyn Fn() + Send>) -> Result<(), KernelError> {
        Ok(())
    }

    fn attach(&mut self) -> Result<(), KernelError> {
        let mut memory = self.memory();
        assert!(!memory.published.is_empty(), "attached before anything was published");
        memory.attached = true;
        Ok(())
    }

    fn mend(&mut self) -> Result<(), KernelError> {
        self.attach()
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    fn start_trace(&mut self, question: &TraceQuestion) -> Result<(), KernelError> {
        self.memory().tracing = Some(question.clone());
        Ok(())
    }

    fn read_trace(&mut self) -> Result<TraceRead, KernelError> {
        let mut memory = self.memory();
        let asked = memory.tracing.clone();
        let packets = std::mem::take(&mut memory.told);
        let remaining = asked.as_ref().map_or(0, |question| question.count.saturating_sub(packets.len() as u64));
        Ok(TraceRead { packets, remaining, goes_on: asked.is_some() })
    }

    fn end_trace(&mut self) -> Result<(), KernelError> {
        self.memory().tracing = None;
        Ok(())
    }

    fn copy(&mut self, asked: &WantedCopies, sink: &CopySink) -> Result<(), KernelError> {
        let mut memory = self.memory();
        if memory.broken {
            return Err(KernelError("no memory for the program; free some".to_owned()));
        }
        memory.copied = (!asked.is_empty()).then(|| (asked.clone(), Sink(CopySink::clone(sink))));
        Ok(())
    }

    fn interfaces(&self) -> Vec<InterfaceStatus> {
        let mode = if self.memory().attached { "generic" } else { DETACHED };
        vec![InterfaceStatus { name: "lo".to_owned(), mode: mode.to_owned() }]
    }

    fn is_resolved(&self, _: BackendId) -> bool {
        true
    }

    fn detach(&mut self) -> Result<(), KernelError> {
        let mut memory = self.memory();
        (memory.attached, memory.detached) = (false, true);
        Ok(())
    }
}

/// Ids of a service's versions by place, as they are read back.
fn places(service: &WantedService) -> Vec<VersionId> {
    let places = match service.buckets {
        WantedBuckets::Split(_) => 2,
        WantedBuckets::Cells(_) => VERSIONS,
    };
    let mut ids = vec![VersionId::NONE; places];
    service.versions.iter().for_each(|version| ids[usize::from(version.place)] = version.id);
    ids
}
