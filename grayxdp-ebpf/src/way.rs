//! Which way a packet goes: forward to a backend, backward to a client, answered, or not ours.

use grayxdp_common::{
    directory::{EndpointKey, Entry},
    explanation::Step,
    ids::ServiceId,
    reason::Reason,
    records::Control,
};
use grayxdp_ebpf::{
    answer,
    packet::{ETHERNET_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ICMP, Ip, Packet, Ports, TCP, UDP},
};

use crate::{Arrival, Outcome, UNDECIDED, backward, errors, explain, forward, fragments, tables};

/// Decides and rewrites.
#[inline(always)]
pub(crate) fn of(arrival: Arrival) -> Outcome {
    let Some(control) = tables::control() else { return Outcome::NOT_OURS };
    let Some(ethernet) = arrival.frame.at::<[u8; ETHERNET_LEN]>(0) else { return Outcome::NOT_OURS };
    let kind: u16 = ethernet.read(12);
    if kind != ETHERTYPE_IPV4 {
        return if kind == ETHERTYPE_ARP { arp(arrival, control) } else { Outcome::NOT_OURS };
    }
    let Some(ip) = Ip::of(arrival.frame) else { return Outcome::NOT_OURS };
    if ip.is_fragment() && fragments::fragment_first(arrival.context) != fragments::FIRST {
        return without_ports(arrival, control, ip);
    }
    let Some(packet) = Packet::of_beginning(arrival.frame, ip) else { return without_ports(arrival, control, ip) };
    // Most replies go to no address that could be a virtual one.
    if control.addresses.may_hold(ip.destination)
        && let Some(entry) = tables::look_up(control.directory, packet.destination())
    {
        return forward::to_backend(arrival, control, &packet, Entry(entry));
    }
    if let Some(backend) = tables::look_up(control.directory, packet.source()) {
        return backward::to_client(arrival, control, &packet, backend as u16);
    }
    match virtual_address(control, ip.destination) {
        Some(entry) if ip.is_whole(arrival.frame, size_of::<Ports>()) => for_address(entry, Reason::NoService),
        Some(entry) => for_address(entry, Reason::Malformed),
        None => Outcome::NOT_OURS,
    }
}

/// What is known of an address, if it is a virtual one.
#[inline(always)]
fn virtual_address(control: &Control, address: u32) -> Option<Entry> {
    if !control.addresses.may_hold(address) {
        return None;
    }
    tables::look_up(control.directory, EndpointKey::address(address)).map(Entry)
}

/// A packet whose ports cannot be read: another protocol, a later fragment, a broken header.
#[inline(always)]
fn without_ports(arrival: Arrival, control: &Control, ip: Ip) -> Outcome {
    if ip.protocol == ICMP {
        let action = errors::icmp_error(arrival.context) as u32;
        if action != UNDECIDED {
            return Outcome::done(action);
        }
    }
    if ip.is_later_fragment() {
        let action = fragments::fragment(arrival.context) as u32;
        if action != UNDECIDED {
            return Outcome::done(action);
        }
    }
    let Some(entry) = virtual_address(control, ip.destination) else { return Outcome::NOT_OURS };
    if ip.is_later_fragment() || (ip.is_fragment() && ip.protocol == ICMP) {
        return for_address(entry, Reason::Fragment);
    }
    if !ip.is_whole(arrival.frame, 0) || ip.protocol == TCP || ip.protocol == UDP {
        return for_address(entry, Reason::Malformed);
    }
    if entry.has(Entry::LOCAL_ADDRESS) {
        return for_address(entry, Reason::LocalAddress);
    }
    if answer::echo(arrival.frame, ip) {
        return for_address(entry, Reason::Echo);
    }
    for_address(entry, if ip.protocol == ICMP { Reason::Icmp } else { Reason::NoService })
}

/// Counts a packet for a virtual address; what this host has itself is left to it.
#[inline(always)]
fn for_address(entry: Entry, reason: Reason) -> Outcome {
    let service = ServiceId(entry.index() as u16);
    explain::note(|explanation| explanation.step = Step::Address as u32);
    Outcome::counted(service, if entry.has(Entry::LOCAL_ADDRESS) { Reason::LocalAddress } else { reason })
}

/// Answers who has an announced virtual address.
#[inline(always)]
fn arp(arrival: Arrival, control: &Control) -> Outcome {
    let Some(target) = answer::arp_target(arrival.frame) else { return Outcome::NOT_OURS };
    let Some(entry) = virtual_address(control, target) else { return Outcome::NOT_OURS };
    if !entry.has(Entry::ANNOUNCE) {
        return Outcome::NOT_OURS;
    }
    let Some(interface) = tables::interface(arrival.interface) else { return Outcome::NOT_OURS };
    answer::arp(arrival.frame, interface.address);
    Outcome::counted(ServiceId(entry.index() as u16), Reason::Arp)
}
