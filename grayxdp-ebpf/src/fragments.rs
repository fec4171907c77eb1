//! Pieces of datagrams: the first one goes the way of its flow and leaves where it went; later ones, which have no ports,
//! follow it. A piece that comes before its first one is not kept.

use aya_ebpf::{bindings::xdp_md, macros::map, maps::Array};
use grayxdp_common::{
    counters::BackendCounters,
    directory::Entry,
    explanation::Step,
    fragments::{Direction, PLACES},
    ids::ServiceId,
    reason::Reason,
    records::{BackendRecord, NextHop},
};
use grayxdp_ebpf::{
    packet::{Ip, Ip6, Network as _, Packet},
    rewrite::{self, TimeToLive},
};

use crate::{
    Arrival, Outcome, UNDECIDED,
    explain::{self, explains},
    family::Family,
    resolve::{self, ASKS, ID, TO_BACKEND, TO_CLIENT, WHICH},
    sizes::{self, Size},
    tables,
    tunnel::{self, INTO_TUNNEL},
};

#[map(name = "FRAGMENTS")]
static FRAGMENTS: Array<u64> = Array::with_max_entries(PLACES, tables::MAPPABLE);

/// Set in what [`fragment_found`] says of a piece for a client; the low bits are the backend.
const REVERSE: u64 = 1 << 16;

/// What [`fragment_first`] says of a first piece.
pub(crate) const FIRST: u64 = 1;

/// The parts for a family: each an exported function.
macro_rules! parts {
    ($family:ty: $first:ident, $question:ident, $leave:ident, $later:ident, $found:ident, $forward:ident, $reverse:ident) => {
        /// A piece of a datagram. If it is the first one, it leaves where it goes; it goes there by itself, as any packet of
        /// its flow does.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $first(context: *mut xdp_md) -> u64 {
            let Some(ip) = <$family>::again(Arrival::of(context)) else { return 0 };
            if ip.is_later_fragment() {
                return 0;
            }
            // Here and not where it is left, which would then have arguments without a use: the verifier wants all of them given.
            if explains() {
                return FIRST;
            }
            let said = $question(context);
            match said & WHICH {
                TO_BACKEND => $leave(context, said & ID),
                ASKS => $leave(context, resolve::choice()),
                TO_CLIENT => $leave(context, said & ID | REVERSE),
                _ => 0,
            };
            FIRST
        }

        /// Where the first piece goes, as [`resolve`] says it; 0 where that is nowhere of ours.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $question(context: *mut xdp_md) -> u64 {
            question::<$family>(Arrival::of(context))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $leave(context: *mut xdp_md, way: u64) -> u64 {
            leave::<$family>(Arrival::of(context), way)
        }

        /// What becomes of a piece that is not the first of its datagram, if that one was seen: the kernel's action,
        /// [`crate::UNDECIDED`], or [`INTO_TUNNEL`] with the backend.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $later(context: *mut xdp_md) -> u64 {
            let found = $found(context);
            if found == 0 {
                return u64::from(UNDECIDED);
            }
            if found & REVERSE == 0 {
                return $forward(context, found & ID);
            }
            match <$family>::hop_to_client(context, found & ID, 0) {
                0 => $reverse(context, found & ID),
                refused => refused,
            }
        }

        /// Where the first piece went; 0 where none was seen.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $found(context: *mut xdp_md) -> u64 {
            found::<$family>(Arrival::of(context))
        }

        /// Sends a piece to the backend of its datagram: the kernel's action.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $forward(context: *mut xdp_md, id: u64) -> u64 {
            forward::<$family>(Arrival::of(context), id)
        }

        /// Sends a piece of what a backend said to the client: the kernel's action.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $reverse(context: *mut xdp_md, id: u64) -> u64 {
            reverse::<$family>(Arrival::of(context), id)
        }
    };
}

parts!(Ip: fragment_first, fragment_question, fragment_leave, fragment, fragment_found, fragment_forward, fragment_reverse);
parts!(Ip6: fragment_first6, fragment_question6, fragment_leave6, fragment6, fragment_found6, fragment_forward6, fragment_reverse6);

#[inline(always)]
fn question<I: Family>(arrival: Arrival) -> u64 {
    let Some(control) = tables::control() else { return 0 };
    let Some(packet) = I::again(arrival).and_then(|ip| Packet::of(arrival.frame, ip)) else { return 0 };
    let (source, destination, protocol) = (packet.ip.source(), packet.ip.destination(), packet.ip.protocol());
    if let Some(entry) =
        tables::look_up(control.directory, I::service_key(destination, packet.destination_port, protocol))
    {
        let Some(service) = tables::service(Entry(entry).index()) else { return 0 };
        if !I::is_of(service, destination) {
            return 0;
        }
        let numbers = packet.tcp(arrival.frame).map_or((0, 0), |tcp| (tcp.read(4), tcp.read(8)));
        let numbers = (u32::from_be(numbers.0), u32::from_be(numbers.1));
        return resolve::ask::<I>(&packet.flow(), service, Entry(entry), numbers, 0);
    }
    let key = I::backend_key(source, packet.source_port, protocol);
    tables::look_up(control.directory, key)
        .filter(|id| I::ends(*id as u16).is_some_and(|ends| I::is_end(ends, source)))
        .map_or(0, |id| TO_CLIENT | (id & ID))
}

#[inline(always)]
fn leave<I: Family>(arrival: Arrival, way: u64) -> u64 {
    let Some(ip) = I::again(arrival) else { return 0 };
    let pieces = ip.pieces(arrival);
    let direction = if way & REVERSE == 0 { Direction::Forward } else { Direction::Reverse };
    if let Some(word) = FRAGMENTS.get_ptr_mut(pieces.place()) {
        // SAFETY: a word of a live map value; others write it, each at once.
        unsafe { word.write_volatile(pieces.word(direction, way as u16, tables::coarse_ns())) };
    }
    0
}

#[inline(always)]
fn found<I: Family>(arrival: Arrival) -> u64 {
    let Some(ip) = I::again(arrival) else { return 0 };
    let pieces = ip.pieces(arrival);
    let Some(word) = FRAGMENTS.get_ptr_mut(pieces.place()) else { return 0 };
    // SAFETY: as for `leave`.
    let Some((direction, id)) = pieces.follow(unsafe { word.read_volatile() }, tables::coarse_ns()) else { return 0 };
    // A fingerprint may be another datagram's, and can be made to be: the address that is replaced is compared.
    let (Some(backend), Some(ends)) = (tables::backend(id), I::ends(id)) else { return 0 };
    match direction {
        Direction::Forward if ip.destination() == I::virtual_address_of(backend, ends) => u64::from(id),
        Direction::Reverse if I::is_end(ends, ip.source()) => u64::from(id) | REVERSE,
        Direction::Forward | Direction::Reverse => 0,
    }
}

#[inline(always)]
fn forward<I: Family>(arrival: Arrival, id: u64) -> u64 {
    let Some(ip) = I::again(arrival) else { return 0 };
    let (Some(backend), Some(ends)) = (tables::backend(id as u16), I::ends(id as u16)) else { return 0 };
    explain::note_backend(Step::Backend, id as u16, backend, &backend.next_hop);
    const DEAD: u16 = BackendRecord::FLAG_DOWN | BackendRecord::FLAG_RESETS;
    if backend.flags & DEAD == DEAD {
        return Outcome::counted(ServiceId(backend.service), Reason::BackendDownDropped).action();
    }
    if backend.flags & BackendRecord::FLAG_ENDS != 0 {
        return Outcome::counted(ServiceId(backend.service), Reason::FlowResetDropped).action();
    }
    let is_one_way = backend.flags & BackendRecord::FLAG_ONE_WAY != 0;
    let unresolved = if is_one_way { Reason::NoNextHop } else { Reason::UnresolvedBackend };
    let way = Way { hop: backend.next_hop, unresolved };
    let ttl = match fitting(arrival, ip, ServiceId(backend.service), &way) {
        Ok(ttl) => ttl,
        Err(word) => return word,
    };
    let is_tunnel = backend.flags & BackendRecord::FLAG_TUNNEL != 0;
    if is_tunnel && tunnel::is_beyond(ip, id as u16) {
        return Outcome::counted(ServiceId(backend.service), Reason::TooBig).action();
    }
    if is_one_way && !is_tunnel && ttl == TimeToLive::Keep {
        let reason = if way.hop.is_known() { Reason::TooBig } else { way.unresolved };
        return Outcome::counted(ServiceId(backend.service), reason).action();
    }
    count(id, |counters| {
        counters.packets_forward += 1;
        counters.bytes_forward += arrival.frame.len();
    });
    if is_tunnel {
        return INTO_TUNNEL | id;
    }
    ip.set_destination(I::address_of(backend, ends), backend.forward_ip, ttl);
    leave_by(arrival, ServiceId(backend.service), &way, ttl)
}

#[inline(always)]
fn reverse<I: Family>(arrival: Arrival, id: u64) -> u64 {
    let (Some(ip), Some(scratch)) = (I::again(arrival), tables::scratch()) else { return 0 };
    let (Some(backend), Some(ends)) = (tables::backend(id as u16), I::ends(id as u16)) else { return 0 };
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
    ip.set_source(I::virtual_address_of(backend, ends), backend.reverse_ip, ttl);
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
fn fitting<I: Family>(arrival: Arrival, ip: I, service: ServiceId, way: &Way) -> Result<TimeToLive, u64> {
    if !ip.is_whole(arrival.frame, 0) {
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
