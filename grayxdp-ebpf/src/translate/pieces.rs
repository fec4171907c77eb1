//! Pieces of datagrams of `full-nat`: the first one leaves the place of its flow, later ones follow it.

use aya_ebpf::bindings::xdp_md;
use grayxdp_common::{
    explanation::Step,
    reason::Reason,
    records::{BackendRecord, NextHop},
    translations::{self, Translation},
};
use grayxdp_ebpf::{
    packet::ETHERNET_LEN,
    rewrite::{self, TimeToLive},
};

use super::{
    backward::{client_of, hop_in_hand},
    entry_at, head_of, note_step,
    parts::Translating,
};
use crate::{
    Arrival, Outcome, UNDECIDED,
    explain::{explains, note},
    sizes::{self, Size},
    tables,
};

/// Set in what [`find`] says of a piece for a backend; the place is in the low bits.
const TO_BACKEND: u64 = 1 << 40;
/// … for a client.
const TO_CLIENT: u64 = 1 << 41;

/// What becomes of a piece that is not the first of its datagram: the kernel's action, or [`UNDECIDED`] where that one was not seen.
#[inline(always)]
pub(super) fn piece<I: Translating>(context: *mut xdp_md) -> u64 {
    let found = I::find_piece(context);
    if found == 0 {
        return u64::from(UNDECIDED);
    }
    let (place, way) = (found & 0xffff_ffff, found & (TO_BACKEND | TO_CLIENT));
    if way == TO_CLIENT {
        I::hop(context, place);
    }
    I::send_piece(context, place, way)
}

/// Leaves the place of a first piece's flow.
#[inline(always)]
pub(super) fn leave<I: Translating>(arrival: Arrival, place: u64) -> u64 {
    let Some(ip) = I::again(arrival) else { return 0 };
    let hash = ip.pieces(arrival).hash();
    if let Some(word) = tables::piece_word(hash) {
        // SAFETY: a word of a live map value; others write it, each at once.
        unsafe { word.write_volatile(translations::piece(hash, (place as u32).wrapping_sub(1), tables::coarse_ns())) };
    }
    0
}

/// The place of a later piece's flow, counted from 1, and which way it goes; 0 where the first piece was not seen.
#[inline(always)]
pub(super) fn find<I: Translating>(arrival: Arrival) -> u64 {
    let Some(ip) = I::again(arrival) else { return 0 };
    let hash = ip.pieces(arrival).hash();
    let Some(word) = tables::piece_word(hash) else { return 0 };
    // SAFETY: as in `leave`.
    let Some(index) = translations::follow(hash, unsafe { word.read_volatile() }, tables::coarse_ns()) else {
        return 0;
    };
    let Some((place, entry)) = tables::translation(index) else { return 0 };
    let id = head_of(entry).backend();
    let (Some(backend), Some(ends)) = (tables::backend(id), I::ends(id)) else { return 0 };
    let (client, _, _) = client_of(entry);
    let (source, destination) = (ip.source(), ip.destination());
    let found = u64::from(place) + 1;
    if source == I::of_words(client) && destination == I::virtual_address_of(backend, ends) {
        TO_BACKEND | found
    } else if source == I::address_of(backend, ends) && destination == I::of_words(pool_of(entry)) {
        TO_CLIENT | found
    } else {
        0
    }
}

#[inline(always)]
fn pool_of(entry: *mut Translation) -> [u64; 2] {
    // SAFETY: a live map value.
    unsafe {
        let pool = (&raw const (*entry).pool).cast::<u64>();
        [pool.read_volatile(), pool.add(1).read_volatile()]
    }
}

/// Sends a piece of a flow: the kernel's action.
#[inline(always)]
pub(super) fn send<I: Translating>(arrival: Arrival, place: u64, way: u64) -> u64 {
    let (Some(ip), Some((_, entry))) = (I::again(arrival), entry_at(place)) else { return u64::from(UNDECIDED) };
    let (client, _, service) = client_of(entry);
    let id = head_of(entry).backend();
    let counted = |reason| Outcome::counted(service, reason).action();
    let (Some(backend), Some(ends)) = (tables::backend(id), I::ends(id)) else { return counted(Reason::Fault) };
    let is_forward = way == TO_BACKEND;
    let hop: NextHop = if is_forward { backend.next_hop } else { hop_in_hand() };
    note_step(if is_forward { Step::Backend } else { Step::Reverse }, id, service.0, backend.version);
    note(|explanation| explanation.next_hop = hop);
    if is_forward && let Some(reason) = ended(backend) {
        return counted(reason);
    }
    let end = ip.total_len() + ETHERNET_LEN as u64;
    if ip.behind().is_none() || end > arrival.frame.len() {
        return counted(Reason::Malformed);
    }
    if ip.ttl() <= 1 {
        return counted(Reason::TtlExpired);
    }
    let size = sizes::of(ip, &hop);
    if size == Size::Refused {
        return counted(Reason::TooBig);
    }
    if !explains() {
        tables::count(id, |counters| {
            if is_forward {
                counters.packets_forward += 1;
                counters.bytes_forward += arrival.frame.len();
            } else {
                counters.packets_reverse += 1;
                counters.bytes_reverse += arrival.frame.len();
            }
        });
    }
    let leaves = size == Size::Fits && hop.is_known();
    let ttl = if leaves { TimeToLive::Decrement } else { TimeToLive::Keep };
    if is_forward {
        let source = I::of_words(pool_of(entry));
        ip.set_destination(I::address_of(backend, ends), backend.forward_ip.and(I::replaced(ip.source(), source)), ttl);
        ip.put_source(source);
    } else {
        let (source, destination) = (I::virtual_address_of(backend, ends), I::of_words(client));
        ip.set_destination(destination, backend.reverse_ip.and(I::replaced(ip.destination(), destination)), ttl);
        ip.put_source(source);
    }
    if leaves {
        rewrite::ethernet(arrival.frame, &hop);
        return Outcome::left(&arrival, hop.interface).action();
    }
    counted(match (size, is_forward) {
        (Size::Fragmented, _) => Reason::TooBigPassed,
        (Size::Fits | Size::Refused, true) => Reason::UnresolvedBackend,
        (Size::Fits | Size::Refused, false) => Reason::UnresolvedClient,
    })
}

/// Why nothing of a flow goes to its backend any more.
#[inline(always)]
fn ended(backend: &BackendRecord) -> Option<Reason> {
    const DEAD: u16 = BackendRecord::FLAG_DOWN | BackendRecord::FLAG_RESETS;
    if backend.flags & DEAD == DEAD {
        Some(Reason::BackendDownDropped)
    } else if backend.flags & BackendRecord::FLAG_ENDS != 0 {
        Some(Reason::FlowResetDropped)
    } else {
        None
    }
}
