//! From a backend back to the client: the source becomes the virtual endpoint again.

mod kernel;

use aya_ebpf::bindings::xdp_md;
use grayxdp_common::{
    counters::BackendCounters,
    explanation::Step,
    ids::ServiceId,
    ipv6::Address as _,
    reason::Reason,
    records::{BackendRecord, Control, NextHop, RouteKind},
};
use grayxdp_ebpf::{
    packet::{ETHERNET_LEN, Ip, Ip6, Packet, flags},
    rewrite::{self, Checksum, NewEnd, TimeToLive},
};

pub(crate) use self::kernel::{by_kernel, leave};
pub(crate) use self::kernel::{hop_by_kernel, hop_by_kernel6};
use crate::{
    Arrival, Outcome,
    exceptions::{self, Answer, Said},
    explain::{self, explains},
    family::Family,
    forward, guard, measure,
    sizes::{self, Size},
    tables,
};

/// Whom a packet of a backend is for.
#[derive(Clone, Copy)]
pub(crate) struct Client<A> {
    /// Address.
    pub(crate) address: A,
    /// Port.
    pub(crate) port: u16,
    /// Protocol of the flow.
    pub(crate) protocol: u8,
}

impl<A> Client<A> {
    /// Port and protocol in one word.
    #[inline(always)]
    fn port_and_protocol(&self) -> u64 {
        u64::from(self.port) | u64::from(self.protocol) << 16
    }

    /// With port and protocol in one word.
    #[inline(always)]
    fn of(address: A, port_and_protocol: u64) -> Self {
        Self { address, port: port_and_protocol as u16, protocol: (port_and_protocol >> 16) as u8 }
    }
}

/// Rewrites a backend's packet as the service's.
#[inline(always)]
pub(crate) fn to_client<I: Family>(arrival: Arrival, control: &Control, packet: &Packet<I>, id: u16) -> Outcome {
    let (Some(backend), Some(ends)) = (tables::backend(id), I::ends(id)) else {
        return Outcome::counted(ServiceId::NONE, Reason::Fault);
    };
    if !I::is_end(ends, packet.ip.source()) {
        return Outcome::NOT_OURS;
    }
    let service = ServiceId(backend.service);
    explain::note(|explanation| {
        explanation.step = Step::Reverse as u32;
        explanation.service = backend.service;
        explanation.version = backend.version;
        explanation.backend = id;
    });
    let mut hop = NextHop::UNKNOWN;
    let client =
        Client { address: packet.ip.destination(), port: packet.destination_port, protocol: packet.ip.protocol() };
    // The kernel is asked by a function with a stack of its own, which takes the client from the packet.
    let by_kernel = |hop: &mut NextHop| {
        let refused = I::hop_by_kernel(arrival.context, u64::from(id), client.port_and_protocol());
        // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
        *hop = tables::scratch().map_or(NextHop::UNKNOWN, |scratch| unsafe { (*scratch).hop });
        (refused != 0).then_some(Reason::NoRoute)
    };
    if let Some(reason) = find_hop::<I>(control, client.address, &mut hop, by_kernel) {
        return Outcome::counted(service, reason);
    }
    let checksum = match forward::checksum_of(arrival, packet) {
        Ok(checksum) => checksum,
        Err(reason) => return Outcome::counted(service, reason),
    };
    // What leaves by the link that it came by fits it.
    if hop.interface != arrival.interface
        && packet.ip.total_len() > control.least_mtu
        && let Some(reason) = too_long(arrival, packet, checksum, id, (backend, ends), &hop)
    {
        return Outcome::counted(service, reason);
    }
    count(arrival, id, checksum);
    if backend.flags & BackendRecord::FLAG_WATCHED != 0 {
        watch(packet, checksum, (backend, ends), id);
    }
    let answer = measure::reverse(packet, checksum, backend, ends);
    if backend.guard != 0 && (answer == measure::Answer::Refused || is_refusal(checksum)) {
        guard::failure(u32::from(id));
    }
    let end = end_of::<I>(backend, ends);
    if hop.is_known() {
        explain::note(|explanation| explanation.next_hop = hop);
        rewrite::source(packet, checksum, end, TimeToLive::Decrement);
        rewrite::ethernet(arrival.frame, &hop);
        Outcome::left(&arrival, hop.interface)
    } else {
        rewrite::source(packet, checksum, end, TimeToLive::Keep);
        Outcome::counted(service, Reason::UnresolvedClient)
    }
}

/// What becomes of a packet that is longer than the link to the client takes; none where it fits. One that may be
/// fragmented is counted for its backend, but neither watched nor measured.
#[inline(always)]
fn too_long<I: Family>(
    arrival: Arrival,
    packet: &Packet<I>,
    checksum: Checksum,
    id: u16,
    (backend, ends): (&BackendRecord, I::Ends),
    hop: &NextHop,
) -> Option<Reason> {
    match sizes::of(packet.ip, hop) {
        Size::Fits => None,
        Size::Refused => Some(Reason::TooBig),
        Size::Fragmented => {
            count(arrival, id, checksum);
            rewrite::source(packet, checksum, end_of::<I>(backend, ends), TimeToLive::Keep);
            Some(Reason::TooBigPassed)
        }
    }
}

/// The virtual endpoint as the new end of a backend's packet.
#[inline(always)]
fn end_of<I: Family>(backend: &BackendRecord, ends: I::Ends) -> NewEnd<I::Address> {
    NewEnd {
        address: I::virtual_address_of(backend, ends),
        port: backend.virtual_port,
        ip: backend.reverse_ip,
        l4: backend.reverse_l4,
    }
}

/// Tells the flow's entries what its backend sent.
#[inline(always)]
fn watch<I: Family>(packet: &Packet<I>, checksum: Checksum, (backend, ends): (&BackendRecord, I::Ends), id: u16) {
    let flow = measure::reverse_flow(packet, backend, ends);
    let hash = I::Address::hash(&flow, &tables::hash_key());
    let bucket = if backend.flags & BackendRecord::FLAG_CLIENT_AFFINITY == 0 {
        hash.bucket()
    } else {
        I::Address::hash(&flow.with_ports(0, 0), &tables::hash_key()).bucket()
    };
    let is_quic = backend.flags & BackendRecord::FLAG_QUIC != 0;
    let mut said = Said {
        flow: hash,
        bucket,
        backend: id,
        answer: if is_quic { Answer::SynAck } else { Answer::Other },
        numbers: None,
        is_fin: false,
        has_payload: true,
    };
    if let Checksum::Tcp(header) = checksum {
        let bits: u8 = header.read(13);
        said.numbers = Some((u32::from_be(header.read(4)), u32::from_be(header.read(8))));
        let length = (packet.offset - ETHERNET_LEN) as u64 + u64::from(header.read::<u8>(12) >> 4) * 4;
        said.has_payload = packet.ip.total_len() > length;
        if bits & flags::RST != 0 {
            said.answer = Answer::Reset;
        } else if bits & (flags::SYN | flags::ACK) == flags::SYN | flags::ACK {
            said.answer = Answer::SynAck;
        } else {
            said.is_fin = bits & flags::FIN != 0;
        }
    }
    exceptions::answered(said);
}

/// Whether a packet refuses a connection: a RST that answers a SYN has no number of its own.
#[inline(always)]
pub(crate) fn is_refusal(checksum: Checksum) -> bool {
    match checksum {
        Checksum::Tcp(header) => header.read::<u8>(13) & flags::RST != 0 && header.read::<u32>(4) == 0,
        Checksum::Udp(_) => false,
    }
}

/// Finds the way to the client; leaves `hop` unknown where the kernel is to find it. A reason says that the packet stays
/// as it came: it is no reply of the service, or nothing leads to the client.
#[inline(always)]
fn find_hop<I: Family>(
    control: &Control,
    client: I::Address,
    hop: &mut NextHop,
    by_kernel: impl FnOnce(&mut NextHop) -> Option<Reason>,
) -> Option<Reason> {
    if I::is_of_many(client) {
        return Some(Reason::DirectAccess);
    }
    if let Some(gateway) = I::gateway(control, client) {
        *hop = gateway;
        return None;
    }
    if let Some(route) = I::route(client) {
        if route.kind == RouteKind::Untouched as u32 {
            return Some(Reason::DirectAccess);
        }
        if route.kind == RouteKind::Gateway as u32 {
            *hop = route.next_hop;
        } else if route.kind == RouteKind::OnLink as u32 {
            *hop = I::neighbour(client);
        }
    }
    if hop.is_known() { None } else { by_kernel(hop) }
}

/// Finds the way of a packet that is neither a TCP segment nor a whole datagram to a client and leaves it in the scratch: 0, or
/// the kernel's action. `port_and_protocol` are those of its flow, as far as they are known. Exported, so that what
/// asks the kernel lies on the stack by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn hop_to_client(context: *mut xdp_md, id: u64, port_and_protocol: u64) -> u64 {
    hop_of_client::<Ip>(context, id, port_and_protocol)
}

/// The same of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn hop_to_client6(context: *mut xdp_md, id: u64, port_and_protocol: u64) -> u64 {
    hop_of_client::<Ip6>(context, id, port_and_protocol)
}

#[inline(always)]
fn hop_of_client<I: Family>(context: *mut xdp_md, id: u64, port_and_protocol: u64) -> u64 {
    let arrival = Arrival::of(context);
    let (Some(control), Some(scratch)) = (tables::control(), tables::scratch()) else { return 0 };
    let (Some(ip), Some(backend), Some(ends)) = (I::again(arrival), tables::backend(id as u16), I::ends(id as u16))
    else {
        return 0;
    };
    let client = Client::of(ip.destination(), port_and_protocol);
    let mut hop = NextHop::UNKNOWN;
    let by_kernel = |hop: &mut NextHop| by_kernel::<I>(arrival, &client, (backend, ends), hop);
    let refused = find_hop::<I>(control, client.address, &mut hop, by_kernel);
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
    unsafe { leave(&raw mut (*scratch).hop, hop) };
    refused.map_or(0, |reason| Outcome::counted(ServiceId(backend.service), reason).action())
}

/// Counts a backend's packet.
#[inline(always)]
pub(crate) fn count(arrival: Arrival, id: u16, checksum: Checksum) {
    if explains() {
        return;
    }
    tables::count(id, |counters| {
        counters.packets_reverse += 1;
        counters.bytes_reverse += arrival.frame.len();
        if let Checksum::Tcp(header) = checksum {
            count_flags(measure::rare_word(checksum), header.read(4), counters);
        }
    });
}

#[inline(always)]
fn count_flags(word: u32, sequence: u32, counters: &mut BackendCounters) {
    if word == 0 {
        return;
    }
    let bits = measure::flags_of(word);
    if measure::window_is_zero(word) {
        counters.zero_windows_reverse += 1;
    }
    if bits & (flags::SYN | flags::ACK | flags::RST) == flags::SYN | flags::ACK {
        counters.syn_acks += 1;
    }
    if bits & flags::RST != 0 {
        if sequence == 0 {
            counters.refusals += 1;
        } else {
            counters.resets_reverse += 1;
        }
    }
    if bits & flags::FIN != 0 {
        counters.fins_reverse += 1;
    }
}
