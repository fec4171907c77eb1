//! `full-nat`: programs of their own, as which the usual ones go on for what belongs to such services. See
//! [`grayxdp_common::translations`].
//!
//! The parts are exported functions: the verifier looks at each once. What they find out meets in the scratch.

mod backward;
mod errors;
mod find;
mod forward;
mod open;
mod parts;
mod pieces;
mod state;

use grayxdp_common::{
    directory::Entry,
    explanation::Step,
    ids::ServiceId,
    reason::Reason,
    records::Control,
    translations::{Head, Translation},
};
use grayxdp_ebpf::{
    packet::{Packet, Ports},
    rewrite::Checksum,
};

use self::parts::Translating;
use crate::{
    Arrival, Outcome, UNDECIDED,
    detail::Kind,
    explain::note,
    tables,
    way::{self, for_address, virtual_address},
};

/// The flow in hand, as far as the parts tell each other of it.
#[repr(C)]
pub(crate) struct Translated {
    /// Hash of the client's whole 5-tuple.
    pub(crate) hash: u64,
    /// From where the backend sees the client.
    pub(crate) pool: [u64; 2],
    /// The port there, as it lies in the packet.
    pub(crate) pool_port: u64,
}

/// What becomes of a packet of `full-nat`.
#[inline(always)]
pub(crate) fn of<I: Translating>(arrival: Arrival) -> Outcome {
    let Some(control) = tables::control() else { return Outcome::NOT_OURS };
    let Some(ip) = I::read(arrival) else { return Outcome::NOT_OURS };
    let packet = if ip.is_later_fragment() { None } else { Packet::of_beginning(arrival.frame, ip) };
    let Some(packet) = packet else { return without_ports(arrival, control, ip) };
    let destination = ip.destination();
    let key = I::service_key(destination, packet.destination_port, ip.protocol());
    if let Some(entry) = tables::look_up(control.directory, key) {
        return forward::to_backend(arrival, control, &packet, Entry(entry));
    }
    match virtual_address::<I>(control, destination) {
        Some(entry) if !ip.is_whole(arrival.frame, size_of::<Ports>()) => for_address(entry, Reason::Malformed),
        Some(entry) if entry.has(Entry::POOL) => backward::to_client(arrival, control, &packet, entry),
        Some(entry) => for_address(entry, Reason::NoService),
        None => Outcome::NOT_OURS,
    }
}

/// A packet whose ports cannot be read.
#[inline(always)]
fn without_ports<I: Translating>(arrival: Arrival, control: &Control, ip: I) -> Outcome {
    if ip.protocol() == I::ICMP {
        let said = errors::error::<I>(arrival.context);
        if said != u64::from(UNDECIDED) {
            return Outcome::done(said as u32);
        }
    }
    if ip.is_later_fragment() {
        let said = pieces::piece::<I>(arrival.context);
        if said != u64::from(UNDECIDED) {
            return Outcome::done(said as u32);
        }
    }
    match virtual_address::<I>(control, ip.destination()) {
        Some(entry) => way::of_address(arrival, ip, entry),
        None => Outcome::NOT_OURS,
    }
}

/// A packet of a flow that is not known, or no more: of TCP answered with RST.
#[inline(always)]
fn unknown_flow<I: Translating>(
    arrival: Arrival,
    packet: &Packet<I>,
    checksum: Checksum,
    kind: Kind,
    service: ServiceId,
) -> Outcome {
    match checksum {
        Checksum::Tcp(header) if kind != Kind::Reset && I::reset(arrival, packet, header) => {
            Outcome::counted(service, Reason::UnknownFlow)
        }
        Checksum::Tcp(_) | Checksum::Udp(_) => Outcome::counted(service, Reason::UnknownFlowDropped),
    }
}

/// An entry at a place that an exported function gave: counted from 1.
#[inline(always)]
fn entry_at(found: u64) -> Option<(u32, *mut Translation)> {
    tables::translation((found as u32).wrapping_sub(1))
}

/// The first word of an entry.
#[inline(always)]
fn head_of(entry: *mut Translation) -> Head {
    // SAFETY: a word of a live map value; others write it, each at once.
    Head(unsafe { (&raw const (*entry).head).read_volatile() })
}

/// Tells which backend a packet is of.
#[inline(always)]
fn note_step(step: Step, id: u16, service: u16, version: u16) {
    note(|explanation| {
        explanation.step = step as u32;
        (explanation.service, explanation.version, explanation.backend) = (service, version, id);
    });
}
