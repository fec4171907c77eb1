//! How long an entry of the exception table lives. Pure.
//!
//! ```text
//!             completed, answered                     silent for `idleTimeout`,
//! half-open ───────────────────────► established ───► or closed for `closingTimeout`  ──► expired
//!     │                                 ▲   │
//!     │ 3 s after its last SYN          │   └───────► equal to a settled default      ──► needless
//!     ▼                                 │
//!   lapsed ◄─────── 60 s ───────────── pin ─────────► equal to a settled default      ──► needless
//! ```

use std::time::Duration;

use grayxdp_common::exceptions::{EntryState, HALF_OPEN_TICKS, Head, PIN_TICKS, TICK_SHIFT, Tail};

/// What is to be done with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays.
    Keep,
    /// No second packet came: the program may take its place already.
    Lapsed,
    /// Its flow was silent or closed for too long, or its backend is gone.
    Expired,
    /// Without it the flow goes the same way, and nothing that could change that is under way.
    Needless,
}

/// How long established entries of a service live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    idle_ticks: u32,
    closing_ticks: u32,
}

/// Ticks by which an entry may be younger than the sweep: the sweep takes a while, and time was read before it.
const YOUNGER: u32 = 2;

/// Ticks of a half-open entry's time.
const WRAP: u32 = 32;

impl Life {
    /// From times, rounded up.
    pub(super) fn new(idle: Duration, closing: Duration) -> Self {
        let ticks = |time: Duration| u32::try_from((time.as_nanos() >> TICK_SHIFT) + 1).unwrap_or(u32::MAX);
        Self { idle_ticks: ticks(idle), closing_ticks: ticks(closing) }
    }
}

/// What is to be done with an entry that is not free, at tick `now`. `default`: the backend of the flow without its entry,
/// where bucket and slot are settled in all segments. An entry's second word counts only if it was read well after the first.
pub(super) fn fate(head: Head, tail: Tail, now: u32, life: Life, default: Option<u16>) -> Fate {
    let age = now.wrapping_sub(tail.tick());
    let age = if age > u32::MAX / 2 { 0 } else { age };
    let is_needless = default == Some(head.backend());
    match head.state() {
        EntryState::Free => Fate::Keep,
        EntryState::HalfOpen => {
            // 32 ticks are told apart: one that lapsed long ago looks fresh now and then, until a later sweep.
            let age = head.half_open_age(now);
            if age > HALF_OPEN_TICKS && age < WRAP - YOUNGER { Fate::Lapsed } else { Fate::Keep }
        }
        EntryState::Pin if age > PIN_TICKS => Fate::Lapsed,
        EntryState::Established if tail.has(Tail::UNCONFIRMED) && age > PIN_TICKS => Fate::Lapsed,
        EntryState::Established if age > life.idle_ticks || tail.is_closing() && age > life.closing_ticks => {
            Fate::Expired
        }
        EntryState::Pin | EntryState::Established if is_needless => Fate::Needless,
        EntryState::Pin | EntryState::Established => Fate::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 1_000_000;

    fn life() -> Life {
        // 3,600 s are 6,705.5 ticks, 60 s are 111.8.
        Life::new(Duration::from_secs(3_600), Duration::from_secs(60))
    }

    fn entry(state: EntryState, age: u32, flags: u64, default: Option<u16>) -> Fate {
        let tick = NOW.wrapping_sub(age);
        fate(Head::new(5 << 26, 7, state, tick), Tail::new(9, tick, flags), NOW, life(), default)
    }

    #[test]
    fn an_established_entry_lives_for_the_idle_timeout_after_its_last_packet() {
        assert_eq!(entry(EntryState::Established, 6_706, 0, None), Fate::Keep);
        assert_eq!(entry(EntryState::Established, 6_707, 0, None), Fate::Expired);
    }

    #[test]
    fn a_closed_flow_lives_for_the_closing_timeout_and_one_closed_by_one_side_on() {
        assert_eq!(entry(EntryState::Established, 112, Tail::RESET, None), Fate::Keep);
        assert_eq!(entry(EntryState::Established, 113, Tail::RESET, None), Fate::Expired);
        assert_eq!(entry(EntryState::Established, 113, Tail::FIN_FORWARD | Tail::FIN_REVERSE, None), Fate::Expired);
        assert_eq!(entry(EntryState::Established, 113, Tail::FIN_FORWARD, None), Fate::Keep);
    }

    #[test]
    fn what_only_the_clients_number_established_lapses_as_a_pin_does_without_a_second_packet() {
        assert_eq!(entry(EntryState::Established, PIN_TICKS, Tail::UNCONFIRMED, None), Fate::Keep);
        assert_eq!(entry(EntryState::Established, PIN_TICKS + 1, Tail::UNCONFIRMED, None), Fate::Lapsed);
        assert_eq!(entry(EntryState::Established, PIN_TICKS + 1, 0, None), Fate::Keep);
    }

    #[test]
    fn what_equals_a_settled_default_is_needless_but_not_before_it_is_established_or_pinned() {
        for state in [EntryState::Established, EntryState::Pin] {
            assert_eq!(entry(state, 1, 0, Some(7)), Fate::Needless);
            assert_eq!(entry(state, 1, 0, Some(8)), Fate::Keep);
            assert_eq!(entry(state, 1, 0, None), Fate::Keep);
        }
        assert_eq!(entry(EntryState::HalfOpen, 1, 0, Some(7)), Fate::Keep);
    }

    #[test]
    fn half_open_entries_and_pins_lapse_when_the_program_says_so() {
        for (age, expected) in
            [(0, Fate::Keep), (6, Fate::Keep), (7, Fate::Lapsed), (29, Fate::Lapsed), (39, Fate::Lapsed)]
        {
            assert_eq!(entry(EntryState::HalfOpen, age, 0, None), expected, "{age} ticks");
        }
        assert_eq!(entry(EntryState::Pin, 112, 0, None), Fate::Keep);
        assert_eq!(entry(EntryState::Pin, 113, 0, None), Fate::Lapsed);
    }

    #[test]
    fn an_entry_that_is_younger_than_the_sweep_stays() {
        for state in [EntryState::HalfOpen, EntryState::Pin, EntryState::Established] {
            for age in [u32::MAX, u32::MAX - 1] {
                assert_eq!(entry(state, age, 0, None), Fate::Keep, "{state:?}");
            }
        }
    }
}
