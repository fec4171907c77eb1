//! ICMP errors about packets of `full-nat`: each goes to whoever sent the packet that it repeats, with both ends of it as its sender
//! knows them. Anybody can send an error, so none changes the flow.

use aya_ebpf::bindings::xdp_md;
use grayxdp_common::{
    directory::Entry,
    explanation::Step,
    hash::Flow,
    ids::ServiceId,
    reason::Reason,
    records::{BackendRecord, NextHop},
};
use grayxdp_ebpf::{
    packet::UDP,
    quote::{Quote, Side},
    rewrite::{self, TimeToLive},
};

use super::{
    backward::{client_of, hop_in_hand},
    entry_at, find, head_of, note_step,
    parts::Translating,
};
use crate::{
    Arrival, Outcome, UNDECIDED,
    explain::{explains, note},
    measure, sizes, tables,
    way::virtual_address,
};

/// The error goes to the backend. Set in what [`question`] says; the place is in the low bits.
const TO_BACKEND: u64 = 1 << 40;
/// It goes to the client.
const TO_CLIENT: u64 = 1 << 41;

/// What becomes of an ICMP message that is an error about a packet of a flow: the kernel's action, or [`UNDECIDED`].
#[inline(always)]
pub(super) fn error<I: Translating>(context: *mut xdp_md) -> u64 {
    let said = I::error_question(context);
    if said == 0 {
        return u64::from(UNDECIDED);
    }
    let (place, way) = (said & 0xffff_ffff, said & (TO_BACKEND | TO_CLIENT));
    if way == TO_CLIENT {
        I::hop(context, place);
    }
    match I::error_ready(context, place, way) {
        0 => {
            I::error_near(context, place, way);
            I::error_far(context, place, way)
        }
        refused => refused,
    }
}

/// What an error is about; 0 for what is none, or about nothing that is known.
#[inline(always)]
pub(super) fn question<I: Translating>(arrival: Arrival) -> u64 {
    let (Some(ip), Some(control)) = (I::again(arrival), tables::control()) else { return 0 };
    let Some(quote) = Quote::of(arrival.frame, ip) else { return 0 };
    let sender = I::service_key(quote.source, quote.source_port, quote.protocol);
    if let Some(entry) = tables::look_up(control.directory, sender) {
        let Some(service) = tables::service(Entry(entry).record()) else { return 0 };
        if !I::is_of(service, quote.source) {
            return 0;
        }
        let found = find::of_flow::<I>(&quote.flow(), service.service.0);
        return if found == 0 { 0 } else { TO_BACKEND | found };
    }
    if !virtual_address::<I>(control, quote.source).is_some_and(|entry| entry.has(Entry::POOL)) {
        return 0;
    }
    let found = find::of_answers::<I>(&Flow {
        source: quote.source,
        destination: quote.destination,
        source_port: quote.source_port,
        destination_port: quote.destination_port,
        protocol: quote.protocol,
    });
    if found == 0 { 0 } else { TO_CLIENT | found }
}

/// Whether an error may go on: 0, or the kernel's action.
#[inline(always)]
pub(super) fn ready<I: Translating>(arrival: Arrival, place: u64, way: u64) -> u64 {
    let (Some(ip), Some((_, entry))) = (I::again(arrival), entry_at(place)) else { return u64::from(UNDECIDED) };
    let (id, (_, _, service)) = (head_of(entry).backend(), client_of(entry));
    let Some(backend) = tables::backend(id) else { return Outcome::counted(service, Reason::Fault).action() };
    let hop = hop_of(backend, way);
    let step = if way == TO_CLIENT { Step::Reverse } else { Step::Backend };
    note_step(step, id, service.0, backend.version);
    note(|explanation| explanation.next_hop = hop);
    const DEAD: u16 = BackendRecord::FLAG_DOWN | BackendRecord::FLAG_RESETS;
    let counted = |reason| Outcome::counted(service, reason).action();
    if way == TO_BACKEND && backend.flags & DEAD == DEAD {
        return counted(Reason::BackendDownDropped);
    }
    if ip.ttl() <= 1 {
        return counted(Reason::TtlExpired);
    }
    if sizes::is_beyond(ip, &hop) {
        return counted(Reason::TooBig);
    }
    if !explains() {
        tables::count(id, |counters| {
            if way == TO_BACKEND {
                counters.packets_forward += 1;
                counters.bytes_forward += arrival.frame.len();
                counters.icmp_errors_forward += 1;
            } else {
                counters.packets_reverse += 1;
                counters.bytes_reverse += arrival.frame.len();
                counters.icmp_errors_reverse += 1;
            }
        });
    }
    0
}

#[inline(always)]
fn hop_of(backend: &BackendRecord, way: u64) -> NextHop {
    if way == TO_CLIENT { hop_in_hand() } else { backend.next_hop }
}

/// Replaces the end of the repeated packet that is its sender, for whom the error is: the backend, or the client.
#[inline(always)]
pub(super) fn near<I: Translating>(arrival: Arrival, place: u64, way: u64) -> u64 {
    let (Some(ip), Some((_, entry))) = (I::again(arrival), entry_at(place)) else { return 0 };
    let Some(quote) = Quote::of(arrival.frame, ip) else { return 0 };
    let id = head_of(entry).backend();
    let (Some(backend), Some(ends)) = (tables::backend(id), I::ends(id)) else { return 0 };
    let (client, ports, _) = client_of(entry);
    let ttl = if hop_of(backend, way).is_known() { TimeToLive::Decrement } else { TimeToLive::Keep };
    let (address, port) = if way == TO_BACKEND {
        (I::address_of(backend, ends), ports.backend)
    } else {
        (I::of_words(client), ports.client)
    };
    if way == TO_CLIENT && I::is_unreachable(quote.kind) && quote.protocol == UDP {
        let flow = Flow {
            source: address,
            destination: I::virtual_address_of(backend, ends),
            source_port: port,
            destination_port: ports.service,
            protocol: UDP,
        };
        measure::unreachable(&flow, backend);
    }
    quote.replace(Side::Source, address, port, ttl);
    0
}

/// Replaces the other end, and sends the error: the kernel's action. Its first part has changed whom the error is for, and with that who sent the
/// repeated packet.
#[inline(always)]
pub(super) fn far<I: Translating>(arrival: Arrival, place: u64, way: u64) -> u64 {
    let (Some(ip), Some((_, entry))) = (I::again(arrival), entry_at(place)) else { return u64::from(UNDECIDED) };
    let id = head_of(entry).backend();
    let (_, ports, service) = client_of(entry);
    let counted = |reason| Outcome::counted(service, reason).action();
    let (Some(quote), Some(backend), Some(ends)) = (Quote::of(arrival.frame, ip), tables::backend(id), I::ends(id))
    else {
        return counted(Reason::Fault);
    };
    // SAFETY: a live map value.
    let pool = unsafe {
        let pool = (&raw const (*entry).pool).cast::<u64>();
        [pool.read_volatile(), pool.add(1).read_volatile()]
    };
    let (address, port, unresolved) = if way == TO_BACKEND {
        (I::of_words(pool), ports.pool, Reason::UnresolvedBackend)
    } else {
        (I::virtual_address_of(backend, ends), ports.service, Reason::UnresolvedClient)
    };
    let hop = hop_of(backend, way);
    quote.replace(Side::Destination, address, port, TimeToLive::Keep);
    if !hop.is_known() {
        return Outcome::counted(ServiceId(backend.service), unresolved).action();
    }
    rewrite::ethernet(arrival.frame, &hop);
    Outcome::left(&arrival, hop.interface).action()
}
