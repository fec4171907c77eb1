//! From a client to a backend: service → bucket → version → slot → backend → rewrite.

mod count;

use core::mem::offset_of;

use grayxdp_common::{
    cells::DetailRecord,
    directory::Entry,
    explanation::{Step, Turn},
    hash::{Flow, FlowHash},
    ids::ServiceId,
    ipv6::Address as _,
    reason::Reason,
    records::{BackendRecord, Control, ServiceRecord},
};
use grayxdp_ebpf::{
    packet::{ETHERNET_LEN, Network, Packet, Ports, TCP, flags},
    rewrite::{self, Checksum, NewEnd, TimeToLive},
};

use network_types::{tcp::TcpHdr, udp::UdpHdr};

pub(crate) use self::count::count;
use crate::{
    Arrival, Outcome,
    detail::{self, Kind},
    exceptions,
    explain::{note, turn},
    family::Family,
    guard,
    measure::{self, Forward},
    sizes::{self, Size},
    tables, tunnel,
    verifier::unknown,
    way,
};

/// Chooses a backend for a client's packet and rewrites it.
#[inline(always)]
pub(crate) fn to_backend<I: Family>(arrival: Arrival, control: &Control, packet: &Packet<I>, entry: Entry) -> Outcome {
    // None of `full-nat` is found by this.
    let Some(service) = tables::service(entry.index()) else { return way::translated::<I>(arrival) };
    if !I::is_of(service, packet.ip.destination()) {
        return Outcome::NOT_OURS;
    }
    note(|explanation| {
        explanation.step = Step::Service as u32;
        explanation.service = service.service.0;
        explanation.epoch = service.epoch;
        explanation.rollout = service.rollout;
    });
    let checksum = match checksum_of(arrival, packet) {
        Ok(checksum) => checksum,
        Err(reason) => return Outcome::counted(service.service, reason),
    };
    let hash = I::Address::hash(&affine(packet, service), &tables::hash_key());
    note(|explanation| {
        (explanation.hash, explanation.bucket, explanation.slot) = (hash.0, hash.bucket(), hash.slot());
    });
    let kind = kind_of(checksum);
    note_client(packet, kind);
    let id = if service.detail == 0 {
        choose(hash, service).map(u32::from)
    } else {
        match choose_in_detail(arrival, packet, checksum, service, entry, hash, kind) {
            0 => Err(Reason::NoBackend),
            id if id & REFUSED != 0 => Err(reason_of(id)),
            id => Ok(id),
        }
    };
    let (id, segment, deferred) = match id {
        Ok(id) => (id as u16, (id >> SEGMENT_SHIFT) as u16 & 0xff, id & DEFERRED != 0),
        Err(reason) => return Outcome::counted(service.service, reason),
    };
    let (Some(backend), Some(ends)) = (tables::backend(id), I::ends(id)) else {
        return Outcome::counted(service.service, Reason::Fault);
    };
    note(|explanation| {
        (explanation.backend, explanation.version) = (id, backend.version);
    });
    const RARE: u16 = BackendRecord::FLAG_DOWN | BackendRecord::FLAG_ENDS | BackendRecord::FLAG_ONE_WAY;
    if backend.flags & RARE != 0 {
        if let Some(reason) = ended(arrival, packet, checksum, backend, kind) {
            return Outcome::counted(service.service, reason);
        }
        if backend.flags & BackendRecord::FLAG_TUNNEL != 0 {
            if tunnel::is_beyond(packet.ip, id) {
                return Outcome::counted(service.service, Reason::TooBig);
            }
        } else if backend.flags & BackendRecord::FLAG_ONE_WAY != 0 && !backend.next_hop.is_known() {
            return Outcome::counted(service.service, Reason::NoNextHop);
        }
    }
    // What leaves by the link that it came by fits it.
    if backend.next_hop.interface != arrival.interface
        && packet.ip.total_len() > control.least_mtu
        && let Some(reason) = too_long(arrival, packet, checksum, id, (backend, ends))
    {
        return Outcome::counted(service.service, reason);
    }
    count(arrival, id, checksum);
    let flow = Forward {
        hash: whole(packet, service, hash),
        epoch: service.epoch,
        is_sampled: sample_of(packet) < service.sample_rate,
        horizon_ticks: service.horizon_ticks,
        is_syn: kind == Kind::First,
        measures: backend.flags & BackendRecord::FLAG_MEASURES != 0,
        deferred,
        is_unseen: backend.flags & BackendRecord::FLAG_ONE_WAY != 0,
        backend: id,
    };
    let place = || service.signals + u16::from(backend.place) * segments_of(service) + segment;
    if measure::forward(packet, checksum, &flow, place) {
        guard::failure(u32::from(id));
    } else if kind == Kind::First {
        guard::attempt(backend);
    }
    send(arrival, packet, checksum, id, (backend, ends))
}

/// What becomes of a packet that is longer than the link to its backend takes; none where it fits. One that may be
/// fragmented is counted for its backend, but not measured.
#[inline(always)]
fn too_long<I: Family>(
    arrival: Arrival,
    packet: &Packet<I>,
    checksum: Checksum,
    id: u16,
    (backend, ends): (&BackendRecord, I::Ends),
) -> Option<Reason> {
    match sizes::of(packet.ip, &backend.next_hop) {
        Size::Fits => None,
        Size::Refused => Some(Reason::TooBig),
        // The kernel would not know where to.
        Size::Fragmented if backend.flags & BackendRecord::FLAG_ONE_WAY != 0 => Some(Reason::TooBig),
        Size::Fragmented => {
            count(arrival, id, checksum);
            rewrite::destination(packet, checksum, end_of::<I>(backend, ends), TimeToLive::Keep);
            Some(Reason::TooBigPassed)
        }
    }
}

/// A backend as the new end of a client's packet.
#[inline(always)]
fn end_of<I: Family>(backend: &BackendRecord, ends: I::Ends) -> NewEnd<I::Address> {
    NewEnd { address: I::address_of(backend, ends), port: backend.port, ip: backend.forward_ip, l4: backend.forward_l4 }
}

/// How many segments a service has.
#[inline(always)]
pub(crate) fn segments_of(service: &ServiceRecord) -> u16 {
    if service.detail == 0 { 1 } else { tables::detail(service.detail).map_or(1, |detail| u16::from(detail.segments)) }
}

/// Set in what [`choose_in_detail`] returns where it is a [`Reason`] and no backend.
const REFUSED: u32 = 1 << 31;

/// First bit of the segment in what [`choose_in_detail`] returns with a backend.
const SEGMENT_SHIFT: u32 = 16;
/// Set in what [`choose_in_detail`] returns with the backend of a deferred SYN.
const DEFERRED: u32 = (detail::DEFERRED as u32) << DEFERRED_SHIFT;
const DEFERRED_SHIFT: u32 = 24;

/// The reason in what [`choose_in_detail`] returned.
#[inline(always)]
const fn reason_of(refused: u32) -> Reason {
    const DEFERRED: u32 = REFUSED | Reason::DeferredNowhere as u32;
    const NO_BACKEND: u32 = REFUSED | Reason::NoBackend as u32;
    match refused {
        DEFERRED => Reason::DeferredNowhere,
        NO_BACKEND => Reason::NoBackend,
        _ => Reason::Fault,
    }
}

/// The flow as far as it decides bucket and slot.
#[inline(always)]
pub(crate) fn affine<I: Family>(packet: &Packet<I>, service: &ServiceRecord) -> Flow<I::Address> {
    let flow = packet.flow();
    if service.flags & ServiceRecord::FLAG_CLIENT_AFFINITY != 0 {
        return flow.with_ports(0, 0);
    }
    flow
}

/// Who asked, and whether a flow may begin with it.
#[inline(always)]
pub(crate) fn note_client<I: Family>(packet: &Packet<I>, kind: Kind) {
    note(|explanation| {
        let (client, is_six) = I::words(packet.ip.source());
        (explanation.client, explanation.family) = (client, if is_six == 0 { 4 } else { 6 });
        (explanation.client_port, explanation.service_port) = (packet.source_port, packet.destination_port);
        explanation.opens = u8::from(matches!(kind, Kind::First | Kind::Datagram));
    });
}

/// What a packet is to its flow. UDP: only a service of QUIC asks for more, see [`choose_in_detail`].
#[inline(always)]
pub(crate) fn kind_of(checksum: Checksum) -> Kind {
    let Checksum::Tcp(header) = checksum else { return Kind::Datagram };
    let bits: u8 = header.read(13);
    if bits & flags::RST != 0 {
        Kind::Reset
    } else if bits & (flags::SYN | flags::ACK) == flags::SYN {
        Kind::First
    } else {
        Kind::Later
    }
}

/// The backend of a packet of a service with a detail record; 0 for none, with [`REFUSED`] a reason.
#[inline(always)]
fn choose_in_detail<I: Family>(
    arrival: Arrival,
    packet: &Packet<I>,
    checksum: Checksum,
    service: &ServiceRecord,
    entry: Entry,
    hash: FlowHash,
    kind: Kind,
) -> u32 {
    let Some(detail) = tables::detail(service.detail) else { return REFUSED | Reason::Fault as u32 };
    let is_quic = detail.flags & DetailRecord::FLAG_QUIC != 0;
    let kind = if is_quic { quic_kind(arrival, packet) } else { kind };
    // The segment of a datagram that may be the first of a sampled flow has to be known.
    let asks_segment = kind == Kind::Datagram && detail.segments > 1 && sample_of(packet) < service.sample_rate;
    let whole = whole(packet, service, hash);
    if kind == Kind::First {
        touch(detail, whole, hash.bucket());
    }
    let place = (whole, hash.bucket(), hash.slot());
    if !asks_segment
        && let Some(id) = detail::settled(detail, kind, place, || bits_of(packet, checksum), service.service.0)
    {
        return u32::from(id);
    }
    let (mut sequence, mut acknowledged) = (0, 0);
    if let Checksum::Tcp(header) = checksum {
        sequence = u32::from_be(header.read(offset_of!(TcpHdr, seq)));
        acknowledged = u32::from_be(header.read(offset_of!(TcpHdr, ack_seq)));
    }
    let Some(scratch) = tables::scratch() else { return REFUSED | Reason::Fault as u32 };
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
    let question = unsafe { &mut (*scratch).question };
    // Field by field: the whole at once becomes a loop over bytes.
    question.flow = whole;
    question.detail = u64::from(service.detail);
    question.kind = kind as u64;
    let (client, family) = I::words(packet.ip.source());
    question.flags = family | bits_of(packet, checksum) | if is_quic { detail::QUIC } else { 0 };
    question.sequence = u64::from(sequence);
    question.acknowledged = u64::from(acknowledged);
    question.client = client;
    question.service = u64::from(service.service.0);
    question.bucket = u64::from(hash.bucket());
    question.slot = u64::from(hash.slot());
    question.port_class = u64::from(entry.port_class());
    question.dscp = u64::from(packet.ip.dscp());
    match detail::resolve(kind) {
        0 => {
            question.backend as u32
                | (question.segment as u32) << SEGMENT_SHIFT
                | ((question.flags & detail::DEFERRED) as u32) << DEFERRED_SHIFT
        }
        reason => REFUSED | (reason - 1),
    }
}

/// Whether a packet carries payload and whether it ends its side of the flow, as bits.
#[inline(always)]
pub(crate) fn bits_of<I: Family>(packet: &Packet<I>, checksum: Checksum) -> u64 {
    let Checksum::Tcp(header) = checksum else { return 0 };
    let length = (packet.offset - ETHERNET_LEN) as u64 + u64::from(header.read::<u8>(12) >> 4) * 4;
    let payload = if packet.ip.total_len() > length { detail::PAYLOAD } else { 0 };
    payload | if header.read::<u8>(13) & flags::FIN != 0 { detail::FIN } else { 0 }
}

/// Reads early what opening a flow will ask of large tables: their cache misses then pass together, while segments and
/// buckets are found. A bucket that is settled asks for no entries.
#[inline(always)]
fn touch(detail: &DetailRecord, flow: FlowHash, bucket: u16) {
    if tables::bucket(detail.buckets, bucket).looks() {
        exceptions::touch_set(flow, bucket);
    }
    if detail.flags & DetailRecord::FLAG_MEASURES != 0 {
        measure::touch_mark(flow);
    }
}

/// What decides whether a flow is sampled.
#[inline(always)]
pub(crate) fn sample_of<I: Family>(packet: &Packet<I>) -> u16 {
    I::Address::sample(&packet.flow(), &tables::hash_key())
}

/// The hash of the whole 5-tuple.
#[inline(always)]
pub(crate) fn whole<I: Family>(packet: &Packet<I>, service: &ServiceRecord, hash: FlowHash) -> FlowHash {
    if service.flags & ServiceRecord::FLAG_CLIENT_AFFINITY == 0 {
        return hash;
    }
    I::Address::hash(&packet.flow(), &tables::hash_key())
}

/// What a QUIC packet is to its flow (RFC 9000, section 17.2; RFC 9369, section 3.2): a long header's Initial opens it. The fixed
/// bit says nothing: clients clear it by chance (RFC 9287).
#[inline(always)]
fn quic_kind<I: Family>(arrival: Arrival, packet: &Packet<I>) -> Kind {
    const LONG: u8 = 0x80;
    const TYPE: u8 = 0x30;
    const VERSION_2: u32 = 0x6b33_43cf_u32.to_be();
    let Some(start) = arrival.frame.at::<[u8; 5]>(packet.offset + size_of::<Ports>()) else { return Kind::Later };
    let first: u8 = start.read(0);
    let initial = if start.read::<u32>(1) == VERSION_2 { 0x10 } else { 0 };
    if first & LONG == LONG && first & TYPE == initial { Kind::First } else { Kind::Later }
}

/// What becomes of a packet to a backend that is down or whose flows end; none where it goes there all the same.
#[inline(always)]
pub(crate) fn ended<I: Family>(
    arrival: Arrival,
    packet: &Packet<I>,
    checksum: Checksum,
    backend: &BackendRecord,
    kind: Kind,
) -> Option<Reason> {
    const DEAD: u16 = BackendRecord::FLAG_DOWN | BackendRecord::FLAG_RESETS;
    let (answered, dropped) = if backend.flags & DEAD == DEAD {
        turn(Turn::Down);
        (Reason::BackendDown, Reason::BackendDownDropped)
    } else if backend.flags & BackendRecord::FLAG_ENDS == 0 || kind == Kind::First {
        return None;
    } else {
        turn(Turn::Reset);
        (Reason::FlowReset, Reason::FlowResetDropped)
    };
    match checksum {
        Checksum::Tcp(header) if kind != Kind::Reset && I::reset(arrival, packet, header) => Some(answered),
        Checksum::Tcp(_) | Checksum::Udp(_) => Some(dropped),
    }
}

/// Where the TCP or UDP checksum is, once the packet proved whole and alive.
#[inline(always)]
pub(crate) fn checksum_of<I: Network>(arrival: Arrival, packet: &Packet<I>) -> Result<Checksum, Reason> {
    let end = packet.ip.total_len() + ETHERNET_LEN as u64;
    // Of two constants the verifier knows on every way which it is, of the protocol it does not.
    let is_tcp = unknown(usize::from(packet.ip.protocol() == TCP)) != 0;
    let (checksum, header_len) = if is_tcp {
        let header = packet.tcp(arrival.frame).ok_or(Reason::Malformed)?;
        (Checksum::Tcp(header), size_of::<TcpHdr>())
    } else {
        (Checksum::Udp(packet.ports), size_of::<Ports>())
    };
    if end > arrival.frame.len() || end < (packet.offset + header_len) as u64 {
        return Err(Reason::Malformed);
    }
    if I::UDP_HAS_CHECKSUM && !is_tcp && packet.ports.read::<u16>(offset_of!(UdpHdr, check)) == 0 {
        return Err(Reason::Malformed);
    }
    if packet.ip.ttl() <= 1 {
        return Err(Reason::TtlExpired);
    }
    Ok(checksum)
}

/// The backend of a flow of a settled service.
#[inline(always)]
pub(crate) fn choose(hash: FlowHash, service: &ServiceRecord) -> Result<u16, Reason> {
    let index = service.split.version_of(hash.bucket());
    // No branch: a tenth of new flows would be guessed wrongly.
    let (table, first) = (service.tables[index & 1], service.first_backends[index & 1]);
    let id = tables::backend_of_slot(table, first, hash.slot()).unwrap_or(0);
    turn(Turn::Split);
    note(|explanation| {
        explanation.version = if index == 0 { service.versions[0].0 } else { service.versions[1].0 };
        (explanation.current_place, explanation.home_place) = (index as u8, index as u8);
        (explanation.current_backend, explanation.home_backend) = (id, id);
    });
    if id == 0 { Err(Reason::NoBackend) } else { Ok(id) }
}

/// Rewrites the packet and sends it, or leaves it to the kernel where no next hop is known. That of a tunnel is not in the record.
#[inline(always)]
fn send<I: Family>(
    arrival: Arrival,
    packet: &Packet<I>,
    checksum: Checksum,
    id: u16,
    (backend, ends): (&BackendRecord, I::Ends),
) -> Outcome {
    let (hop, end) = (backend.next_hop, end_of::<I>(backend, ends));
    note(|explanation| {
        explanation.step = Step::Backend as u32;
        explanation.next_hop = hop;
    });
    if !hop.is_known() {
        if backend.flags & BackendRecord::FLAG_TUNNEL != 0 {
            return Outcome::done(I::tunnel(arrival.context, id) as u32);
        }
        rewrite::destination(packet, checksum, end, TimeToLive::Keep);
        return Outcome::counted(ServiceId(backend.service), Reason::UnresolvedBackend);
    }
    rewrite::destination(packet, checksum, end, TimeToLive::Decrement);
    rewrite::ethernet(arrival.frame, &hop);
    Outcome::left(&arrival, hop.interface)
}
