//! What a frame holds, as far as choosing and counting need it. IPv4 with TCP or UDP.

use core::mem::offset_of;

use grayxdp_common::{directory::EndpointKey, hash::Flow};
use network_types::{ip::Ipv4Hdr, tcp::TcpHdr};

use crate::frame::{Frame, View};

/// Bytes of an Ethernet header.
pub const ETHERNET_LEN: usize = 14;
/// EtherType of IPv4, as it lies in memory.
pub const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
/// EtherType of ARP, as it lies in memory.
pub const ETHERTYPE_ARP: u16 = 0x0806_u16.to_be();
/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// More fragments, or an offset: bits of the fragment word as it lies in memory.
const FRAGMENT: u16 = 0x3fff_u16.to_be();
/// The offset: where a fragment belongs.
pub(crate) const FRAGMENT_OFFSET: u16 = 0x1fff_u16.to_be();

/// "Do not fragment": a bit of the fragment word as it lies in memory.
const DO_NOT_FRAGMENT: u16 = 0x4000_u16.to_be();

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

/// An IPv4 header in a frame.
#[derive(Clone, Copy)]
pub struct Ip {
    /// The 20 bytes that every header has.
    pub header: View<Ipv4Hdr>,
    /// Source address.
    pub source: u32,
    /// Destination address.
    pub destination: u32,
    /// Protocol number.
    pub protocol: u8,
}

impl Ip {
    /// The IPv4 header behind the Ethernet header.
    #[inline(always)]
    #[must_use]
    pub fn of(frame: Frame) -> Option<Self> {
        let header = frame.at::<Ipv4Hdr>(ETHERNET_LEN)?;
        Some(Self {
            header,
            source: header.read(offset_of!(Ipv4Hdr, src_addr)),
            destination: header.read(offset_of!(Ipv4Hdr, dst_addr)),
            protocol: header.read(offset_of!(Ipv4Hdr, proto)),
        })
    }

    /// Bytes of the header with its options; none where version or length are wrong.
    #[inline(always)]
    #[must_use]
    pub fn header_len(self) -> Option<usize> {
        let version_and_length: u8 = self.header.read(0);
        if version_and_length == 0x45 {
            return Some(20);
        }
        let words = usize::from(version_and_length & 15);
        (version_and_length >> 4 == 4 && words > 5).then_some(words * 4)
    }

    /// Whether this is a piece of a datagram.
    #[inline(always)]
    #[must_use]
    pub fn is_fragment(self) -> bool {
        self.header.read::<u16>(offset_of!(Ipv4Hdr, frags)) & FRAGMENT != 0
    }

    /// Whether this is a piece of a datagram, but not the first: it has no ports.
    #[inline(always)]
    #[must_use]
    pub fn is_later_fragment(self) -> bool {
        self.header.read::<u16>(offset_of!(Ipv4Hdr, frags)) & FRAGMENT_OFFSET != 0
    }

    /// Number of the datagram, as it lies in memory.
    #[inline(always)]
    #[must_use]
    pub fn identification(self) -> u16 {
        self.header.read(offset_of!(Ipv4Hdr, id))
    }

    /// Whether nobody may cut it into pieces.
    #[inline(always)]
    #[must_use]
    pub fn must_not_be_fragmented(self) -> bool {
        self.header.read::<u16>(offset_of!(Ipv4Hdr, frags)) & DO_NOT_FRAGMENT != 0
    }

    /// Length of the datagram, header included, as it says itself.
    #[inline(always)]
    #[must_use]
    pub fn total_len(self) -> u64 {
        u64::from(u16::from_be(self.header.read(offset_of!(Ipv4Hdr, tot_len))))
    }

    /// Whether the frame holds all of the datagram, and the datagram its header and some bytes behind it.
    #[inline(always)]
    #[must_use]
    pub fn is_whole(self, frame: Frame, behind: usize) -> bool {
        let Some(header_len) = self.header_len() else { return false };
        self.total_len() >= (header_len + behind) as u64 && self.total_len() + ETHERNET_LEN as u64 <= frame.len()
    }

    /// Time to live.
    #[inline(always)]
    #[must_use]
    pub fn ttl(self) -> u8 {
        self.header.read(offset_of!(Ipv4Hdr, ttl))
    }
}

/// The first eight bytes of TCP and UDP: both have the ports there.
pub type Ports = [u8; 8];

/// A TCP segment or UDP datagram with all headers in place.
#[derive(Clone, Copy)]
pub struct Packet {
    /// The IP header.
    pub ip: Ip,
    /// The first bytes of the TCP or UDP header.
    pub ports: View<Ports>,
    /// Where the TCP or UDP header begins.
    pub offset: usize,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
}

impl Packet {
    /// The packet in a frame; none where ports cannot be read: another protocol, a later fragment, a broken or cut header.
    #[inline(always)]
    #[must_use]
    pub fn of(frame: Frame, ip: Ip) -> Option<Self> {
        if ip.is_later_fragment() { None } else { Self::of_beginning(frame, ip) }
    }

    /// The same of what is known to be no later fragment.
    #[inline(always)]
    #[must_use]
    pub fn of_beginning(frame: Frame, ip: Ip) -> Option<Self> {
        if ip.protocol != TCP && ip.protocol != UDP {
            return None;
        }
        let offset = ETHERNET_LEN + ip.header_len()?;
        let ports = frame.at::<Ports>(offset)?;
        Some(Self { ip, ports, offset, source_port: ports.read(0), destination_port: ports.read(2) })
    }

    /// Where it goes, as a client's packet.
    #[inline(always)]
    #[must_use]
    pub const fn destination(&self) -> EndpointKey {
        EndpointKey::service(self.ip.destination, self.destination_port, self.ip.protocol)
    }

    /// Where it comes from, as a backend's packet.
    #[inline(always)]
    #[must_use]
    pub const fn source(&self) -> EndpointKey {
        EndpointKey::backend(self.ip.source, self.source_port, self.ip.protocol)
    }

    /// Its flow, seen as a client's packet.
    #[inline(always)]
    #[must_use]
    pub const fn flow(&self) -> Flow {
        Flow {
            source: self.ip.source,
            destination: self.ip.destination,
            source_port: self.source_port,
            destination_port: self.destination_port,
            protocol: self.ip.protocol,
        }
    }

    /// The TCP header; none where it is cut.
    #[inline(always)]
    #[must_use]
    pub fn tcp(&self, frame: Frame) -> Option<View<TcpHdr>> {
        frame.at::<TcpHdr>(self.offset)
    }
}
