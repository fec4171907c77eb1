//! Tells the link that an announced virtual address is here now: gratuitous ARP (RFC 5944, section 4.6), unsolicited neighbour
//! advertisement (RFC 4861, section 7.2.6).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use etherparse::{ArpEthIpv4Packet, ArpOperation, PacketBuilder};

/// Tells everybody on the link of one interface that `address` is at `ethernet`.
pub(super) fn announce(interface: u32, ethernet: [u8; 6], address: IpAddr) -> io::Result<()> {
    let (protocol, frame) = match address {
        IpAddr::V4(address) => (libc::ETH_P_ARP, arp(ethernet, address)),
        IpAddr::V6(address) => (libc::ETH_P_IPV6, advertisement(ethernet, address)),
    };
    send(interface, protocol as u16, &frame)
}

/// To all nodes; it overrides what they knew.
fn advertisement(ethernet: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const ADVERTISEMENT: u8 = 136;
    const OVERRIDE: [u8; 4] = [0x20, 0, 0, 0];
    const TARGET_ADDRESS: [u8; 2] = [2, 1];
    let payload = [&address.octets()[..], &TARGET_ADDRESS, &ethernet].concat();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(ethernet, [0x33, 0x33, 0, 0, 0, 1])
        .ipv6(address.octets(), ALL_NODES, 255)
        .icmpv6_raw(ADVERTISEMENT, 0, OVERRIDE)
        .write(&mut frame, &payload)
        .expect("a vector takes all bytes");
    frame
}

fn arp(ethernet: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let arp = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: ethernet,
        sender_ipv4: address.octets(),
        target_mac: [0; 6],
        target_ipv4: address.octets(),
    };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(ethernet, [255; 6]).arp(arp.into()).write(&mut frame).expect("a vector takes all bytes");
    frame
}

fn send(interface: u32, protocol: u16, frame: &[u8]) -> io::Result<()> {
    // SAFETY: plain numbers; the result is checked before it is used.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: all-zero is a valid value of this plain C structure.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = interface.cast_signed();
    to.sll_protocol = protocol.to_be();
    // SAFETY: the frame and the address are live for the call and their lengths are given.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
