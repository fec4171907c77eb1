//! Rewriting a packet to a backend and back: addresses, ports, time to live, checksums, Ethernet addresses.

use core::mem::offset_of;

use grayxdp_common::{checksum::Delta, records::NextHop};
use network_types::{ip::Ipv4Hdr, tcp::TcpHdr, udp::UdpHdr};

use crate::{
    frame::{Frame, View},
    packet::{Ip, Network, Packet, Ports},
};

/// A TCP or UDP checksum in its place.
#[derive(Clone, Copy)]
pub enum Checksum {
    /// In a whole TCP header.
    Tcp(View<TcpHdr>),
    /// In a whole UDP header: it comes along, so that nothing in here is ever undefined, which the verifier would not let pass.
    Udp(View<Ports>),
}

/// One end of a packet replaced: what is written, and what that does to the checksums.
#[derive(Clone, Copy)]
pub struct NewEnd<A = u32> {
    /// The address.
    pub address: A,
    /// The port; 0: it stays.
    pub port: u16,
    /// To the IPv4 header's checksum, a decrement of the time to live included.
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
pub fn destination<I: Network>(packet: &Packet<I>, checksum: Checksum, end: NewEnd<I::Address>, ttl: TimeToLive) {
    packet.ip.set_destination(end.address, end.ip, ttl);
    if end.port != 0 {
        packet.ports.write(2, end.port);
    }
    finish(checksum, end.l4);
}

/// Replaces where a packet comes from.
#[inline(always)]
pub fn source<I: Network>(packet: &Packet<I>, checksum: Checksum, end: NewEnd<I::Address>, ttl: TimeToLive) {
    packet.ip.set_source(end.address, end.ip, ttl);
    if end.port != 0 {
        packet.ports.write(0, end.port);
    }
    finish(checksum, end.l4);
}

/// Replaces both ends: `to` is where it goes, with all that it does to the checksums; `from` is where it comes from.
#[inline(always)]
pub fn both<I: Network>(
    packet: &Packet<I>,
    checksum: Checksum,
    to: NewEnd<I::Address>,
    from: NewEnd<I::Address>,
    ttl: TimeToLive,
) {
    packet.ip.set_destination(to.address, to.ip.and(from.ip), ttl);
    packet.ip.put_source(from.address);
    packet.ports.write(0, from.port);
    packet.ports.write(2, to.port);
    finish(checksum, to.l4.and(from.l4));
}

#[inline(always)]
fn finish(checksum: Checksum, delta: Delta) {
    match checksum {
        Checksum::Tcp(header) => {
            let old: u16 = header.read(offset_of!(TcpHdr, check));
            header.write(offset_of!(TcpHdr, check), delta.apply(old));
        }
        Checksum::Udp(header) => {
            let old: u16 = header.read(offset_of!(UdpHdr, check));
            header.write(offset_of!(UdpHdr, check), delta.apply_udp(old));
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
