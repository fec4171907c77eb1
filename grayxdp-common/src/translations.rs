//! The flow table of `full-nat`: who a flow's client is, from which address and port of the pool its backend sees it, and since
//! when. One entry of a cache line a flow, found from both sides:
//!
//! ```text
//! client's packet ── hash of its 5-tuple ──► seat (one of 16 words) ──► entry
//! backend's packet ─ hash of the pool's and the backend's endpoint ───► entry
//! ```
//!
//! The place of an entry is a function of the pool's endpoint, the backend's endpoint and the protocol, and a place holds one
//! flow: so two live flows of one backend endpoint never share an endpoint of the pool.
//!
//! An entry begins *half-open*: a SYN, or a datagram that nothing answered yet. Such ones also need a *permit*, of which
//! there are a quarter as many as places, and lapse soon: so a flood fills a quarter of the table at most. What lives is never evicted; what
//! lapsed gives up its place to whoever meets it.

use crate::{exceptions, hash::FlowHash, ipv6::Address6, map_value};

/// Addresses of a service's pool.
pub const POOL_ADDRESSES: usize = 64;
/// The first port of a pool's address that is given out.
pub const FIRST_PORT: u16 = 1_024;
/// How many ports an address has to give: 1,024 to 65,535.
pub const PORTS: u32 = 65_536 - FIRST_PORT as u32;
/// Endpoints that are tried for a new flow.
pub const PROBES: u64 = 16;
/// Seats, or permits, in a set: one cache line.
pub const SEATS: usize = 8;
/// Seats to an entry: half of them are used when all entries are.
pub const SEATS_LOG2: u32 = 1;
/// Entries to a permit, as a power of two.
pub const PERMITS_LOG2: u32 = 2;

/// Ticks for which a datagram without an answer is remembered: 30 s.
pub const UNANSWERED_TICKS: u32 = 56;
/// Ticks for which an answered flow of UDP is remembered after its last packet, or for `idleTimeout` where that is less: 120 s.
pub const DATAGRAM_TICKS: u32 = 224;
/// Ticks after which an entry that somebody began to make is given up.
const MAKING_TICKS: u32 = 2;

/// An entry.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Translation {
    /// A [`Head`].
    pub head: u64,
    /// Of a half-open flow of TCP: the SYN's sequence number (low half), that of the SYN-ACK plus one (high half; 0: none seen).
    pub numbers: u64,
    /// The client's address; one of IPv4 in the first word.
    pub client: Address6,
    /// The pool's, in the same form.
    pub pool: Address6,
    /// [`Ends`].
    pub ports: u64,
    /// [`Whose`].
    pub whose: u64,
}

map_value!(Translation, size 64);

/// The ports of a flow, as they lie in packets: the client's, the pool's, the backend's, the virtual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ends {
    /// The client's.
    pub client: u16,
    /// The pool's.
    pub pool: u16,
    /// The backend's.
    pub backend: u16,
    /// The service's.
    pub service: u16,
}

impl Ends {
    /// In one word.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u64 {
        self.client as u64 | (self.pool as u64) << 16 | (self.backend as u64) << 32 | (self.service as u64) << 48
    }

    /// Of one word.
    #[inline(always)]
    #[must_use]
    pub const fn of(word: u64) -> Self {
        Self {
            client: word as u16,
            pool: (word >> 16) as u16,
            backend: (word >> 32) as u16,
            service: (word >> 48) as u16,
        }
    }
}

/// Whose flow it is: service (16 bits), protocol (8), family (8), seat (32; counted from 1, 0: it has none).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Whose(pub u64);

impl Whose {
    /// The family of IPv6 in the word.
    const IPV6: u64 = 1 << 24;

    /// Of a flow of a service.
    #[inline(always)]
    #[must_use]
    pub const fn new(service: u16, protocol: u8, is_ipv6: bool) -> Self {
        Self(service as u64 | (protocol as u64) << 16 | if is_ipv6 { Self::IPV6 } else { 0 })
    }

    /// Id of the service.
    #[inline(always)]
    #[must_use]
    pub const fn service(self) -> u16 {
        self.0 as u16
    }

    /// Whether its addresses are of IPv6.
    #[inline(always)]
    #[must_use]
    pub const fn is_ipv6(self) -> bool {
        self.0 & Self::IPV6 != 0
    }

    /// The same without the seat.
    #[inline(always)]
    #[must_use]
    pub const fn flow(self) -> Self {
        Self(self.0 as u32 as u64)
    }

    /// The same with a seat.
    #[inline(always)]
    #[must_use]
    pub const fn with_seat(self, seat: u32) -> Self {
        Self(self.flow().0 | (seat as u64 + 1) << 32)
    }

    /// The seat.
    #[inline(always)]
    #[must_use]
    pub const fn seat(self) -> Option<u32> {
        ((self.0 >> 32) as u32).checked_sub(1)
    }
}

/// What an entry is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TranslationState {
    /// Nothing.
    Free = 0,
    /// Somebody is about to write it.
    Making = 1,
    /// A SYN went to the backend, or a datagram that it did not answer yet.
    HalfOpen = 2,
    /// The flow is open.
    Open = 3,
}

/// How long flows of a service live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives {
    /// Ticks of silence after which a flow of TCP lapses.
    pub idle_ticks: u32,
    /// Ticks after which a closed one lapses.
    pub closing_ticks: u32,
}

/// The first word of an entry: time of the last packet in ticks (32 bits), backend (16), flags, state (2). 0: free.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct Head(pub u64);

impl Head {
    /// The client sent FIN.
    pub const FIN_FORWARD: u64 = 1 << 4;
    /// The backend sent FIN.
    pub const FIN_REVERSE: u64 = 1 << 5;
    /// Either side sent RST.
    pub const RESET: u64 = 1 << 6;
    /// A flow of UDP.
    pub const UDP: u64 = 1 << 7;
    /// All bits that say that the flow ends.
    pub const CLOSING: u64 = Self::FIN_FORWARD | Self::FIN_REVERSE | Self::RESET;

    /// An entry met at a tick.
    #[inline(always)]
    #[must_use]
    pub const fn new(state: TranslationState, backend: u16, tick: u32, flags: u64) -> Self {
        Self((tick as u64) << 32 | (backend as u64) << 16 | flags | state as u64)
    }

    /// What the entry is.
    #[inline(always)]
    #[must_use]
    pub const fn state(self) -> TranslationState {
        match self.0 & 3 {
            0 => TranslationState::Free,
            1 => TranslationState::Making,
            2 => TranslationState::HalfOpen,
            _ => TranslationState::Open,
        }
    }

    /// The flow's backend.
    #[inline(always)]
    #[must_use]
    pub const fn backend(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Tick of the last packet that counts.
    #[inline(always)]
    #[must_use]
    pub const fn tick(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether a flag is set.
    #[inline(always)]
    #[must_use]
    pub const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    /// The same in another state.
    #[inline(always)]
    #[must_use]
    pub const fn in_state(self, state: TranslationState) -> Self {
        Self(self.0 & !3 | state as u64)
    }

    /// The same, met at another tick.
    #[inline(always)]
    #[must_use]
    pub const fn at(self, tick: u32) -> Self {
        Self(self.0 as u32 as u64 | (tick as u64) << 32)
    }

    /// Whether the flow is about to end: FIN of both sides, or RST.
    #[inline(always)]
    #[must_use]
    pub const fn is_closing(self) -> bool {
        self.has(Self::RESET)
            || self.0 & (Self::FIN_FORWARD | Self::FIN_REVERSE) == Self::FIN_FORWARD | Self::FIN_REVERSE
    }

    /// Ticks of silence after which it lapses.
    #[inline(always)]
    #[must_use]
    pub const fn life(self, lives: Lives) -> u32 {
        let idle = match self.state() {
            TranslationState::Free => return 0,
            TranslationState::Making => return MAKING_TICKS,
            TranslationState::HalfOpen if self.has(Self::UDP) => UNANSWERED_TICKS,
            TranslationState::HalfOpen => return exceptions::HALF_OPEN_TICKS,
            TranslationState::Open if self.has(Self::UDP) => DATAGRAM_TICKS,
            TranslationState::Open => lives.idle_ticks,
        };
        let idle = if idle < lives.idle_ticks { idle } else { lives.idle_ticks };
        if self.is_closing() && lives.closing_ticks < idle { lives.closing_ticks } else { idle }
    }

    /// Whether its place may be taken at a tick. Clocks of CPUs differ a little: a time to come is now.
    #[inline(always)]
    #[must_use]
    pub const fn is_lapsed(self, now: u32, lives: Lives) -> bool {
        let age = now.wrapping_sub(self.tick());
        age > self.life(lives) && age < 1 << 31
    }

    /// After a packet of an open flow: the time, and what the packet does to the end of the flow. Payload says that it goes on.
    #[inline(always)]
    #[must_use]
    pub const fn after(self, now: u32, flags: u64, has_payload: bool) -> Self {
        let kept = if has_payload { self.0 & !Self::CLOSING } else { self.0 };
        Self(kept | flags).at(now)
    }
}

/// Where a flow's seats and its permit may be, and what tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatKey {
    /// Its first set, before the mask.
    pub first: u32,
    /// Its second set, before the mask.
    pub second: u32,
    /// The set of its permit, before the mask.
    pub permits: u32,
    /// What a seat has of it.
    pub fingerprint: u32,
}

impl SeatKey {
    /// Of a flow by the hash of its whole 5-tuple.
    #[inline(always)]
    #[must_use]
    pub const fn of(hash: FlowHash) -> Self {
        let key = exceptions::ExceptionKey::of(hash, 0);
        let fingerprint = key.identity as u32;
        Self { first: key.first, second: key.second, permits: key.first ^ fingerprint.rotate_left(13), fingerprint }
    }
}

/// A seat: fingerprint (high half), place of the entry counted from 1 (low half). 0: free. A permit is the tick to which it holds (high
/// half) and the same place.
#[inline(always)]
#[must_use]
pub const fn seat(high: u32, place: u32) -> u64 {
    (high as u64) << 32 | (place as u64 + 1)
}

/// The place that a seat or a permit names; none where it is free.
#[inline(always)]
#[must_use]
pub const fn place_of(seat: u64) -> Option<u32> {
    (seat as u32).checked_sub(1)
}

/// Whether a permit may be taken at a tick.
#[inline(always)]
#[must_use]
pub const fn is_permit_free(permit: u64, now: u32) -> bool {
    permit == 0 || (now.wrapping_sub((permit >> 32) as u32) as i32) > 0
}

/// The endpoint that is tried `probe`th for a new flow: the number of an address below `addresses`, and the port, as people write it.
#[inline(always)]
#[must_use]
pub const fn candidate(hash: FlowHash, probe: u64, addresses: u32) -> (u32, u16) {
    // The finaliser of SplitMix64, by steps of its own increment.
    let mut x = hash.0.wrapping_add((probe + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    let address = ((x & 0xffff_ffff) * addresses as u64) >> 32;
    let port = ((x >> 32) * PORTS as u64) >> 32;
    (address as u32, FIRST_PORT + port as u16)
}

/// The pool of a service, by its id. Two lists, so that a change is one write.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Which list counts (bit 16) and how many addresses it has (low half).
    pub selected: u32,
    /// See [`Lives`]; written at once with `closing_ticks`.
    pub idle_ticks: u32,
    /// See [`Lives`].
    pub closing_ticks: u32,
    /// Room for what comes later.
    pub reserved: [u32; 13],
    /// Addresses, those of IPv4 in the first word.
    pub lists: [[Address6; POOL_ADDRESSES]; 2],
}

map_value!(Pool, size 64 + 32 * POOL_ADDRESSES);

impl Pool {
    /// No pool.
    pub const NONE: Self = Self {
        selected: 0,
        idle_ticks: 0,
        closing_ticks: 0,
        reserved: [0; 13],
        lists: [[Address6([0; 2]); POOL_ADDRESSES]; 2],
    };

    /// How long flows live.
    #[inline(always)]
    #[must_use]
    pub const fn lives(&self) -> Lives {
        Lives { idle_ticks: self.idle_ticks, closing_ticks: self.closing_ticks }
    }

    /// What selects the first addresses of a list.
    #[must_use]
    pub const fn selection(list: usize, addresses: usize) -> u32 {
        ((list as u32 & 1) << 16) | addresses as u32
    }

    /// The list that counts.
    #[inline(always)]
    #[must_use]
    pub const fn list(selected: u32) -> usize {
        (selected >> 16) as usize & 1
    }

    /// How many addresses it has.
    #[inline(always)]
    #[must_use]
    pub const fn addresses(selected: u32) -> u32 {
        selected & 0xffff
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::NONE
    }
}

/// Nanoseconds of monotonic time in a tick of pieces, as a power of two: 2.1 s.
const PIECE_TICK_SHIFT: u32 = 31;
/// Pieces follow their first one for so many ticks: 30 s.
const PIECE_TICKS: u64 = 14;
/// Bits of the time of a piece.
const PIECE_TIME: u64 = 127;

/// What the first piece of a datagram leaves for the others: fingerprint (25 bits), time (7), place of the entry counted from 1 (32).
#[inline(always)]
#[must_use]
pub const fn piece(hash: u64, place: u32, now_ns: u64) -> u64 {
    (hash >> 39 << 39) | (now_ns >> PIECE_TICK_SHIFT & PIECE_TIME) << 32 | (place as u64 + 1)
}

/// The place of the entry of a datagram's flow by what lies at its own place; none where that is another's, or too old.
#[inline(always)]
#[must_use]
pub const fn follow(hash: u64, word: u64, now_ns: u64) -> Option<u32> {
    let age = (now_ns >> PIECE_TICK_SHIFT).wrapping_sub(word >> 32) & PIECE_TIME;
    if word >> 39 != hash >> 39 || age > PIECE_TICKS { None } else { place_of(word) }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{collections::BTreeSet, vec};

    const LIVES: Lives = Lives { idle_ticks: 6_706, closing_ticks: 112 };

    fn head(state: TranslationState, age: u32, flags: u64) -> bool {
        Head::new(state, 7, 1_000_000_u32.wrapping_sub(age), flags).is_lapsed(1_000_000, LIVES)
    }

    #[test]
    fn words_give_back_what_they_were_made_of() {
        let ends = Ends { client: 1, pool: 0xffff, backend: 0x1234, service: 0x8001 };
        assert_eq!(Ends::of(ends.word()), ends);
        let whose = Whose::new(0xabcd, 17, true);
        assert_eq!((whose.service(), whose.is_ipv6(), whose.seat()), (0xabcd, true, None));
        assert_eq!((whose.with_seat(0).seat(), whose.with_seat(u32::MAX - 1).seat()), (Some(0), Some(u32::MAX - 1)));
        assert_eq!(whose.with_seat(9).flow(), whose);
        let made = Head::new(TranslationState::HalfOpen, 0xbeef, u32::MAX, Head::UDP);
        assert_eq!((made.state(), made.backend(), made.tick()), (TranslationState::HalfOpen, 0xbeef, u32::MAX));
        assert_eq!(made.in_state(TranslationState::Open).at(3).tick(), 3);
        assert_eq!((place_of(seat(5, 0)), place_of(seat(5, 77)), place_of(0)), (Some(0), Some(77), None));
    }

    #[test]
    fn a_flow_lapses_by_its_state() {
        for (state, flags, life) in [
            (TranslationState::HalfOpen, 0, 6),
            (TranslationState::HalfOpen, Head::UDP, 56),
            (TranslationState::Open, Head::UDP, 224),
            (TranslationState::Open, 0, 6_706),
            (TranslationState::Open, Head::FIN_FORWARD, 6_706),
            (TranslationState::Open, Head::RESET, 112),
            (TranslationState::Open, Head::FIN_FORWARD | Head::FIN_REVERSE, 112),
            (TranslationState::Making, 0, 2),
        ] {
            assert!(!head(state, life, flags), "{state:?} {flags:#x} lives for {life} ticks");
            assert!(head(state, life + 1, flags), "{state:?} {flags:#x} lapses after {life} ticks");
            assert!(!head(state, u32::MAX, flags), "a time to come is now");
        }
        assert!(head(TranslationState::Free, 1, 0));
    }

    #[test]
    fn payload_behind_the_end_of_a_flow_lets_it_go_on() {
        let open = Head::new(TranslationState::Open, 7, 1, 0);
        let reset = open.after(2, Head::RESET, false);
        assert!(reset.is_closing() && !reset.after(3, 0, true).is_closing());
        assert!(!open.after(2, Head::FIN_FORWARD, true).is_closing());
        assert!(open.after(2, Head::FIN_FORWARD, true).after(3, Head::FIN_REVERSE, false).is_closing());
        assert_eq!(reset.after(9, 0, false).tick(), 9);
    }

    #[test]
    fn candidates_reach_all_addresses_and_no_port_below_the_first() {
        let mut addresses = vec![0; 5];
        let mut ports = BTreeSet::new();
        for flow in 0..20_000_u64 {
            let hash = FlowHash(flow.wrapping_mul(0x1234_5678_9abc_def1));
            for probe in 0..PROBES {
                let (address, port) = candidate(hash, probe, 5);
                addresses[address as usize] += 1;
                assert!(port >= FIRST_PORT);
                ports.insert(port);
            }
        }
        assert!(addresses.iter().all(|count| (60_000..68_000).contains(count)), "{addresses:?}");
        // 64,512 ports and 320,000 draws: all but some 450 are drawn.
        assert!(ports.len() > 63_500 && ports.last() > Some(&65_500), "{}", ports.len());
    }

    #[test]
    fn pieces_follow_their_first_one_for_half_a_minute() {
        const SECOND_NS: u64 = 1_000_000_000;
        let hash = 0xdead_beef_0bad_cafe;
        for begin in [0, 77 * SECOND_NS, 1 << 62] {
            let word = piece(hash, 4_711, begin);
            for seconds in [0, 1, 27] {
                assert_eq!(follow(hash, word, begin + seconds * SECOND_NS), Some(4_711));
            }
            assert_eq!(follow(hash, word, begin + 35 * SECOND_NS), None);
            assert_eq!(follow(hash ^ 1 << 40, word, begin), None, "another datagram");
        }
        assert_eq!(follow(0, 0, 0), None, "an empty place");
    }

    #[test]
    fn a_permit_is_free_once_its_time_is_over() {
        let permit = seat(100, 3);
        assert!(!is_permit_free(permit, 99) && !is_permit_free(permit, 100) && is_permit_free(permit, 101));
        assert!(is_permit_free(0, 5));
        assert!(!is_permit_free(seat(3, 3), u32::MAX), "across the wrap");
    }
}
