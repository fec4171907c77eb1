//! Words of a sample in its table: each is read and written at once.

use grayxdp_common::signals::{FlowSample, MeasureKey};

use super::Seen;
use crate::atomic;

/// Who sent a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The client.
    Client,
    /// The backend.
    Backend,
}

/// A place of the sample table.
#[derive(Clone, Copy)]
pub(super) struct Flow(pub(super) *mut FlowSample);

/// Reads and writes words of a sample.
macro_rules! word {
    ($read:ident, $field:ident) => {
        #[inline(always)]
        pub(super) fn $read(self) -> u64 {
            // SAFETY: the sample is a live map value; others write its words, each at once.
            unsafe { (&raw const (*self.0).$field).read_volatile() }
        }
    };
}

impl Flow {
    word!(identity, identity);
    word!(state, state);
    word!(until, until);
    word!(epoch, epoch);
    word!(asked_ns, asked_ns);

    #[inline(always)]
    pub(super) fn change_identity(self, old: u64, new: u64) -> bool {
        // SAFETY: a field of a live map value.
        atomic::exchange(unsafe { &raw mut (*self.0).identity }, old, new)
    }

    #[inline(always)]
    pub(super) fn change_state(self, old: u64, new: u64) -> bool {
        // SAFETY: a field of a live map value.
        atomic::exchange(unsafe { &raw mut (*self.0).state }, old, new)
    }

    #[inline(always)]
    pub(super) fn set_asked(self, now_ns: u64) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.0).asked_ns).write_volatile(now_ns) }
    }

    #[inline(always)]
    pub(super) fn set_until(self, seen: &Seen) {
        let until = until(seen);
        if until != self.until() {
            // SAFETY: as above.
            unsafe { (&raw mut (*self.0).until).write_volatile(until) }
        }
    }

    /// The half of a word that belongs to a side.
    #[inline(always)]
    fn half(self, word: *mut u64, side: Side) -> *mut u32 {
        // SAFETY: within the word.
        unsafe { word.cast::<u32>().add(usize::from(side == Side::Backend)) }
    }

    #[inline(always)]
    pub(super) fn highest(self, side: Side) -> u32 {
        // SAFETY: as above.
        unsafe { self.half(&raw mut (*self.0).highest, side).read_volatile() }
    }

    #[inline(always)]
    pub(super) fn set_highest(self, side: Side, highest: u32) {
        // SAFETY: as above.
        unsafe { self.half(&raw mut (*self.0).highest, side).write_volatile(highest) }
    }

    #[inline(always)]
    pub(super) fn bytes(self, side: Side) -> u64 {
        // SAFETY: as above.
        u64::from(unsafe { self.half(&raw mut (*self.0).bytes, side).read_volatile() })
    }

    #[inline(always)]
    pub(super) fn add_bytes(self, side: Side, bytes: u32) {
        if bytes == 0 {
            return;
        }
        let sum = self.bytes(side) + u64::from(bytes);
        let sum = if sum >> 32 == 0 { sum as u32 } else { u32::MAX };
        // SAFETY: as above.
        unsafe { self.half(&raw mut (*self.0).bytes, side).write_volatile(sum) }
    }

    /// Fills a claimed place; the identity comes last.
    #[inline(always)]
    pub(super) fn write(self, key: &MeasureKey, seen: &Seen, flags: u64, highest: u64, bytes: u64) {
        let flow = self.0;
        let state = u64::from(seen.place)
            | (u64::from(seen.backend) << 16)
            | flags
            | (u64::from(seen.cell) << FlowSample::CELL_SHIFT);
        // SAFETY: the sample is a live map value and claimed by this CPU; volatile keeps the stores whole and in order.
        unsafe {
            (&raw mut (*flow).start_ns).write_volatile(seen.now_ns);
            (&raw mut (*flow).asked_ns).write_volatile(seen.now_ns);
            (&raw mut (*flow).epoch).write_volatile(seen.epoch);
            (&raw mut (*flow).bytes).write_volatile(bytes);
            (&raw mut (*flow).highest).write_volatile(highest);
            (&raw mut (*flow).state).write_volatile(state);
            (&raw mut (*flow).until).write_volatile(until(seen));
            (&raw mut (*flow).identity).write_volatile(key.sample);
        }
    }
}

/// The tick at which a horizon that begins now ends.
#[inline(always)]
fn until(seen: &Seen) -> u64 {
    u64::from(((seen.now_ns >> grayxdp_common::exceptions::TICK_SHIFT) as u32).wrapping_add(seen.horizon_ticks))
}
