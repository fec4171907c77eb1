//! From a backend to the client behind an endpoint of the pool.

use grayxdp_common::{
    checksum::Delta,
    directory::Entry,
    explanation::Step,
    hash::Flow,
    ids::ServiceId,
    reason::Reason,
    records::{BackendRecord, Control, NextHop, RouteKind},
    translations::{Ends, Translation, Whose},
};
use grayxdp_ebpf::{
    packet::{Packet, flags},
    rewrite::{self, Checksum, NewEnd, TimeToLive},
};

use super::{
    entry_at,
    forward::numbers_of,
    head_of, note_step,
    parts::Translating,
    state::{self, SYN_ACK},
    unknown_flow,
};
use crate::{
    Arrival, Outcome,
    backward::{Client, by_kernel, count, is_refusal, leave},
    explain::{explains, note},
    forward::{bits_of, checksum_of, kind_of},
    guard, measure,
    sizes::{self, Size},
    tables,
    way::for_address,
};

/// Sends a backend's packet to the client whose flow it is of. `address`: what is known of the pool's address.
#[inline(always)]
pub(super) fn to_client<I: Translating>(
    arrival: Arrival,
    control: &Control,
    packet: &Packet<I>,
    address: Entry,
) -> Outcome {
    let service = ServiceId(address.index() as u16);
    let found = I::find_answering(arrival.context);
    if found == 0 && address.has(Entry::LOCAL_ADDRESS) {
        return for_address(address, Reason::LocalAddress);
    }
    let checksum = match checksum_of(arrival, packet) {
        Ok(checksum) => checksum,
        Err(reason) => return Outcome::counted(service, reason),
    };
    let kind = kind_of(checksum);
    let Some((_, entry)) = entry_at(found).filter(|_| found != 0) else {
        note(|explanation| explanation.step = Step::Address as u32);
        return unknown_flow(arrival, packet, checksum, kind, service);
    };
    let id = head_of(entry).backend();
    let (client, ports, service) = client_of(entry);
    let client = I::of_words(client);
    let (Some(backend), Some(ends)) = (tables::backend(id), I::ends(id)) else {
        return Outcome::counted(service, Reason::Fault);
    };
    note_step(Step::Reverse, id, service.0, backend.version);
    I::hop(arrival.context, found);
    let hop = hop_in_hand();
    let size = if hop.interface != arrival.interface && packet.ip.total_len() > control.least_mtu {
        sizes::of(packet.ip, &hop)
    } else {
        Size::Fits
    };
    if size == Size::Refused {
        return Outcome::counted(service, Reason::TooBig);
    }
    if packet.ip.is_fragment() && !explains() {
        I::leave_piece(arrival.context, found);
    }
    count(arrival, id, checksum);
    let (sequence, acknowledged) = numbers_of(checksum);
    let what = state::what(kind, bits_of(packet, checksum), service.0, 0) | syn_ack_of(checksum);
    state::full_answered(found, what, u64::from(sequence) << 32 | u64::from(acknowledged));
    let from = NewEnd {
        address: I::virtual_address_of(backend, ends),
        port: ports.service,
        ip: backend.reverse_ip,
        l4: backend.reverse_l4,
    };
    let to = end_of(packet, client, ports.client);
    if size == Size::Fragmented {
        rewrite::both(packet, checksum, to, from, TimeToLive::Keep);
        return Outcome::counted(service, Reason::TooBigPassed);
    }
    let flow = Flow {
        source: client,
        destination: from.address,
        source_port: ports.client,
        destination_port: ports.service,
        protocol: packet.ip.protocol(),
    };
    let answer = measure::reverse_of(packet, checksum, backend, &flow);
    if backend.guard != 0 && (answer == measure::Answer::Refused || is_refusal(checksum)) {
        guard::failure(u32::from(id));
    }
    note(|explanation| explanation.next_hop = hop);
    if !hop.is_known() {
        rewrite::both(packet, checksum, to, from, TimeToLive::Keep);
        return Outcome::counted(service, Reason::UnresolvedClient);
    }
    rewrite::both(packet, checksum, to, from, TimeToLive::Decrement);
    rewrite::ethernet(arrival.frame, &hop);
    Outcome::left(&arrival, hop.interface)
}

/// The client as the new end of a backend's packet.
#[inline(always)]
fn end_of<I: Translating>(packet: &Packet<I>, address: I::Address, port: u16) -> NewEnd<I::Address> {
    let replaced = I::replaced(packet.ip.destination(), address);
    NewEnd { address, port, ip: replaced, l4: replaced.and(Delta::replace16(packet.destination_port, port)) }
}

/// [`SYN_ACK`] of a segment that is one.
#[inline(always)]
fn syn_ack_of(checksum: Checksum) -> u64 {
    const BOTH: u8 = flags::SYN | flags::ACK;
    match checksum {
        Checksum::Tcp(header) if header.read::<u8>(13) & (BOTH | flags::RST) == BOTH => SYN_ACK,
        Checksum::Tcp(_) | Checksum::Udp(_) => 0,
    }
}

/// An entry's client, all ports, and its service.
#[inline(always)]
pub(super) fn client_of(entry: *mut Translation) -> ([u64; 2], Ends, ServiceId) {
    // SAFETY: a live map value.
    unsafe {
        let client = (&raw const (*entry).client).cast::<u64>();
        let whose = Whose((&raw const (*entry).whose).read_volatile());
        (
            [client.read_volatile(), client.add(1).read_volatile()],
            Ends::of((&raw const (*entry).ports).read_volatile()),
            ServiceId(whose.service()),
        )
    }
}

/// The hop in the scratch.
#[inline(always)]
pub(super) fn hop_in_hand() -> NextHop {
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
    tables::scratch().map_or(NextHop::UNKNOWN, |scratch| unsafe { (*scratch).hop })
}

/// Finds the way to a flow's client and leaves it in the scratch; unknown where the kernel is to find it.
#[inline(always)]
pub(super) fn hop<I: Translating>(arrival: Arrival, found: u64) -> u64 {
    let (Some(control), Some(scratch), Some((_, entry))) = (tables::control(), tables::scratch(), entry_at(found))
    else {
        return 0;
    };
    let (client, ports, _) = client_of(entry);
    let id = head_of(entry).backend();
    let (Some(ip), Some(backend), Some(ends)) = (I::again(arrival), tables::backend(id), I::ends(id)) else { return 0 };
    let client = Client { address: I::of_words(client), port: ports.client, protocol: ip.protocol() };
    let hop = hop_to::<I>(arrival, control, &client, (backend, ends));
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
    unsafe { leave(&raw mut (*scratch).hop, hop) };
    0
}

/// The way to a client: where its packets came from, an answer to the pool may go.
#[inline(always)]
fn hop_to<I: Translating>(
    arrival: Arrival,
    control: &Control,
    client: &Client<I::Address>,
    backend: (&BackendRecord, I::Ends),
) -> NextHop {
    if let Some(gateway) = I::gateway(control, client.address) {
        return gateway;
    }
    let mut hop = NextHop::UNKNOWN;
    if let Some(route) = I::route(client.address) {
        if route.kind == RouteKind::Gateway as u32 {
            hop = route.next_hop;
        } else if route.kind == RouteKind::OnLink as u32 {
            hop = I::neighbour(client.address);
        }
    }
    if !hop.is_known() {
        // What it does not forward is left to it all the same: it knows what to say.
        let _ = by_kernel::<I>(arrival, client, backend, &mut hop);
    }
    hop
}
