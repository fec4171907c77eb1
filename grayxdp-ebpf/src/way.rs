//! Which way a packet goes: forward to a backend, backward to a client, answered, or not ours.

use grayxdp_common::{directory::Entry, explanation::Step, ids::ServiceId, reason::Reason, records::Control};
use grayxdp_ebpf::{
    answer, answer6,
    packet::{ETHERNET_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ip, Ip6, Packet, Ports, TCP, UDP},
};

use crate::{Arrival, Outcome, UNDECIDED, backward, explain, family::Family, forward, fragments, tables, tunnel};

/// Decides and rewrites.
#[inline(always)]
pub(crate) fn of(arrival: Arrival) -> Outcome {
    let Some(control) = tables::control() else { return Outcome::NOT_OURS };
    let Some(ethernet) = arrival.frame.at::<[u8; ETHERNET_LEN]>(0) else { return Outcome::NOT_OURS };
    let kind: u16 = ethernet.read(12);
    if kind != ETHERTYPE_IPV4 {
        if kind == ETHERTYPE_IPV6 {
            // Comes back only where there is no program for it.
            tables::go_on_as(arrival.context, tables::IPV6);
        }
        return if kind == ETHERTYPE_ARP { arp(arrival, control) } else { Outcome::NOT_OURS };
    }
    of_family::<Ip>(arrival, control)
}

/// The same of a packet of IPv6.
#[inline(always)]
pub(crate) fn of6(arrival: Arrival) -> Outcome {
    let Some(control) = tables::control() else { return Outcome::NOT_OURS };
    of_family::<Ip6>(arrival, control)
}

#[inline(always)]
fn of_family<I: Family>(arrival: Arrival, control: &Control) -> Outcome {
    let Some(ip) = I::read(arrival) else { return Outcome::NOT_OURS };
    if ip.is_fragment() && I::first_piece(arrival.context) != fragments::FIRST {
        return without_ports(arrival, control, ip);
    }
    let Some(packet) = Packet::of_beginning(arrival.frame, ip) else { return without_ports(arrival, control, ip) };
    let destination = ip.destination();
    // Most replies go to no address that could be a virtual one.
    if I::may_be_virtual(control, destination)
        && let Some(entry) =
            tables::look_up(control.directory, I::service_key(destination, packet.destination_port, ip.protocol()))
    {
        return forward::to_backend(arrival, control, &packet, Entry(entry));
    }
    let key = I::backend_key(ip.source(), packet.source_port, ip.protocol());
    if let Some(backend) = tables::look_up(control.directory, key) {
        return backward::to_client(arrival, control, &packet, backend as u16);
    }
    match virtual_address::<I>(control, destination) {
        Some(entry) if entry.has(Entry::POOL) => translated::<I>(arrival),
        Some(entry) if ip.is_whole(arrival.frame, size_of::<Ports>()) => for_address(entry, Reason::NoService),
        Some(entry) => for_address(entry, Reason::Malformed),
        None => Outcome::NOT_OURS,
    }
}

/// A packet of `full-nat`: goes on as the program for it.
#[inline(always)]
pub(crate) fn translated<I: Family>(arrival: Arrival) -> Outcome {
    tables::go_on_as(arrival.context, I::FULL_NAT);
    Outcome::counted(ServiceId::NONE, Reason::Fault)
}

/// What is known of an address, if it is a virtual one.
#[inline(always)]
pub(crate) fn virtual_address<I: Family>(control: &Control, address: I::Address) -> Option<Entry> {
    if !I::may_be_virtual(control, address) {
        return None;
    }
    tables::look_up(control.directory, I::address_key(address)).map(Entry)
}

/// A packet whose ports cannot be read: another protocol, a later fragment, a broken header.
#[inline(always)]
fn without_ports<I: Family>(arrival: Arrival, control: &Control, ip: I) -> Outcome {
    if ip.protocol() == I::ICMP {
        let said = I::icmp_error(arrival.context);
        if said != u64::from(UNDECIDED) {
            return tunnel::decided::<I>(arrival.context, said);
        }
        if I::tunnel_error(arrival.context) != 0 {
            return Outcome::counted(ServiceId::NONE, Reason::TunnelError);
        }
    }
    if ip.is_later_fragment() {
        let said = I::piece(arrival.context);
        if said != u64::from(UNDECIDED) {
            return tunnel::decided::<I>(arrival.context, said);
        }
    }
    if let Some(outcome) = I::neighbour_asked(arrival, control, ip) {
        return outcome;
    }
    let Some(entry) = virtual_address::<I>(control, ip.destination()) else { return Outcome::NOT_OURS };
    if entry.has(Entry::TRANSLATES) {
        return translated::<I>(arrival);
    }
    of_address(arrival, ip, entry)
}

/// What becomes of a packet for a virtual address that has no ports and belongs to no flow.
#[inline(always)]
pub(crate) fn of_address<I: Family>(arrival: Arrival, ip: I, entry: Entry) -> Outcome {
    if ip.is_later_fragment() || (ip.is_fragment() && ip.protocol() == I::ICMP) {
        return for_address(entry, Reason::Fragment);
    }
    if !ip.is_whole(arrival.frame, 0) || ip.protocol() == TCP || ip.protocol() == UDP {
        return for_address(entry, Reason::Malformed);
    }
    if entry.has(Entry::LOCAL_ADDRESS) {
        return for_address(entry, Reason::LocalAddress);
    }
    if I::echo(arrival, ip) {
        return for_address(entry, Reason::Echo);
    }
    for_address(entry, if ip.protocol() == I::ICMP { Reason::Icmp } else { Reason::NoService })
}

/// Counts a packet for a virtual address; what this host has itself is left to it.
#[inline(always)]
pub(crate) fn for_address(entry: Entry, reason: Reason) -> Outcome {
    let service = ServiceId(entry.index() as u16);
    explain::note(|explanation| explanation.step = Step::Address as u32);
    Outcome::counted(service, if entry.has(Entry::LOCAL_ADDRESS) { Reason::LocalAddress } else { reason })
}

/// Answers who has an announced virtual address.
#[inline(always)]
fn arp(arrival: Arrival, control: &Control) -> Outcome {
    let Some(target) = answer::arp_target(arrival.frame) else { return Outcome::NOT_OURS };
    let Some(entry) = virtual_address::<Ip>(control, target) else { return Outcome::NOT_OURS };
    if !entry.has(Entry::ANNOUNCE) {
        return Outcome::NOT_OURS;
    }
    let Some(interface) = tables::interface(arrival.interface) else { return Outcome::NOT_OURS };
    answer::arp(arrival.frame, interface.address);
    Outcome::counted(ServiceId(entry.index() as u16), Reason::Arp)
}

/// Answers who has an announced virtual address of IPv6; none where nobody asks for one that is virtual. An address that this host has
/// itself is the kernel's to announce.
#[inline(always)]
pub(crate) fn solicited(arrival: Arrival, control: &Control, ip: Ip6) -> Option<Outcome> {
    let target = answer6::solicited(arrival.frame, ip)?;
    let entry = virtual_address::<Ip6>(control, target)?;
    if !entry.has(Entry::ANNOUNCE) {
        return Some(Outcome::NOT_OURS);
    }
    let Some(interface) = tables::interface(arrival.interface) else { return Some(Outcome::NOT_OURS) };
    answer6::advertise(arrival.frame, ip, interface.address);
    Some(Outcome::counted(ServiceId(entry.index() as u16), Reason::Arp))
}
