//! Internet checksums (RFC 1071), and whether those of a frame are right as another implementation sees it.

use etherparse::{NetSlice, SlicedPacket, TransportSlice, UdpHeader, checksum::Sum16BitWords};

use super::read::{Datagram, word};

/// The one's complement sum of bytes, not yet folded; an odd last byte is the first of its word.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low)));
    words.sum()
}

/// The checksum over a sum.
pub(super) fn checksum(sum: u64) -> u16 {
    let mut folded = sum;
    while folded > 0xffff {
        folded = (folded & 0xffff) + (folded >> 16);
    }
    !(folded as u16)
}

/// The sum of the pseudo header of IPv4 (RFC 9293, section 3.1) or IPv6 (RFC 8200, section 8.1): addresses, protocol and length.
pub(super) fn pseudo(addresses: &[u8], protocol: u8, length: usize) -> u64 {
    sum(addresses) + u64::from(protocol) + length as u64
}

/// What a checksum becomes when the bytes under it change from one sum to another: right stays right, and what was wrong stays wrong
/// by as much. A sum of something is never zero, so the result is never 0xffff.
pub(super) fn carried(old: u16, before: u64, after: u64) -> u16 {
    const ONES: u64 = 0xffff;
    ((u64::from(old) + before % ONES + ONES - after % ONES) % ONES) as u16
}

/// The same of UDP, where 0 says that there is none and a sum of 0 is sent as 0xffff (RFC 768).
pub(super) fn carried_udp(old: u16, before: u64, after: u64) -> u16 {
    match (old, carried(old, before, after)) {
        (0, _) => 0,
        (_, 0) => 0xffff,
        (_, fresh) => fresh,
    }
}

/// Whether the checksum of a frame's IPv4 header (where there is one) and that of what is in the packet are right, as `etherparse` sees
/// it; none for what it cannot read whole, or knows no checksum of. A later piece has none, whatever its offset.
#[must_use]
pub fn are_right(frame: &[u8]) -> Option<(bool, bool)> {
    if Datagram::of(frame, word(frame, 12)?)?.is_later_piece() {
        return None;
    }
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    match packet.net? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            let right = header.to_header().calc_header_checksum() == header.header_checksum();
            Some((right, is_right_over_ipv4(header.source(), header.destination(), &packet.transport?)?))
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            Some((true, is_right_over_ipv6(header.source(), header.destination(), &packet.transport?)?))
        }
        NetSlice::Arp(_) => None,
    }
}

fn is_right_over_ipv4(source: [u8; 4], destination: [u8; 4], transport: &TransportSlice<'_>) -> Option<bool> {
    match transport {
        TransportSlice::Tcp(tcp) => Some(tcp.calc_checksum_ipv4(source, destination).ok()? == tcp.checksum()),
        TransportSlice::Udp(udp) => {
            let header: UdpHeader = udp.to_header();
            let right = header.calc_checksum_ipv4_raw(source, destination, udp.payload()).ok()?;
            Some(header.checksum == 0 || header.checksum == right)
        }
        TransportSlice::Icmpv4(icmp) => Some(Sum16BitWords::new().add_slice(icmp.slice()).ones_complement() == 0),
        TransportSlice::Icmpv6(_) => None,
    }
}

fn is_right_over_ipv6(source: [u8; 16], destination: [u8; 16], transport: &TransportSlice<'_>) -> Option<bool> {
    match transport {
        TransportSlice::Tcp(tcp) => Some(tcp.calc_checksum_ipv6(source, destination).ok()? == tcp.checksum()),
        TransportSlice::Udp(udp) => {
            let header: UdpHeader = udp.to_header();
            Some(header.checksum == header.calc_checksum_ipv6_raw(source, destination, udp.payload()).ok()?)
        }
        TransportSlice::Icmpv6(icmp) => Some(icmp.is_checksum_valid(source, destination)),
        TransportSlice::Icmpv4(_) => None,
    }
}
