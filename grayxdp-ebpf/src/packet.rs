//! What a frame holds, as far as choosing and counting need it: TCP or UDP over either family of IP.

mod ipv4;
mod ipv6;

use grayxdp_common::{checksum::Delta, hash::Flow, ipv6::Address};
use network_types::tcp::TcpHdr;

use crate::{
    frame::{Frame, View},
    rewrite::TimeToLive,
};

pub(crate) use ipv4::FRAGMENT_OFFSET;
pub use ipv4::Ip;
pub use ipv6::{Extensions, HEADER_LEN as IPV6_HEADER_LEN, Ip6};

/// Bytes of an Ethernet header.
pub const ETHERNET_LEN: usize = 14;
/// EtherType of IPv4, as it lies in memory.
pub const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
/// EtherType of IPv6, as it lies in memory.
pub const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();
/// EtherType of ARP, as it lies in memory.
pub const ETHERTYPE_ARP: u16 = 0x0806_u16.to_be();
/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// TCP flags, byte 13 of the header.
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Opens a connection.
    pub const SYN: u8 = 2;
    /// Ends a connection at once.
    pub const RST: u8 = 4;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 16;
}

/// An IP header in a frame, of either family.
pub trait Network: Copy {
    /// An address as it lies in the packet.
    type Address: Address;

    /// The protocol number of its ICMP.
    const ICMP: u8;
    /// Whether a UDP datagram must have a checksum (RFC 8200, section 8.1).
    const UDP_HAS_CHECKSUM: bool;

    /// The header behind the Ethernet header.
    fn of(frame: Frame) -> Option<Self>;
    /// Who sent it.
    fn source(self) -> Self::Address;
    /// Whom it is for.
    fn destination(self) -> Self::Address;
    /// Number of the protocol of what lies behind all headers of IP.
    fn protocol(self) -> u8;
    /// Where that begins in the frame; none where the headers are broken.
    fn behind(self) -> Option<usize>;
    /// Whether this is a piece of a datagram.
    fn is_fragment(self) -> bool;
    /// Whether this is a piece of a datagram, but not the first: it has no ports.
    fn is_later_fragment(self) -> bool;
    /// Whether nobody on the way may cut it into pieces.
    fn must_not_be_fragmented(self) -> bool;
    /// Length of the datagram, header included, as it says itself.
    fn total_len(self) -> u64;
    /// Time to live, or hop limit.
    fn ttl(self) -> u8;
    /// Service byte or traffic class: DSCP and ECN.
    fn traffic_class(self) -> u8;
    /// The protocol number of its packets in a tunnel.
    const INSIDE: u8;
    /// Number and flags of an outer header of IPv4 around it, as they lie in the packet: may it be cut into pieces, so may that, and
    /// pieces of one datagram have numbers of their own.
    fn outer_identification(self) -> u32;
    /// DSCP, without the ECN bits.
    fn dscp(self) -> u8;
    /// Replaces whom it is for; `delta` is what that and a decrement of the time to live add behind the header's
    /// checksum.
    fn set_destination(self, address: Self::Address, delta: Delta, ttl: TimeToLive);
    /// Replaces who sent it.
    fn set_source(self, address: Self::Address, delta: Delta, ttl: TimeToLive);
    /// Writes who sent it, and nothing else: what that does to checksums goes with [`Network::set_destination`].
    fn put_source(self, address: Self::Address);
    /// Whether an address is no single host's.
    fn is_of_many(address: Self::Address) -> bool;

    /// Whether the frame holds all of the datagram, and the datagram its headers and some bytes behind them.
    #[inline(always)]
    fn is_whole(self, frame: Frame, behind: usize) -> bool {
        let Some(offset) = self.behind() else { return false };
        let end = self.total_len() + ETHERNET_LEN as u64;
        end >= (offset + behind) as u64 && end <= frame.len()
    }
}

/// The first eight bytes of TCP and UDP: both have the ports there.
pub type Ports = [u8; 8];

/// A TCP segment or UDP datagram with all headers in place.
#[derive(Clone, Copy)]
pub struct Packet<I = Ip> {
    /// The IP header.
    pub ip: I,
    /// The first bytes of the TCP or UDP header.
    pub ports: View<Ports>,
    /// Where the TCP or UDP header begins.
    pub offset: usize,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
}

impl<I: Network> Packet<I> {
    /// The packet in a frame; none where ports cannot be read: another protocol, a later fragment, a broken or cut header.
    #[inline(always)]
    #[must_use]
    pub fn of(frame: Frame, ip: I) -> Option<Self> {
        if ip.is_later_fragment() { None } else { Self::of_beginning(frame, ip) }
    }

    /// The same of what is known to be no later fragment.
    #[inline(always)]
    #[must_use]
    pub fn of_beginning(frame: Frame, ip: I) -> Option<Self> {
        if ip.protocol() != TCP && ip.protocol() != UDP {
            return None;
        }
        let offset = ip.behind()?;
        let ports = frame.at::<Ports>(offset)?;
        Some(Self { ip, ports, offset, source_port: ports.read(0), destination_port: ports.read(2) })
    }

    /// Its flow, seen as a client's packet.
    #[inline(always)]
    #[must_use]
    pub fn flow(&self) -> Flow<I::Address> {
        Flow {
            source: self.ip.source(),
            destination: self.ip.destination(),
            source_port: self.source_port,
            destination_port: self.destination_port,
            protocol: self.ip.protocol(),
        }
    }

    /// The TCP header; none where it is cut.
    #[inline(always)]
    #[must_use]
    pub fn tcp(&self, frame: Frame) -> Option<View<TcpHdr>> {
        frame.at::<TcpHdr>(self.offset)
    }
}
