//! Rewriting a packet to a backend and back: addresses, ports, time to live, checksums, Ethernet addresses.

use core::mem::offset_of;

use grayxdp_common::{checksum::Delta, records::NextHop};
use network_types::{ip::Ipv4Hdr, tcp::TcpHdr, udp::UdpHdr};

use crate::{
    frame::{Frame, View},
    packet::{Ip, Packet},
};

/// A TCP or UDP checksum in its place.
#[derive(Clone, Copy)]
pub enum Checksum {
    /// In a whole TCP header.
    Tcp(View<TcpHdr>),
    /// In the UDP header of the packet.
    Udp,
}

/// One end of a packet replaced: what is written, and what that does to the checksums.
#[derive(Clone, Copy)]
pub struct NewEnd {
    /// The address.
    pub address: u32,
    /// The port; 0: it stays.
    pub port: u16,
    /// To the IP header's checksum, a decrement of the time to live included.
    pub ip: Delta,
    /// To the TCP or UDP checksum.
    pub l4: Delta,
}

/// What happens to the time to live.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TimeToLive {
    /// This host forwards: it falls by one.
    Decrement,
    /// The kernel will forward, and lower it itself.
    Keep,
}

/// Replaces where a packet goes.
#[inline(always)]
pub fn destination(packet: &Packet, checksum: Checksum, end: NewEnd, ttl: TimeToLive) {
    packet.ip.header.write(offset_of!(Ipv4Hdr, dst_addr), end.address);
    if end.port != 0 {
        packet.ports.write(2, end.port);
    }
    finish(packet, checksum, end, ttl);
}

/// Replaces where a packet comes from.
#[inline(always)]
pub fn source(packet: &Packet, checksum: Checksum, end: NewEnd, ttl: TimeToLive) {
    packet.ip.header.write(offset_of!(Ipv4Hdr, src_addr), end.address);
    if end.port != 0 {
        packet.ports.write(0, end.port);
    }
    finish(packet, checksum, end, ttl);
}

/// Replaces where a piece of a datagram goes that has no ports; `delta` is that of [`NewEnd::ip`].
#[inline(always)]
pub fn address_of_destination(ip: Ip, address: u32, delta: Delta, ttl: TimeToLive) {
    ip.header.write(offset_of!(Ipv4Hdr, dst_addr), address);
    finish_ip(ip, delta, ttl);
}

/// Replaces where such a piece comes from.
#[inline(always)]
pub fn address_of_source(ip: Ip, address: u32, delta: Delta, ttl: TimeToLive) {
    ip.header.write(offset_of!(Ipv4Hdr, src_addr), address);
    finish_ip(ip, delta, ttl);
}

#[inline(always)]
fn finish_ip(ip: Ip, delta: Delta, ttl: TimeToLive) {
    let delta = match ttl {
        TimeToLive::Decrement => {
            ip.header.write(offset_of!(Ipv4Hdr, ttl), ip.ttl().wrapping_sub(1));
            delta
        }
        TimeToLive::Keep => delta.and(Delta::replace16(u16::from_ne_bytes([0, 0]), u16::from_ne_bytes([1, 0]))),
    };
    apply_ip(ip, delta);
}

#[inline(always)]
fn finish(packet: &Packet, checksum: Checksum, end: NewEnd, ttl: TimeToLive) {
    finish_ip(packet.ip, end.ip, ttl);
    match checksum {
        Checksum::Tcp(header) => {
            let old: u16 = header.read(offset_of!(TcpHdr, check));
            header.write(offset_of!(TcpHdr, check), end.l4.apply(old));
        }
        Checksum::Udp => {
            let old: u16 = packet.ports.read(offset_of!(UdpHdr, check));
            packet.ports.write(offset_of!(UdpHdr, check), end.l4.apply_udp(old));
        }
    }
}

/// Mends the IP header's checksum.
#[inline(always)]
pub fn apply_ip(ip: Ip, delta: Delta) {
    let old: u16 = ip.header.read(offset_of!(Ipv4Hdr, check));
    ip.header.write(offset_of!(Ipv4Hdr, check), delta.apply(old));
}

/// Writes both Ethernet addresses; a frame without room for them cannot occur behind a parsed IP header.
#[inline(always)]
pub fn ethernet(frame: Frame, hop: &NextHop) {
    if let Some(header) = frame.at::<[u8; 14]>(0) {
        header.write(0, hop.head);
        header.write(8, hop.tail);
    }
}
