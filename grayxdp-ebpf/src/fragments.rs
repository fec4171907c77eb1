//! Pieces of datagrams: the first one goes the way of its flow and leaves where it went; later ones, which have no ports,
//! follow it. A piece that comes before its first one is not kept.

use aya_ebpf::{bindings::xdp_md, macros::map, maps::Array};
use grayxdp_common::{
    counters::BackendCounters,
    directory::Entry,
    explanation::Step,
    fragments::{Direction, PLACES, Pieces},
    ids::ServiceId,
    reason::Reason,
    records::{BackendRecord, NextHop},
};
use grayxdp_ebpf::{
    packet::{ETHERNET_LEN, Ip, Packet},
    rewrite::{self, TimeToLive},
};

use crate::{
    Arrival, Outcome, UNDECIDED, backward,
    explain::{self, explains},
    resolve::{self, ASKS, ID, TO_BACKEND, TO_CLIENT, WHICH},
    sizes::{self, Size},
    tables,
};

#[map(name = "FRAGMENTS")]
static FRAGMENTS: Array<u64> = Array::with_max_entries(PLACES, tables::MAPPABLE);

/// Set in what [`fragment_found`] says of a piece for a client; the low bits are the backend.
const REVERSE: u64 = 1 << 16;

/// What [`fragment_first`] says of a first piece.
pub(crate) const FIRST: u64 = 1;

/// A piece of a datagram. If it is the first one, it leaves where it goes; it goes there by itself, as any packet of its
/// flow does.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn fragment_first(context: *mut xdp_md) -> u64 {
    let Some(ip) = Ip::of(Arrival::of(context).frame) else { return 0 };
    if ip.is_later_fragment() {
        return 0;
    }
    // Here and not in `fragment_leave`, which would then have arguments without a use: the verifier wants all of them given.
    if explains() {
        return FIRST;
    }
    let said = fragment_question(context);
    match said & WHICH {
        TO_BACKEND => fragment_leave(context, said & ID),
        ASKS => fragment_leave(context, resolve::resolve_choice()),
        TO_CLIENT => fragment_leave(context, said & ID | REVERSE),
        _ => 0,
    };
    FIRST
}

/// Where the first piece goes, as [`resolve`] says it; 0 where that is nowhere of ours.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fragment_question(context: *mut xdp_md) -> u64 {
    let frame = Arrival::of(context).frame;
    let Some(control) = tables::control() else { return 0 };
    let Some(packet) = Ip::of(frame).and_then(|ip| Packet::of(frame, ip)) else { return 0 };
    if let Some(entry) = tables::look_up(control.directory, packet.destination()) {
        let Some(service) = tables::service(Entry(entry).index()) else { return 0 };
        let numbers = packet.tcp(frame).map_or((0, 0), |tcp| (tcp.read(4), tcp.read(8)));
        let numbers = (u32::from_be(numbers.0), u32::from_be(numbers.1));
        return resolve::ask(&packet.flow(), service, Entry(entry), numbers, 0);
    }
    tables::look_up(control.directory, packet.source()).map_or(0, |id| TO_CLIENT | (id & ID))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fragment_leave(context: *mut xdp_md, way: u64) -> u64 {
    let Some(ip) = Ip::of(Arrival::of(context).frame) else { return 0 };
    let pieces = Pieces::of(ip.source, ip.destination, ip.identification(), ip.protocol, &tables::hash_key());
    let direction = if way & REVERSE == 0 { Direction::Forward } else { Direction::Reverse };
    if let Some(word) = FRAGMENTS.get_ptr_mut(pieces.place()) {
        // SAFETY: a word of a live map value; others write it, each at once.
        unsafe { word.write_volatile(pieces.word(direction, way as u16, tables::coarse_ns())) };
    }
    0
}

/// What becomes of a piece that is not the first of its datagram, if that one was seen: the kernel's action, or
/// [`crate::UNDECIDED`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn fragment(context: *mut xdp_md) -> u64 {
    let found = fragment_found(context);
    if found == 0 {
        return u64::from(UNDECIDED);
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

/// Sends a piece to the backend of its datagram: the kernel's action.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fragment_forward(context: *mut xdp_md, id: u64) -> u64 {
    let arrival = Arrival::of(context);
    let Some(ip) = Ip::of(arrival.frame) else { return 0 };
    let Some(backend) = tables::backend(id as u16) else { return 0 };
    explain::note_backend(Step::Backend, id as u16, backend, &backend.next_hop);
    const DEAD: u16 = BackendRecord::FLAG_DOWN | BackendRecord::FLAG_RESETS;
    if backend.flags & DEAD == DEAD {
        return Outcome::counted(ServiceId(backend.service), Reason::BackendDownDropped).action();
    }
    if backend.flags & BackendRecord::FLAG_ENDS != 0 {
        return Outcome::counted(ServiceId(backend.service), Reason::FlowResetDropped).action();
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

/// Sends a piece of what a backend said to the client: the kernel's action.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fragment_reverse(context: *mut xdp_md, id: u64) -> u64 {
    let arrival = Arrival::of(context);
    let (Some(ip), Some(scratch)) = (Ip::of(arrival.frame), tables::scratch()) else { return 0 };
    let Some(backend) = tables::backend(id as u16) else { return 0 };
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
    let way = Way { hop: unsafe { (*scratch).hop }, unresolved: Reason::UnresolvedClient };
    explain::note_backend(Step::Reverse, id as u16, backend, &way.hop);
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
fn count(id: u64, add: impl FnOnce(&mut BackendCounters)) {
    if !explains() {
        tables::count(id as u16, add);
    }
}

/// How a piece leaves.
struct Way {
    hop: NextHop,
    /// Why it is left to the kernel where the next hop is not known.
    unresolved: Reason,
}

/// What happens to the time to live of a piece that is whole, alive and not too long; else the kernel's action.
#[inline(always)]
fn fitting(arrival: Arrival, ip: Ip, service: ServiceId, way: &Way) -> Result<TimeToLive, u64> {
    let end = ip.total_len() + ETHERNET_LEN as u64;
    if ip.header_len().is_none() || end > arrival.frame.len() {
        return Err(Outcome::counted(service, Reason::Malformed).action());
    }
    if ip.ttl() <= 1 {
        return Err(Outcome::counted(service, Reason::TtlExpired).action());
    }
    match sizes::of(ip, &way.hop) {
        Size::Refused => Err(Outcome::counted(service, Reason::TooBig).action()),
        Size::Fits if way.hop.is_known() => Ok(TimeToLive::Decrement),
        Size::Fits | Size::Fragmented => Ok(TimeToLive::Keep),
    }
}

/// Sends a rewritten piece, or leaves it to the kernel: the kernel's action.
#[inline(always)]
fn leave_by(arrival: Arrival, service: ServiceId, way: &Way, ttl: TimeToLive) -> u64 {
    if ttl == TimeToLive::Decrement {
        rewrite::ethernet(arrival.frame, &way.hop);
        return Outcome::left(&arrival, way.hop.interface).action();
    }
    let reason = if way.hop.is_known() { Reason::TooBigPassed } else { way.unresolved };
    Outcome::counted(service, reason).action()
}
