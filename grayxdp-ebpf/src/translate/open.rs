//! Opening a flow: a place with a free endpoint of the pool, a permit, the entry, a seat. What takes a place takes it by an exchange of its
//! first word, so of two CPUs one comes first.

use grayxdp_common::{
    exceptions::HALF_OPEN_TICKS,
    explanation::Turn,
    hash::{Flow, FlowHash},
    ipv6::Address as _,
    reason::Reason,
    translations::{
        Ends, Head, POOL_ADDRESSES, PROBES, Pool, SEATS, SeatKey, Translation, TranslationState, UNANSWERED_TICKS,
        Whose, candidate, place_of, seat as seat_of,
    },
};
use grayxdp_ebpf::packet::{Packet, UDP};

use super::{
    entry_at,
    find::index_of,
    head_of,
    parts::Translating,
    state::{give_seat_back, now, release_permit, take_permit},
};
use crate::{
    Arrival, atomic, detail,
    explain::{explains, turn},
    tables,
    verifier::keep,
};

/// Opens a flow of the packet in hand, whose hash is in the scratch: 0 with the place in it, else a [`Reason`] plus one.
#[inline(always)]
pub(super) fn open<I: Translating>(
    arrival: Arrival,
    packet: &Packet<I>,
    backend: u16,
    service: u16,
    sequence: u32,
) -> Result<u64, Reason> {
    turn(Turn::Translating);
    let is_udp = packet.ip.protocol() == UDP;
    if full_permit(u64::from(is_udp)) == 0 {
        return Err(Reason::HalfOpenFull);
    }
    let place = I::claim(arrival.context, u64::from(backend) | u64::from(service) << 16);
    if place == 0 {
        full_give_back(0);
        return Err(Reason::NoSourcePort);
    }
    if explains() {
        return Ok(place);
    }
    I::fill(arrival.context, place, u64::from(backend) | u64::from(service) << 16, u64::from(sequence));
    let seated = full_seat(place);
    if seated == 0 {
        full_give_back(place);
        return Err(Reason::FlowTableFull);
    }
    tables::count_exceptions(u32::from(service), |counters| counters.half_open += 1);
    Ok(place)
}

/// The flow's hash.
#[inline(always)]
fn hash() -> FlowHash {
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
    FlowHash(tables::scratch().map_or(0, |scratch| unsafe { (*scratch).translated.hash }))
}

/// Takes a permit: 1, or 0 where all are held.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn full_permit(is_udp: u64) -> u64 {
    let now = now();
    let life = if is_udp != 0 { UNANSWERED_TICKS } else { HALF_OPEN_TICKS };
    u64::from(take_permit(hash(), now.wrapping_add(life), now))
}

/// Gives back what was taken: the permit, and a place if it is not 0.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn full_give_back(place: u64) -> u64 {
    if explains() {
        keep(place);
        return 0;
    }
    if place != 0
        && let Some((_, entry)) = entry_at(place)
    {
        let _ = atomic::exchange(entry.cast(), head_of(entry).0, 0);
    }
    release_permit(hash());
    0
}

/// Takes a place whose endpoint of the pool is free and leaves that in the scratch: the place, or 0 for none. `backend`: its id, and
/// that of the service.
#[inline(always)]
pub(super) fn claim<I: Translating>(arrival: Arrival, backend: u64) -> u64 {
    let (id, service) = (backend as u16, (backend >> 16) as u16);
    let Some(ip) = I::again(arrival) else { return 0 };
    let (Some(record), Some(ends), Some(pool)) = (tables::backend(id), I::ends(id), tables::pool(service)) else {
        return 0;
    };
    // SAFETY: a word of a live map value, which user space writes at once.
    let selected = unsafe { (&raw const pool.selected).read_volatile() };
    let addresses = Pool::addresses(selected);
    if addresses == 0 {
        return 0;
    }
    let Some(scratch) = tables::scratch() else { return 0 };
    let (hash, now) = (hash(), now());
    let port = if record.port == 0 {
        // Where the client's port is kept it is that of the service.
        let Some(port) = destination_port::<I>(arrival) else { return 0 };
        port
    } else {
        record.port
    };
    let (backend, protocol) = (I::address_of(record, ends), ip.protocol());
    let mut probe = 0;
    while probe < PROBES {
        let (index, number) = candidate(hash, probe, addresses);
        let words = pool.lists[Pool::list(selected)][index as usize & (POOL_ADDRESSES - 1)].0;
        let flow = Flow {
            source: I::of_words(words),
            destination: backend,
            source_port: number.to_be(),
            destination_port: port,
            protocol,
        };
        if let Some((place, entry)) = tables::translation(index_of(I::Address::hash(&flow, &tables::hash_key())))
            && take(place, entry, id, now, protocol)
        {
            // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
            unsafe {
                (*scratch).translated.pool = words;
                (*scratch).translated.pool_port = u64::from(number.to_be());
            }
            return u64::from(place) + 1;
        }
        probe += 1;
    }
    0
}

#[inline(always)]
fn destination_port<I: Translating>(arrival: Arrival) -> Option<u16> {
    Packet::of_beginning(arrival.frame, I::again(arrival)?).map(|packet| packet.destination_port)
}

/// Takes a place that is free or lapsed.
#[inline(always)]
fn take(place: u32, entry: *mut Translation, backend: u16, now: u32, protocol: u8) -> bool {
    let head = head_of(entry);
    if head.state() != TranslationState::Free {
        // SAFETY: a word of a live map value.
        let whose = Whose(unsafe { (&raw const (*entry).whose).read_volatile() });
        if let Some(pool) = tables::pool(whose.service())
            && !head.is_lapsed(now, pool.lives())
        {
            return false;
        }
    }
    if explains() {
        return true;
    }
    let flags = if protocol == UDP { Head::UDP } else { 0 };
    let mine = Head::new(TranslationState::Making, backend, now, flags);
    if !atomic::exchange(entry.cast(), head.0, mine.0) {
        return false;
    }
    if head.state() != TranslationState::Free {
        give_seat_back(place, entry);
    }
    true
}

/// Writes the entry of the packet's flow at a place that is taken.
#[inline(always)]
pub(super) fn fill<I: Translating>(arrival: Arrival, place: u64, backend: u64, sequence: u64) -> u64 {
    let (Some((_, entry)), Some(scratch)) = (entry_at(place), tables::scratch()) else { return 0 };
    let Some(ip) = I::again(arrival) else { return 0 };
    let (Some(packet), Some(record)) = (Packet::of_beginning(arrival.frame, ip), tables::backend(backend as u16))
    else {
        return 0;
    };
    let (client, family) = I::words(ip.source());
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
    let (pool, pool_port) = unsafe { ((*scratch).translated.pool, (*scratch).translated.pool_port) };
    let ports = Ends {
        client: packet.source_port,
        pool: pool_port as u16,
        backend: if record.port == 0 { packet.destination_port } else { record.port },
        service: packet.destination_port,
    };
    let whose = Whose::new((backend >> 16) as u16, ip.protocol(), family & detail::IPV6 != 0);
    // SAFETY: a live map value that nobody else writes while its state is that of one that is made.
    unsafe {
        (&raw mut (*entry).numbers).write_volatile(sequence);
        let words = (&raw mut (*entry).client).cast::<u64>();
        words.write_volatile(client[0]);
        words.add(1).write_volatile(client[1]);
        let words = (&raw mut (*entry).pool).cast::<u64>();
        words.write_volatile(pool[0]);
        words.add(1).write_volatile(pool[1]);
        (&raw mut (*entry).ports).write_volatile(ports.word());
        (&raw mut (*entry).whose).write_volatile(whose.0);
    }
    let head = head_of(entry);
    let _ = atomic::exchange(entry.cast(), head.0, head.in_state(TranslationState::HalfOpen).0);
    0
}

/// Gives the entry at a place a seat: the place; 0 where there is none. Where another CPU opens the same flow at the same time each gets one;
/// later packets find the first, and the other entry lapses.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn full_seat(place: u64) -> u64 {
    let Some((index, entry)) = entry_at(place) else { return 0 };
    let key = SeatKey::of(hash());
    let mut number = seat_in(key.first, key.fingerprint, index);
    if number == 0 {
        number = seat_in(key.second, key.fingerprint, index);
    }
    if number == 0 {
        return 0;
    }
    // SAFETY: a word of a live map value.
    let whose = Whose(unsafe { (&raw const (*entry).whose).read_volatile() });
    // SAFETY: as above; nobody else writes it.
    unsafe { (&raw mut (*entry).whose).write_volatile(whose.with_seat(number as u32 - 1).0) };
    place
}

/// Takes a seat in a set: its number counted from 1, or 0.
#[inline(always)]
fn seat_in(set: u32, fingerprint: u32, place: u32) -> u64 {
    let Some((first, seats)) = tables::seat_set(set) else { return 0 };
    let mut way = 0;
    while way < SEATS {
        // SAFETY: within the set, a live map value; others write the word, each at once.
        let word = unsafe { seats.add(way) };
        // SAFETY: as above.
        let held = unsafe { word.read_volatile() };
        let number = first + way as u32;
        if (held == 0 || is_stale(held, number)) && atomic::exchange(word, held, seat_of(fingerprint, place)) {
            return u64::from(number) + 1;
        }
        way += 1;
    }
    0
}

/// Whether a seat is that of an entry which does not know of it: its place was taken by another flow, or freed.
#[inline(always)]
fn is_stale(held: u64, number: u32) -> bool {
    let Some((_, entry)) = place_of(held).and_then(tables::translation) else { return true };
    let head = head_of(entry);
    // SAFETY: a word of a live map value.
    let whose = Whose(unsafe { (&raw const (*entry).whose).read_volatile() });
    match head.state() {
        TranslationState::Free => true,
        // It may be about to write down its seat.
        TranslationState::Making => false,
        TranslationState::HalfOpen | TranslationState::Open => whose.seat().is_some_and(|seat| seat != number),
    }
}
