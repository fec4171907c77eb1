//! What packets do to the entry of their flow.
//!
//! ```text
//!              SYN-ACK seen, and the client's numbers fit it;               FIN of both sides, or RST
//! (half-open) ─────────────────────────────────────────────────► open ──────────────────────────────► closing
//!     │        UDP: the backend answers                            ▲                                     │
//!     │ 3 s (UDP: 30 s) after the client's last packet             └─────────────── payload ─────────────┤
//!     ▼                                                                                                  ▼ closingTimeout
//!   lapsed ◄──────────────────────────── idleTimeout (UDP: at most 120 s) ────────────────────────────  lapsed
//! ```

use grayxdp_common::{
    exceptions::{HALF_OPEN_TICKS, tick},
    explanation::Turn,
    hash::{Flow, FlowHash},
    ipv6::{Address as _, Address6},
    records::BackendRecord,
    translations::{
        Ends, Head, SEATS, SeatKey, Translation, TranslationState, UNANSWERED_TICKS, Whose, is_permit_free, place_of,
        seat,
    },
};
use grayxdp_ebpf::packet::UDP;

use super::{entry_at, head_of};
use crate::{
    atomic,
    detail::{FIN, Kind, PAYLOAD, decide},
    exceptions::{ACKNOWLEDGED_WINDOW, SENT_WINDOW},
    explain::{explains, turn},
    tables,
    verifier::keep,
};

/// Bits of what a packet is: its [`Kind`] and `FIN`, `PAYLOAD`; its service; the service's detail record.
#[inline(always)]
pub(super) const fn what(kind: Kind, bits: u64, service: u16, detail: u32) -> u64 {
    kind as u64 | (bits & (FIN | PAYLOAD)) << 8 | (service as u64) << 16 | (detail as u64) << 32
}

/// Set in [`what`] of a backend's packet that is a SYN-ACK.
pub(super) const SYN_ACK: u64 = 1 << 12;

/// The time in ticks.
#[inline(always)]
pub(super) fn now() -> u32 {
    tick(tables::coarse_ns())
}

/// Goes on with a flow by a client's packet: its backend, with the pool's endpoint in the scratch; 0 where the flow is no more, or
/// begins anew. `numbers`: sequence number (high half) and acknowledgement number.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn full_go_on(found: u64, what: u64, numbers: u64) -> u64 {
    let (Some((place, entry)), Some(pool)) = (entry_at(found), tables::pool((what >> 16) as u16)) else { return 0 };
    let (head, now) = (head_of(entry), now());
    if head.is_lapsed(now, pool.lives()) || begins_anew(entry, head, what, numbers) {
        if !explains() {
            leave(place, entry, head, head.is_lapsed(now, pool.lives()) || head.state() == TranslationState::HalfOpen);
        }
        return 0;
    }
    turn(Turn::Translated);
    leave_endpoint(entry);
    if !explains() {
        let next = after_client(entry, head, now, what, numbers);
        if next != head {
            // Where another packet of the flow was quicker, what that wrote counts.
            let _ = atomic::exchange(entry.cast(), head.0, next.0);
        }
    }
    u64::from(head.backend())
}

/// Whether a client's packet begins another flow with the same endpoints.
#[inline(always)]
fn begins_anew(entry: *mut Translation, head: Head, what: u64, numbers: u64) -> bool {
    const FIRST: u64 = Kind::First as u64;
    const DATAGRAM: u64 = Kind::Datagram as u64;
    let backend = u64::from(head.backend());
    match what & 0xff {
        FIRST if head.state() == TranslationState::HalfOpen => {
            // SAFETY: a word of a live map value.
            let initial = unsafe { (&raw const (*entry).numbers).read_volatile() } as u32;
            initial != (numbers >> 32) as u32 || !takes_flows(what, backend)
        }
        FIRST => head.is_closing(),
        DATAGRAM => !decide::stays(backend),
        _ => false,
    }
}

/// Whether a flow may begin at a backend.
#[inline(always)]
fn takes_flows(what: u64, backend: u64) -> bool {
    let detail = (what >> 32) as u32;
    if detail != 0
        && let Some(detail) = tables::detail(detail)
    {
        return decide::is_open(detail, backend);
    }
    const ENDED: u16 = BackendRecord::FLAG_DOWN | BackendRecord::FLAG_ENDS;
    tables::backend(backend as u16).is_some_and(|record| record.flags & ENDED == 0)
}

/// Leaves the pool's endpoint of an entry in the scratch.
#[inline(always)]
fn leave_endpoint(entry: *mut Translation) {
    let Some(scratch) = tables::scratch() else { return };
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU; the entry is a live map value.
    unsafe {
        let pool = (&raw const (*entry).pool).cast::<u64>();
        (*scratch).translated.pool = [pool.read_volatile(), pool.add(1).read_volatile()];
        let ports = Ends::of((&raw const (*entry).ports).read_volatile());
        (*scratch).translated.pool_port = u64::from(ports.pool);
    }
}

/// The entry after a client's packet.
#[inline(always)]
fn after_client(entry: *mut Translation, head: Head, now: u32, what: u64, numbers: u64) -> Head {
    const FIRST: u64 = Kind::First as u64;
    const RESET: u64 = Kind::Reset as u64;
    const DATAGRAM: u64 = Kind::Datagram as u64;
    let fin = if what >> 8 & FIN != 0 { Head::FIN_FORWARD } else { 0 };
    let has_payload = what >> 8 & PAYLOAD != 0;
    let is_open = head.state() == TranslationState::Open;
    match what & 0xff {
        FIRST if is_open => head,
        RESET => head.after(if is_open { now } else { head.tick() }, Head::RESET, false),
        DATAGRAM if is_open => head.at(now),
        FIRST | DATAGRAM => {
            let life = if what & 0xff == FIRST { HALF_OPEN_TICKS } else { UNANSWERED_TICKS };
            refresh_permit(own_hash(), now.wrapping_add(life), now);
            head.at(now)
        }
        _ if is_open => head.after(now, fin, has_payload),
        _ if completes(entry, numbers) => {
            release_permit(own_hash());
            tables::count_exceptions((what >> 16) as u32 & 0xffff, |counters| counters.completed += 1);
            head.in_state(TranslationState::Open).after(now, fin, has_payload)
        }
        _ => head,
    }
}

/// Whether a packet's numbers are those of the handshake that a half-open entry remembers: DATAPATH's rule 3.
#[inline(always)]
fn completes(entry: *mut Translation, numbers: u64) -> bool {
    // SAFETY: a word of a live map value.
    let remembered = unsafe { (&raw const (*entry).numbers).read_volatile() };
    let (initial, answered) = (remembered as u32, (remembered >> 32) as u32);
    let sent = ((numbers >> 32) as u32).wrapping_sub(initial).wrapping_sub(1);
    let acknowledged = (numbers as u32).wrapping_sub(answered);
    answered != 0 && sent < SENT_WINDOW && acknowledged < ACKNOWLEDGED_WINDOW
}

/// Tells a flow's entry of what its backend sent. `numbers` as in [`full_go_on`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn full_answered(found: u64, what: u64, numbers: u64) -> u64 {
    let Some((_, entry)) = entry_at(found) else { return 0 };
    let (head, now) = (head_of(entry), now());
    turn(Turn::Translated);
    if explains() {
        keep(what);
        keep(numbers);
        return 0;
    }
    let fin = if what >> 8 & FIN != 0 { Head::FIN_REVERSE } else { 0 };
    let is_reset = what & 0xff == Kind::Reset as u64;
    let next = if head.has(Head::UDP) {
        if head.state() == TranslationState::HalfOpen {
            release_permit_of(entry, head);
        }
        head.in_state(TranslationState::Open).at(now)
    } else if head.state() == TranslationState::Open {
        head.after(now, if is_reset { Head::RESET } else { fin }, what >> 8 & PAYLOAD != 0)
    } else if is_reset {
        head.after(head.tick(), Head::RESET, false)
    } else {
        if what & SYN_ACK != 0 {
            answered_syn(entry, numbers);
        }
        head
    };
    if next != head {
        // Where another packet of the flow was quicker, what that wrote counts.
        let _ = atomic::exchange(entry.cast(), head.0, next.0);
    }
    0
}

/// Writes the number of a SYN-ACK, plus one, beside that of the SYN which it acknowledges.
#[inline(always)]
fn answered_syn(entry: *mut Translation, numbers: u64) {
    // SAFETY: a word of a live map value.
    let initial = unsafe { (&raw const (*entry).numbers).read_volatile() } as u32;
    if numbers as u32 == initial.wrapping_add(1) {
        // 0 says that there is none: one number of 2^32 is taken for its neighbour, which is in the window all the same.
        let next = ((numbers >> 32) as u32).wrapping_add(1).max(1);
        // SAFETY: as above.
        unsafe { (&raw mut (*entry).numbers).write_volatile(u64::from(initial) | u64::from(next) << 32) };
    }
}

/// The hash of the flow in hand.
#[inline(always)]
fn own_hash() -> FlowHash {
    // SAFETY: as in `leave_endpoint`.
    FlowHash(tables::scratch().map_or(0, |scratch| unsafe { (*scratch).translated.hash }))
}

/// Leaves a flow to itself: clients' packets find it no more; with `frees` its place and permit are given back.
#[inline(always)]
fn leave(place: u32, entry: *mut Translation, head: Head, frees: bool) {
    give_seat_back(place, entry);
    if frees && atomic::exchange(entry.cast(), head.0, 0) && head.state() == TranslationState::HalfOpen {
        release_permit(own_hash());
    }
}

/// Frees the seat of an entry, if it is its own still.
#[inline(always)]
pub(super) fn give_seat_back(place: u32, entry: *mut Translation) {
    // SAFETY: a word of a live map value.
    let whose = Whose(unsafe { (&raw const (*entry).whose).read_volatile() });
    let Some(number) = whose.seat() else { return };
    let Some((_, seats)) = tables::seat_set(number / SEATS as u32) else { return };
    // SAFETY: within the set by the mask.
    let word = unsafe { seats.add(number as usize & (SEATS - 1)) };
    // SAFETY: a word of a live map value; others write it, each at once.
    let held = unsafe { word.read_volatile() };
    if place_of(held) == Some(place) {
        let _ = atomic::exchange(word, held, 0);
    }
}

/// Takes a permit for a flow that is half-open until a tick; false where all are held.
#[inline(always)]
pub(super) fn take_permit(hash: FlowHash, until: u32, now: u32) -> bool {
    let key = SeatKey::of(hash);
    let Some(permits) = tables::permits(key.permits) else { return false };
    let wanted = seat(until, key.fingerprint);
    let mut way = 0;
    while way < SEATS {
        // SAFETY: within the set, a live map value; others write the word, each at once.
        let held = unsafe { permits.add(way).read_volatile() };
        // SAFETY: as above.
        if is_permit_free(held, now) && (explains() || atomic::exchange(unsafe { permits.add(way) }, held, wanted)) {
            return true;
        }
        way += 1;
    }
    false
}

/// Gives a flow's permit back.
#[inline(always)]
pub(super) fn release_permit(hash: FlowHash) {
    with_permit(hash, |_| 0);
}

/// Lets a flow's permit hold until another tick. One that lapsed in between may be another's: then the flow goes on without.
#[inline(always)]
fn refresh_permit(hash: FlowHash, until: u32, now: u32) {
    with_permit(
        hash,
        |held| if is_permit_free(held, now) { held } else { u64::from(held as u32) | u64::from(until) << 32 },
    );
}

#[inline(always)]
fn with_permit(hash: FlowHash, change: impl Fn(u64) -> u64) {
    let key = SeatKey::of(hash);
    let Some(permits) = tables::permits(key.permits) else { return };
    let mut way = 0;
    while way < SEATS {
        // SAFETY: as in `take_permit`.
        let held = unsafe { permits.add(way).read_volatile() };
        if place_of(held) == Some(key.fingerprint) {
            // SAFETY: as in `take_permit`.
            let _ = atomic::exchange(unsafe { permits.add(way) }, held, change(held));
            return;
        }
        way += 1;
    }
}

/// Gives the permit of an entry's flow of UDP back.
#[inline(always)]
fn release_permit_of(entry: *mut Translation, head: Head) {
    // SAFETY: a live map value.
    let (client, ports, whose) = unsafe {
        let client = (&raw const (*entry).client).cast::<u64>();
        (
            Address6([client.read_volatile(), client.add(1).read_volatile()]),
            Ends::of((&raw const (*entry).ports).read_volatile()),
            Whose((&raw const (*entry).whose).read_volatile()),
        )
    };
    let (source_port, destination_port) = (ports.client, ports.service);
    let key = tables::hash_key();
    if whose.is_ipv6() {
        let Some(ends) = tables::ends(head.backend()) else { return };
        let destination = ends.virtual_address;
        release_permit(Address6::hash(
            &Flow { source: client, destination, source_port, destination_port, protocol: UDP },
            &key,
        ));
    } else {
        let Some(backend) = tables::backend(head.backend()) else { return };
        let (source, destination) = (client.0[0] as u32, backend.virtual_address);
        release_permit(u32::hash(&Flow { source, destination, source_port, destination_port, protocol: UDP }, &key));
    }
}
