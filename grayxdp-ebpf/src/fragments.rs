//! Pieces of datagrams: the first one goes the way of its flow and leaves where it went; later ones, which have no ports,
//! follow it. A piece that comes before its first one is not kept.

use aya_ebpf::{bindings::xdp_md, macros::map, maps::Array};
use grayxdp_common::{
    fragments::{Direction, PLACES, Pieces},
    ids::ServiceId,
    reason::Reason,
    records::{BackendRecord, NextHop},
};
use grayxdp_ebpf::{
    packet::Ip,
    rewrite::{self, TimeToLive},
};

use crate::{
    Arrival, Outcome, backward,
    sizes::{self, Size},
    tables,
};

#[map(name = "FRAGMENTS")]
static FRAGMENTS: Array<u64> = Array::with_max_entries(PLACES, 0);

/// Set in what [`fragment_found`] says of a piece for a client; the low bits are the backend.
const REVERSE: u64 = 1 << 16;
/// The bits of a backend's id.
const ID: u64 = 0xffff;

/// Leaves where the first piece of a datagram goes.
#[inline(always)]
pub(crate) fn leave(ip: Ip, direction: Direction, backend: u16) {
    let direction = match direction {
        Direction::Forward => 0,
        Direction::Reverse => REVERSE,
    };
    let addresses = u64::from(ip.source) | u64::from(ip.destination) << 32;
    let datagram = u64::from(ip.identification()) | u64::from(ip.protocol) << 16;
    fragment_leave(addresses, datagram, direction | u64::from(backend));
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fragment_leave(addresses: u64, datagram: u64, way: u64) -> u64 {
    if tables::explains() {
        return 0;
    }
    let (source, destination) = (addresses as u32, (addresses >> 32) as u32);
    let pieces = Pieces::of(source, destination, datagram as u16, (datagram >> 16) as u8, &tables::hash_key());
    let direction = if way & REVERSE == 0 { Direction::Forward } else { Direction::Reverse };
    if let Some(word) = FRAGMENTS.get_ptr_mut(pieces.place()) {
        // SAFETY: a word of a live map value; others write it, each at once.
        unsafe { word.write_volatile(pieces.word(direction, way as u16, tables::coarse_ns())) };
    }
    0
}

/// What becomes of a piece that is not the first of its datagram, if that one was seen.
#[inline(always)]
pub(crate) fn follow(arrival: Arrival) -> Outcome {
    Outcome::of_word(fragment(arrival.context))
}

/// The word of an [`Outcome`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fragment(context: *mut xdp_md) -> u64 {
    let found = fragment_found(context);
    if found == 0 {
        return Outcome::NotOurs.word();
    }
    if found & REVERSE == 0 {
        return fragment_forward(context, found & ID);
    }
    match backward::hop_to_client(context, found & ID, 0) {
        0 => fragment_reverse(context, found & ID),
        refused => refused,
    }
}

/// Where the first piece went; 0 where none was seen.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fragment_found(context: *mut xdp_md) -> u64 {
    let Some(ip) = Ip::of(Arrival::of(context).frame) else { return 0 };
    let pieces = Pieces::of(ip.source, ip.destination, ip.identification(), ip.protocol, &tables::hash_key());
    let Some(word) = FRAGMENTS.get_ptr_mut(pieces.place()) else { return 0 };
    // SAFETY: as for `fragment_leave`.
    match pieces.follow(unsafe { word.read_volatile() }, tables::coarse_ns()) {
        Some((Direction::Forward, backend)) => u64::from(backend),
        Some((Direction::Reverse, backend)) => u64::from(backend) | REVERSE,
        None => 0,
    }
}

/// Sends a piece to the backend of its datagram: the word of an [`Outcome`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fragment_forward(context: *mut xdp_md, id: u64) -> u64 {
    let arrival = Arrival::of(context);
    let Some(ip) = Ip::of(arrival.frame) else { return 0 };
    let Some(backend) = tables::backend(id as u16) else { return 0 };
    const DEAD: u16 = BackendRecord::FLAG_DOWN | BackendRecord::FLAG_RESETS;
    if backend.flags & DEAD == DEAD {
        return Outcome::Counted(ServiceId(backend.service), Reason::BackendDownDropped).word();
    }
    let way = Way { hop: backend.next_hop, unresolved: Reason::UnresolvedBackend };
    let ttl = match fitting(arrival, ip, ServiceId(backend.service), &way) {
        Ok(ttl) => ttl,
        Err(word) => return word,
    };
    count(id, |counters| {
        counters.packets_forward += 1;
        counters.bytes_forward += arrival.frame.len();
    });
    rewrite::address_of_destination(ip, backend.address, backend.forward_ip, ttl);
    leave_by(arrival, ServiceId(backend.service), &way, ttl)
}

/// Sends a piece of what a backend said to the client: the word of an [`Outcome`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fragment_reverse(context: *mut xdp_md, id: u64) -> u64 {
    let arrival = Arrival::of(context);
    let (Some(ip), Some(scratch)) = (Ip::of(arrival.frame), tables::scratch()) else { return 0 };
    let Some(backend) = tables::backend(id as u16) else { return 0 };
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
    let way = Way { hop: unsafe { (*scratch).hop }, unresolved: Reason::UnresolvedClient };
    let ttl = match fitting(arrival, ip, ServiceId(backend.service), &way) {
        Ok(ttl) => ttl,
        Err(word) => return word,
    };
    count(id, |counters| {
        counters.packets_reverse += 1;
        counters.bytes_reverse += arrival.frame.len();
    });
    rewrite::address_of_source(ip, backend.virtual_address, backend.reverse_ip, ttl);
    leave_by(arrival, ServiceId(backend.service), &way, ttl)
}

#[inline(always)]
fn count(id: u64, add: impl FnOnce(&mut grayxdp_common::counters::BackendCounters)) {
    if !tables::explains() {
        tables::count(id as u16, add);
    }
}

/// How a piece leaves.
struct Way {
    hop: NextHop,
    /// Why it is left to the kernel where the next hop is not known.
    unresolved: Reason,
}

/// What happens to the time to live of a piece that is whole, alive and not too long; else the word of an [`Outcome`].
#[inline(always)]
fn fitting(arrival: Arrival, ip: Ip, service: ServiceId, way: &Way) -> Result<TimeToLive, u64> {
    let end = ip.total_len() + grayxdp_ebpf::packet::ETHERNET_LEN as u64;
    if ip.header_len().is_none() || end > arrival.frame.len() {
        return Err(Outcome::Counted(service, Reason::Malformed).word());
    }
    if ip.ttl() <= 1 {
        return Err(Outcome::Counted(service, Reason::TtlExpired).word());
    }
    match sizes::of(ip, &way.hop) {
        Size::Refused => Err(Outcome::Counted(service, Reason::TooBig).word()),
        Size::Fits if way.hop.is_known() => Ok(TimeToLive::Decrement),
        Size::Fits | Size::Fragmented => Ok(TimeToLive::Keep),
    }
}

/// Sends a rewritten piece, or leaves it to the kernel: the word of an [`Outcome`].
#[inline(always)]
fn leave_by(arrival: Arrival, service: ServiceId, way: &Way, ttl: TimeToLive) -> u64 {
    if ttl == TimeToLive::Decrement {
        rewrite::ethernet(arrival.frame, &way.hop);
        return Outcome::Forwarded(way.hop.interface).word();
    }
    let reason = if way.hop.is_known() { Reason::TooBigPassed } else { way.unresolved };
    Outcome::Counted(service, reason).word()
}
