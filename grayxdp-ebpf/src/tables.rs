//! The maps, and reading them. Sizes given here are placeholders: user space sets them when it loads the program.

mod addresses;
mod translations;

use core::mem::offset_of;

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns},
    macros::map,
    maps::{Array, PerCpuArray, ProgramArray},
    programs::XdpContext,
};
use grayxdp_common::{
    SLOT_TABLE_LEN,
    cells::{Bucket, BucketTable, DetailRecord, PORTS, SEGMENTS, SegmentClass, SlotState, SlotStates, Stamp, Stamps},
    counters::{BackendCounters, ReasonCounters},
    directory::{DirectorySet, EndpointKey, Place},
    exceptions::ExceptionSet,
    guard::Guard,
    hash::HashKey,
    ids::ServiceId,
    reason::Reason,
    records::{BackendRecord, Control, ServiceRecord, SlotTable, TableRef},
    signals::{ExceptionCounters, FlowSample, Mark, Signals},
};

pub(crate) use addresses::{
    Source, ends, interface, neighbour, neighbour6, prefix, route, route6, stamp_prefix, target,
};
pub(crate) use translations::{permits, piece_word, pool, seat_set, translation};

use crate::{
    detail::Scratch,
    explain::{explains, note},
};

/// User space writes single words of such a map.
pub(crate) const MAPPABLE: u32 = 1 << 10;

#[map(name = "CONTROL")]
static CONTROL: Array<Control> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "DIRECTORY")]
static DIRECTORY: Array<DirectorySet> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "SERVICES")]
static SERVICES: Array<ServiceRecord> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "SLOTS")]
static SLOTS: Array<SlotTable> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "BACKENDS")]
static BACKENDS: Array<BackendRecord> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "COUNTERS")]
static COUNTERS: PerCpuArray<BackendCounters> = PerCpuArray::with_max_entries(1, 0);
#[map(name = "REASONS")]
static REASONS: PerCpuArray<ReasonCounters> = PerCpuArray::with_max_entries(1, 0);
#[map(name = "BUCKETS")]
static BUCKETS: Array<BucketTable> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "SLOT_STATES")]
static SLOT_STATES: Array<SlotStates> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "STAMPS")]
static STAMPS: Array<Stamps> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "DETAILS")]
static DETAILS: Array<DetailRecord> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "CLASSES")]
static CLASSES: Array<SegmentClass> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "GUARDS")]
static GUARDS: Array<Guard> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "EXCEPTIONS")]
static EXCEPTIONS: Array<ExceptionSet> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "EXCEPTION_COUNTERS")]
static EXCEPTION_COUNTERS: PerCpuArray<ExceptionCounters> = PerCpuArray::with_max_entries(1, 0);
#[map(name = "MARKS")]
static MARKS: Array<Mark> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "FLOWS")]
static FLOWS: Array<FlowSample> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "SIGNALS")]
static SIGNALS: Array<Signals> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "PROGRAMS")]
static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(3, 0);
#[map(name = "CLOCK")]
static CLOCK: Array<u64> = Array::with_max_entries(1, 0);
#[map(name = "SCRATCH")]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// The flow hash's key, set before the program is loaded.
#[unsafe(no_mangle)]
static HASH_KEY: HashKey = HashKey([0; 4]);
/// The bits of a hash that choose a set of the exception table.
#[unsafe(no_mangle)]
static EXCEPTION_MASK: u32 = 0;
/// … a place for a mark.
#[unsafe(no_mangle)]
static MARK_MASK: u32 = 0;
/// … a place for a sampled flow.
#[unsafe(no_mangle)]
static FLOW_MASK: u32 = 0;
/// CPUs that the signals have room for.
#[unsafe(no_mangle)]
static CPUS: u32 = 1;

/// 1 where time is read from [`CLOCK`]: in tests of what time does.
#[unsafe(no_mangle)]
static MANUAL_CLOCK: u32 = 0;

/// Reads a constant that user space sets when it loads the program; the verifier knows its value.
#[inline(always)]
pub(crate) fn constant<T: Copy>(global: &T) -> T {
    // SAFETY: a reference is valid to read; volatile, because the compiler must not take the placeholder's value.
    unsafe { core::ptr::read_volatile(global) }
}

/// Index of the program for IPv6, see [`grayxdp_common::maps::NEXT`].
pub(crate) const IPV6: u32 = 0;
/// … of that for `full-nat` over IPv4.
pub(crate) const FULL_NAT: u32 = 1;
/// … over IPv6.
pub(crate) const FULL_NAT6: u32 = 2;

/// Goes on as another program, which has a stack of its own. Comes back only where there is none.
#[inline(always)]
pub(crate) fn go_on_as(context: *mut xdp_md, program: u32) {
    // SAFETY: the array holds programs of this kind only.
    let _ = unsafe { PROGRAMS.tail_call(&XdpContext::new(context), program) };
}

/// The flow hash's key.
#[inline(always)]
pub(crate) fn hash_key() -> HashKey {
    HashKey([key_word::<0>(), key_word::<8>(), key_word::<16>(), key_word::<24>()])
}

/// The word of the key at a byte offset: the map is frozen, so that it is the same each time, and what is not used is not read.
#[inline(always)]
fn key_word<const OFFSET: i16>() -> u64 {
    let word: u64;
    // SAFETY: the word lies within the key, which never changes while the program runs.
    unsafe {
        core::arch::asm!(
            "{0} = *(u64 *)({1} + {2})",
            out(reg) word,
            in(reg) &raw const HASH_KEY,
            const OFFSET,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    word
}

/// The root of the tables.
#[inline(always)]
pub(crate) fn control() -> Option<&'static Control> {
    CONTROL.get(0)
}

/// What a directory says about an endpoint.
#[inline(always)]
pub(crate) fn look_up(place: Place, key: EndpointKey) -> Option<u64> {
    let set = DIRECTORY.get(place.set_of(key))?;
    if set.keys[0] == key.0 {
        Some(set.values[0])
    } else if set.keys[1] == key.0 {
        Some(set.values[1])
    } else if set.keys[2] == key.0 {
        Some(set.values[2])
    } else if set.keys[3] == key.0 {
        Some(set.values[3])
    } else {
        None
    }
}

/// A service record.
#[inline(always)]
pub(crate) fn service(index: u32) -> Option<&'static ServiceRecord> {
    SERVICES.get(index)
}

/// The backend id in a slot of a table.
#[inline(always)]
pub(crate) fn backend_of_slot(table: TableRef, first: u16, slot: u16) -> Option<u16> {
    SLOTS.get(table.index()).map(|slots| slots.backend(slot, table.is_narrow(), first))
}

/// A backend.
#[inline(always)]
pub(crate) fn backend(id: u16) -> Option<&'static BackendRecord> {
    BACKENDS.get(u32::from(id))
}

/// This CPU's counters of a backend.
#[inline(always)]
pub(crate) fn count(id: u16, add: impl FnOnce(&mut BackendCounters)) {
    if let Some(counters) = COUNTERS.get_ptr_mut(u32::from(id)) {
        // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
        add(unsafe { &mut *counters });
    }
}

/// Counts what became of a packet of a service, and says how often this CPU has seen it.
#[inline(always)]
pub(crate) fn count_reason(service: ServiceId, reason: Reason) -> u64 {
    note(|explanation| {
        explanation.service = service.0;
        explanation.reason = reason as u32 + 1;
    });
    if explains() {
        return 0;
    }
    let Some(counters) = REASONS.get_ptr_mut(u32::from(service.0)) else { return 0 };
    // SAFETY: as for `count`.
    let counters = unsafe { &mut *counters };
    let mut index = reason.index();
    // SAFETY: a register is given its own value. The compiler must not know its bound already: then it leaves out the mask
    // that the verifier wants to see.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) index, options(pure, nomem, nostack, preserves_flags)) };
    let count = &mut counters.0[index % Reason::ROOM];
    *count += 1;
    *count
}

/// The mark at an index, before the mask.
#[inline(always)]
pub(crate) fn mark(index: u32) -> Option<*mut Mark> {
    MARKS.get_ptr_mut(index & constant(&MARK_MASK))
}

/// The sample at an index, before the mask.
#[inline(always)]
pub(crate) fn flow_sample(index: u32) -> Option<*mut FlowSample> {
    FLOWS.get_ptr_mut(index & constant(&FLOW_MASK))
}

/// This CPU's counts of a place in epochs of a parity.
#[inline(always)]
pub(crate) fn signals(place: u16, parity: u64) -> Option<*mut Signals> {
    // SAFETY: the helper takes nothing.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    SIGNALS.get_ptr_mut((u32::from(place) * 2 + parity as u32) * constant(&CPUS) + cpu)
}

/// Monotonic time of the last timer tick of the kernel, in nanoseconds: cheap.
#[cfg(not(feature = "old-kernels"))]
#[inline(always)]
pub(crate) fn coarse_ns() -> u64 {
    if is_clock_manual() {
        return manual_ns();
    }
    // SAFETY: the helper only returns a number.
    unsafe { aya_ebpf::helpers::bpf_ktime_get_coarse_ns() }
}

/// Monotonic time in nanoseconds: kernels before 5.11 have no cheaper one.
#[cfg(feature = "old-kernels")]
#[inline(always)]
pub(crate) fn coarse_ns() -> u64 {
    precise_ns()
}

/// Monotonic time in nanoseconds: dear.
#[inline(always)]
pub(crate) fn precise_ns() -> u64 {
    if is_clock_manual() {
        return manual_ns();
    }
    // SAFETY: as for `coarse_ns`.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
fn is_clock_manual() -> bool {
    constant(&MANUAL_CLOCK) != 0
}

#[inline(always)]
fn manual_ns() -> u64 {
    CLOCK.get(0).copied().unwrap_or(0)
}

/// Where the stages of a decision meet.
#[inline(always)]
pub(crate) fn scratch() -> Option<*mut Scratch> {
    SCRATCH.get_ptr_mut(0)
}

/// What a service has beyond its record.
#[inline(always)]
pub(crate) fn detail(index: u32) -> Option<&'static DetailRecord> {
    DETAILS.get(index)
}

/// A bucket; one that does not exist is settled and the first version's.
#[inline(always)]
pub(crate) fn bucket(table: u32, bucket: u16) -> Bucket {
    BUCKETS.get(table).map_or(Bucket(0), |table| Bucket(table.0[usize::from(bucket & (grayxdp_common::BUCKETS - 1))]))
}

/// The state of a slot.
#[inline(always)]
pub(crate) fn slot_state(table: u16, slot: u16) -> SlotState {
    let states = SLOT_STATES.get(u32::from(table));
    states.map_or(SlotState(0), |states| SlotState(states.0[usize::from(slot) & (SLOT_TABLE_LEN - 1)]))
}

/// What a stamp says.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum StampKind {
    /// A packet was resolved by home, or a SYN was deferred.
    Seen = offset_of!(Stamp, seen) as u32,
    /// A SYN was deferred.
    Deferred = offset_of!(Stamp, deferred) as u32,
    /// A pin found no place.
    Refused = offset_of!(Stamp, refused) as u32,
}

/// Stamps a bucket or a slot, unless it is stamped.
#[inline(always)]
pub(crate) fn stamp(table: u32, cell: u16, kind: u64) {
    if let Some(stamps) = STAMPS.get_ptr_mut(table) {
        let at = (usize::from(cell) & (SLOT_TABLE_LEN - 1)) * size_of::<Stamp>() + (kind as usize & 3);
        // SAFETY: within the table by the mask; a byte that several CPUs set to the same value.
        unsafe { set(stamps.cast::<u8>().add(at)) };
    }
}

/// Sets a byte that is 0 to 1: a byte that is set is not written, so that its line stays shared.
///
/// # Safety
/// The byte must be one of a map's value.
#[inline(always)]
unsafe fn set(byte: *mut u8) {
    // SAFETY: by the caller's word.
    unsafe {
        if byte.read_volatile() == 0 {
            byte.write_volatile(1);
        }
    }
}

/// A segment by its class, port and DSCP.
#[inline(always)]
pub(crate) fn segment(class: u32, index: usize) -> u8 {
    CLASSES.get(class).map_or(0, |class| class.0[index & (PORTS * 128 - 1)] & (SEGMENTS as u8 - 1))
}

/// Fuse and lease.
#[inline(always)]
pub(crate) fn guard(index: u32) -> Option<*mut Guard> {
    GUARDS.get_ptr_mut(index)
}

/// A set of the exception table.
#[inline(always)]
pub(crate) fn exception_set(index: u32) -> Option<*mut ExceptionSet> {
    EXCEPTIONS.get_ptr_mut(index)
}

/// The bits of a hash that choose a set.
#[inline(always)]
pub(crate) fn exception_mask() -> u32 {
    constant(&EXCEPTION_MASK)
}

/// Counts what the exception table had to do for a service.
#[inline(always)]
pub(crate) fn count_exceptions(service: u32, add: impl FnOnce(&mut ExceptionCounters)) {
    if explains() {
        return;
    }
    if let Some(counters) = EXCEPTION_COUNTERS.get_ptr_mut(service) {
        // SAFETY: as for `count`.
        add(unsafe { &mut *counters });
    }
}
