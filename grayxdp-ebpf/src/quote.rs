//! ICMP errors of both families: the packet that one repeats, and rewriting both. TCP or UDP inside.

use core::mem::offset_of;

use grayxdp_common::{checksum::Delta, hash::Flow, ipv6::Address6};
use network_types::{
    ip::{Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
    udp::UdpHdr,
};

use crate::{
    frame::{Frame, View, Wire},
    packet::{ETHERNET_LEN, FRAGMENT_OFFSET, Ip, Ip6, Network, Ports, TCP, UDP},
    rewrite::{self, TimeToLive},
};

/// ICMP types of errors that follow the packet that they repeat.
pub mod kinds {
    /// Destination unreachable, "fragmentation needed" among them.
    pub const UNREACHABLE: u8 = 3;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
    /// ICMPv6: destination unreachable, the first of them; packet too big, time exceeded and parameter problem come behind it.
    pub const UNREACHABLE6: u8 = 1;
}

/// Bytes of an ICMP header.
const ICMP_LEN: usize = 8;
/// Where an ICMP header has its checksum.
const ICMP_CHECK: usize = 2;
/// Bytes of the repeated TCP or UDP header that every error has (RFC 792).
const REPEATED: usize = size_of::<Ports>();

/// What ICMP errors of a family have of their own.
pub trait Quotable: Network {
    /// The header of a repeated packet.
    type Header: Wire;

    /// Whether an ICMP type is an error that follows the packet that it repeats.
    fn is_error(kind: u8) -> bool;
    /// Whether it is the one that says that a packet's destination cannot be reached.
    fn is_unreachable(kind: u8) -> bool;
    /// What the header of a repeated packet says, and how long it is; none where it is no beginning of a packet.
    fn repeated(header: View<Self::Header>) -> Option<Repeated<Self::Address>>;
    /// What replacing an address adds to sums over it.
    fn replaced(old: Self::Address, new: Self::Address) -> Delta;
    /// Replaces an address of a repeated packet; what that adds to sums over the packet, apart from the address itself.
    fn replace_repeated(header: View<Self::Header>, side: Side, new: Self::Address, delta: Delta) -> Delta;
    /// Replaces an address of the error's own header, if any, and lowers its time to live, if that is to be; what that adds to the
    /// ICMP checksum.
    fn replace_own(self, side: Side, new: Option<(Self::Address, Delta)>, ttl: TimeToLive) -> Delta;
}

/// What the header of a repeated packet says.
#[derive(Clone, Copy)]
pub struct Repeated<A> {
    source: A,
    destination: A,
    protocol: u8,
    header_len: usize,
}

/// An ICMP error with as much of the packet that it repeats as is needed.
#[derive(Clone, Copy)]
pub struct Quote<I: Quotable = Ip> {
    /// The error's own IP header.
    pub ip: I,
    /// What error it is.
    pub kind: u8,
    icmp: View<[u8; ICMP_LEN]>,
    inner: View<I::Header>,
    ports: View<Ports>,
    /// A TCP checksum that was not cut off, as it stands alone.
    tcp_check: Option<View<[u8; 2]>>,
    /// Who sent the repeated packet.
    pub source: I::Address,
    /// Whom it was for.
    pub destination: I::Address,
    /// Its protocol: TCP or UDP.
    pub protocol: u8,
    /// Its source port.
    pub source_port: u16,
    /// Its destination port.
    pub destination_port: u16,
}

/// Which end of the repeated packet is replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who sent it, and with it whom the error is for.
    Source,
    /// Whom it was for, and with it who sends the error if that was the same.
    Destination,
}

impl<I: Quotable> Quote<I> {
    /// The error in a frame; none where it is no error, or does not repeat the ports of a TCP or UDP packet of him whom
    /// it is for.
    #[inline(always)]
    #[must_use]
    pub fn of(frame: Frame, ip: I) -> Option<Self> {
        if ip.protocol() != I::ICMP || ip.is_fragment() {
            return None;
        }
        let start = ip.behind()?;
        let icmp = frame.at::<[u8; ICMP_LEN]>(start)?;
        let kind: u8 = icmp.read(0);
        if !I::is_error(kind) {
            return None;
        }
        let inner = frame.at::<I::Header>(start + ICMP_LEN)?;
        let Repeated { source, destination, protocol, header_len } = I::repeated(inner)?;
        if source != ip.destination() || (protocol != TCP && protocol != UDP) {
            return None;
        }
        let offset = start + ICMP_LEN + header_len;
        let ports = frame.at::<Ports>(offset)?;
        let end = ip.total_len() + ETHERNET_LEN as u64;
        if end > frame.len() || end < (offset + REPEATED) as u64 {
            return None;
        }
        let check = offset + offset_of!(TcpHdr, check);
        let has_check = protocol == TCP && end >= (check + size_of::<u16>()) as u64;
        Some(Self {
            ip,
            kind,
            icmp,
            inner,
            ports,
            tcp_check: if has_check { frame.at::<[u8; 2]>(check) } else { None },
            source,
            destination,
            protocol,
            source_port: ports.read(0),
            destination_port: ports.read(2),
        })
    }

    /// The flow of the repeated packet as the client's packets have it, if the service's endpoint sent it.
    #[inline(always)]
    #[must_use]
    pub const fn flow(&self) -> Flow<I::Address> {
        Flow {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }

    /// Sequence number of the repeated packet, if it is one of TCP.
    #[inline(always)]
    #[must_use]
    pub fn sequence(&self) -> u32 {
        u32::from_be(self.ports.read(4))
    }

    /// Replaces an end of the repeated packet, and the address of the error itself that goes with it; `port` 0: it stays.
    #[inline(always)]
    pub fn replace(&self, side: Side, address: I::Address, port: u16, ttl: TimeToLive) {
        let (old, old_port, own, port_at) = match side {
            Side::Source => (self.source, self.source_port, self.ip.destination(), 0),
            Side::Destination => (self.destination, self.destination_port, self.ip.source(), 2),
        };
        let port = if port == 0 { old_port } else { port };
        let address_delta = I::replaced(old, address);
        let port_delta = Delta::replace16(old_port, port);
        // What the ICMP checksum covers: the address, the port, the checksums of the repeated packet, and of IPv6 the addresses
        // of the error itself.
        let mut covered = address_delta.and(port_delta);
        covered = covered.and(I::replace_repeated(self.inner, side, address, address_delta));
        self.ports.write(port_at, port);
        if self.protocol == UDP {
            let check: u16 = self.ports.read(offset_of!(UdpHdr, check));
            let fresh = address_delta.and(port_delta).apply_udp(check);
            covered = covered.and(replace_word(self.ports, offset_of!(UdpHdr, check), fresh));
        } else if let Some(place) = self.tcp_check {
            let fresh = address_delta.and(port_delta).apply(place.read(0));
            covered = covered.and(replace_word(place, 0, fresh));
        }
        let new = if own == old { Some((address, address_delta)) } else { None };
        covered = covered.and(self.ip.replace_own(side, new, ttl));
        let check: u16 = self.icmp.read(ICMP_CHECK);
        self.icmp.write(ICMP_CHECK, covered.apply(check));
    }
}

impl Quotable for Ip {
    type Header = Ipv4Hdr;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        kind == kinds::UNREACHABLE || kind == kinds::TIME_EXCEEDED || kind == kinds::PARAMETER_PROBLEM
    }

    #[inline(always)]
    fn is_unreachable(kind: u8) -> bool {
        kind == kinds::UNREACHABLE
    }

    #[inline(always)]
    fn repeated(header: View<Ipv4Hdr>) -> Option<Repeated<u32>> {
        let version_and_length: u8 = header.read(0);
        let header_len = usize::from(version_and_length & 15) * 4;
        let is_first = header.read::<u16>(offset_of!(Ipv4Hdr, frags)) & FRAGMENT_OFFSET == 0;
        if version_and_length >> 4 != 4 || header_len < size_of::<Ipv4Hdr>() || !is_first {
            return None;
        }
        let (source, destination) =
            (header.read(offset_of!(Ipv4Hdr, src_addr)), header.read(offset_of!(Ipv4Hdr, dst_addr)));
        Some(Repeated { source, destination, protocol: header.read(offset_of!(Ipv4Hdr, proto)), header_len })
    }

    #[inline(always)]
    fn replaced(old: u32, new: u32) -> Delta {
        Delta::replace32(old, new)
    }

    #[inline(always)]
    fn replace_repeated(header: View<Ipv4Hdr>, side: Side, new: u32, delta: Delta) -> Delta {
        let at = match side {
            Side::Source => offset_of!(Ipv4Hdr, src_addr),
            Side::Destination => offset_of!(Ipv4Hdr, dst_addr),
        };
        header.write(at, new);
        let check: u16 = header.read(offset_of!(Ipv4Hdr, check));
        replace_word(header, offset_of!(Ipv4Hdr, check), delta.apply(check))
    }

    #[inline(always)]
    fn replace_own(self, side: Side, new: Option<(u32, Delta)>, ttl: TimeToLive) -> Delta {
        let mut header = Delta::NONE;
        if let Some((address, delta)) = new {
            let at = match side {
                Side::Source => offset_of!(Ipv4Hdr, dst_addr),
                Side::Destination => offset_of!(Ipv4Hdr, src_addr),
            };
            self.header.write(at, address);
            header = delta;
        }
        if ttl == TimeToLive::Decrement {
            self.header.write(offset_of!(Ipv4Hdr, ttl), self.ttl().wrapping_sub(1));
            header = header.and(Delta::TTL_DECREMENT);
        }
        rewrite::apply_ip(self, header);
        Delta::NONE
    }
}

impl Quotable for Ip6 {
    type Header = Ipv6Hdr;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        const LAST: u8 = 4;
        (kinds::UNREACHABLE6..=LAST).contains(&kind)
    }

    #[inline(always)]
    fn is_unreachable(kind: u8) -> bool {
        kind == kinds::UNREACHABLE6
    }

    /// Of a packet without extension headers.
    #[inline(always)]
    fn repeated(header: View<Ipv6Hdr>) -> Option<Repeated<Address6>> {
        if header.read::<u8>(0) >> 4 != 6 {
            return None;
        }
        let (source, destination) =
            (Address6([header.read(8), header.read(16)]), Address6([header.read(24), header.read(32)]));
        let protocol = header.read(offset_of!(Ipv6Hdr, next_hdr));
        Some(Repeated { source, destination, protocol, header_len: size_of::<Ipv6Hdr>() })
    }

    #[inline(always)]
    fn replaced(old: Address6, new: Address6) -> Delta {
        old.replaced_by(new)
    }

    #[inline(always)]
    fn replace_repeated(header: View<Ipv6Hdr>, side: Side, new: Address6, _: Delta) -> Delta {
        let at = match side {
            Side::Source => offset_of!(Ipv6Hdr, src_addr),
            Side::Destination => offset_of!(Ipv6Hdr, dst_addr),
        };
        header.write(at, new.0[0]);
        header.write(at + 8, new.0[1]);
        Delta::NONE
    }

    #[inline(always)]
    fn replace_own(self, side: Side, new: Option<(Address6, Delta)>, ttl: TimeToLive) -> Delta {
        let mut covered = Delta::NONE;
        if let Some((address, delta)) = new {
            let at = match side {
                Side::Source => offset_of!(Ipv6Hdr, dst_addr),
                Side::Destination => offset_of!(Ipv6Hdr, src_addr),
            };
            self.header.write(at, address.0[0]);
            self.header.write(at + 8, address.0[1]);
            covered = delta;
        }
        self.forward(ttl);
        covered
    }
}

/// Writes a word and says what that does to a checksum over it.
#[inline(always)]
fn replace_word<T: Wire>(view: View<T>, at: usize, fresh: u16) -> Delta {
    let old: u16 = view.read(at);
    view.write(at, fresh);
    Delta::replace16(old, fresh)
}
