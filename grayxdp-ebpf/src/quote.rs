//! ICMP errors: the packet that one repeats, and rewriting both. IPv4 with TCP or UDP inside.

use core::mem::offset_of;

use grayxdp_common::{checksum::Delta, hash::Flow};
use network_types::{ip::Ipv4Hdr, tcp::TcpHdr, udp::UdpHdr};

use crate::{
    frame::{Frame, View},
    packet::{ETHERNET_LEN, FRAGMENT_OFFSET, ICMP, Ip, Ports, TCP, UDP},
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
}

/// Bytes of an ICMP header.
const ICMP_LEN: usize = 8;
/// Where an ICMP header has its checksum.
const ICMP_CHECK: usize = 2;
/// Bytes of the repeated TCP or UDP header that every error has (RFC 792).
const REPEATED: usize = size_of::<Ports>();

/// An ICMP error with as much of the packet that it repeats as is needed.
#[derive(Clone, Copy)]
pub struct Quote {
    /// The error's own IP header.
    pub ip: Ip,
    /// What error it is.
    pub kind: u8,
    icmp: View<[u8; ICMP_LEN]>,
    inner: View<Ipv4Hdr>,
    ports: View<Ports>,
    /// A TCP checksum that was not cut off, as it stands alone.
    tcp_check: Option<View<[u8; 2]>>,
    /// Who sent the repeated packet.
    pub source: u32,
    /// Whom it was for.
    pub destination: u32,
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

impl Quote {
    /// The error in a frame; none where it is no error, or does not repeat the ports of a TCP or UDP packet of him whom
    /// it is for.
    #[inline(always)]
    #[must_use]
    pub fn of(frame: Frame, ip: Ip) -> Option<Self> {
        if ip.protocol != ICMP || ip.is_fragment() {
            return None;
        }
        let start = ETHERNET_LEN + ip.header_len()?;
        let icmp = frame.at::<[u8; ICMP_LEN]>(start)?;
        let kind: u8 = icmp.read(0);
        if kind != kinds::UNREACHABLE && kind != kinds::TIME_EXCEEDED && kind != kinds::PARAMETER_PROBLEM {
            return None;
        }
        let inner = frame.at::<Ipv4Hdr>(start + ICMP_LEN)?;
        let version_and_length: u8 = inner.read(0);
        let header_len = usize::from(version_and_length & 15) * 4;
        let is_first = inner.read::<u16>(offset_of!(Ipv4Hdr, frags)) & FRAGMENT_OFFSET == 0;
        if version_and_length >> 4 != 4 || header_len < size_of::<Ipv4Hdr>() || !is_first {
            return None;
        }
        let (source, protocol): (u32, u8) =
            (inner.read(offset_of!(Ipv4Hdr, src_addr)), inner.read(offset_of!(Ipv4Hdr, proto)));
        if source != ip.destination || (protocol != TCP && protocol != UDP) {
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
            destination: inner.read(offset_of!(Ipv4Hdr, dst_addr)),
            protocol,
            source_port: ports.read(0),
            destination_port: ports.read(2),
        })
    }

    /// The flow of the repeated packet as the client's packets have it, if the service's endpoint sent it.
    #[inline(always)]
    #[must_use]
    pub const fn flow(&self) -> Flow {
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
    pub fn replace(&self, side: Side, address: u32, port: u16, ttl: TimeToLive) {
        let (old, old_port, own, own_at, at, port_at) = match side {
            Side::Source => (
                self.source,
                self.source_port,
                self.ip.destination,
                offset_of!(Ipv4Hdr, dst_addr),
                offset_of!(Ipv4Hdr, src_addr),
                0,
            ),
            Side::Destination => (
                self.destination,
                self.destination_port,
                self.ip.source,
                offset_of!(Ipv4Hdr, src_addr),
                offset_of!(Ipv4Hdr, dst_addr),
                2,
            ),
        };
        let port = if port == 0 { old_port } else { port };
        let address_delta = Delta::replace32(old, address);
        let port_delta = Delta::replace16(old_port, port);
        self.inner.write(at, address);
        self.ports.write(port_at, port);
        // What the ICMP checksum covers: the address, the port, and the checksums of the repeated packet.
        let mut covered = address_delta.and(port_delta);
        let check: u16 = self.inner.read(offset_of!(Ipv4Hdr, check));
        covered = covered.and(replace_word(self.inner, offset_of!(Ipv4Hdr, check), address_delta.apply(check)));
        if self.protocol == UDP {
            let check: u16 = self.ports.read(offset_of!(UdpHdr, check));
            let fresh = address_delta.and(port_delta).apply_udp(check);
            covered = covered.and(replace_word(self.ports, offset_of!(UdpHdr, check), fresh));
        } else if let Some(place) = self.tcp_check {
            let fresh = address_delta.and(port_delta).apply(place.read(0));
            covered = covered.and(replace_word(place, 0, fresh));
        }
        let check: u16 = self.icmp.read(ICMP_CHECK);
        self.icmp.write(ICMP_CHECK, covered.apply(check));
        let mut header = Delta::NONE;
        if own == old {
            self.ip.header.write(own_at, address);
            header = address_delta;
        }
        if ttl == TimeToLive::Decrement {
            self.ip.header.write(offset_of!(Ipv4Hdr, ttl), self.ip.ttl().wrapping_sub(1));
            header = header.and(Delta::TTL_DECREMENT);
        }
        rewrite::apply_ip(self.ip, header);
    }
}

/// Writes a word and says what that does to a checksum over it.
#[inline(always)]
fn replace_word<T: crate::frame::Wire>(view: View<T>, at: usize, fresh: u16) -> Delta {
    let old: u16 = view.read(at);
    view.write(at, fresh);
    Delta::replace16(old, fresh)
}
