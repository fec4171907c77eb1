//! Fuse and lease on the packet's side: counting, latching, and what a latch does to a choice.

use core::{mem::offset_of, ptr};

use aya_ebpf::macros::map;
use aya_ebpf::maps::RingBuf;
use grayxdp_common::{
    cells::DetailRecord,
    explanation::Turn,
    guard::{Event, EventKind, FAILURES, Guard, PARTS, Part, WINDOW_PARTS},
    records::BackendRecord,
};

use crate::{
    atomic,
    explain::{self, explains, turn},
    tables,
};

#[map(name = "EVENTS")]
static EVENTS: RingBuf = RingBuf::with_byte_size(1, 0);

/// Whether new flows of the version at a place go to the stable one instead: its fuse tripped or its lease ran out.
#[inline(always)]
pub(crate) fn is_turned(detail: &DetailRecord, place: u8) -> bool {
    if detail.guard == 0 || place != detail.candidate {
        return false;
    }
    let Some(guard) = tables::guard(detail.guard) else { return false };
    turns(detail, latches(guard))
}

/// What is latched; in the instance that explains, also the lease that this packet would have found expired.
#[inline(always)]
fn latches(guard: *mut Guard) -> u64 {
    let found = if explain::is_noted(Turn::LeaseExpired) { Guard::LEASE_EXPIRED } else { 0 };
    load(guard, offset_of!(Guard, latches)) | found
}

#[inline(always)]
fn turns(detail: &DetailRecord, latches: u64) -> bool {
    if detail.flags & DetailRecord::FLAG_NO_STABLE != 0 {
        return false;
    }
    let acting = if detail.flags & DetailRecord::FLAG_LEASE_STABLE != 0 { Guard::LEASE_EXPIRED } else { 0 };
    latches & (Guard::TRIPPED | acting) != 0
}

/// The same; what opens a flow also finds out whether the lease still runs.
#[inline(always)]
pub(crate) fn turn_of(detail: &DetailRecord, place: u8, is_first: bool) -> bool {
    if detail.guard == 0 || place != detail.candidate {
        return false;
    }
    let Some(guard) = tables::guard(detail.guard) else { return false };
    if is_first {
        expire(detail, guard);
    }
    let latches = latches(guard);
    if latches & Guard::TRIPPED != 0 {
        turn(Turn::FuseTripped);
    }
    if latches & Guard::LEASE_EXPIRED != 0 {
        turn(Turn::LeaseExpired);
    }
    turns(detail, latches)
}

#[inline(always)]
fn expire(detail: &DetailRecord, guard: *mut Guard) {
    let until = load(guard, offset_of!(Guard, lease_until_ns));
    if until == 0 || load(guard, offset_of!(Guard, latches)) & Guard::LEASE_EXPIRED != 0 {
        return;
    }
    let now = tables::coarse_ns();
    if now < until {
        return;
    }
    let no_stable = detail.flags & (DetailRecord::FLAG_NO_STABLE | DetailRecord::FLAG_LEASE_STABLE)
        == DetailRecord::FLAG_NO_STABLE | DetailRecord::FLAG_LEASE_STABLE;
    if explains() {
        if !no_stable {
            turn(Turn::LeaseExpired);
        }
    } else if no_stable {
        latch(detail.guard, guard, Guard::ALARM, EventKind::NoStable, now);
    } else if latch(detail.guard, guard, Guard::LEASE_EXPIRED, EventKind::LeaseExpired, now) {
        store(guard, offset_of!(Guard, expired_ns), now);
    }
}

/// A SYN went to a backend: an attempt.
#[inline(always)]
pub(crate) fn attempt(backend: &BackendRecord) {
    if backend.guard == 0 || explains() {
        return;
    }
    let Some(guard) = tables::guard(backend.guard) else { return };
    if load(guard, offset_of!(Guard, window_ns)) != 0 {
        add(guard, offset_of!(Guard, attempt_parts), backend);
        bump(
            guard,
            if is_candidate(backend) { offset_of!(Guard, attempts) } else { offset_of!(Guard, stable_attempts) },
        );
    }
}

/// A connection to a backend failed: a RST answered its SYN, or its SYN came again before any answer.
#[inline(never)]
pub(crate) fn failure(id: u32) -> u32 {
    let Some(backend) = tables::backend(id as u16) else { return 0 };
    if backend.guard == 0 || explains() {
        return 0;
    }
    let Some(guard) = tables::guard(backend.guard) else { return 0 };
    let window = load(guard, offset_of!(Guard, window_ns));
    if window == 0 {
        return 0;
    }
    add(guard, offset_of!(Guard, failure_parts), backend);
    if !is_candidate(backend) {
        bump(guard, offset_of!(Guard, stable_failures));
        return 0;
    }
    let number = bump(guard, offset_of!(Guard, failures));
    let now = tables::precise_ns();
    remember(guard, number, now);
    let limit = u64::from(load32(guard, offset_of!(Guard, limit)));
    if limit == 0 || number < limit || load(guard, offset_of!(Guard, latches)) & Guard::TRIPPED != 0 {
        return 0;
    }
    // `number` counts from 0: with this one there are `limit` + 1 failures since the one `limit` before it.
    let oldest = recall(guard, number - limit);
    if now.wrapping_sub(oldest) <= window && is_too_many(guard, window, now) {
        trip(backend, guard, now);
    }
    0
}

#[inline(always)]
fn trip(backend: &BackendRecord, guard: *mut Guard, now: u64) {
    if backend.flags & BackendRecord::FLAG_NO_STABLE != 0 {
        latch(backend.guard, guard, Guard::ALARM, EventKind::NoStable, now);
    } else if latch(backend.guard, guard, Guard::TRIPPED, EventKind::FuseTripped, now) {
        store(guard, offset_of!(Guard, tripped_ns), now);
    }
}

/// Sets a latch, and tells of it if it was not set; whether it was set now.
#[inline(always)]
fn latch(index: u32, guard: *mut Guard, bit: u64, kind: EventKind, now: u64) -> bool {
    if atomic::or(word(guard, offset_of!(Guard, latches)), bit) & bit != 0 {
        return false;
    }
    let event = Event {
        kind: kind as u32,
        guard: index,
        rollout: load(guard, offset_of!(Guard, rollout)),
        time_ns: now,
        failures: load(guard, offset_of!(Guard, failures)),
    };
    // A full buffer loses the event: the daemon reads the latch anyway.
    let _ = EVENTS.output::<Event>(&event, 0);
    true
}

#[inline(always)]
fn is_candidate(backend: &BackendRecord) -> bool {
    backend.flags & BackendRecord::FLAG_CANDIDATE != 0
}

/// Adds to the counts of this part of the window.
#[inline(always)]
fn add(guard: *mut Guard, parts: usize, backend: &BackendRecord) {
    let part = tables::coarse_ns() / (load(guard, offset_of!(Guard, window_ns)) / WINDOW_PARTS + 1);
    let one = if is_candidate(backend) { Part::CANDIDATE } else { Part::STABLE };
    let place = word(guard, parts + (part as usize & (PARTS - 1)) * 8);
    let mut attempt = 0;
    while attempt < 4 {
        // SAFETY: the word lies within the guard; other CPUs write it too.
        let old = Part(unsafe { place.read_volatile() });
        let new = if old.age(part) != 0 {
            Part::begin(part, one)
        } else if old.has_room() {
            Part(old.0 + one)
        } else {
            old
        };
        if atomic::exchange(place, old.0, new.0) {
            return;
        }
        attempt += 1;
    }
}

/// Whether failures make up enough of the candidate's attempts and not too much of the stable version's.
#[inline(always)]
fn is_too_many(guard: *mut Guard, window: u64, now: u64) -> bool {
    let part = now / (window / WINDOW_PARTS + 1);
    let (mut attempts, mut failures, mut stable_attempts, mut stable_failures) = (0, 0, 0, 0);
    let mut index = 0;
    while index < PARTS {
        let tried = Part(load(guard, offset_of!(Guard, attempt_parts) + index * 8));
        let failed = Part(load(guard, offset_of!(Guard, failure_parts) + index * 8));
        // 1 for parts inside the window, without a branch: sixteen of them would be followed in every way.
        let tried_counts = tried.age(part).wrapping_sub(WINDOW_PARTS + 1) >> 63;
        let failed_counts = failed.age(part).wrapping_sub(WINDOW_PARTS + 1) >> 63;
        attempts += tried.candidate() * tried_counts;
        stable_attempts += tried.stable() * tried_counts;
        failures += failed.candidate() * failed_counts;
        stable_failures += failed.stable() * failed_counts;
        index += 1;
    }
    let ratio = u64::from(load32(guard, offset_of!(Guard, ratio)));
    failures << 16 >= attempts * ratio && stable_failures << 17 <= stable_attempts * ratio
}

/// Raises a count by one; the count before.
#[inline(always)]
fn bump(guard: *mut Guard, offset: usize) -> u64 {
    let place = word(guard, offset);
    let mut old = load(guard, offset);
    let mut attempt = 0;
    while attempt < 8 {
        if atomic::exchange(place, old, old + 1) {
            return old;
        }
        old = load(guard, offset);
        attempt += 1;
    }
    old
}

#[inline(always)]
fn remember(guard: *mut Guard, number: u64, now: u64) {
    store(guard, offset_of!(Guard, failed_ns) + (number as usize & (FAILURES - 1)) * 8, now);
}

#[inline(always)]
fn recall(guard: *mut Guard, number: u64) -> u64 {
    load(guard, offset_of!(Guard, failed_ns) + (number as usize & (FAILURES - 1)) * 8)
}

#[inline(always)]
fn word(guard: *mut Guard, offset: usize) -> *mut u64 {
    // SAFETY: all callers give the offset of a word of the structure.
    unsafe { guard.cast::<u8>().add(offset).cast() }
}

#[inline(always)]
fn load(guard: *mut Guard, offset: usize) -> u64 {
    // SAFETY: as for `word`; volatile, because others write it.
    unsafe { word(guard, offset).read_volatile() }
}

#[inline(always)]
fn load32(guard: *mut Guard, offset: usize) -> u32 {
    // SAFETY: as for `load`.
    unsafe { ptr::read_volatile(word(guard, offset).cast()) }
}

#[inline(always)]
fn store(guard: *mut Guard, offset: usize, value: u64) {
    // SAFETY: as for `load`.
    unsafe { word(guard, offset).write_volatile(value) }
}
