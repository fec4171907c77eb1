//! The tracing program's own part: before a packet is handled, its head is kept; afterwards it is told what became of it. The
//! live program has nothing of this: while somebody traces, the links run the tracing program in its place.

use aya_ebpf::{
    bindings::xdp_md,
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
};
use grayxdp_common::{
    explanation::{Explanation, Step},
    maps,
    trace::{HEAD, TraceFilter, Traced},
};
use grayxdp_ebpf::{
    frame::Frame,
    packet::{ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ip, Ip6, Network as _, Ports},
};

use crate::{Arrival, copy, family::Family, tables};

#[map(name = "TRACE_FILTER")]
static FILTER: Array<TraceFilter> = Array::with_max_entries(1, 0);
#[map(name = "TRACED")]
static TRACED: PerCpuArray<Traced> = PerCpuArray::with_max_entries(1, 0);
#[map(name = "TRACES")]
static TRACES: RingBuf = RingBuf::with_byte_size(maps::TRACE_BYTES, 0);

/// What is written down about the packet in hand.
#[inline(always)]
pub(crate) fn explanation() -> Option<*mut Explanation> {
    // SAFETY: the place of a field of a live map value.
    TRACED.get_ptr_mut(0).map(|traced| unsafe { &raw mut (*traced).explanation })
}

/// No interface: the packet in hand is not to be told of.
const NONE: u32 = 0;

/// Keeps the head of a packet that is to be told of.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn trace_begin(context: *mut xdp_md) -> u64 {
    let arrival = Arrival::of(context);
    let (Some(filter), Some(traced)) = (FILTER.get(0), TRACED.get_ptr_mut(0)) else { return 0 };
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
    let traced = unsafe { &mut *traced };
    traced.interface = NONE;
    let is_told = filter.remaining != 0 && fits(arrival.frame, filter);
    if is_told || copy::is_any_asked_for() {
        clear(&mut traced.explanation);
    }
    if !is_told {
        return 0;
    }
    traced.time_ns = tables::precise_ns();
    traced.length = arrival.frame.len() as u32;
    traced.interface = arrival.interface;
    keep(arrival.frame, &raw mut traced.head);
    0
}

/// Copies and tells of the packet that was begun, if either is asked for.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn trace_end(context: *mut xdp_md, action: u64) -> u64 {
    const DROP: u32 = aya_ebpf::bindings::xdp_action::XDP_DROP;
    let arrival = Arrival::of(context);
    let (Some(filter), Some(traced)) = (FILTER.get_ptr_mut(0), TRACED.get_ptr_mut(0)) else { return 0 };
    // SAFETY: as in `trace_begin`; the filter is shared, but only its count is written.
    let (filter, traced) = unsafe { (&mut *filter, &mut *traced) };
    if copy::is_any_asked_for() {
        copy::copy(context, traced, traced.interface != NONE);
    }
    if traced.interface == NONE {
        return 0;
    }
    traced.action = action as u32;
    let explanation = &traced.explanation;
    let is_others = explanation.step == Step::NotOurs as u32 && explanation.reason == 0;
    let is_left_out = (filter.service != 0 && filter.service != explanation.service)
        || (filter.only_dropped != 0 && traced.action != DROP)
        || (filter.also_others == 0 && is_others);
    if is_left_out || filter.remaining == 0 {
        return 0;
    }
    filter.remaining -= 1;
    traced.length_out = arrival.frame.len() as u32;
    keep(arrival.frame, &raw mut traced.head_out);
    // A reader that is too slow misses packets; it sees that by the number that are left to tell of.
    u64::from(TRACES.output::<Traced>(&*traced, 0).is_ok())
}

/// Whether a packet's headers are as asked for.
#[inline(always)]
fn fits(frame: Frame, filter: &TraceFilter) -> bool {
    if filter.fits_any() {
        return true;
    }
    let Some(ethernet) = frame.at::<[u8; ETHERNET_LEN]>(0) else { return false };
    match ethernet.read::<u16>(12) {
        ETHERTYPE_IPV4 => Ip::of(frame).is_some_and(|ip| fits_ip(frame, ip, 4, filter)),
        ETHERTYPE_IPV6 => Ip6::of(frame).is_some_and(|ip| fits_ip(frame, ip, 6, filter)),
        _ => false,
    }
}

#[inline(always)]
fn fits_ip<I: Family>(frame: Frame, ip: I, family: u8, filter: &TraceFilter) -> bool {
    let ((source, _), (destination, _)) = (I::words(ip.source()), I::words(ip.destination()));
    if !filter.fits_addresses(family, source, destination, ip.protocol()) {
        return false;
    }
    if filter.port == 0 {
        return true;
    }
    let ports = ip.behind().and_then(|offset| frame.at::<Ports>(offset));
    ports.is_some_and(|ports| filter.fits_ports(ports.read(0), ports.read(2)))
}

/// Copies the first bytes of a frame, and zeros behind its end.
#[inline(always)]
fn keep(frame: Frame, head: *mut [u8; HEAD]) {
    let mut at = 0;
    while at < HEAD {
        let bytes = frame.at::<[u8; 2]>(at).map_or(0, |bytes| bytes.read::<u16>(0));
        // SAFETY: within the head, whose length is even; each CPU has its own.
        unsafe { head.cast::<u8>().add(at).cast::<u16>().write_volatile(bytes) };
        at += 2;
    }
}

/// Sets all words to 0, each by a store of its own: together they become a loop over bytes.
#[inline(always)]
fn clear(explanation: &mut Explanation) {
    let words = core::ptr::from_mut(explanation).cast::<u64>();
    let mut index = 0;
    while index < size_of::<Explanation>() / size_of::<u64>() {
        // SAFETY: a word of the value, which is plain data.
        unsafe { words.add(index).write_volatile(0) };
        index += 1;
    }
}
