//! The exception table: flows that do not go where the default says. Set-associative, four entries of two words in one
//! cache line; an entry may lie in either of two sets.
//!
//! First word of an entry: `bucket` (14 bits) | `fingerprint` (26) | `backend` (16) | `state` (2) | `overflow` (1) |
//! `time` (5, in [`TICK_SHIFT`] ticks, of half-open entries). 0 but for `overflow`: free.
//! Second word of a half-open entry: initial sequence number (low half), number of the SYN-ACK (high half, 0: none seen).
//! Second word of a pin or an established entry: time of the last packet in ticks (low half), `slot` (14 bits) and flags.
//!
//! A flow is told from others by its set, its bucket and its fingerprint. With `n` live entries in 2^`k` sets a packet
//! without an entry meets `8·n/2^(k+2)` others at most and takes one for its own with a chance of 2^-40 each (2^-26 among
//! the flows of one client with `affinity: client`): with a million entries in 2^19 sets below 4 · 10^-12.

use crate::{hash::FlowHash, map_value};

/// Entries in a set.
pub const WAYS: usize = 4;

/// Nanoseconds of monotonic time in a tick, as a power of two: 0.54 s.
pub const TICK_SHIFT: u32 = 29;

/// A half-open entry lapses when its flow's last SYN is more ticks ago than this: 3.2 to 3.8 s.
pub const HALF_OPEN_TICKS: u32 = 6;

/// A pin without an answer lapses after this many ticks: 60 s.
pub const PIN_TICKS: u32 = 112;

/// Where answers do not come by, a packet confirms a pin that is at least so many ticks old: 1.07 to 1.6 s.
pub const CONFIRMING_TICKS: u32 = 3;

/// A set of entries: one cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ExceptionSet(pub [[u64; 2]; WAYS]);

map_value!(ExceptionSet, size 64);

/// What an entry is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryState {
    /// Nothing.
    Free = 0,
    /// A SYN went to the backend; a packet with fitting numbers completes it.
    HalfOpen = 1,
    /// A packet went to the backend by home; an answer makes it established.
    Pin = 2,
    /// The flow is the backend's.
    Established = 3,
}

/// The first word of an entry.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct Head(pub u64);

impl Head {
    const IDENTITY_SHIFT: u32 = 24;
    const BACKEND_SHIFT: u32 = 8;
    const STATE_SHIFT: u32 = 6;
    /// On the first entry of a set: some flow whose first set this is lies in its second.
    pub const OVERFLOW: u64 = 1 << 5;
    const TIME: u64 = 31;

    /// An entry; `time` counts for half-open ones only.
    #[inline(always)]
    #[must_use]
    pub const fn new(identity: u64, backend: u16, state: EntryState, tick: u32) -> Self {
        Self(
            (identity << Self::IDENTITY_SHIFT)
                | ((backend as u64) << Self::BACKEND_SHIFT)
                | ((state as u64) << Self::STATE_SHIFT)
                | (tick as u64 & Self::TIME),
        )
    }

    /// Bucket and fingerprint.
    #[inline(always)]
    #[must_use]
    pub const fn identity(self) -> u64 {
        self.0 >> Self::IDENTITY_SHIFT
    }

    /// The flow's bucket.
    #[inline(always)]
    #[must_use]
    pub const fn bucket(self) -> u16 {
        (self.0 >> 50) as u16
    }

    /// Where the flow goes.
    #[inline(always)]
    #[must_use]
    pub const fn backend(self) -> u16 {
        (self.0 >> Self::BACKEND_SHIFT) as u16
    }

    /// What the entry is, as a number.
    #[inline(always)]
    #[must_use]
    pub const fn state_bits(self) -> u8 {
        (self.0 >> Self::STATE_SHIFT) as u8 & 3
    }

    /// What the entry is.
    #[must_use]
    pub const fn state(self) -> EntryState {
        match self.state_bits() {
            0 => EntryState::Free,
            1 => EntryState::HalfOpen,
            2 => EntryState::Pin,
            _ => EntryState::Established,
        }
    }

    /// The same with another state.
    #[inline(always)]
    #[must_use]
    pub const fn with_state(self, state: EntryState) -> Self {
        Self((self.0 & !(3 << Self::STATE_SHIFT)) | ((state as u64) << Self::STATE_SHIFT))
    }

    /// The same with another overflow bit.
    #[inline(always)]
    #[must_use]
    pub const fn with_overflow_of(self, other: Self) -> Self {
        Self((self.0 & !Self::OVERFLOW) | (other.0 & Self::OVERFLOW))
    }

    /// Whether the overflow bit is set.
    #[inline(always)]
    #[must_use]
    pub const fn overflows(self) -> bool {
        self.0 & Self::OVERFLOW != 0
    }

    /// Ticks since a half-open entry's last SYN, modulo 32.
    #[inline(always)]
    #[must_use]
    pub const fn half_open_age(self, now: u32) -> u32 {
        now.wrapping_sub(self.0 as u32) & Self::TIME as u32
    }
}

/// The second word of a pin or an established entry.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct Tail(pub u64);

impl Tail {
    /// The client sent FIN.
    pub const FIN_FORWARD: u64 = 1 << 46;
    /// The backend sent FIN.
    pub const FIN_REVERSE: u64 = 1 << 47;
    /// Either side sent RST.
    pub const RESET: u64 = 1 << 48;
    /// A UDP flow.
    pub const UDP: u64 = 1 << 49;
    /// Established by the client's numbers alone, for nothing of what its backend answers comes by: without a second packet it
    /// lapses as a pin does.
    pub const UNCONFIRMED: u64 = 1 << 50;
    /// All bits that say that the flow ends.
    pub const CLOSING: u64 = Self::FIN_FORWARD | Self::FIN_REVERSE | Self::RESET;

    /// An entry met at a tick.
    #[inline(always)]
    #[must_use]
    pub const fn new(slot: u16, tick: u32, flags: u64) -> Self {
        Self(tick as u64 | ((slot as u64 & 0x3fff) << 32) | flags)
    }

    /// Tick of the last packet.
    #[inline(always)]
    #[must_use]
    pub const fn tick(self) -> u32 {
        self.0 as u32
    }

    /// The flow's slot.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self) -> u16 {
        (self.0 >> 32) as u16 & 0x3fff
    }

    /// Whether a flag is set.
    #[inline(always)]
    #[must_use]
    pub const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    /// Whether the flow is about to end: FIN of both sides, or RST.
    #[inline(always)]
    #[must_use]
    pub const fn is_closing(self) -> bool {
        self.has(Self::RESET)
            || self.0 & (Self::FIN_FORWARD | Self::FIN_REVERSE) == Self::FIN_FORWARD | Self::FIN_REVERSE
    }
}

/// Where a flow's entries may lie, and what tells them from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExceptionKey {
    /// Its first set, before the mask.
    pub first: u32,
    /// Its second set, before the mask.
    pub second: u32,
    /// Bucket (14 bits) and fingerprint (26 bits).
    pub identity: u64,
}

impl ExceptionKey {
    /// Of a flow by the hash of its whole 5-tuple (also with `affinity: client`) and its bucket.
    #[inline(always)]
    #[must_use]
    pub const fn of(hash: FlowHash, bucket: u16) -> Self {
        // A second mix (the finaliser of MurmurHash3): independent of bucket and slot, which are other bits of the hash.
        let mut x = hash.0;
        x ^= x >> 33;
        x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
        x ^= x >> 33;
        x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        x ^= x >> 33;
        let first = x as u32;
        // Never the first one again: an odd number of sets further on, by bits that the first does not use.
        let second = first ^ ((((x >> 32) as u32) >> 1) | 1);
        Self { first, second, identity: ((bucket as u64) << 26) | (x >> 38) }
    }
}

/// A tick of a monotonic time in nanoseconds.
#[inline(always)]
#[must_use]
pub const fn tick(monotonic_ns: u64) -> u32 {
    (monotonic_ns >> TICK_SHIFT) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_give_back_what_they_were_made_of() {
        let head = Head::new((0x3abc << 26) | 0x155_5555, 0xbeef, EntryState::Pin, 100);
        assert_eq!((head.bucket(), head.backend(), head.state()), (0x3abc, 0xbeef, EntryState::Pin));
        assert_eq!(head.identity(), (0x3abc << 26) | 0x155_5555);
        assert_eq!((head.half_open_age(100), head.half_open_age(106), head.half_open_age(132)), (0, 6, 0));
        assert_eq!(head.with_state(EntryState::Established).state(), EntryState::Established);
        assert!(!head.overflows() && head.with_overflow_of(Head(Head::OVERFLOW)).overflows());
        let tail = Tail::new(16_380, 77, Tail::UDP | Tail::FIN_FORWARD);
        assert_eq!((tail.slot(), tail.tick(), tail.is_closing()), (16_380, 77, false));
        assert!(tail.has(Tail::UDP) && Tail(tail.0 | Tail::FIN_REVERSE).is_closing());
    }

    #[test]
    fn the_two_sets_of_a_flow_differ_whatever_the_size() {
        for n in 0..10_000_u64 {
            let key = ExceptionKey::of(FlowHash(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)), 5);
            assert_ne!(key.first & 1, key.second & 1);
            assert_eq!(key.identity >> 26, 5);
        }
    }
}
