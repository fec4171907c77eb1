//! From a backend back to the client: the source becomes the virtual endpoint again.

use core::mem::{MaybeUninit, offset_of};

use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
        BPF_FIB_LKUP_RET_UNSUPP_LWT, bpf_fib_lookup as FibLookup, xdp_md,
    },
    helpers::bpf_fib_lookup,
};
use grayxdp_common::{
    counters::BackendCounters,
    exceptions::Tail,
    explanation::Step,
    hash::{Flow, FlowHash},
    ids::ServiceId,
    reason::Reason,
    records::{APART, BackendRecord, Control, InterfaceRecord, NextHop, ReplyWay, RouteKind},
};
use grayxdp_ebpf::{
    packet::{ETHERNET_LEN, Ip, Packet, flags},
    rewrite::{self, Checksum, NewEnd, TimeToLive},
};

use crate::{
    Arrival, Outcome,
    exceptions::{self, Answer, Said},
    explain::{self, explains},
    forward, guard, measure,
    sizes::{self, Size},
    tables,
};

/// Address family of IPv4.
const AF_INET: u8 = 2;

/// Whom a packet of a backend is for.
#[derive(Clone, Copy)]
struct Client {
    /// Address.
    address: u32,
    /// Port.
    port: u16,
    /// Protocol of the flow.
    protocol: u8,
}

/// Rewrites a backend's packet as the service's.
#[inline(always)]
pub(crate) fn to_client(arrival: Arrival, control: &Control, packet: &Packet, id: u16) -> Outcome {
    let Some(backend) = tables::backend(id) else { return Outcome::counted(ServiceId::NONE, Reason::Fault) };
    let service = ServiceId(backend.service);
    explain::note(|explanation| {
        explanation.step = Step::Reverse as u32;
        explanation.service = backend.service;
        explanation.version = backend.version;
        explanation.backend = id;
    });
    let mut hop = NextHop::UNKNOWN;
    let client = Client { address: packet.ip.destination, port: packet.destination_port, protocol: packet.ip.protocol };
    if let Some(reason) = find_hop(arrival, control, &client, backend, &mut hop) {
        return Outcome::counted(service, reason);
    }
    let checksum = match forward::checksum_of(arrival, packet) {
        Ok(checksum) => checksum,
        Err(reason) => return Outcome::counted(service, reason),
    };
    // What leaves by the link that it came by fits it.
    if hop.interface != arrival.interface
        && packet.ip.total_len() > control.least_mtu
        && let Some(reason) = too_long(arrival, packet, checksum, id, backend, &hop)
    {
        return Outcome::counted(service, reason);
    }
    count(arrival, id, checksum);
    if backend.flags & BackendRecord::FLAG_WATCHED != 0 {
        watch(packet, checksum, backend, id);
    }
    let answer = measure::reverse(packet, checksum, backend);
    if backend.guard != 0 && (answer == measure::Answer::Refused || is_refusal(checksum)) {
        guard::failure(u32::from(id));
    }
    let end = end_of(backend);
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
fn too_long(
    arrival: Arrival,
    packet: &Packet,
    checksum: Checksum,
    id: u16,
    backend: &BackendRecord,
    hop: &NextHop,
) -> Option<Reason> {
    match sizes::of(packet.ip, hop) {
        Size::Fits => None,
        Size::Refused => Some(Reason::TooBig),
        Size::Fragmented => {
            count(arrival, id, checksum);
            rewrite::source(packet, checksum, end_of(backend), TimeToLive::Keep);
            Some(Reason::TooBigPassed)
        }
    }
}

/// The virtual endpoint as the new end of a backend's packet.
#[inline(always)]
const fn end_of(backend: &BackendRecord) -> NewEnd {
    NewEnd {
        address: backend.virtual_address,
        port: backend.virtual_port,
        ip: backend.reverse_ip,
        l4: backend.reverse_l4,
    }
}

/// Tells the flow's entries what its backend sent.
#[inline(always)]
fn watch(packet: &Packet, checksum: Checksum, backend: &BackendRecord, id: u16) {
    let flow = measure::reverse_flow(packet, backend);
    let hash = FlowHash::of(&flow, &tables::hash_key());
    let bucket = if backend.flags & BackendRecord::FLAG_CLIENT_AFFINITY == 0 {
        hash.bucket()
    } else {
        FlowHash::of(&Flow { source_port: 0, destination_port: 0, ..flow }, &tables::hash_key()).bucket()
    };
    let mut said = Said {
        flow: hash,
        bucket: u64::from(bucket),
        backend: u64::from(id),
        answer: if backend.flags & BackendRecord::FLAG_QUIC == 0 { Answer::Other } else { Answer::SynAck } as u64,
        sequence: 1,
        acknowledged: 1,
        acknowledges: u64::from(u32::MAX),
        ends: 0,
        has_payload: 1,
    };
    if let Checksum::Tcp(header) = checksum {
        let bits: u8 = header.read(13);
        said.sequence = u64::from(u32::from_be(header.read(4)));
        said.acknowledged = u64::from(u32::from_be(header.read(8)));
        said.acknowledges = u64::from(exceptions::SENT_WINDOW);
        let length = (packet.offset - ETHERNET_LEN) as u64 + u64::from(header.read::<u8>(12) >> 4) * 4;
        said.has_payload = u64::from(packet.ip.total_len() > length);
        if bits & flags::RST != 0 {
            (said.answer, said.ends) = (Answer::Reset as u64, Tail::RESET);
        } else if bits & (flags::SYN | flags::ACK) == flags::SYN | flags::ACK {
            said.answer = Answer::SynAck as u64;
        } else if bits & flags::FIN != 0 {
            said.ends = Tail::FIN_REVERSE;
        }
    }
    exceptions::answered(&said);
}

/// Whether a packet refuses a connection: a RST that answers a SYN has no number of its own.
#[inline(always)]
fn is_refusal(checksum: Checksum) -> bool {
    match checksum {
        Checksum::Tcp(header) => header.read::<u8>(13) & flags::RST != 0 && header.read::<u32>(4) == 0,
        Checksum::Udp => false,
    }
}

/// Finds the way to the client; leaves `hop` unknown where the kernel is to find it. A reason says that the packet stays
/// as it came: it is no reply of the service, or nothing leads to the client.
#[inline(always)]
fn find_hop(
    arrival: Arrival,
    control: &Control,
    to: &Client,
    backend: &BackendRecord,
    hop: &mut NextHop,
) -> Option<Reason> {
    let client = to.address;
    if is_of_many(client) {
        return Some(Reason::DirectAccess);
    }
    if control.reply_way == ReplyWay::Gateway as u32 && !is_apart(control, client) {
        *hop = control.gateway;
        return None;
    }
    if let Some(route) = tables::route(client) {
        if route.kind == RouteKind::Untouched as u32 {
            return Some(Reason::DirectAccess);
        }
        if route.kind == RouteKind::Gateway as u32 {
            *hop = route.next_hop;
        } else if route.kind == RouteKind::OnLink as u32 {
            *hop = tables::neighbour(client);
        }
    }
    if hop.is_known() { None } else { by_kernel(arrival, to, backend, hop) }
}

/// Finds the way of a packet that is neither a TCP segment nor a whole datagram to a client and leaves it in the scratch: 0, or
/// the kernel's action. `port_and_protocol` are those of its flow, as far as they are known. Exported, so that what
/// asks the kernel lies on the stack by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn hop_to_client(context: *mut xdp_md, id: u64, port_and_protocol: u64) -> u64 {
    let arrival = Arrival::of(context);
    let (Some(control), Some(scratch)) = (tables::control(), tables::scratch()) else { return 0 };
    let (Some(ip), Some(backend)) = (Ip::of(arrival.frame), tables::backend(id as u16)) else { return 0 };
    let (port, protocol) = (port_and_protocol as u16, (port_and_protocol >> 16) as u8);
    let client = Client { address: ip.destination, port, protocol };
    let mut hop = NextHop::UNKNOWN;
    let refused = find_hop(arrival, control, &client, backend, &mut hop);
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
    unsafe { (*scratch).hop = hop };
    refused.map_or(0, |reason| Outcome::counted(ServiceId(backend.service), reason).action())
}

/// Whether an address is no single host's: a group's (RFC 5771), a reserved one, or everyone's. Such a packet is no reply, and
/// no router sends it on.
#[inline(always)]
const fn is_of_many(address: u32) -> bool {
    const FIRST_GROUP: u8 = 224;
    address.to_ne_bytes()[0] >= FIRST_GROUP
}

/// Whether an address does not go by the gateway.
#[inline(always)]
fn is_apart(control: &Control, address: u32) -> bool {
    let mut index = 0;
    while index < APART {
        if index as u32 >= control.apart_len {
            return false;
        }
        if control.apart[index].holds(address) {
            return true;
        }
        index += 1;
    }
    false
}

/// Asks the kernel's own tables.
#[inline(always)]
fn by_kernel(arrival: Arrival, to: &Client, backend: &BackendRecord, hop: &mut NextHop) -> Option<Reason> {
    let mut place = Aligned(MaybeUninit::<FibLookup>::uninit());
    let query = zeroed(&mut place);
    query.family = AF_INET;
    query.l4_protocol = to.protocol;
    query.sport = backend.virtual_port;
    query.dport = to.port;
    query.ifindex = arrival.interface;
    query.__bindgen_anon_3.ipv4_src = backend.virtual_address;
    query.__bindgen_anon_4.ipv4_dst = to.address;
    // SAFETY: the context is the program's own, the structure lives on the stack and its size is given.
    let answer = unsafe { bpf_fib_lookup(arrival.context.cast(), query, size_of::<FibLookup>() as i32, 0) } as u32;
    match answer {
        BPF_FIB_LKUP_RET_SUCCESS => {
            // By a device that takes no packets from here the kernel sends it.
            if tables::interface(query.ifindex)
                .is_some_and(|interface| interface.flags & InterfaceRecord::FLAG_TAKES_PACKETS != 0)
            {
                *hop = hop_of(query);
            }
            None
        }
        BPF_FIB_LKUP_RET_NO_NEIGH | BPF_FIB_LKUP_RET_FWD_DISABLED | BPF_FIB_LKUP_RET_UNSUPP_LWT => None,
        _ => Some(Reason::NoRoute),
    }
}

/// An empty question. Zeroed by eight stores, because the compiler's own way is a loop over bytes that costs more than the
/// kernel's whole look-up.
#[inline(always)]
fn zeroed(place: &mut Aligned<MaybeUninit<FibLookup>>) -> &mut FibLookup {
    const WORDS: usize = size_of::<FibLookup>() / size_of::<u64>();
    const { assert!(WORDS * size_of::<u64>() == size_of::<FibLookup>()) };
    let words = place.0.as_mut_ptr().cast::<u64>();
    let mut word = 0;
    while word < WORDS {
        // SAFETY: within the structure, which is aligned for words; volatile keeps the stores as they are written.
        unsafe { words.add(word).write_volatile(0) };
        word += 1;
    }
    // SAFETY: every byte was written, and all-zero is a valid value of this plain C structure.
    unsafe { place.0.assume_init_mut() }
}

/// Aligned for 8-byte words.
#[repr(align(8))]
struct Aligned<T>(T);

/// The Ethernet addresses and the interface of an answer.
///
/// Read by aligned loads: the verifier refuses others from the stack. The kernel's machine is little-endian here.
#[inline(always)]
fn hop_of(answer: &FibLookup) -> NextHop {
    let start = core::ptr::from_ref(answer).cast::<u8>();
    let (source, destination) = (offset_of!(FibLookup, smac), offset_of!(FibLookup, dmac));
    const { assert!(offset_of!(FibLookup, smac) % 4 == 0 && offset_of!(FibLookup, dmac) % 4 == 2) };
    // SAFETY: within the structure, and aligned as asserted; volatile keeps the loads as they are written.
    let (s0, s4, d0, d2) = unsafe {
        (
            start.add(source).cast::<u32>().read_volatile(),
            start.add(source + 4).cast::<u16>().read_volatile(),
            start.add(destination).cast::<u16>().read_volatile(),
            start.add(destination + 2).cast::<u32>().read_volatile(),
        )
    };
    NextHop {
        head: u64::from(d0) | (u64::from(d2) << 16) | (u64::from(s0) << 48),
        tail: (s0 >> 16) | (u32::from(s4) << 16),
        interface: answer.ifindex,
    }
}

/// Counts a backend's packet.
#[inline(always)]
fn count(arrival: Arrival, id: u16, checksum: Checksum) {
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
