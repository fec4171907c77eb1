//! Making entries: which places can be taken, and taking one.

use grayxdp_common::{
    exceptions::{EntryState, ExceptionKey, HALF_OPEN_TICKS, Head, PIN_TICKS, Tail, WAYS},
    hash::FlowHash,
};

use super::{Found, LOWEST, NO_ENTRY, entry, now, read, write_tail};
use crate::{atomic, explain::explains, tables, verifier};

/// Remembers the choice of a SYN whose flow has no entry, where half of its first set is free. False where it is otherwise.
#[inline(always)]
pub(crate) fn insert_fresh(flow: FlowHash, bucket: u64, backend: u16, sequence: u32) -> bool {
    let head = Head::new(ExceptionKey::of(flow, bucket as u16).identity, backend, EntryState::HalfOpen, now());
    exceptions_insert_fresh(flow.0, head.0, sequence) != 0
}

/// Looks for the flow and for room in one pass over its first set. Exported as [`exceptions_find`] is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn exceptions_insert_fresh(flow: u64, head: u64, sequence: u32) -> u64 {
    let head = Head(head);
    let key = ExceptionKey::of(FlowHash(flow), head.bucket());
    let Some(entries) = tables::exception_set(key.first & tables::exception_mask()) else { return 0 };
    let limits = tables::constant(&ROOM);
    let now = head.0 as u32;
    let (mut free, mut same, mut way) = (0, 0, 0);
    while way < WAYS {
        let other = Head(read(entries, way, 0));
        let state = u64::from(other.state_bits());
        let lapsed = limits.half_open_ticks.wrapping_sub(u64::from(other.half_open_age(now))) >> 63;
        free |= (((limits.free >> state) | ((limits.half_open >> state) & lapsed)) & 1) << way;
        // 1 where all bits agree, without a branch.
        let differs = other.identity() ^ key.identity;
        same |= (differs.wrapping_sub(1) >> 63) & !(limits.free >> state);
        way += 1;
    }
    if same & 1 != 0 || count(free) < WAYS as u64 / 2 || Head(read(entries, 0, 0)).overflows() {
        return 0;
    }
    let way = LOWEST >> (free << 2 & 63) & 3;
    // SAFETY: the way is below WAYS.
    let place = unsafe { entries.cast::<u64>().add(way as usize * 2) };
    if !take(place, head, now) {
        return 0;
    }
    write_tail(place, u64::from(sequence));
    1
}

/// Puts an entry where, when its set was looked at, one could be taken. Read again, it may be another flow's by now: another CPU
/// looked at the set at the same time.
#[inline(always)]
fn take(place: *mut u64, head: Head, now: u32) -> bool {
    // SAFETY: the first word of an entry; volatile, because other CPUs write it.
    let old = Head(unsafe { place.read_volatile() });
    let is_live = old.state_bits() == EntryState::Established as u8
        || (old.state_bits() == EntryState::HalfOpen as u8 && old.half_open_age(now) <= HALF_OPEN_TICKS);
    !is_live && atomic::exchange(place, old.0, head.with_overflow_of(old).0)
}

/// Remembers a SYN's choice: over the flow's half-open entry, or in a new place. False where there is none.
#[inline(always)]
pub(crate) fn insert_half_open(flow: FlowHash, bucket: u64, found: &Found, backend: u16, sequence: u32) -> bool {
    let head = Head::new(ExceptionKey::of(flow, bucket as u16).identity, backend, EntryState::HalfOpen, now());
    if explains() {
        return found.half_open != NO_ENTRY || exceptions_insert(flow.0, head.0, 0) as u32 != NO_ENTRY;
    }
    let number = if found.half_open != NO_ENTRY
        && let Some(place) = entry(found.half_open)
        && atomic::exchange(place, found.half_open_head.0, head.with_overflow_of(found.half_open_head).0)
    {
        found.half_open
    } else {
        exceptions_insert(flow.0, head.0, 0) as u32
    };
    if number == NO_ENTRY {
        return false;
    }
    if let Some(entry) = entry(number) {
        write_tail(entry, u64::from(sequence));
    }
    true
}

/// Remembers where a flow went by home, unless it has an entry. False where there is no place.
#[inline(always)]
pub(crate) fn insert_pin(flow: FlowHash, bucket: u64, backend: u16, slot: u16, tail_flags: u64) -> bool {
    let now = now();
    // A pin's time is in its second word: until that is written the place is kept by a young half-open entry.
    let head = Head::new(ExceptionKey::of(flow, bucket as u16).identity, backend, EntryState::HalfOpen, now);
    let number = exceptions_insert(flow.0, head.0, tail_flags) as u32;
    if number == NO_ENTRY || explains() {
        return number != NO_ENTRY;
    }
    if let Some(entry) = entry(number) {
        write_tail(entry, Tail::new(slot, now, tail_flags).0);
        // SAFETY: the first word of an entry; volatile, because another CPU may set its overflow bit.
        let head = head.with_overflow_of(Head(unsafe { entry.read_volatile() }));
        atomic::exchange(entry, head.0, head.with_state(EntryState::Pin).0);
    }
    true
}

/// Ways that can be taken in a set, as bits: free or lapsed ones, and behind them pins of UDP flows.
#[derive(Clone, Copy)]
struct Room(u64);

impl Room {
    #[inline(always)]
    const fn free(self) -> u64 {
        self.0 & ((1 << WAYS) - 1)
    }

    #[inline(always)]
    const fn datagrams(self) -> u64 {
        self.0 >> WAYS & ((1 << WAYS) - 1)
    }
}

/// Puts an entry into the emptier of its two sets and returns its number; the instance that explains says where it would
/// lie. Exported as [`exceptions_find`] is.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn exceptions_insert(flow: u64, head: u64, tail_flags: u64) -> u64 {
    let head = Head(head);
    let key = ExceptionKey::of(FlowHash(flow), head.bucket());
    let mask = tables::exception_mask();
    let (first, second) = (key.first & mask, key.second & mask);
    let now = now();
    let (room, other) = (Room(exceptions_room(first, now)), Room(exceptions_room(second, now)));
    let is_second = score(other) > score(room);
    let (set, ways) = if is_second { (second, other) } else { (first, room) };
    let way = way_in(ways, tail_flags & Tail::UDP != 0);
    if way >= WAYS as u64 {
        return u64::from(NO_ENTRY);
    }
    let number = set * WAYS as u32 + way as u32 + 1;
    let Some(place) = entry(number) else { return u64::from(NO_ENTRY) };
    if explains() {
        verifier::keep(head.0);
        return u64::from(number);
    }
    if is_second {
        overflow(first);
    }
    if take(place, head, now) { u64::from(number) } else { u64::from(NO_ENTRY) }
}

/// Free ways count four times as much as those of UDP pins.
#[inline(always)]
fn score(room: Room) -> u64 {
    count(room.free()) * 4 + count(room.datagrams())
}

#[inline(always)]
fn count(ways: u64) -> u64 {
    (ways & 1) + (ways >> 1 & 1) + (ways >> 2 & 1) + (ways >> 3 & 1)
}

/// The way to take; [`WAYS`] for none. UDP pins fill at most half of a set.
#[inline(always)]
fn way_in(room: Room, is_datagram: bool) -> u64 {
    let replaces = room.free() == 0 || (is_datagram && count(room.datagrams()) * 2 >= WAYS as u64);
    let ways = if replaces { room.datagrams() } else { room.free() };
    LOWEST >> (ways << 2 & 63) & 15
}

/// Numbers that the compiler must not know: it would make branches of the arithmetic in [`exceptions_room`], and the verifier would
/// follow each of them in every way.
#[unsafe(no_mangle)]
static ROOM: Limits = Limits {
    free: 1 << EntryState::Free as u64,
    half_open: 1 << EntryState::HalfOpen as u64,
    pin: 1 << EntryState::Pin as u64,
    half_open_ticks: HALF_OPEN_TICKS as u64,
    pin_ticks: PIN_TICKS as u64,
};

/// Bits by state, and the lives of what lapses.
#[repr(C)]
#[derive(Clone, Copy)]
struct Limits {
    free: u64,
    half_open: u64,
    pin: u64,
    half_open_ticks: u64,
    pin_ticks: u64,
}

/// What can be taken in a set.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn exceptions_room(set: u32, now: u32) -> u64 {
    let Some(entries) = tables::exception_set(set) else { return 0 };
    let mut room = 0;
    let limits = tables::constant(&ROOM);
    let mut way = 0;
    while way < WAYS {
        let (head, tail) = (Head(read(entries, way, 0)), Tail(read(entries, way, 1)));
        let state = u64::from(head.state_bits());
        let pin = limits.pin >> state & 1;
        let half_open_lapsed = limits.half_open_ticks.wrapping_sub(u64::from(head.half_open_age(now))) >> 63;
        let pin_lapsed = limits.pin_ticks.wrapping_sub(u64::from(now.wrapping_sub(tail.tick()))) >> 63;
        let free = (limits.free >> state) | ((limits.half_open >> state) & half_open_lapsed) | (pin & pin_lapsed);
        room |= (free & 1) << way;
        room |= (pin & !pin_lapsed & (tail.0 >> Tail::UDP.trailing_zeros())) << (WAYS + way);
        way += 1;
    }
    room
}

/// Notes that some flow whose first set this is lies in its second.
#[inline(always)]
fn overflow(set: u32) {
    if let Some(entries) = tables::exception_set(set)
        && !Head(read(entries, 0, 0)).overflows()
    {
        atomic::or(entries.cast::<u64>(), Head::OVERFLOW);
    }
}
