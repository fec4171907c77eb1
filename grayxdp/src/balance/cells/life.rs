//! What the daemon knows of one cell that is not settled.

use std::time::Duration;

use crate::balance::{Moment, Span};

/// Longer than a half-open entry lives: in this time what a SYN began is completed or gone.
pub(super) const LAPSE: Duration = Duration::from_secs(4);

/// How long the flows of UDP are learnt after a change.
const WINDOW: Duration = Duration::from_secs(30);

/// How full the exception table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Pressure {
    /// At most a quarter.
    #[default]
    Low,
    /// Over a quarter: pinning begins at once.
    Quarter,
    /// Over three quarters: pinning is suspended.
    ThreeQuarters,
}

impl Pressure {
    /// Of so many entries in so many places.
    #[must_use]
    pub const fn of(entries: u64, places: u64) -> Self {
        if entries.saturating_mul(4) > places.saturating_mul(3) {
            Self::ThreeQuarters
        } else if entries.saturating_mul(4) > places {
            Self::Quarter
        } else {
            Self::Low
        }
    }
}

/// When cells settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `idleTimeout`.
    pub idle: Span,
    /// `settleAfter`.
    pub settle_after: Span,
    /// How full the table is.
    pub pressure: Pressure,
    /// UDP without QUIC: flows are learnt in a window and pinned at once.
    pub learns: bool,
}

/// How a cell settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Idle,
    Pinned,
    Window,
}

/// Cells that settled, by how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Settled {
    /// Nothing was resolved by `home` for `idleTimeout`.
    pub idle: u64,
    /// Whatever was, was pinned for `idleTimeout`.
    pub pinned: u64,
    /// UDP: the learning window ended, or was cut short.
    pub window: u64,
}

impl Settled {
    pub(super) const fn count(&mut self, kind: Kind) {
        match kind {
            Kind::Idle => self.idle += 1,
            Kind::Pinned => self.pinned += 1,
            Kind::Window => self.window += 1,
        }
    }

    /// All.
    #[must_use]
    pub const fn sum(self) -> u64 {
        self.idle + self.pinned + self.window
    }
}

impl std::ops::AddAssign for Settled {
    fn add_assign(&mut self, other: Self) {
        self.idle += other.idle;
        self.pinned += other.pinned;
        self.window += other.window;
    }
}

/// Whether the program pins what is resolved by home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pins {
    Off,
    /// It will when the tables are in the kernel.
    Asked,
    Since(Moment),
}

/// Times of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// When it was given to another owner.
    changed: Moment,
    /// When a packet was last resolved by home.
    seen: Moment,
    /// When a SYN was last deferred.
    deferred: Moment,
    /// From when on the time until pinning counts.
    restart: Moment,
    /// Since when home is current.
    equal: Moment,
    pub(super) pins: Pins,
    /// Once settled: an entry may differ.
    looks: bool,
    /// It looks for as long as something lasts that is not its own.
    kept: bool,
}

impl Life {
    pub(super) const fn settled() -> Self {
        const AGO: Moment = Moment::LONG_AGO;
        Self {
            changed: AGO,
            seen: AGO,
            deferred: AGO,
            restart: AGO,
            equal: AGO,
            pins: Pins::Off,
            looks: false,
            kept: false,
        }
    }

    pub(super) const fn adopted(looks: bool, pins: bool, now: Moment) -> Self {
        let pins = if pins { Pins::Since(now) } else { Pins::Off };
        Self { changed: now, seen: now, deferred: now, restart: now, equal: now, pins, looks, kept: false }
    }

    pub(super) const fn looks(&self) -> bool {
        self.looks || self.kept
    }

    pub(super) const fn is_kept(&self) -> bool {
        self.kept
    }

    /// While it is kept, flows of an unsettled cell may have left no stamp: its waiting begins anew with the end of that.
    pub(super) const fn keep(&mut self, kept: bool, is_unsettled: bool, now: Moment) {
        if self.kept == kept {
            return;
        }
        (self.kept, self.looks, self.equal) = (kept, true, now);
        if !kept && is_unsettled {
            (self.changed, self.seen) = (now, now);
            self.refused(now);
        }
    }

    pub(super) const fn look(&mut self, now: Moment) {
        (self.looks, self.equal) = (true, now);
    }

    pub(super) const fn give(&mut self, to_home: bool, was_settled: bool, now: Moment) {
        (self.looks, self.pins) = (true, Pins::Off);
        if to_home {
            self.equal = now;
        } else {
            self.changed = now;
            if was_settled {
                self.restart = now;
            }
        }
    }

    pub(super) const fn saw(&mut self, now: Moment) {
        self.seen = now;
    }

    pub(super) const fn deferred(&mut self, now: Moment) {
        (self.deferred, self.seen) = (now, now);
    }

    /// A flow may have gone without its pin: whoever settles by pinning must pin for the whole time again.
    pub(super) const fn refused(&mut self, now: Moment) {
        self.restart = now;
        if let Pins::Since(_) = self.pins {
            self.pins = Pins::Since(now);
        }
    }

    /// Begins or ends pinning; whether that changed anything.
    pub(super) fn turn_pins(&mut self, now: Moment, policy: &Policy) -> bool {
        let waited = policy.settle_after.is_over(self.changed.max(self.restart), now);
        let wanted = policy.learns
            || match policy.pressure {
                Pressure::ThreeQuarters => false,
                Pressure::Quarter => true,
                Pressure::Low => waited,
            };
        match (wanted, self.pins) {
            (true, Pins::Off) => self.pins = Pins::Asked,
            (false, Pins::Asked | Pins::Since(_)) => self.pins = Pins::Off,
            (true, Pins::Asked | Pins::Since(_)) | (false, Pins::Off) => return false,
        }
        true
    }

    /// How it settles now, if it does.
    pub(super) fn due(&self, now: Moment, policy: &Policy) -> Option<Kind> {
        if policy.learns {
            return now.is_past(self.changed, Span::of(WINDOW)).then_some(Kind::Window);
        }
        if !now.is_past(self.deferred, Span::of(LAPSE)) {
            return None;
        }
        let pinned = match self.pins {
            Pins::Since(since) => now.is_past(since, policy.idle),
            Pins::Off | Pins::Asked => false,
        };
        if now.is_past(self.seen.max(self.changed), policy.idle) {
            Some(Kind::Idle)
        } else {
            pinned.then_some(Kind::Pinned)
        }
    }

    pub(super) const fn settle(&mut self, now: Moment) {
        (self.looks, self.pins, self.equal) = (true, Pins::Off, now);
    }

    pub(super) fn took_effect(&mut self, asked: Moment, now: Moment) {
        for time in [&mut self.changed, &mut self.restart, &mut self.equal] {
            *time = if *time >= asked { (*time).max(now) } else { *time };
        }
        if self.pins == Pins::Asked {
            self.pins = Pins::Since(now);
        }
    }

    /// Whether a sweep that began then and found nothing ends its look.
    pub(super) fn may_rest(&self, began: Moment) -> bool {
        self.looks && !self.kept && began.is_past(self.equal, Span::of(LAPSE))
    }

    pub(super) const fn rest(&mut self) {
        self.looks = false;
    }
}
