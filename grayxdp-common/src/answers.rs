//! How often the program answers by itself: a meter for each kind of answer, on each CPU.

use crate::map_value;

/// What kind of answer. The numbers are places in [`AnswerMeters`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// An ICMP error about a packet on its way.
    Error = 0,
    /// A RST or an ICMP error for a port of a virtual address that no service has.
    Refusal = 1,
    /// An ICMP echo reply.
    Echo = 2,
    /// An ARP reply.
    Arp = 3,
    /// A RST for a flow whose backend is down, or whose release ends it.
    Reset = 4,
}

/// For how long a meter that rested may answer at the pace of what comes, in nanoseconds of its interval: a quarter of a
/// second's answers at once.
pub const BURST_NS: u64 = 250_000_000;

impl AnswerKind {
    /// Nanoseconds between two answers in the long run: 1,000 a second; 100,000 for what ends a client's own flow.
    #[inline(always)]
    #[must_use]
    pub const fn interval_ns(self) -> u64 {
        match self {
            Self::Error | Self::Refusal | Self::Echo | Self::Arp => 1_000_000,
            Self::Reset => 10_000,
        }
    }

    /// The kind of a number.
    #[inline(always)]
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Error,
            1 => Self::Refusal,
            2 => Self::Echo,
            3 => Self::Arp,
            _ => Self::Reset,
        }
    }
}

/// One CPU's meters: when the next answer of a kind would be due at its steady pace, in nanoseconds of monotonic time.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AnswerMeters(pub [u64; 8]);

map_value!(AnswerMeters, size 64);

/// When the answer after this one is due; none if this one is one too many (the generic cell rate algorithm of ITU-T
/// I.371).
#[inline(always)]
#[must_use]
pub const fn next_due(due_ns: u64, now_ns: u64, kind: AnswerKind) -> Option<u64> {
    let due = if due_ns > now_ns { due_ns } else { now_ns } + kind.interval_ns();
    if due > now_ns + BURST_NS { None } else { Some(due) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    /// Answers that a meter lets through when `count` are asked for, one each `pace_ns`.
    fn through(mut due: u64, begin: u64, count: u64, pace_ns: u64) -> (u64, u64) {
        let mut passed = 0;
        for number in 0..count {
            if let Some(next) = next_due(due, begin + number * pace_ns, AnswerKind::Error) {
                (due, passed) = (next, passed + 1);
            }
        }
        (passed, due)
    }

    #[test]
    fn a_burst_of_a_quarter_of_a_second_passes_at_once_and_then_a_thousand_a_second() {
        let (burst, due) = through(0, 50 * SECOND_NS, 10_000, 0);
        assert_eq!(burst, 250);
        let (steady, _) = through(due, 50 * SECOND_NS, 100_000, 100_000);
        assert!((9_990..=10_001).contains(&steady), "{steady} in ten seconds");
        assert_eq!(through(due, 51 * SECOND_NS, 10_000, 0).0, 250, "it rested");
    }
}
