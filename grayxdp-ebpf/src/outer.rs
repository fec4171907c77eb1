//! The header around a packet in a tunnel (RFC 2003, RFC 2473), and the Ethernet header before it.

use core::mem::offset_of;

use grayxdp_common::{checksum::fold, ipv6::Address6, records::NextHop};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    frame::Frame,
    packet::{ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV6_HEADER_LEN, Ip, Ip6, Network as _},
    quote::Quotable as _,
};

/// Bytes of an outer header of IPv4.
pub const IPV4_LEN: usize = 20;
/// Bytes of an outer header of IPv6.
pub const IPV6_LEN: usize = IPV6_HEADER_LEN;
/// Time to live of an outer header: the tunnel is a link of the inner packet's way, whatever its length.
const TTL: u8 = 64;
/// Protocol number of IPv4 in a tunnel.
pub const IPV4_INSIDE: u8 = 4;
/// Protocol number of IPv6 in a tunnel.
pub const IPV6_INSIDE: u8 = 41;

/// What of a packet shows in the header around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Bytes of the packet.
    pub length: u64,
    /// DSCP and ECN: taken over (RFC 6040, normal mode; a backend's kernel brings congestion back in).
    pub traffic_class: u8,
    /// [`IPV4_INSIDE`] or [`IPV6_INSIDE`].
    pub protocol: u8,
    /// Number and flags of an outer header of IPv4, two 16-bit words as they lie in the packet.
    pub identification: u32,
    /// A hash of the flow.
    pub hash: u32,
}

/// Both ends of a tunnel; of IPv4 the last words count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Who sends.
    pub source: Address6,
    /// Who is to take the packet out.
    pub destination: Address6,
}

/// Writes the outer header of IPv4 behind the Ethernet header; false where there is no room.
#[inline(always)]
#[must_use]
pub fn ipv4(frame: Frame, inner: &Inner, ends: &Ends) -> bool {
    let Some(header) = frame.at::<[u8; IPV4_LEN]>(ETHERNET_LEN) else { return false };
    let (source, destination) = ((ends.source.0[1] >> 32) as u32, (ends.destination.0[1] >> 32) as u32);
    let length = (inner.length + IPV4_LEN as u64) as u16;
    let words = [
        u16::from_ne_bytes([0x45, inner.traffic_class]),
        length.to_be(),
        inner.identification as u16,
        (inner.identification >> 16) as u16,
        u16::from_ne_bytes([TTL, inner.protocol]),
        0,
        source as u16,
        (source >> 16) as u16,
        destination as u16,
        (destination >> 16) as u16,
    ];
    let mut sum = 0;
    let mut index = 0;
    while index < words.len() {
        sum += words[index] as u32;
        index += 1;
    }
    header.write(0, words[0] as u32 | (words[1] as u32) << 16);
    header.write(4, inner.identification);
    header.write(8, words[4] as u32 | (!fold(sum) as u32) << 16);
    header.write(12, source);
    header.write(16, destination);
    true
}

/// Writes the outer header of IPv6 behind the Ethernet header; false where there is no room.
#[inline(always)]
#[must_use]
pub fn ipv6(frame: Frame, inner: &Inner, ends: &Ends) -> bool {
    const FLOW_LABEL: u32 = 0xf_ffff;
    let Some(header) = frame.at::<[u8; IPV6_LEN]>(ETHERNET_LEN) else { return false };
    let first = 6 << 28 | (inner.traffic_class as u32) << 20 | inner.hash & FLOW_LABEL;
    header.write(0, first.to_be());
    header.write(4, (inner.length as u16).to_be());
    header.write(6, u16::from_ne_bytes([inner.protocol, TTL]));
    for (at, word) in
        [(8, ends.source.0[0]), (16, ends.source.0[1]), (24, ends.destination.0[0]), (32, ends.destination.0[1])]
    {
        header.write(at, word);
    }
    true
}

/// Whether an ICMP error repeats a packet that this host put into a tunnel: it came from the address that the error is for, and there
/// is another packet in it.
#[inline(always)]
#[must_use]
pub fn is_repeated(frame: Frame, ip: Ip) -> bool {
    let Some(at) = ip.behind().filter(|_| ip.protocol == Ip::ICMP) else { return false };
    let (Some(icmp), Some(repeated)) = (frame.at::<[u8; 8]>(at), frame.at::<Ipv4Hdr>(at + 8)) else { return false };
    let protocol: u8 = repeated.read(offset_of!(Ipv4Hdr, proto));
    Ip::is_error(icmp.read(0))
        && protocol == IPV4_INSIDE
        && repeated.read::<u32>(offset_of!(Ipv4Hdr, src_addr)) == ip.destination
}

/// The same of IPv6.
#[inline(always)]
#[must_use]
pub fn is_repeated6(frame: Frame, ip: Ip6) -> bool {
    let Some(at) = ip.behind().filter(|_| ip.protocol() == Ip6::ICMP) else { return false };
    let (Some(icmp), Some(repeated)) = (frame.at::<[u8; 8]>(at), frame.at::<Ipv6Hdr>(at + 8)) else { return false };
    let protocol: u8 = repeated.read(offset_of!(Ipv6Hdr, next_hdr));
    let source = Address6([repeated.read(8), repeated.read(16)]);
    let is_ours = protocol == IPV4_INSIDE || protocol == IPV6_INSIDE;
    Ip6::is_error(icmp.read(0)) && is_ours && source == ip.destination()
}

/// The Ethernet addresses of a packet, as two words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    first: u64,
    second: u32,
}

impl Ethernet {
    /// Towards a next hop, or as the packet came where none is known; none where the frame is too short. Without a branch: of two
    /// places to read from the verifier would not know which is meant.
    #[inline(always)]
    #[must_use]
    pub fn towards(hop: &NextHop, frame: Frame) -> Option<Self> {
        let old = frame.at::<[u8; ETHERNET_LEN]>(0)?;
        let (first, second): (u64, u32) = (old.read(0), old.read(8));
        let known = 0_u64.wrapping_sub(u64::from(hop.is_known()));
        Some(Self {
            first: hop.head & known | first & !known,
            second: hop.tail & known as u32 | second & !known as u32,
        })
    }

    /// Writes them before the outer header.
    #[inline(always)]
    #[must_use]
    pub fn write(&self, frame: Frame, is_ipv6: bool) -> bool {
        let Some(header) = frame.at::<[u8; ETHERNET_LEN]>(0) else { return false };
        header.write(0, self.first);
        header.write(8, self.second);
        header.write(12, if is_ipv6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 });
        true
    }
}
