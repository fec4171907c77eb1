//! Handshakes: a mark from the SYN to its answer, or to its timeout.
//!
//! ```text
//!            SYN                SYN-ACK: opened
//! free ──► claimed ──► waiting ─────────────────► opened ──┐
//!                        │ │    RST: refused               ├─► any of these is free for another flow
//!                        │ └────────────────────► refused ─┤
//!                        └──────────────────────► timed out┘
//!                          3 s, found by anyone
//! ```
//!
//! Where answers do not come by (`dsr`, `ipip`), it is *unseen* instead of waiting, and lapses after 3 s without a word: only a
//! repeated SYN is a failure.
//!
//! Whoever changes the first word by compare-and-swap counts the change.

use grayxdp_common::hash::FlowHash;
use grayxdp_common::signals::{CONNECT_TIMEOUT_NS, GIVEN_UP_NS, Mark, MarkHead, MarkTail, MeasureKey};
use grayxdp_ebpf::packet::flags;

use super::{Seen, count, count_cell, record, unmarked};
use crate::{atomic, tables};

/// What a backend's packet meant to a handshake.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Answer {
    /// Nothing: no handshake waited for it.
    Nothing = 0,
    /// A SYN-ACK answered.
    Opened = 1,
    /// A RST answered.
    Refused = 2,
}

impl Answer {
    /// From the number that [`measure_answer`] returns.
    #[inline(always)]
    pub(super) const fn of(number: u64) -> Self {
        match number {
            1 => Self::Opened,
            2 => Self::Refused,
            _ => Self::Nothing,
        }
    }
}

/// Reads a word of a flow's mark, so that it is in the cache when it is asked for.
#[inline(always)]
pub(crate) fn touch(flow: FlowHash) {
    if let Some(mark) = tables::mark(MeasureKey::of(flow).index) {
        read(mark);
    }
}

/// A SYN: leaves a mark. 1 if it is the first repeat of one that waits for its answer.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn measure_attempt(hash: u64, epoch: u64, whence: u64, sequence: u64, bits: u64) -> u64 {
    u64::from(attempt(&Seen::of(hash, epoch, whence, sequence, bits)))
}

/// A SYN-ACK or a RST of the backend: what it means as the number of an [`Answer`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn measure_answer(hash: u64, bits: u64) -> u64 {
    answer(&Seen::of(hash, 0, 0, 0, bits)) as u64
}

#[inline(always)]
fn attempt(seen: &Seen) -> bool {
    let key = MeasureKey::of(seen.hash);
    let Some(mark) = tables::mark(key.index) else { return false };
    let (head, tail) = read(mark);
    let (state, age_ns) = (head.state(), tail.age_ns(seen.now_ns));
    let is_own = head.0 != 0 && head.identity() == key.mark;
    let has_lapsed = age_ns > CONNECT_TIMEOUT_NS;
    if is_own && state == MarkHead::UNSEEN && !has_lapsed {
        return repeat(mark, head, tail);
    }
    if is_own && state == MarkHead::WAITING {
        let is_first = repeat(mark, head, tail);
        if has_lapsed {
            let tail = read(mark).1;
            time_out(mark, head, tail, head.with_state(MarkHead::TIMED_OUT));
        }
        return is_first;
    }
    // A repeat that crossed its answer, or whose answer was lost behind us; or one of a handshake that is counted.
    let is_answered = state == MarkHead::OPENED && !has_lapsed;
    let has_failed = state == MarkHead::TIMED_OUT || (state == MarkHead::UNSEEN && tail.is_repeated());
    let is_counted = has_failed && age_ns < GIVEN_UP_NS;
    if is_own && (is_answered || is_counted) {
        return false;
    }
    let new = MarkHead::new(key.mark, seen.epoch, seen.place, MarkHead::CLAIMED);
    let is_taken = if state == MarkHead::WAITING {
        has_lapsed && time_out(mark, head, tail, new)
    } else {
        let is_held = state == MarkHead::CLAIMED || (state == MarkHead::UNSEEN && !has_lapsed);
        !is_held && change(mark, head, new)
    };
    if !is_taken {
        unmarked(seen.place, seen.epoch, seen.backend);
        return false;
    }
    let waiting = if seen.is_unseen { MarkHead::UNSEEN } else { MarkHead::WAITING };
    // SAFETY: the mark is a live map value, and claimed by this CPU.
    unsafe {
        (&raw mut (*mark).tail).write_volatile(MarkTail::new(seen.now_ns, seen.cell).0);
        (&raw mut (*mark).head).write_volatile(new.with_state(waiting).0);
    }
    count(seen.place, seen.epoch, |signals| {
        signals.attempts += 1;
        count_cell(&mut signals.cell_attempts, seen.cell);
    });
    false
}

#[inline(always)]
fn answer(seen: &Seen) -> Answer {
    let key = MeasureKey::of(seen.hash);
    let Some(mark) = tables::mark(key.index) else { return Answer::Nothing };
    let (head, tail) = read(mark);
    if head.identity() != key.mark || head.state() != MarkHead::WAITING {
        return Answer::Nothing;
    }
    let age_ns = tail.age_ns(seen.now_ns);
    if age_ns > CONNECT_TIMEOUT_NS {
        time_out(mark, head, tail, head.with_state(MarkHead::TIMED_OUT));
        return Answer::Nothing;
    }
    if seen.segment.flags & flags::RST != 0 {
        if !change(mark, head, head.with_state(MarkHead::REFUSED)) {
            return Answer::Nothing;
        }
        count(head.signals(), head.epoch(), |signals| {
            signals.refused += 1;
            if !tail.is_repeated() {
                count_cell(&mut signals.cell_failures, tail.cell());
            }
        });
        return Answer::Refused;
    }
    if seen.segment.flags & flags::ACK == 0 || !change(mark, head, head.with_state(MarkHead::OPENED)) {
        return Answer::Nothing;
    }
    count(head.signals(), head.epoch(), |signals| {
        signals.opened += 1;
        record(&mut signals.connect, age_ns);
    });
    Answer::Opened
}

/// Notes a repeat of the SYN; true for the first.
#[inline(always)]
fn repeat(mark: *mut Mark, head: MarkHead, tail: MarkTail) -> bool {
    // SAFETY: a field of a live map value.
    let word = unsafe { &raw mut (*mark).tail };
    if tail.is_repeated() || !atomic::exchange(word, tail.0, tail.0 + MarkTail::REPEAT) {
        return false;
    }
    count(head.signals(), head.epoch(), |signals| {
        signals.syn_retransmits += 1;
        count_cell(&mut signals.cell_failures, tail.cell());
    });
    true
}

/// Counts a handshake that nothing answered, for its own place and epoch; true if it was this CPU that found it.
#[inline(always)]
fn time_out(mark: *mut Mark, head: MarkHead, tail: MarkTail, new: MarkHead) -> bool {
    if !change(mark, head, new) {
        return false;
    }
    count(head.signals(), head.epoch(), |signals| {
        signals.timeouts += 1;
        if !tail.is_repeated() {
            count_cell(&mut signals.cell_failures, tail.cell());
        }
    });
    true
}

#[inline(always)]
fn read(mark: *mut Mark) -> (MarkHead, MarkTail) {
    // SAFETY: the mark is a live map value; others write its words, each at once.
    unsafe {
        (MarkHead((&raw const (*mark).head).read_volatile()), MarkTail((&raw const (*mark).tail).read_volatile()))
    }
}

#[inline(always)]
fn change(mark: *mut Mark, old: MarkHead, new: MarkHead) -> bool {
    // SAFETY: a field of a live map value.
    atomic::exchange(unsafe { &raw mut (*mark).head }, old.0, new.0)
}
