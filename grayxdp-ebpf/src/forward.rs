//! From a client to a backend: service → bucket → version → slot → backend → rewrite.

use grayxdp_common::{
    counters::BackendCounters,
    directory::Entry,
    explanation::{Step, Turn},
    hash::FlowHash,
    ids::ServiceId,
    reason::Reason,
    records::{BackendRecord, ServiceRecord},
};
use grayxdp_ebpf::{
    packet::{ETHERNET_LEN, Packet, Ports, TCP, flags},
    rewrite::{self, Checksum, NewEnd, TimeToLive},
};

use network_types::tcp::TcpHdr;

use crate::{
    Arrival, Outcome,
    measure::{self, Forward},
    tables,
};

/// Chooses a backend for a client's packet and rewrites it.
#[inline(always)]
pub(crate) fn to_backend(arrival: Arrival, packet: &Packet, entry: Entry) -> Outcome {
    let Some(service) = tables::service(entry.index()) else {
        return Outcome::Counted(ServiceId::NONE, Reason::Fault);
    };
    tables::note(|explanation| {
        explanation.step = Step::Service as u32;
        explanation.service = service.service.0;
        explanation.epoch = service.epoch;
        explanation.rollout = service.rollout;
    });
    let checksum = match checksum_of(arrival, packet) {
        Ok(checksum) => checksum,
        Err(reason) => return Outcome::Counted(service.service, reason),
    };
    let hash = hash_of(packet, service);
    let mut place = 0;
    let Some(id) = choose(hash, service, &mut place) else {
        return Outcome::Counted(service.service, Reason::NoBackend);
    };
    let Some(backend) = tables::backend(id) else { return Outcome::Counted(service.service, Reason::Fault) };
    count(arrival, id, checksum);
    let flow = Forward {
        hash: measure::hash(packet, service, hash),
        place: service.signals + place,
        epoch: service.epoch,
        sample_rate: service.sample_rate,
        horizon_ticks: service.horizon_ticks,
        measures: backend.flags & BackendRecord::FLAG_MEASURES != 0,
        deferred: false,
        backend: id,
    };
    measure::forward(packet, checksum, &flow);
    let end = NewEnd { address: backend.address, port: backend.port, ip: backend.forward_ip, l4: backend.forward_l4 };
    send(arrival, packet, checksum, service.service, backend, end)
}

/// Where the TCP or UDP checksum is, once the packet proved whole and alive.
#[inline(always)]
pub(crate) fn checksum_of(arrival: Arrival, packet: &Packet) -> Result<Checksum, Reason> {
    let end = packet.ip.total_len() + ETHERNET_LEN as u64;
    let (checksum, header_len) = if packet.ip.protocol == TCP {
        let header = packet.tcp(arrival.frame).ok_or(Reason::Malformed)?;
        (Checksum::Tcp(header), size_of::<TcpHdr>())
    } else {
        (Checksum::Udp, size_of::<Ports>())
    };
    if end > arrival.frame.len() || end < (packet.offset + header_len) as u64 {
        return Err(Reason::Malformed);
    }
    if packet.ip.ttl() <= 1 {
        return Err(Reason::TtlExpired);
    }
    Ok(checksum)
}

/// What the choice depends on.
#[inline(always)]
fn hash_of(packet: &Packet, service: &ServiceRecord) -> FlowHash {
    let mut flow = packet.flow();
    if service.flags & ServiceRecord::FLAG_CLIENT_AFFINITY != 0 {
        (flow.source_port, flow.destination_port) = (0, 0);
    }
    FlowHash::of(&flow, &tables::hash_key())
}

/// The backend of a flow; none where the version's pool is empty. `place` becomes that of its version.
#[inline(always)]
fn choose(hash: FlowHash, service: &ServiceRecord, place: &mut u16) -> Option<u16> {
    let (bucket, slot) = (hash.bucket(), hash.slot());
    let index = service.split.version_of(bucket);
    *place = index as u16;
    let (table, first, version) = if index == 0 {
        (service.tables[0], service.first_backends[0], service.versions[0])
    } else {
        (service.tables[1], service.first_backends[1], service.versions[1])
    };
    let id = tables::backend_of_slot(table, first, slot)?;
    tables::note(|explanation| {
        explanation.hash = hash.0;
        explanation.bucket = bucket;
        explanation.turns |= Turn::Split.bit();
        (explanation.current_place, explanation.home_place) = (index as u8, index as u8);
        (explanation.current_backend, explanation.home_backend) = (id, id);
        explanation.version = version.0;
        explanation.slot = slot;
        explanation.backend = id;
    });
    (id != 0).then_some(id)
}

/// Counts a client's packet for its backend.
#[inline(always)]
fn count(arrival: Arrival, id: u16, checksum: Checksum) {
    if tables::explains() {
        return;
    }
    tables::count(id, |counters| {
        counters.packets_forward += 1;
        counters.bytes_forward += arrival.frame.len();
        count_flags(measure::rare_word(checksum), counters);
    });
}

#[inline(always)]
fn count_flags(word: u32, counters: &mut BackendCounters) {
    if word == 0 {
        return;
    }
    let bits = measure::flags_of(word);
    if measure::window_is_zero(word) {
        counters.zero_windows_forward += 1;
    }
    if bits & (flags::SYN | flags::ACK | flags::RST) == flags::SYN {
        counters.syns += 1;
    }
    if bits & flags::RST != 0 {
        counters.resets_forward += 1;
    }
    if bits & flags::FIN != 0 {
        counters.fins_forward += 1;
    }
}

/// Rewrites the packet and sends it, or leaves it to the kernel where no next hop is known.
#[inline(always)]
fn send(
    arrival: Arrival,
    packet: &Packet,
    checksum: Checksum,
    service: ServiceId,
    backend: &BackendRecord,
    end: NewEnd,
) -> Outcome {
    let hop = backend.next_hop;
    tables::note(|explanation| {
        explanation.step = Step::Backend as u32;
        explanation.next_hop = hop;
    });
    if !hop.is_known() {
        rewrite::destination(packet, checksum, end, TimeToLive::Keep);
        return Outcome::Counted(service, Reason::UnresolvedBackend);
    }
    rewrite::destination(packet, checksum, end, TimeToLive::Decrement);
    rewrite::ethernet(arrival.frame, &hop);
    Outcome::Forwarded(hop)
}
