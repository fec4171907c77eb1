//! From a client to a backend: the flow's entry, else a choice and a new entry; then both ends are replaced.

use grayxdp_common::{
    checksum::Delta,
    directory::Entry,
    explanation::Step,
    hash::FlowHash,
    ids::ServiceId,
    reason::Reason,
    records::{BackendRecord, Control, ServiceRecord},
};
use grayxdp_ebpf::{
    packet::Packet,
    rewrite::{self, Checksum, NewEnd, TimeToLive},
};

use super::{note_step, open, parts::Translating, state, unknown_flow};
use crate::{
    Arrival, Outcome,
    detail::{self, Kind},
    explain::{explains, note},
    forward::{self, affine, bits_of, checksum_of, count, ended, kind_of, sample_of, segments_of},
    guard,
    measure::{self, Forward},
    resolve::{self, ASKS, ID, WHICH},
    sizes::{self, Size},
    tables,
};

/// Sends a client's packet to its flow's backend.
#[inline(always)]
pub(super) fn to_backend<I: Translating>(
    arrival: Arrival,
    control: &Control,
    packet: &Packet<I>,
    entry: Entry,
) -> Outcome {
    let Some(service) = tables::service(entry.record()) else {
        return Outcome::counted(ServiceId::NONE, Reason::Fault);
    };
    if !I::is_of(service, packet.ip.destination()) {
        return Outcome::NOT_OURS;
    }
    note(|explanation| {
        explanation.step = Step::Service as u32;
        explanation.service = service.service.0;
        explanation.epoch = service.epoch;
        explanation.rollout = service.rollout;
    });
    let id = service.service;
    let checksum = match checksum_of(arrival, packet) {
        Ok(checksum) => checksum,
        Err(reason) => return Outcome::counted(id, reason),
    };
    let kind = kind_of(checksum);
    forward::note_client(packet, kind);
    note(|explanation| {
        let hash = chosen_by(packet, service);
        (explanation.hash, explanation.bucket, explanation.slot) = (hash.0, hash.bucket(), hash.slot());
    });
    let (sequence, acknowledged) = numbers_of(checksum);
    let found = I::find(arrival.context, u64::from(id.0));
    let what = state::what(kind, bits_of(packet, checksum), id.0, service.detail);
    let numbers = u64::from(sequence) << 32 | u64::from(acknowledged);
    let known = if found == 0 { 0 } else { state::full_go_on(found, what, numbers) };
    let (backend, segment) = match known {
        0 if kind == Kind::Later || kind == Kind::Reset => return unknown_flow(arrival, packet, checksum, kind, id),
        0 => match choose(packet, service, entry, kind) {
            Some(chosen) => chosen,
            None => return Outcome::counted(id, Reason::NoBackend),
        },
        known => (known as u16, 0),
    };
    let (Some(record), Some(ends)) = (tables::backend(backend), I::ends(backend)) else {
        return Outcome::counted(id, Reason::Fault);
    };
    note_step(Step::Service, backend, id.0, record.version);
    if record.flags & (BackendRecord::FLAG_DOWN | BackendRecord::FLAG_ENDS) != 0
        && let Some(reason) = ended(arrival, packet, checksum, record, kind)
    {
        return Outcome::counted(id, reason);
    }
    let size = if record.next_hop.interface != arrival.interface && packet.ip.total_len() > control.least_mtu {
        sizes::of(packet.ip, &record.next_hop)
    } else {
        Size::Fits
    };
    if size == Size::Refused {
        return Outcome::counted(id, Reason::TooBig);
    }
    let place = if known != 0 {
        found
    } else {
        match open::open(arrival, packet, backend, id.0, sequence) {
            Ok(place) => place,
            Err(reason) => return Outcome::counted(id, reason),
        }
    };
    if packet.ip.is_fragment() && !explains() {
        I::leave_piece(arrival.context, place);
    }
    count(arrival, backend, checksum);
    if size == Size::Fragmented {
        replace(packet, checksum, (record, ends), TimeToLive::Keep);
        return Outcome::counted(id, Reason::TooBigPassed);
    }
    let flow = Forward {
        hash: hash(),
        epoch: service.epoch,
        is_sampled: sample_of(packet) < service.sample_rate,
        horizon_ticks: service.horizon_ticks,
        is_syn: kind == Kind::First,
        measures: record.flags & BackendRecord::FLAG_MEASURES != 0,
        deferred: false,
        is_unseen: false,
        backend,
    };
    let place = || service.signals + u16::from(record.place) * segments_of(service) + segment;
    if measure::forward(packet, checksum, &flow, place) {
        guard::failure(u32::from(backend));
    } else if kind == Kind::First {
        guard::attempt(record);
    }
    send(arrival, packet, checksum, backend, (record, ends))
}

/// Sequence number and acknowledgement number of a segment; 0 of a datagram.
#[inline(always)]
pub(super) fn numbers_of(checksum: Checksum) -> (u32, u32) {
    match checksum {
        Checksum::Tcp(header) => (u32::from_be(header.read(4)), u32::from_be(header.read(8))),
        Checksum::Udp(_) => (0, 0),
    }
}

/// Hash of the flow in hand.
#[inline(always)]
fn hash() -> FlowHash {
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
    FlowHash(tables::scratch().map_or(0, |scratch| unsafe { (*scratch).translated.hash }))
}

/// What bucket and slot of a new flow come from.
#[inline(always)]
fn chosen_by<I: Translating>(packet: &Packet<I>, service: &ServiceRecord) -> FlowHash {
    <I::Address as grayxdp_common::ipv6::Address>::hash(&affine(packet, service), &tables::hash_key())
}

/// The backend of a new flow, and its segment.
#[inline(always)]
fn choose<I: Translating>(packet: &Packet<I>, service: &ServiceRecord, entry: Entry, kind: Kind) -> Option<(u16, u16)> {
    if service.detail == 0 {
        return forward::choose(chosen_by(packet, service), service).ok().map(|id| (id, 0));
    }
    // Nothing is asked of the exception table: the flow's own entry keeps it where it goes.
    let said = resolve::ask::<I>(&packet.flow(), service, entry, (0, 0), 0);
    if said & WHICH != ASKS {
        return Some(((said & ID) as u16, 0)).filter(|(id, _)| *id != 0);
    }
    let scratch = tables::scratch()?;
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
    let question = unsafe { &mut (*scratch).question };
    question.kind = kind as u64;
    question.dscp = u64::from(packet.ip.dscp());
    let id = detail::choice();
    (id != 0).then_some((id as u16, question.segment as u16))
}

/// Replaces both ends of a client's packet: whom it is for by the backend, who sent it by the pool's endpoint in the scratch.
#[inline(always)]
fn replace<I: Translating>(
    packet: &Packet<I>,
    checksum: Checksum,
    (backend, ends): (&BackendRecord, I::Ends),
    ttl: TimeToLive,
) {
    let Some(scratch) = tables::scratch() else { return };
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
    let (pool, port) = unsafe { ((*scratch).translated.pool, (*scratch).translated.pool_port as u16) };
    let address = I::of_words(pool);
    let replaced = I::replaced(packet.ip.source(), address);
    let l4 = replaced.and(Delta::replace16(packet.source_port, port));
    let to = NewEnd {
        address: I::address_of(backend, ends),
        port: if backend.port == 0 { packet.destination_port } else { backend.port },
        ip: backend.forward_ip,
        l4: backend.forward_l4,
    };
    rewrite::both(packet, checksum, to, NewEnd { address, port, ip: replaced, l4 }, ttl);
}

/// Rewrites the packet and sends it, or leaves it to the kernel where no next hop is known.
#[inline(always)]
fn send<I: Translating>(
    arrival: Arrival,
    packet: &Packet<I>,
    checksum: Checksum,
    id: u16,
    (backend, ends): (&BackendRecord, I::Ends),
) -> Outcome {
    let hop = backend.next_hop;
    note_step(Step::Backend, id, backend.service, backend.version);
    note(|explanation| explanation.next_hop = hop);
    if !hop.is_known() {
        replace(packet, checksum, (backend, ends), TimeToLive::Keep);
        return Outcome::counted(ServiceId(backend.service), Reason::UnresolvedBackend);
    }
    replace(packet, checksum, (backend, ends), TimeToLive::Decrement);
    rewrite::ethernet(arrival.frame, &hop);
    Outcome::left(&arrival, hop.interface)
}
