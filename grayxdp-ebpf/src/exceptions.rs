//! The exception table on the packet's side: finding, making, completing, refreshing entries.
//!
//! A live entry is never evicted. Taken are free places, half-open entries and pins that lapsed, and pins of UDP flows. All
//! changes of who has a place go through a compare-and-swap of the entry's first word; a lost one is mended by the flow's next
//! packet.

use grayxdp_common::exceptions::{
    EntryState, ExceptionKey, ExceptionSet, HALF_OPEN_TICKS, Head, PIN_TICKS, Tail, WAYS, tick,
};
use grayxdp_common::hash::FlowHash;

use crate::{
    atomic,
    detail::{FIN, PAYLOAD},
    tables,
};

/// Number of no entry.
pub(crate) const NO_ENTRY: u32 = 0;
/// A packet completes a handshake if it begins at most this far behind the SYN: 65,536 bytes and the SYN's own payload.
pub(crate) const SENT_WINDOW: u32 = 131_072;
/// … and acknowledges at most this many bytes behind the SYN-ACK.
pub(crate) const ACKNOWLEDGED_WINDOW: u32 = 65_536;

/// The entries of a flow; `NO_ENTRY` or the number of the entry, its set times [`WAYS`] plus its way plus one.
#[repr(C)]
pub(crate) struct Found {
    pub(crate) half_open: u32,
    pub(crate) established: u32,
    pub(crate) half_open_head: Head,
    pub(crate) half_open_tail: u64,
    pub(crate) established_head: Head,
}

/// A tick of the program's clock.
#[inline(always)]
fn now() -> u32 {
    tick(tables::coarse_ns())
}

/// Reads a word of a flow's first set, so that it is in the cache when it is asked for.
#[inline(always)]
pub(crate) fn touch_set(flow: FlowHash, bucket: u16) {
    let first = ExceptionKey::of(flow, bucket).first & tables::exception_mask();
    if let Some(entries) = tables::exception_set(first) {
        read(entries, 0, 0);
    }
}

/// Finds the entries of a flow: of each kind the last one met.
#[inline(always)]
pub(crate) fn find(flow: FlowHash, bucket: u64, found: &mut Found) {
    let numbers = exceptions_find(flow.0, bucket);
    (found.half_open, found.established) = ((numbers >> 32) as u32, numbers as u32);
    if found.half_open != NO_ENTRY
        && let Some(entry) = entry(found.half_open)
    {
        // SAFETY: the two words of an entry; volatile, because other CPUs write them.
        (found.half_open_head, found.half_open_tail) =
            unsafe { (Head(entry.read_volatile()), entry.add(1).read_volatile()) };
    }
    if found.established != NO_ENTRY
        && let Some(entry) = entry(found.established)
    {
        // SAFETY: as above.
        found.established_head = Head(unsafe { entry.read_volatile() });
    }
}

/// Numbers of a flow's half-open (high half) and established entries. Exported, so that the verifier looks at it once and
/// not on every way that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn exceptions_find(flow: u64, bucket: u64) -> u64 {
    let key = ExceptionKey::of(FlowHash(flow), bucket as u16);
    let mut numbers = 0;
    if look_in(key.first, key.identity, &mut numbers) {
        look_in(key.second, key.identity, &mut numbers);
    }
    numbers
}

/// Looks into one set and says whether some flow of it lies in its other one.
#[inline(always)]
fn look_in(set: u32, identity: u64, numbers: &mut u64) -> bool {
    let set = set & tables::exception_mask();
    let Some(entries) = tables::exception_set(set) else { return false };
    let mut way = 0;
    while way < WAYS {
        let head = Head(read(entries, way, 0));
        if head.identity() == identity && head.state_bits() != EntryState::Free as u8 {
            let number = u64::from(set * WAYS as u32 + way as u32 + 1);
            if head.state_bits() == EntryState::HalfOpen as u8 {
                if head.half_open_age(now()) <= HALF_OPEN_TICKS {
                    *numbers = (*numbers & 0xffff_ffff) | (number << 32);
                } else if !tables::explains() {
                    // Left behind it would count again when its clock comes round, before a younger one of the flow.
                    atomic::exchange(place(entries, way), head.0, head.0 & Head::OVERFLOW);
                }
            } else if head.state_bits() == EntryState::Established as u8
                || now().wrapping_sub(Tail(read(entries, way, 1)).tick()) <= PIN_TICKS
            {
                *numbers = (*numbers >> 32 << 32) | number;
            }
        }
        way += 1;
    }
    Head(read(entries, 0, 0)).overflows()
}

#[inline(always)]
fn read(entries: *mut ExceptionSet, way: usize, word: usize) -> u64 {
    // SAFETY: `way` is below WAYS and `word` below 2 at all callers, so the word lies within the set; volatile, because
    // other CPUs write it.
    unsafe { entries.cast::<u64>().add((way & (WAYS - 1)) * 2 + word).read_volatile() }
}

/// The first word of a way.
#[inline(always)]
fn place(entries: *mut ExceptionSet, way: usize) -> *mut u64 {
    // SAFETY: `way` is below WAYS by the mask, so the word lies within the set.
    unsafe { entries.cast::<u64>().add((way & (WAYS - 1)) * 2) }
}

/// The entry of a number, as its first word's address.
#[inline(always)]
fn entry(number: u32) -> Option<*mut u64> {
    let number = number - 1;
    let entries = tables::exception_set((number >> 2) & tables::exception_mask())?;
    // SAFETY: the way is below WAYS by the mask.
    Some(unsafe { entries.cast::<u64>().add((number as usize & (WAYS - 1)) * 2) })
}

#[inline(always)]
fn write_tail(entry: *mut u64, tail: u64) {
    // SAFETY: the second word of an entry.
    unsafe { entry.add(1).write_volatile(tail) }
}

/// Frees an entry that still is what was found.
#[inline(always)]
pub(crate) fn clear(number: u32, head: Head) {
    if tables::explains() {
        return;
    }
    if let Some(entry) = entry(number) {
        atomic::exchange(entry, head.0, head.0 & Head::OVERFLOW);
    }
}

/// The SYN came again: its entry lives on.
#[inline(always)]
pub(crate) fn refresh_half_open(found: &Found) {
    if tables::explains() {
        return;
    }
    let head = found.half_open_head;
    let fresh = Head::new(head.identity(), head.backend(), EntryState::HalfOpen, now()).with_overflow_of(head);
    if fresh != head
        && let Some(entry) = entry(found.half_open)
    {
        atomic::exchange(entry, head.0, fresh.0);
    }
}

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
    // SAFETY: the first word of an entry.
    let old = Head(unsafe { place.read_volatile() });
    if !atomic::exchange(place, old.0, head.with_overflow_of(old).0) {
        return 0;
    }
    write_tail(place, u64::from(sequence));
    1
}

/// The backend of a flow that has an established entry and no half-open one; 0 for any other. Its entry lives on.
#[inline(always)]
pub(crate) fn go_on(flow: FlowHash, bucket: u16, flags: u64) -> u16 {
    exceptions_go_on(flow.0, u64::from(bucket), flags) as u16
}

/// Exported as [`exceptions_find`] is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn exceptions_go_on(flow: u64, bucket: u64, flags: u64) -> u64 {
    let key = ExceptionKey::of(FlowHash(flow), bucket as u16);
    let mask = tables::exception_mask();
    let Some(mut entries) = tables::exception_set(key.first & mask) else { return 0 };
    let mut same = ways_of(entries, key.identity);
    if Head(read(entries, 0, 0)).overflows() {
        let Some(others) = tables::exception_set(key.second & mask) else { return 0 };
        let same_there = ways_of(others, key.identity);
        if same != 0 && same_there != 0 {
            return 0;
        }
        if same == 0 {
            (entries, same) = (others, same_there);
        }
    }
    let way = LOWEST >> (same << 2 & 63) & 3;
    // SAFETY: the way is below WAYS.
    let entry = unsafe { entries.cast::<u64>().add(way as usize * 2) };
    // SAFETY: the first word of an entry; volatile, because other CPUs write it.
    let head = Head(unsafe { entry.read_volatile() });
    let is_alone = same & same.wrapping_sub(1) == 0;
    if !is_alone || head.identity() != key.identity || head.state_bits() != EntryState::Established as u8 {
        return 0;
    }
    touch_entry(entry, if flags & FIN != 0 { Tail::FIN_FORWARD } else { 0 }, flags & PAYLOAD != 0);
    u64::from(head.backend())
}

/// The ways of a set whose entries are of an identity, as bits; without a branch.
#[inline(always)]
fn ways_of(entries: *mut ExceptionSet, identity: u64) -> u64 {
    let (mut same, mut way) = (0, 0);
    while way < WAYS {
        same |= ((Head(read(entries, way, 0)).identity() ^ identity).wrapping_sub(1) >> 63) << way;
        way += 1;
    }
    same
}

/// Remembers a SYN's choice: over the flow's half-open entry, or in a new place. False where there is none.
#[inline(always)]
pub(crate) fn insert_half_open(flow: FlowHash, bucket: u64, found: &Found, backend: u16, sequence: u32) -> bool {
    let head = Head::new(ExceptionKey::of(flow, bucket as u16).identity, backend, EntryState::HalfOpen, now());
    if tables::explains() {
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
    let head = Head::new(ExceptionKey::of(flow, bucket as u16).identity, backend, EntryState::Pin, 0);
    let number = exceptions_insert(flow.0, head.0, tail_flags) as u32;
    if number == NO_ENTRY || tables::explains() {
        return number != NO_ENTRY;
    }
    if let Some(entry) = entry(number) {
        write_tail(entry, Tail::new(slot, now(), tail_flags).0);
    }
    true
}

/// A half-open entry becomes established. The first word goes first: a packet of the flow on another CPU finds it either
/// half-open, with the numbers it needs, or established, where the second word tells the time and no more.
#[inline(always)]
pub(crate) fn complete(found: &Found, slot: u16) {
    if tables::explains() {
        return;
    }
    let Some(entry) = entry(found.half_open) else { return };
    if atomic::exchange(entry, found.half_open_head.0, found.half_open_head.with_state(EntryState::Established).0) {
        write_tail(entry, Tail::new(slot, now(), 0).0);
    }
}

/// A client's packet of an entry: time, and what ends or restores its life.
#[inline(always)]
pub(crate) fn touch_forward(found: &Found, is_reset: bool, flags: u64) {
    let fin = if flags & FIN != 0 { Tail::FIN_FORWARD } else { 0 };
    let ends = if is_reset { Tail::RESET } else { fin };
    touch(found.established, ends, flags & PAYLOAD != 0);
}

/// A packet of an entry in either direction.
#[inline(always)]
pub(crate) fn touch(number: u32, ends: u64, has_payload: bool) {
    if tables::explains() {
        return;
    }
    if let Some(entry) = entry(number) {
        touch_entry(entry, ends, has_payload);
    }
}

#[inline(always)]
fn touch_entry(entry: *mut u64, ends: u64, has_payload: bool) {
    // SAFETY: the second word of an entry.
    let tail = Tail(unsafe { entry.add(1).read_volatile() });
    let restored = if has_payload && ends == 0 && tail.is_closing() { !Tail::CLOSING } else { !0 };
    let flags = (tail.0 >> 32 << 32 & restored) | ends;
    let fresh = Tail(flags | u64::from(now()));
    if fresh != tail {
        write_tail(entry, fresh.0);
    }
}

/// What a backend sent of a flow that has entries: the number of its SYN-ACK, the confirmation of a pin, the end.
#[inline(never)]
pub(crate) fn answered(said: &Said) -> u32 {
    if tables::explains() {
        return 0;
    }
    let mut found = Found {
        half_open: NO_ENTRY,
        established: NO_ENTRY,
        half_open_head: Head(0),
        half_open_tail: 0,
        established_head: Head(0),
    };
    find(said.flow, said.bucket, &mut found);
    if said.answer == Answer::SynAck as u64
        && found.half_open != NO_ENTRY
        && u64::from(found.half_open_head.backend()) == said.backend
        && (said.acknowledged as u32).wrapping_sub(found.half_open_tail as u32).wrapping_sub(1)
            < said.acknowledges as u32
    {
        if let Some(entry) = entry(found.half_open) {
            // 0 stands for "none seen": such a number is remembered as the one before.
            let number = if said.sequence == 0 { u32::MAX } else { said.sequence as u32 };
            // SAFETY: the high half of the second word; the low half belongs to the SYN, maybe on another CPU.
            unsafe { entry.cast::<u32>().add(3).write_volatile(number) };
        }
        return 0;
    }
    if found.established == NO_ENTRY || u64::from(found.established_head.backend()) != said.backend {
        return 0;
    }
    let head = found.established_head;
    if head.state_bits() == EntryState::Pin as u8
        && said.answer != Answer::Reset as u64
        && let Some(entry) = entry(found.established)
    {
        atomic::exchange(entry, head.0, head.with_state(EntryState::Established).0);
    }
    touch(found.established, said.ends, said.has_payload != 0);
    0
}

/// What a backend's packet is to its flow.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Answer {
    /// The number of a SYN-ACK; of QUIC any datagram.
    SynAck,
    /// A RST.
    Reset,
    /// Anything else.
    Other,
}

/// What a backend sent.
#[repr(C)]
pub(crate) struct Said {
    /// Hash of the whole 5-tuple, seen as the client's packet.
    pub(crate) flow: FlowHash,
    /// `Tail` bits of what ends.
    pub(crate) ends: u64,
    /// The flow's bucket.
    pub(crate) bucket: u64,
    /// Id of the backend.
    pub(crate) backend: u64,
    /// An [`Answer`].
    pub(crate) answer: u64,
    /// Sequence number.
    pub(crate) sequence: u64,
    /// Acknowledgement number.
    pub(crate) acknowledged: u64,
    /// How far behind a SYN a SYN-ACK may acknowledge: [`SENT_WINDOW`], of QUIC anything.
    pub(crate) acknowledges: u64,
    /// Whether there is payload: 1.
    pub(crate) has_payload: u64,
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
    if tables::explains() {
        return u64::from(number);
    }
    if is_second {
        overflow(first);
    }
    // SAFETY: the first word of an entry.
    let old = Head(unsafe { place.read_volatile() });
    let is_taken = atomic::exchange(place, old.0, head.with_overflow_of(old).0);
    if is_taken { u64::from(number) } else { u64::from(NO_ENTRY) }
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

/// The lowest set bit of each of sixteen masks, four bits each; 4 for none.
const LOWEST: u64 = 0x0102_0103_0102_0104;

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
