//! What is measured: marks of handshakes, samples of flows, and the counts and distributions that they lead to.
//!
//! Marks and samples lie in direct-mapped tables that may lose anything; a place is taken if it is free or lapsed.

pub use crate::histogram::{HISTOGRAM_CELLS, Histogram};
use crate::{exceptions::TICK_SHIFT, hash::FlowHash, map_value};

/// Places for sampled flows, of 64 bytes each: 1 MiB.
pub const FLOW_PLACES: u32 = 1 << 14;

/// A mark without an answer lapses after this: a connect timeout.
pub const CONNECT_TIMEOUT_NS: u64 = 3_000_000_000;

/// A SYN of a handshake that timed out belongs to it for as long after its first SYN: no new attempt (68 s).
pub const GIVEN_UP_NS: u64 = 1 << 36;

/// Where a flow's mark and sample lie, and what tells it from others. Independent of bucket, slot and [`FlowHash::sample`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeasureKey {
    /// Its place in either table, before the mask.
    pub index: u32,
    /// Its identity in a [`Mark`].
    pub mark: u32,
    /// Its identity in a [`FlowSample`].
    pub sample: u64,
}

impl MeasureKey {
    /// Of a flow by the hash of its whole 5-tuple, also with `affinity: client`.
    #[inline(always)]
    #[must_use]
    pub const fn of(hash: FlowHash) -> Self {
        // A mix of its own (Pelle Evensen's rrmxmx without its rotations).
        let mut x = hash.0;
        x ^= x >> 32;
        x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
        x ^= x >> 32;
        x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
        x ^= x >> 32;
        Self { index: x as u32, mark: (x >> 32) as u32, sample: x | 1 << 63 }
    }
}

/// A handshake that is measured. It is written by SYN, SYN-ACK and RST only.
///
/// `head`: identity of the flow (32 bits) | epoch (12) | parity-independent place of its [`Signals`] (16) | state (4).
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Mark {
    /// Who and for which counts; 0: free. See [`MarkHead`].
    pub head: u64,
    /// Monotonic nanoseconds of the first SYN (52 bits, 52 days) | cell of the client (8) | SYN repeats seen, saturating (4).
    pub tail: u64,
}

map_value!(Mark, size 16);

/// First word of a [`Mark`].
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MarkHead(pub u64);

impl MarkHead {
    /// A SYN went out, nothing came back.
    pub const WAITING: u64 = 1;
    /// A SYN-ACK came back.
    pub const OPENED: u64 = 2;
    /// A RST came back.
    pub const REFUSED: u64 = 3;
    /// Nothing came back within [`CONNECT_TIMEOUT_NS`], and that is counted.
    pub const TIMED_OUT: u64 = 4;
    /// The second word is being written: touch nothing.
    pub const CLAIMED: u64 = 5;
    /// A SYN went out, and what comes back does not come by: only a repeat tells that nothing did.
    pub const UNSEEN: u64 = 6;

    /// A mark.
    #[inline(always)]
    #[must_use]
    pub const fn new(identity: u32, epoch: u64, signals: u16, state: u64) -> Self {
        Self(((identity as u64) << 32) | ((epoch & 0xfff) << 20) | ((signals as u64) << 4) | state)
    }

    /// Identity of the flow.
    #[inline(always)]
    #[must_use]
    pub const fn identity(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Low twelve bits of the SYN's epoch.
    #[inline(always)]
    #[must_use]
    pub const fn epoch(self) -> u64 {
        self.0 >> 20 & 0xfff
    }

    /// Place of the signals: see [`Signals`].
    #[inline(always)]
    #[must_use]
    pub const fn signals(self) -> u16 {
        (self.0 >> 4) as u16
    }

    /// What came back.
    #[inline(always)]
    #[must_use]
    pub const fn state(self) -> u64 {
        self.0 & 15
    }

    /// The same with another state.
    #[inline(always)]
    #[must_use]
    pub const fn with_state(self, state: u64) -> Self {
        Self((self.0 & !15) | state)
    }
}

/// Second word of a [`Mark`].
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MarkTail(pub u64);

impl MarkTail {
    const TIME: u64 = (1 << 52) - 1;
    /// One repeat of the SYN.
    pub const REPEAT: u64 = 1 << 60;

    /// Of a first SYN.
    #[inline(always)]
    #[must_use]
    pub const fn new(now_ns: u64, cell: u8) -> Self {
        Self((now_ns & Self::TIME) | ((cell as u64) << 52))
    }

    /// Nanoseconds since the first SYN.
    #[inline(always)]
    #[must_use]
    pub const fn age_ns(self, now_ns: u64) -> u64 {
        now_ns.wrapping_sub(self.0) & Self::TIME
    }

    /// Cell of the client.
    #[inline(always)]
    #[must_use]
    pub const fn cell(self) -> u8 {
        (self.0 >> 52) as u8
    }

    /// Whether the SYN was repeated before any answer: then it is counted, as a failure of its cell too.
    #[inline(always)]
    #[must_use]
    pub const fn is_repeated(self) -> bool {
        self.0 >= Self::REPEAT
    }
}

/// A flow that is followed from its SYN on (UDP: from its first datagram) to its end or for `flowHorizon`.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FlowSample {
    /// Identity of the flow (its highest bit is set); 0: free, [`FlowSample::CLAIMED`]: being written.
    pub identity: u64,
    /// Monotonic nanoseconds of the first packet.
    pub start_ns: u64,
    /// Monotonic nanoseconds of the client's first payload, until then of the SYN-ACK (UDP: of the first datagram).
    pub asked_ns: u64,
    /// Full epoch of the first packet.
    pub epoch: u64,
    /// Bytes of payload to the backend (low half) and from it (high half), each saturating.
    pub bytes: u64,
    /// Highest sequence number sent by the client (low half) and by the backend (high half).
    pub highest: u64,
    /// Place of the signals (low 16 bits), backend (16), `FLAG_…` bits (16), cell of the client (8), zero (8).
    pub state: u64,
    /// Tick ([`crate::exceptions::TICK_SHIFT`]) at which its horizon ends (low half); room.
    pub until: u64,
}

map_value!(FlowSample, size 64);

impl FlowSample {
    /// Instead of an identity: the other words are being written.
    pub const CLAIMED: u64 = 1;
    /// The handshake ended well.
    pub const FLAG_OPEN: u64 = 1 << 32;
    /// The first byte was seen and counted; for UDP also: it did not come in time, and that was counted.
    pub const FLAG_ANSWERED: u64 = 1 << 33;
    /// FIN of the client.
    pub const FLAG_FIN_FORWARD: u64 = 1 << 34;
    /// FIN of the backend.
    pub const FLAG_FIN_REVERSE: u64 = 1 << 35;
    /// A zero window was seen and counted.
    pub const FLAG_ZERO_WINDOW: u64 = 1 << 36;
    /// The client sent payload: `asked_ns` is of it.
    pub const FLAG_ASKED: u64 = 1 << 37;
    /// The highest sequence number of the client is known.
    pub const FLAG_SEQ_FORWARD: u64 = 1 << 38;
    /// The highest sequence number of the backend is known.
    pub const FLAG_SEQ_REVERSE: u64 = 1 << 39;
    /// A UDP flow.
    pub const FLAG_UDP: u64 = 1 << 40;
    /// A UDP flow that outlived its horizon: all of it is counted, and it is not taken for a new one.
    pub const FLAG_ENDED: u64 = 1 << 41;
    /// First of the 8 bits of the client's cell.
    pub const CELL_SHIFT: u32 = 48;

    /// Place of the signals in [`FlowSample::state`].
    #[inline(always)]
    #[must_use]
    pub const fn place(state: u64) -> u16 {
        state as u16
    }

    /// Cell of the client in [`FlowSample::state`].
    #[inline(always)]
    #[must_use]
    pub const fn cell(state: u64) -> u8 {
        (state >> Self::CELL_SHIFT) as u8
    }

    /// Whether the horizon has ended.
    #[inline(always)]
    #[must_use]
    pub const fn has_lapsed(until: u64, now_ns: u64) -> bool {
        ((now_ns >> TICK_SHIFT) as u32).wrapping_sub(until as u32) as i32 > 0
    }
}

/// What is counted of a flow that is no longer followed: `ENDED`, `CENSORED`, `UNANSWERED` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conclusion {
    /// What is counted.
    pub events: u64,
    /// Nanoseconds for which the first byte had not come.
    pub age_ns: u64,
}

impl Conclusion {
    /// It was open: `ended` rises, and its bytes are counted.
    pub const ENDED: u64 = 1;
    /// It was asked and not answered: a censored first byte.
    pub const CENSORED: u64 = 2;
    /// UDP: nothing answered it in time: `unanswered` rises, and its cell has a failure.
    pub const UNANSWERED: u64 = 4;

    /// Of a flow as its sample says; `now_ns` when it ended, or when it was found lapsed.
    #[inline(always)]
    #[must_use]
    pub const fn of(state: u64, asked_ns: u64, until: u64, now_ns: u64) -> Self {
        let horizon_ns = (until & 0xffff_ffff) << TICK_SHIFT;
        let seen_ns = if FlowSample::has_lapsed(until, now_ns) { horizon_ns } else { now_ns };
        let waited = seen_ns.wrapping_sub(asked_ns);
        let age_ns = if waited >> 63 == 0 { waited } else { 0 };
        let is_udp = state & FlowSample::FLAG_UDP != 0;
        let counts = if is_udp { state & FlowSample::FLAG_ENDED == 0 } else { state & FlowSample::FLAG_OPEN != 0 };
        if !counts {
            return Self { events: 0, age_ns };
        }
        let is_asked = state & (FlowSample::FLAG_ASKED | FlowSample::FLAG_UDP) != 0;
        let waits = is_asked && state & FlowSample::FLAG_ANSWERED == 0;
        let events = match (waits, is_udp) {
            (false, _) => Self::ENDED,
            (true, false) => Self::ENDED | Self::CENSORED,
            (true, true) => Self::ENDED | Self::CENSORED | Self::UNANSWERED,
        };
        Self { events, age_ns }
    }
}

/// Cells of clients: a hash of the client's address.
pub const CLIENT_CELLS: usize = 256;

/// The cell of a client, as its address lies in a packet.
#[inline(always)]
#[must_use]
pub const fn client_cell(address: u32) -> u8 {
    ((address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// A count for each cell of clients.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellCounts(pub [u32; CLIENT_CELLS]);

impl Default for CellCounts {
    fn default() -> Self {
        Self([0; CLIENT_CELLS])
    }
}

/// Shift that brings a number of bytes into the range of a [`Histogram`]: from 64 bytes to 17 GB.
pub const BYTES_SHIFT: u32 = 4;

/// What is judged of one version in one segment, in epochs of one parity, on one CPU.
///
/// It lies at `((place × 2) + parity) × CPUs + CPU`, where `place` = base of the service + version place × segments +
/// segment, and `parity` = epoch modulo 2. The daemon clears a parity before an epoch begins to use it again, and then
/// writes `epoch` into it: what belongs to another epoch counts nowhere.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Signals {
    /// The epoch whose counts these are.
    pub epoch: u64,
    /// Measured handshakes that began.
    pub attempts: u64,
    /// … that a SYN-ACK answered.
    pub opened: u64,
    /// … that a RST answered.
    pub refused: u64,
    /// … that nothing answered within [`CONNECT_TIMEOUT_NS`].
    pub timeouts: u64,
    /// … whose SYN was repeated before any answer.
    pub syn_retransmits: u64,
    /// SYNs that found no place for a mark, and deferred ones: not measured, not judged.
    pub unmarked: u64,
    /// Followed flows: TCP handshakes that were answered, UDP flows from their first datagram on.
    pub flows: u64,
    /// Followed flows of which nothing more is counted: FIN of both sides, RST, horizon.
    pub ended: u64,
    /// Followed flows that a RST of the client ended.
    pub reset_by_client: u64,
    /// Followed flows that a RST of the backend ended.
    pub reset_by_backend: u64,
    /// Segments of followed flows with payload, from either side.
    pub segments: u64,
    /// … of them that begin below the highest sequence number seen.
    pub retransmits: u64,
    /// Followed flows with a zero window.
    pub zero_window: u64,
    /// Followed flows without a place in the sample table, or pushed out of it before their end.
    pub lost: u64,
    /// UDP: followed flows that no datagram answered within [`CONNECT_TIMEOUT_NS`], and those that an ICMP error answered.
    pub unanswered: u64,
    /// From SYN to SYN-ACK, in nanoseconds.
    pub connect: Histogram,
    /// From the client's first payload (UDP: first datagram) to the backend's, in nanoseconds. A server that speaks first
    /// is timed from the SYN-ACK.
    pub first_byte: Histogram,
    /// Ages of followed flows that were lost or ended before their first byte, in nanoseconds: censored values of
    /// `first_byte`.
    pub first_byte_censored: Histogram,
    /// Payload of ended followed flows in both directions, repeated bytes once, in bytes × 2^[`BYTES_SHIFT`].
    pub bytes: Histogram,
    /// Measured handshakes by [`client_cell`].
    pub cell_attempts: CellCounts,
    /// … of them failed: refused, timed out, or with a repeated SYN.
    pub cell_failures: CellCounts,
}

map_value!(Signals, size 5_760);

/// What the exception table had to do, on one CPU, for one service.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ExceptionCounters {
    /// Half-open entries made.
    pub half_open: u64,
    /// Half-open entries completed.
    pub completed: u64,
    /// Pins made.
    pub pinned: u64,
    /// Pins that found no place.
    pub pins_refused: u64,
    /// SYNs that found no place for their half-open entry and went where their flow's later packets go.
    pub choice_deferred: u64,
    /// Flows that went to another version because their version's pool was empty.
    pub failovers: u64,
    /// Packets of flows in progress that an entry decided.
    pub by_entry: u64,
    /// Room for what comes later.
    pub reserved: u64,
}

map_value!(ExceptionCounters, size 64);

impl core::ops::AddAssign for ExceptionCounters {
    fn add_assign(&mut self, other: Self) {
        self.half_open += other.half_open;
        self.completed += other.completed;
        self.pinned += other.pinned;
        self.pins_refused += other.pins_refused;
        self.choice_deferred += other.choice_deferred;
        self.failovers += other.failovers;
        self.by_entry += other.by_entry;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_give_back_what_they_were_made_of() {
        let head = MarkHead::new(0xdead_beef, 0x1_2345, 0xfedc, MarkHead::WAITING);
        assert_eq!((head.identity(), head.epoch(), head.signals(), head.state()), (0xdead_beef, 0x345, 0xfedc, 1));
        assert_eq!(head.with_state(MarkHead::REFUSED).state(), 3);
        assert!(
            !MarkTail::new(5, 255).is_repeated() && MarkTail(MarkTail::new(5, 0).0 + MarkTail::REPEAT).is_repeated()
        );
        let tail = MarkTail::new((7 << 52) | 1_000, 200);
        assert_eq!((tail.cell(), tail.age_ns((7 << 52) | 1_500)), (200, 500));
    }
}
