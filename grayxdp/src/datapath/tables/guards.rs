//! Fuses and leases in their map. Each is seen only for a moment: the map as a whole is not kept mapped.

use std::{mem::offset_of, sync::atomic::Ordering, time::Duration};

use grayxdp_common::guard::{FAILURES, Guard};

use super::{super::mapped::Mapped, Memory, Tables, TablesError, live::Live};
use crate::model::kernel::{GuardStatus, Latch, ServiceId, WantedGuard};

/// One guard.
pub(super) struct GuardMemory {
    window: Mapped<Guard>,
    index: u32,
}

impl Memory {
    /// Maps one guard.
    pub(super) fn guard(&self, index: u32) -> Result<GuardMemory, TablesError> {
        if index >= self.guards.len() {
            return Err(TablesError::Full("a guard that was there"));
        }
        Ok(GuardMemory { window: self.guards.window(index, 1)?, index })
    }
}

impl GuardMemory {
    fn load(&self, offset: usize) -> u64 {
        self.window.at(self.index, offset).load(Ordering::Acquire)
    }

    fn store(&self, offset: usize, word: u64) {
        self.window.store(self.index, offset, word);
    }

    /// Whether it is that of an attempt of a rollout.
    pub(super) fn belongs_to(&self, rollout: u64, attempt: u64) -> bool {
        self.load(offset_of!(Guard, rollout)) == rollout && self.load(offset_of!(Guard, attempt)) == attempt
    }

    /// Makes it a new one.
    pub(super) fn begin(&self, rollout: u64, wanted: &WantedGuard) {
        self.window.clear(self.index);
        self.store(offset_of!(Guard, rollout), rollout);
        self.store(offset_of!(Guard, attempt), wanted.attempt);
        self.update(wanted);
    }

    /// Sets when the fuse trips; a lease that is no longer wanted ends. Latches and counts stay.
    pub(super) fn update(&self, wanted: &WantedGuard) {
        let (limit, ratio, window) = match &wanted.fuse {
            Some(fuse) => {
                let ratio = (fuse.ratio.clamp(0.0, 1.0) * 65_536.0).round() as u32;
                (fuse.limit.min(FAILURES as u32 - 1), ratio, fuse.window)
            }
            None => (0, 0, Duration::ZERO),
        };
        self.store(offset_of!(Guard, window_ns), nanoseconds(window));
        let words = [limit.to_ne_bytes(), ratio.to_ne_bytes()].concat();
        let word = u64::from_ne_bytes(words.try_into().expect("two words of four bytes"));
        self.store(offset_of!(Guard, limit), word);
        if wanted.lease.is_none() {
            self.store(offset_of!(Guard, lease_until_ns), 0);
        }
    }

    fn status(&self, service: ServiceId) -> GuardStatus {
        let latches = self.load(offset_of!(Guard, latches));
        let at = |offset: usize| Duration::from_nanos(self.load(offset));
        let until = self.load(offset_of!(Guard, lease_until_ns));
        GuardStatus {
            service,
            rollout: self.load(offset_of!(Guard, rollout)),
            attempt: self.load(offset_of!(Guard, attempt)),
            tripped: (latches & Guard::TRIPPED != 0).then(|| at(offset_of!(Guard, tripped_ns))),
            expired: (latches & Guard::LEASE_EXPIRED != 0).then(|| at(offset_of!(Guard, expired_ns))),
            alarm: latches & Guard::ALARM != 0,
            lease_until: (until != 0).then(|| Duration::from_nanos(until)),
            failures: self.load(offset_of!(Guard, failures)),
        }
    }

    /// Clears a latch, and the alarm. Without its last failures a fuse does not trip again at the next one.
    fn clear(&self, latch: Latch) {
        let bit = match latch {
            Latch::Tripped => {
                let first = offset_of!(Guard, failed_ns);
                (0..FAILURES).for_each(|failure| self.store(first + failure * size_of::<u64>(), 0));
                Guard::TRIPPED
            }
            Latch::LeaseExpired => Guard::LEASE_EXPIRED,
        };
        let latches = self.window.at(self.index, offset_of!(Guard, latches));
        latches.fetch_and(!(bit | Guard::ALARM), Ordering::SeqCst);
    }
}

impl Tables {
    /// How the guards stand.
    pub(in crate::datapath) fn guards(&self) -> Vec<GuardStatus> {
        let guards = self.live.iter().filter_map(|(id, live)| Some((*id, self.guard_of(live)?)));
        guards.map(|(id, guard)| guard.status(id)).collect()
    }

    /// Lets a lease run until a monotonic time.
    pub(in crate::datapath) fn renew_lease(&self, service: ServiceId, until: Duration) {
        if let Some(guard) = self.live.get(&service).and_then(|live| self.guard_of(live)) {
            guard.store(offset_of!(Guard, lease_until_ns), nanoseconds(until));
        }
    }

    /// Clears a latch.
    pub(in crate::datapath) fn clear_latch(&self, service: ServiceId, latch: Latch) {
        if let Some(guard) = self.live.get(&service).and_then(|live| self.guard_of(live)) {
            guard.clear(latch);
        }
    }

    /// Adds the latches that came to smaller maps while these took their place.
    pub(in crate::datapath) fn add_latches_of(&self, smaller: &Self) -> Result<(), TablesError> {
        for index in 1..smaller.memory.guards.len().min(self.memory.guards.len()) {
            let (from, to) = (smaller.memory.guard(index)?, self.memory.guard(index)?);
            if to.belongs_to(from.load(offset_of!(Guard, rollout)), from.load(offset_of!(Guard, attempt))) {
                for offset in [offset_of!(Guard, tripped_ns), offset_of!(Guard, expired_ns)] {
                    to.store(offset, to.load(offset).max(from.load(offset)));
                }
                let latches = to.window.at(index, offset_of!(Guard, latches));
                latches.fetch_or(from.load(offset_of!(Guard, latches)), Ordering::SeqCst);
            }
        }
        Ok(())
    }

    fn guard_of(&self, live: &Live) -> Option<GuardMemory> {
        let index = live.detail.map(|detail| detail.guard).filter(|index| *index != 0)?;
        let guard = self.memory.guard(index);
        guard.inspect_err(|error| tracing::warn!(%error, "a guard cannot be read")).ok()
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
