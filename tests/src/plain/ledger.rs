//! What is counted of frames.

use std::collections::BTreeMap;

use grayxdp::model::kernel::{BackendCounters, BackendId, Counters, Reason, ServiceId};

/// What is counted of one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Why it did not leave as a packet of its service.
    pub reason: Option<(ServiceId, Reason)>,
    /// Traffic of a backend.
    pub traffic: Option<(BackendId, BackendCounters)>,
}

impl Counted {
    /// A reason alone.
    pub(super) const fn because(service: ServiceId, reason: Reason) -> Self {
        Self { reason: Some((service, reason)), traffic: None }
    }
}

/// What is counted of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    reasons: BTreeMap<(ServiceId, Reason), u64>,
    backends: BTreeMap<BackendId, BackendCounters>,
}

impl Ledger {
    /// Adds one frame.
    pub fn add(&mut self, counted: &Counted) {
        if let Some(reason) = counted.reason {
            *self.reasons.entry(reason).or_default() += 1;
        }
        if let Some((backend, traffic)) = counted.traffic {
            *self.backends.entry(backend).or_default() += traffic;
        }
    }

    /// What the program counted so far; what is zero is left out.
    #[must_use]
    pub fn of(counters: &Counters) -> Self {
        let seen = |(_, traffic): &(BackendId, BackendCounters)| *traffic != BackendCounters::default();
        Self {
            reasons: counters
                .reasons
                .iter()
                .map(|(key, count)| (*key, *count))
                .filter(|(_, count)| *count > 0)
                .collect(),
            backends: counters.backends.iter().map(|(id, traffic)| (*id, *traffic)).filter(seen).collect(),
        }
    }

    /// What it says otherwise than another one: its own figures and the other's.
    #[must_use]
    pub fn apart(&self, other: &Self) -> String {
        let reasons = self.reasons.keys().chain(other.reasons.keys());
        let reasons: BTreeMap<_, _> =
            reasons.map(|key| (key, (self.reasons.get(key), other.reasons.get(key)))).collect();
        let backends = self.backends.keys().chain(other.backends.keys());
        let backends: BTreeMap<_, _> =
            backends.map(|id| (id, (self.backends.get(id), other.backends.get(id)))).collect();
        let reasons = reasons.iter().filter(|(_, (one, other))| one != other).map(|entry| format!("{entry:?}"));
        let backends = backends.iter().filter(|(_, (one, other))| one != other).map(|entry| format!("{entry:?}"));
        reasons.chain(backends).collect::<Vec<_>>().join("\n")
    }
}
