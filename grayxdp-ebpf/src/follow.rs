//! What a segment says about the connection that is followed: arithmetic of sequence numbers, and the way from the first
//! question to the first byte and to the end. Pure: the program keeps the state in its sample table.
//!
//! ```text
//!          SYN-ACK              payload of the client       payload of the backend
//! (SYN) ───────────► open ──────────────────────────► asked ─────────────────────────► answered
//!                     │ payload of the backend: answered, timed from the SYN-ACK           │
//!                     └──────────── RST of either side, FIN of both: the end ◄─────────────┘
//! ```

use grayxdp_common::signals::FlowSample;

use crate::packet::flags;

/// What of a TCP header counts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sequence number.
    pub sequence: u32,
    /// Bytes of payload.
    pub payload: u32,
    /// TCP flags.
    pub flags: u8,
    /// The sender takes no more data.
    pub window_is_zero: bool,
}

impl Segment {
    #[inline(always)]
    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// First sequence number behind its payload, SYN and FIN left out.
    #[inline(always)]
    const fn payload_end(&self) -> u32 {
        self.sequence.wrapping_add(self.payload)
    }
}

/// What a segment does to what one side has sent so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// First sequence number that the side has not used yet.
    pub highest: u32,
    /// Bytes of payload that are new.
    pub fresh: u32,
    /// It has payload and begins below the highest number: a retransmit.
    pub is_repeated: bool,
}

impl Progress {
    /// Of a segment that opens the numbering: SYN, SYN-ACK, or the first that was seen.
    #[inline(always)]
    #[must_use]
    pub const fn first(segment: &Segment) -> Self {
        let syn = segment.has(flags::SYN) as u32;
        let end = segment.payload_end().wrapping_add(syn).wrapping_add(segment.has(flags::FIN) as u32);
        Self { highest: end, fresh: segment.payload, is_repeated: false }
    }

    /// Of any other. Half of the numbers lie below the highest, as RFC 9293 (3.4) compares them. One byte right below it is
    /// a keep-alive probe.
    #[inline(always)]
    #[must_use]
    pub const fn next(highest: u32, segment: &Segment) -> Self {
        let is_below = (segment.sequence.wrapping_sub(highest) as i32) < 0;
        let is_probe = segment.payload <= 1 && segment.sequence.wrapping_add(1) == highest;
        let ahead = segment.payload_end().wrapping_sub(highest);
        let is_ahead = (ahead as i32) > 0;
        let end = segment.payload_end().wrapping_add(segment.has(flags::FIN) as u32);
        let grows = (end.wrapping_sub(highest) as i32) > 0;
        Self {
            highest: if grows { end } else { highest },
            fresh: if is_ahead && segment.payload > 0 { ahead } else { 0 },
            is_repeated: segment.payload > 0 && is_below && !is_probe,
        }
    }
}

/// What comes about with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// `FLAG_…` bits of [`FlowSample`] with those that are new.
    pub state: u64,
    /// Bits of what is counted.
    pub events: u64,
}

impl Turn {
    /// The handshake is answered.
    pub const OPENED: u64 = 1;
    /// From now on the first byte is waited for: [`FlowSample::asked_ns`] is now.
    pub const ASKED: u64 = 2;
    /// The first byte came.
    pub const FIRST_BYTE: u64 = 4;
    /// A zero window, the first of the flow.
    pub const ZERO_WINDOW: u64 = 8;
    /// A RST of an open flow.
    pub const RESET: u64 = 16;
    /// Nothing more is to come.
    pub const OVER: u64 = 32;

    /// Whether something came about.
    #[inline(always)]
    #[must_use]
    pub const fn has(self, event: u64) -> bool {
        self.events & event != 0
    }

    /// Of the client's segment.
    #[inline(always)]
    #[must_use]
    pub const fn of_client(state: u64, segment: &Segment) -> Self {
        let turn = Self { state, events: 0 };
        if segment.has(flags::RST) {
            return turn.reset();
        }
        let asks = segment.payload > 0 && state & (FlowSample::FLAG_ASKED | FlowSample::FLAG_ANSWERED) == 0;
        turn.when(asks, FlowSample::FLAG_ASKED, Self::ASKED).goes_on(segment, FlowSample::FLAG_FIN_FORWARD)
    }

    /// Of the backend's segment.
    #[inline(always)]
    #[must_use]
    pub const fn of_backend(state: u64, segment: &Segment) -> Self {
        let turn = Self { state, events: 0 };
        if segment.has(flags::RST) {
            return turn.reset();
        }
        if segment.has(flags::SYN) {
            let opens = segment.has(flags::ACK) && state & FlowSample::FLAG_OPEN == 0;
            let asks = opens && state & FlowSample::FLAG_ASKED == 0;
            return turn.when(opens, FlowSample::FLAG_OPEN, Self::OPENED).when(asks, 0, Self::ASKED);
        }
        let is_open = state & FlowSample::FLAG_OPEN != 0;
        let answers = segment.payload > 0 && is_open && state & FlowSample::FLAG_ANSWERED == 0;
        turn.when(answers, FlowSample::FLAG_ANSWERED, Self::FIRST_BYTE).goes_on(segment, FlowSample::FLAG_FIN_REVERSE)
    }

    #[inline(always)]
    const fn reset(self) -> Self {
        let is_open = self.state & FlowSample::FLAG_OPEN != 0;
        self.when(is_open, 0, Self::RESET).when(true, 0, Self::OVER)
    }

    /// What both sides' segments may do: close the window, and close the connection.
    #[inline(always)]
    const fn goes_on(self, segment: &Segment, fin: u64) -> Self {
        let both = FlowSample::FLAG_FIN_FORWARD | FlowSample::FLAG_FIN_REVERSE;
        let is_open = self.state & FlowSample::FLAG_OPEN != 0;
        let stalls = segment.window_is_zero && is_open && self.state & FlowSample::FLAG_ZERO_WINDOW == 0;
        let turn =
            self.when(stalls, FlowSample::FLAG_ZERO_WINDOW, Self::ZERO_WINDOW).when(segment.has(flags::FIN), fin, 0);
        turn.when(turn.state & both == both, 0, Self::OVER)
    }

    #[inline(always)]
    const fn when(self, comes_about: bool, state: u64, event: u64) -> Self {
        if comes_about { Self { state: self.state | state, events: self.events | event } } else { self }
    }
}
