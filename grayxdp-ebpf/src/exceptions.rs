//! The exception table on the packet's side: finding, making, completing, refreshing entries.
//!
//! A live entry is never evicted. Taken are free places, half-open entries and pins that lapsed, and pins of UDP flows. All
//! changes of who has a place go through a compare-and-swap of the entry's first word; a lost one is mended by the flow's next
//! packet.

mod answered;
mod insert;

use grayxdp_common::{
    exceptions::{
        CONFIRMING_TICKS, EntryState, ExceptionKey, ExceptionSet, HALF_OPEN_TICKS, Head, PIN_TICKS, Tail, WAYS, tick,
    },
    hash::FlowHash,
};

pub(crate) use self::{
    answered::{Answer, Said, answered},
    insert::{insert_fresh, insert_half_open, insert_pin},
};

use crate::{
    atomic,
    detail::{FIN, PAYLOAD},
    explain::explains,
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
        // Second word first: while the first one says half-open after that, no other CPU had completed it and written its time.
        // SAFETY: the two words of an entry; volatile, because other CPUs write them.
        (found.half_open_tail, found.half_open_head) =
            unsafe { (entry.add(1).read_volatile(), Head(entry.read_volatile())) };
        if found.half_open_head.state_bits() == EntryState::Established as u8 {
            found.established = found.half_open;
        }
        if found.half_open_head.state_bits() != EntryState::HalfOpen as u8 {
            found.half_open = NO_ENTRY;
        }
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
                } else if !explains() {
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
    if explains() {
        return;
    }
    if let Some(entry) = entry(number) {
        atomic::exchange(entry, head.0, head.0 & Head::OVERFLOW);
    }
}

/// The SYN came again: its entry lives on.
#[inline(always)]
pub(crate) fn refresh_half_open(found: &Found) {
    if explains() {
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

/// A half-open entry becomes established. The first word goes first: a packet of the flow on another CPU finds it either
/// half-open, with the numbers it needs, or established, where the second word tells the time and no more. `flags` are those of a
/// [`Tail`].
#[inline(always)]
pub(crate) fn complete(found: &Found, slot: u16, flags: u64) {
    if explains() {
        return;
    }
    let Some(entry) = entry(found.half_open) else { return };
    if atomic::exchange(entry, found.half_open_head.0, found.half_open_head.with_state(EntryState::Established).0) {
        write_tail(entry, Tail::new(slot, now(), flags).0);
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
    if explains() {
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
    // A second packet confirms.
    let flags = (tail.0 & FLAGS & restored) | ends;
    let fresh = Tail(flags | u64::from(now()));
    if fresh != tail {
        // An exchange, because the word may still be the half-open entry's: who completes it on another CPU has yet to write.
        // SAFETY: the second word of an entry.
        atomic::exchange(unsafe { entry.add(1) }, tail.0, fresh.0);
    }
}

/// What a packet leaves of an entry's second word: slot and flags.
const FLAGS: u64 = !(u32::MAX as u64 | Tail::UNCONFIRMED);

/// A client's packet of a flow whose answers do not come by: one that comes late enough after the one that was pinned confirms the
/// pin. What comes earlier leaves its time.
#[inline(always)]
pub(crate) fn touch_unseen(found: &Found, is_reset: bool, flags: u64) {
    let head = found.established_head;
    if head.state_bits() != EntryState::Pin as u8 {
        return touch_forward(found, is_reset, flags);
    }
    if explains() || is_reset {
        return;
    }
    let Some(entry) = entry(found.established) else { return };
    // SAFETY: the second word of an entry.
    let tail = Tail(unsafe { entry.add(1).read_volatile() });
    if now().wrapping_sub(tail.tick()) >= CONFIRMING_TICKS
        && atomic::exchange(entry, head.0, head.with_state(EntryState::Established).0)
    {
        touch_forward(found, false, flags);
    }
}

/// The lowest set bit of each of sixteen masks, four bits each; 4 for none.
const LOWEST: u64 = 0x0102_0103_0102_0104;
