//! Finding the entry of a packet's flow, from either side. All say the place counted from 1; 0: there is none.

use grayxdp_common::{
    hash::{Flow, FlowHash},
    ipv6::{Address as _, Address6},
    translations::{Ends, SEATS, SeatKey, Translation, TranslationState, Whose, place_of},
};
use grayxdp_ebpf::packet::Packet;

use super::{head_of, parts::Translating};
use crate::{Arrival, detail, family::Family, tables};

/// What tells a client's flow from others.
struct Client {
    key: SeatKey,
    address: Address6,
    port: u16,
    virtual_port: u16,
    whose: Whose,
}

/// The entry of a client's packet.
#[inline(always)]
pub(super) fn of_client<I: Translating>(arrival: Arrival, service: u64) -> u64 {
    let Some(ip) = I::again(arrival) else { return 0 };
    let Some(packet) = Packet::of_beginning(arrival.frame, ip) else { return 0 };
    of_flow::<I>(&packet.flow(), service as u16)
}

/// The entry of a client's flow; leaves its hash in the scratch.
#[inline(always)]
pub(super) fn of_flow<I: Family>(flow: &Flow<I::Address>, service: u16) -> u64 {
    let hash = I::Address::hash(flow, &tables::hash_key());
    let Some(scratch) = tables::scratch() else { return 0 };
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
    unsafe { (*scratch).translated.hash = hash.0 };
    let (address, family) = I::words(flow.source);
    let client = Client {
        key: SeatKey::of(hash),
        address: Address6(address),
        port: flow.source_port,
        virtual_port: flow.destination_port,
        whose: Whose::new(service, flow.protocol, family & detail::IPV6 != 0),
    };
    let found = in_set(&client, client.key.first);
    if found != 0 { found } else { in_set(&client, client.key.second) }
}

#[inline(always)]
fn in_set(client: &Client, set: u32) -> u64 {
    let Some((_, seats)) = tables::seat_set(set) else { return 0 };
    let mut way = 0;
    while way < SEATS {
        // SAFETY: a word of a live map value; others write it, each at once.
        let seat = unsafe { seats.add(way).read_volatile() };
        if (seat >> 32) as u32 == client.key.fingerprint
            && let Some(index) = place_of(seat)
            && let Some((place, entry)) = tables::translation(index)
            && is_of_client(entry, client)
        {
            return u64::from(place) + 1;
        }
        way += 1;
    }
    0
}

#[inline(always)]
fn is_of_client(entry: *mut Translation, client: &Client) -> bool {
    // SAFETY: a live map value; what is read while another CPU writes it does not fit, or fits what that writes.
    let (address, ports, whose) = unsafe {
        let address = (&raw const (*entry).client).cast::<u64>();
        (
            [address.read_volatile(), address.add(1).read_volatile()],
            Ends::of((&raw const (*entry).ports).read_volatile()),
            Whose((&raw const (*entry).whose).read_volatile()),
        )
    };
    whose.flow() == client.whose
        && address == client.address.0
        && ports.client == client.port
        && ports.service == client.virtual_port
        && is_made(entry)
}

/// Whether an entry is one, and not about to be.
#[inline(always)]
fn is_made(entry: *mut Translation) -> bool {
    match head_of(entry).state() {
        TranslationState::Free | TranslationState::Making => false,
        TranslationState::HalfOpen | TranslationState::Open => true,
    }
}

/// The entry of a backend's packet to the pool.
#[inline(always)]
pub(super) fn of_backend<I: Translating>(arrival: Arrival) -> u64 {
    let Some(ip) = I::again(arrival) else { return 0 };
    let Some(packet) = Packet::of_beginning(arrival.frame, ip) else { return 0 };
    let flow = packet.flow();
    of_answers::<I>(&Flow {
        source: flow.destination,
        destination: flow.source,
        source_port: flow.destination_port,
        destination_port: flow.source_port,
        protocol: flow.protocol,
    })
}

/// The entry of what goes from an endpoint of the pool to a backend's.
#[inline(always)]
pub(super) fn of_answers<I: Family>(flow: &Flow<I::Address>) -> u64 {
    let Some((place, entry)) = tables::translation(index_of(I::Address::hash(flow, &tables::hash_key()))) else {
        return 0;
    };
    let (pool, family) = I::words(flow.source);
    // SAFETY: as in `is_of_client`.
    let (address, ports, whose) = unsafe {
        let address = (&raw const (*entry).pool).cast::<u64>();
        (
            [address.read_volatile(), address.add(1).read_volatile()],
            Ends::of((&raw const (*entry).ports).read_volatile()),
            Whose((&raw const (*entry).whose).read_volatile()),
        )
    };
    let of_flow = Whose::new(whose.service(), flow.protocol, family & detail::IPV6 != 0);
    let fits = whose.flow() == of_flow
        && address == pool
        && ports.pool == flow.source_port
        && ports.backend == flow.destination_port
        && is_made(entry);
    if !fits {
        return 0;
    }
    let id = head_of(entry).backend();
    let (Some(backend), Some(ends)) = (tables::backend(id), I::ends(id)) else { return 0 };
    if I::address_of(backend, ends) == flow.destination { u64::from(place) + 1 } else { 0 }
}

/// The index of an entry, before the mask, by the hash of what goes from the pool to the backend.
#[inline(always)]
pub(super) const fn index_of(hash: FlowHash) -> u32 {
    (hash.0 >> 16) as u32
}
