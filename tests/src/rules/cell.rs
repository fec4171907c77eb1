//! A bucket, a slot or a source prefix: who owns it, what the program stamps on it, and when the daemon saw what.

use super::{Millis, Rule};

/// A handshake is over, or its half-open entry lapsed, this long after the SYN.
pub const HANDSHAKE_MS: Millis = 4_000;

/// What the program writes about a cell; the daemon takes it once a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stamp {
    /// A packet was resolved by home.
    pub seen: bool,
    /// A SYN was deferred.
    pub deferred: bool,
    /// A pin found no place.
    pub refused: bool,
}

/// Times that the daemon keeps of a cell.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    changed: Millis,
    seen: Millis,
    deferred: Millis,
    restarted: Millis,
    equal: Millis,
    pinned: Option<Millis>,
}

/// How long the daemon waits.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// `idleTimeout`.
    pub idle_ms: Millis,
    /// `settleAfter`.
    pub settle_after_ms: Millis,
    /// UDP: the learning window.
    pub window_ms: Millis,
    /// Whether the learning window decides (UDP without QUIC).
    pub learns: bool,
}

/// How a cell came to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Nothing was resolved by home.
    Idle,
    /// All that was resolved by home has entries.
    Pinned,
    /// The learning window ended.
    Learned,
}

/// A cell whose owner is a version, a backend or a class.
#[derive(Clone, Debug)]
pub struct Cell<T> {
    /// Owner for new flows.
    pub current: T,
    /// Owner for flows without an entry.
    pub home: T,
    /// Its packets look into the exception table although it is settled.
    pub looks: bool,
    /// Packets resolved by home get an entry.
    pub pins: bool,
    /// The program's stamps.
    pub stamp: Stamp,
    times: Times,
}

impl<T: Copy + PartialEq> Cell<T> {
    /// A settled cell.
    pub fn new(owner: T) -> Self {
        let (stamp, times) = (Stamp::default(), Times::default());
        Self { current: owner, home: owner, looks: false, pins: false, stamp, times }
    }

    /// Whether both owners are the same.
    pub fn is_settled(&self) -> bool {
        self.current == self.home
    }

    /// What a table says about it besides its owners.
    pub fn flag(&self) -> bool {
        if self.is_settled() { self.looks } else { self.pins }
    }

    /// A change moves `current` only.
    pub fn give(&mut self, owner: T, now: Millis, waits: &Waits, left: Option<Rule>) {
        if owner == self.current {
            return;
        }
        self.current = owner;
        self.looks = true;
        self.times.pinned = None;
        if left == Some(Rule::ChangeMovesCurrentOnly) {
            self.home = owner;
        }
        if self.is_settled() {
            self.times.equal = now;
            self.pins = false;
        } else {
            self.times.changed = now;
            self.pins = waits.learns && left != Some(Rule::LearningWindow);
        }
    }

    /// A trip or abort of UDP, or a backend that went down under it: `home` follows at once.
    pub fn give_at_once(&mut self, owner: T, now: Millis) {
        if self.current != owner || self.home != owner {
            (self.current, self.home, self.looks, self.pins) = (owner, owner, true, false);
            self.times.equal = now;
            self.times.pinned = None;
        }
    }

    /// Keeps it looking: something else than its own change sends flows elsewhere.
    pub fn look(&mut self, now: Millis) {
        self.looks = true;
        self.times.equal = now;
    }

    /// Begins the waiting anew, as if it had just been met.
    pub fn meet(&mut self, now: Millis) {
        (self.times.seen, self.times.restarted, self.times.equal) = (now, now, now);
        if self.times.pinned.take().is_some() {
            self.pins = false;
        }
    }

    /// Takes stamps; a sighting counts as of now.
    pub fn take(&mut self, stamp: Stamp, now: Millis, waits: &Waits) {
        if stamp.seen {
            self.times.seen = now;
        }
        if stamp.deferred {
            self.times.deferred = now;
        }
        if stamp.refused && !waits.learns {
            self.times.restarted = now;
            self.times.pinned = None;
            self.pins = false;
        }
    }

    /// Lets `home` become `current` if nobody can miss it.
    pub fn settle(&mut self, now: Millis, waits: &Waits, left: Option<Rule>) -> Option<Settled> {
        if self.is_settled() {
            return None;
        }
        let since = |time: Millis| now - time;
        let how = self.way_to_settle(since, waits, left)?;
        self.home = self.current;
        (self.pins, self.looks) = (false, true);
        self.times.pinned = None;
        self.times.equal = now;
        Some(how)
    }

    fn way_to_settle(&self, since: impl Fn(Millis) -> Millis, waits: &Waits, left: Option<Rule>) -> Option<Settled> {
        if waits.learns {
            return (since(self.times.changed) > waits.window_ms).then_some(Settled::Learned);
        }
        if since(self.times.deferred) <= HANDSHAKE_MS && left != Some(Rule::NoSettlingAfterDeferral) {
            return None;
        }
        let changed = if left == Some(Rule::ChangeBeginsWaiting) { 0 } else { self.times.changed };
        if since(self.times.seen.max(changed)) > waits.idle_ms {
            return Some(Settled::Idle);
        }
        let pinned_for = self.times.pinned.map_or(0, since);
        let need = if left == Some(Rule::PinningLastsIdleTimeout) { waits.idle_ms / 4 } else { waits.idle_ms };
        (pinned_for > need).then_some(Settled::Pinned)
    }

    /// Begins pinning where it is time; `at_once`: the table fills; `suspended`: it is nearly full.
    pub fn begin_pinning(&mut self, now: Millis, waits: &Waits, at_once: bool, suspended: bool) {
        if self.is_settled() || waits.learns {
            return;
        }
        let waited = now - self.times.changed.max(self.times.restarted) >= waits.settle_after_ms;
        if suspended {
            self.pins = false;
            self.times.pinned = None;
        } else if (waited || at_once) && self.times.pinned.is_none() {
            self.pins = true;
            self.times.pinned = Some(now);
        }
    }

    /// A sweep ended that `began` and found an entry of the cell, or not.
    pub fn swept(&mut self, began: Millis, found: bool, left: Option<Rule>) {
        let after = began >= self.times.equal + HANDSHAKE_MS;
        if self.is_settled() && !found && (after || left == Some(Rule::LookUntilLaterSweep)) {
            self.looks = false;
        }
    }
}
