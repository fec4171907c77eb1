//! From a backend back to the client: the source becomes the virtual endpoint again.

use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
        BPF_FIB_LKUP_RET_UNSUPP_LWT, bpf_fib_lookup as FibLookup,
    },
    helpers::bpf_fib_lookup,
};
use grayxdp_common::{
    counters::BackendCounters,
    explanation::Step,
    ids::ServiceId,
    reason::Reason,
    records::{APART, BackendRecord, Control, NextHop, ReplyWay, RouteKind},
};
use grayxdp_ebpf::{
    packet::{Packet, flags},
    rewrite::{self, Checksum, NewEnd, TimeToLive},
};

use crate::{Arrival, Outcome, forward, tables};

/// Address family of IPv4.
const AF_INET: u8 = 2;

/// How a reply leaves.
enum Leave {
    /// By a next hop.
    By(NextHop),
    /// Rewritten, by the kernel.
    Rewritten,
    /// As it came: it is no reply of the service, or nothing leads to the client.
    Untouched(Reason),
}

/// Rewrites a backend's packet as the service's.
#[inline(always)]
pub(crate) fn to_client(arrival: Arrival, control: &Control, packet: &Packet, id: u16) -> Outcome {
    let Some(backend) = tables::backend(id) else { return Outcome::Counted(ServiceId::NONE, Reason::Fault) };
    let service = ServiceId(backend.service);
    tables::note(|explanation| {
        explanation.step = Step::Reverse as u32;
        explanation.service = backend.service;
        explanation.version = backend.version;
        explanation.backend = id;
    });
    let leave = leave(arrival, control, packet, backend);
    if let Leave::Untouched(reason) = leave {
        return Outcome::Counted(service, reason);
    }
    let checksum = match forward::checksum_of(arrival, packet) {
        Ok(checksum) => checksum,
        Err(reason) => return Outcome::Counted(service, reason),
    };
    count(arrival, id, checksum);
    let end = NewEnd {
        address: backend.virtual_address,
        port: backend.virtual_port,
        ip: backend.reverse_ip,
        l4: backend.reverse_l4,
    };
    if let Leave::By(hop) = leave {
        tables::note(|explanation| explanation.next_hop = hop);
        rewrite::source(packet, checksum, end, TimeToLive::Decrement);
        rewrite::ethernet(arrival.frame, &hop);
        Outcome::Forwarded(hop)
    } else {
        rewrite::source(packet, checksum, end, TimeToLive::Keep);
        Outcome::Counted(service, Reason::UnresolvedClient)
    }
}

/// The way to the client.
#[inline(always)]
fn leave(arrival: Arrival, control: &Control, packet: &Packet, backend: &BackendRecord) -> Leave {
    if control.reply_way == ReplyWay::Gateway as u32 && !is_apart(control, packet.ip.destination) {
        return Leave::By(control.gateway);
    }
    let Some(route) = tables::route(packet.ip.destination) else { return by_kernel(arrival, packet, backend) };
    if route.kind == RouteKind::Untouched as u32 {
        return Leave::Untouched(Reason::DirectAccess);
    }
    if route.kind == RouteKind::Gateway as u32 && route.next_hop.is_known() {
        return Leave::By(route.next_hop);
    }
    if route.kind == RouteKind::OnLink as u32
        && let Some(hop) = tables::neighbour(packet.ip.destination)
    {
        return Leave::By(hop);
    }
    by_kernel(arrival, packet, backend)
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
fn by_kernel(arrival: Arrival, packet: &Packet, backend: &BackendRecord) -> Leave {
    // SAFETY: all-zero is a valid value of this plain C structure.
    let mut query: FibLookup = unsafe { core::mem::zeroed() };
    query.family = AF_INET;
    query.l4_protocol = packet.ip.protocol;
    query.sport = backend.virtual_port;
    query.dport = packet.destination_port;
    query.ifindex = arrival.interface;
    query.__bindgen_anon_3.ipv4_src = backend.virtual_address;
    query.__bindgen_anon_4.ipv4_dst = packet.ip.destination;
    // SAFETY: the context is the program's own, the structure lives on the stack and its size is given.
    let answer = unsafe { bpf_fib_lookup(arrival.context, &raw mut query, size_of::<FibLookup>() as i32, 0) } as u32;
    match answer {
        BPF_FIB_LKUP_RET_SUCCESS => {
            Leave::By(NextHop { destination: query.dmac, source: query.smac, interface: query.ifindex })
        }
        BPF_FIB_LKUP_RET_NO_NEIGH | BPF_FIB_LKUP_RET_FWD_DISABLED | BPF_FIB_LKUP_RET_UNSUPP_LWT => Leave::Rewritten,
        _ => Leave::Untouched(Reason::NoRoute),
    }
}

/// Counts a backend's packet.
#[inline(always)]
fn count(arrival: Arrival, id: u16, checksum: Checksum) {
    if tables::explains() {
        return;
    }
    tables::count(id, |counters| {
        counters.packets_reverse += 1;
        counters.bytes_reverse += arrival.frame.len();
        if let Checksum::Tcp(header) = checksum {
            count_flags(header.read(13), header.read(4), counters);
        }
    });
}

#[inline(always)]
fn count_flags(bits: u8, sequence: u32, counters: &mut BackendCounters) {
    if bits & (flags::SYN | flags::RST | flags::FIN) == 0 {
        return;
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
