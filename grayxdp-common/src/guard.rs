//! Fuse and lease: what turns a candidate off before any daemon wakes up, and what says that it happened.
//!
//! A guard belongs to one attempt of one rollout. Publishing tables never touches it. The program only sets bits of
//! `latches`; the daemon clears them.

use crate::map_value;

/// Connect failures that a fuse can remember: the greatest `limit` that can be set is one less.
pub const FAILURES: usize = 1_024;

/// Parts of the window in which attempts are counted.
pub const PARTS: usize = 16;

/// Parts that make up a window: the oldest of [`PARTS`] are being reused.
pub const WINDOW_PARTS: u64 = 8;

/// Counts in one part of the window, in one word, so that they begin anew together:
/// `part` (24 bits) | the candidate's count (20) | the stable version's count (20).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Part(pub u64);

impl Part {
    /// Adds one to the candidate's count.
    pub const CANDIDATE: u64 = 1 << 20;
    /// Adds one to the stable version's count.
    pub const STABLE: u64 = 1;
    const COUNT: u64 = (1 << 20) - 1;
    const NUMBER: u64 = (1 << 24) - 1;

    /// The counts of a part that begins.
    #[inline(always)]
    #[must_use]
    pub const fn begin(part: u64, counts: u64) -> Self {
        Self(((part & Self::NUMBER) << 40) | counts)
    }

    /// Parts that passed since this one, modulo 2^24.
    #[inline(always)]
    #[must_use]
    pub const fn age(self, part: u64) -> u64 {
        part.wrapping_sub(self.0 >> 40) & Self::NUMBER
    }

    /// The candidate's count.
    #[inline(always)]
    #[must_use]
    pub const fn candidate(self) -> u64 {
        self.0 >> 20 & Self::COUNT
    }

    /// The stable version's count.
    #[inline(always)]
    #[must_use]
    pub const fn stable(self) -> u64 {
        self.0 & Self::COUNT
    }

    /// Whether both counts can still be added to.
    #[inline(always)]
    #[must_use]
    pub const fn has_room(self) -> bool {
        self.candidate() < Self::COUNT - 1_024 && self.stable() < Self::COUNT - 1_024
    }
}

/// A guard.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// `TRIPPED` and `LEASE_EXPIRED`, `ALARM`.
    pub latches: u64,
    /// When the lease runs out, in monotonic nanoseconds; 0: no lease.
    pub lease_until_ns: u64,
    /// Failures of the candidate inside the window that are let pass; more trip the fuse. 0: no fuse.
    pub limit: u32,
    /// Least failures per attempt, in 1/65,536.
    pub ratio: u32,
    /// The window in nanoseconds.
    pub window_ns: u64,
    /// Number of the rollout.
    pub rollout: u64,
    /// Attempt of the rollout: `retry` begins another.
    pub attempt: u64,
    /// When the fuse tripped, in monotonic nanoseconds.
    pub tripped_ns: u64,
    /// When the lease was found expired, in monotonic nanoseconds.
    pub expired_ns: u64,
    /// Connect failures of the candidate so far.
    pub failures: u64,
    /// Connect failures of the stable version so far.
    pub stable_failures: u64,
    /// Attempts of the candidate so far.
    pub attempts: u64,
    /// Attempts of the stable version so far.
    pub stable_attempts: u64,
    /// Room for what comes later.
    pub reserved: [u64; 4],
    /// Attempts by part of the window; part `n` is at `n` modulo [`PARTS`].
    pub attempt_parts: [Part; PARTS],
    /// Failures by part of the window.
    pub failure_parts: [Part; PARTS],
    /// When the candidate's last failures were; failure `n` is at `n` modulo [`FAILURES`].
    pub failed_ns: [u64; FAILURES],
}

map_value!(Guard, size 8_576);

impl Guard {
    /// The fuse tripped.
    pub const TRIPPED: u64 = 1;
    /// The lease ran out.
    pub const LEASE_EXPIRED: u64 = 2;
    /// Fuse or lease would have acted, but the stable version has no backend that is up.
    pub const ALARM: u64 = 4;
}

/// What an event is about.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A fuse tripped.
    FuseTripped = 1,
    /// A lease ran out.
    LeaseExpired = 2,
    /// Fuse or lease would have acted, but the stable version has no backend that is up.
    NoStable = 3,
}

/// What the program tells by the ring buffer; it only speeds up what the daemon reads anyway.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// An [`EventKind`].
    pub kind: u32,
    /// Index of the guard.
    pub guard: u32,
    /// Rollout of the guard.
    pub rollout: u64,
    /// Monotonic time in nanoseconds.
    pub time_ns: u64,
    /// Failures so far.
    pub failures: u64,
}

map_value!(Event, size 32);
