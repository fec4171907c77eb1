//! The exception table: half-open entries beside pins and established ones, at most one of each kind for a 5-tuple.

use std::collections::BTreeMap;

use super::{Backend, Millis};

/// Nanoseconds in a tick, as a power of two.
const TICK_SHIFT: u32 = 29;
/// Ticks after which a half-open entry lapses.
const HALF_OPEN_TICKS: u32 = 6;
/// Ticks after which a pin without an answer lapses.
const PIN_TICKS: u32 = 112;

/// The tick of a time.
pub fn tick(now: Millis) -> u32 {
    ((now * 1_000_000) >> TICK_SHIFT) as u32
}

/// A SYN went to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfOpen {
    /// Where it went.
    pub backend: Backend,
    /// Its sequence number.
    pub isn: u32,
    /// Sequence number of the backend's SYN-ACK.
    pub syn_ack: Option<u32>,
    /// Tick of the last SYN.
    pub tick: u32,
}

impl HalfOpen {
    /// Whether it counts no more.
    pub fn is_lapsed(&self, now: Millis) -> bool {
        tick(now) - self.tick > HALF_OPEN_TICKS
    }
}

/// A pin, or an established entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose the flow is.
    pub backend: Backend,
    /// Established; else a pin that waits for an answer.
    pub established: bool,
    /// Tick of the last packet.
    pub tick: u32,
    /// The client sent FIN.
    pub fin_client: bool,
    /// The backend sent FIN.
    pub fin_backend: bool,
    /// Either sent RST.
    pub reset: bool,
}

impl Held {
    /// An entry as of a tick.
    pub fn new(backend: Backend, established: bool, tick: u32) -> Self {
        Self { backend, established, tick, fin_client: false, fin_backend: false, reset: false }
    }

    /// Whether the flow is about to end.
    pub fn is_closing(&self) -> bool {
        self.reset || (self.fin_client && self.fin_backend)
    }

    /// The flow goes on after all.
    pub fn restore(&mut self) {
        (self.fin_client, self.fin_backend, self.reset) = (false, false, false);
    }

    /// Whether it is a pin that counts no more.
    pub fn is_lapsed(&self, now: Millis) -> bool {
        !self.established && tick(now) - self.tick > PIN_TICKS
    }
}

/// All entries, by the number of their 5-tuple.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Handshakes.
    pub half_open: BTreeMap<usize, HalfOpen>,
    /// Pins and established entries.
    pub held: BTreeMap<usize, Held>,
}

impl Table {
    /// The half-open entry of a 5-tuple.
    pub fn half_open(&self, tuple: usize, now: Millis) -> Option<HalfOpen> {
        self.half_open.get(&tuple).copied().filter(|entry| !entry.is_lapsed(now))
    }

    /// The pin or established entry of a 5-tuple.
    pub fn held(&self, tuple: usize, now: Millis) -> Option<Held> {
        self.held.get(&tuple).copied().filter(|entry| !entry.is_lapsed(now))
    }

    /// Entries of either kind, lapsed ones included.
    pub fn len(&self) -> usize {
        self.half_open.len() + self.held.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frees a place that counts no more; whether there was one.
    pub fn take_lapsed(&mut self, now: Millis) -> bool {
        let half_open = self.half_open.iter().find(|(_, entry)| entry.is_lapsed(now)).map(|(tuple, _)| *tuple);
        if let Some(tuple) = half_open {
            return self.half_open.remove(&tuple).is_some();
        }
        let pin = self.held.iter().find(|(_, entry)| entry.is_lapsed(now)).map(|(tuple, _)| *tuple);
        pin.is_some_and(|tuple| self.held.remove(&tuple).is_some())
    }

    /// Whether any entry sends somebody to a backend.
    pub fn names(&self, backend: Backend) -> bool {
        self.half_open.values().any(|entry| entry.backend == backend)
            || self.held.values().any(|entry| entry.backend == backend)
    }
}
