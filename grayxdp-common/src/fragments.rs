//! Where the pieces of a datagram go: the first one leaves it for the others, which have no ports.
//!
//! A direct-mapped table of single words, so that no CPU meets half of one. A word: fingerprint (32 bits) | time in ticks
//! (15) | direction (1) | backend (16). 0: nothing. The place and the fingerprint are of one keyed hash of both addresses,
//! the datagram's number and the protocol: a piece without its first one is taken for another datagram's with a chance
//! of 2^-32 for each word in its place, of which there is one.

use crate::{
    hash::{Flow, FlowHash, HashKey},
    ipv6::{Address as _, Address6},
};

/// Places in the table.
pub const PLACES: u32 = 1 << 14;
/// Nanoseconds of monotonic time in a tick, as a power of two: 0.13 s.
const TICK_SHIFT: u32 = 27;
const TICKS: u64 = (1 << 15) - 1;
/// Pieces follow their first one for so many ticks: 30 s, for which Linux waits for the last one.
const LIFE_TICKS: u64 = 224;

/// Which way pieces go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To a backend.
    Forward,
    /// Back to a client.
    Reverse,
}

/// What the pieces of a datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces(FlowHash);

impl Pieces {
    /// From both addresses and the number of a datagram as they lie in the packet, and its protocol.
    #[inline(always)]
    #[must_use]
    pub const fn of(source: u32, destination: u32, number: u16, protocol: u8, key: &HashKey) -> Self {
        let flow = Flow { source, destination, source_port: number, destination_port: 0, protocol };
        Self(FlowHash::of(&flow, key))
    }

    /// The same of IPv6, whose numbers are of 32 bits.
    #[inline(always)]
    #[must_use]
    pub fn of6(source: Address6, destination: Address6, number: u32, protocol: u8, key: &HashKey) -> Self {
        let (source_port, destination_port) = (number as u16, (number >> 16) as u16);
        Self(Address6::hash(&Flow { source, destination, source_port, destination_port, protocol }, key))
    }

    /// The hash itself.
    #[inline(always)]
    #[must_use]
    pub const fn hash(self) -> u64 {
        self.0.0
    }

    /// Their place.
    #[inline(always)]
    #[must_use]
    pub const fn place(self) -> u32 {
        self.0.0 as u32 & (PLACES - 1)
    }

    /// What the first piece leaves there.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, direction: Direction, backend: u16, now_ns: u64) -> u64 {
        let direction = match direction {
            Direction::Forward => 0,
            Direction::Reverse => 1 << 16,
        };
        (self.0.0 >> 32 << 32) | (now_ns >> TICK_SHIFT & TICKS) << 17 | direction | backend as u64
    }

    /// Where a piece goes by what lies at its place; none where that is of another datagram, or too old.
    #[inline(always)]
    #[must_use]
    pub const fn follow(self, word: u64, now_ns: u64) -> Option<(Direction, u16)> {
        let age = (now_ns >> TICK_SHIFT).wrapping_sub(word >> 17) & TICKS;
        if word as u16 == 0 || word >> 32 != self.0.0 >> 32 || age > LIFE_TICKS {
            return None;
        }
        let direction = if word >> 16 & 1 == 0 { Direction::Forward } else { Direction::Reverse };
        Some((direction, word as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: HashKey = HashKey([1, 2, 3, 4]);
    const SECOND_NS: u64 = 1_000_000_000;

    fn pieces(number: u16) -> Pieces {
        Pieces::of(0x0a00_0001, 0x0a00_0002, number, 17, &KEY)
    }

    #[test]
    fn pieces_follow_their_first_one_for_half_a_minute() {
        for (direction, backend, begin) in [
            (Direction::Forward, 1, 0),
            (Direction::Reverse, u16::MAX, 77 * SECOND_NS),
            (Direction::Forward, 9, 1 << 62),
        ] {
            let word = pieces(7).word(direction, backend, begin);
            for seconds in [0, 1, 29] {
                assert_eq!(pieces(7).follow(word, begin + seconds * SECOND_NS), Some((direction, backend)));
            }
            for seconds in [31, 60, 3_600] {
                assert_eq!(pieces(7).follow(word, begin + seconds * SECOND_NS), None, "{seconds} s");
            }
        }
    }

    #[test]
    fn pieces_of_another_datagram_follow_nobody() {
        let word = pieces(7).word(Direction::Forward, 3, SECOND_NS);
        assert!(
            (0..u16::MAX).filter(|number| *number != 7).all(|number| pieces(number).follow(word, SECOND_NS).is_none())
        );
        assert_eq!(pieces(7).follow(0, 0), None, "an empty place");
        let other_protocol = Pieces::of(0x0a00_0001, 0x0a00_0002, 7, 6, &KEY);
        assert_eq!(other_protocol.follow(word, SECOND_NS), None);
    }
}
