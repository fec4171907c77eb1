//! Gratuitous ARP: tells the link that an announced virtual address is here now (RFC 5944, section 4.6).

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use etherparse::{ArpEthIpv4Packet, ArpOperation, PacketBuilder};

/// Broadcasts that `address` is at `ethernet`, on one interface.
pub(super) fn announce(interface: u32, ethernet: [u8; 6], address: Ipv4Addr) -> io::Result<()> {
    let arp = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: ethernet,
        sender_ipv4: address.octets(),
        target_mac: [0; 6],
        target_ipv4: address.octets(),
    };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(ethernet, [255; 6]).arp(arp.into()).write(&mut frame).expect("a vector takes all bytes");
    send(interface, &frame)
}

fn send(interface: u32, frame: &[u8]) -> io::Result<()> {
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
    to.sll_protocol = (libc::ETH_P_ARP as u16).to_be();
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
