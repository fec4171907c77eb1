//! IPv4.

use core::mem::offset_of;

use grayxdp_common::checksum::Delta;
use network_types::ip::Ipv4Hdr;

use super::{ETHERNET_LEN, ICMP, Network};
use crate::{
    frame::{Frame, View},
    outer::IPV4_INSIDE,
    rewrite::{TimeToLive, apply_ip},
};

/// More fragments, or an offset: bits of the fragment word as it lies in memory.
const FRAGMENT: u16 = 0x3fff_u16.to_be();
/// The offset: where a fragment belongs.
pub(crate) const FRAGMENT_OFFSET: u16 = 0x1fff_u16.to_be();

/// "Do not fragment": a bit of the fragment word as it lies in memory.
const DO_NOT_FRAGMENT: u16 = 0x4000_u16.to_be();

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

    /// Number of the datagram, as it lies in memory.
    #[inline(always)]
    #[must_use]
    pub fn identification(self) -> u16 {
        self.header.read(offset_of!(Ipv4Hdr, id))
    }
}

impl Network for Ip {
    type Address = u32;

    const ICMP: u8 = ICMP;
    const UDP_HAS_CHECKSUM: bool = false;
    const INSIDE: u8 = IPV4_INSIDE;

    #[inline(always)]
    fn of(frame: Frame) -> Option<Self> {
        let header = frame.at::<Ipv4Hdr>(ETHERNET_LEN)?;
        Some(Self {
            header,
            source: header.read(offset_of!(Ipv4Hdr, src_addr)),
            destination: header.read(offset_of!(Ipv4Hdr, dst_addr)),
            protocol: header.read(offset_of!(Ipv4Hdr, proto)),
        })
    }

    #[inline(always)]
    fn source(self) -> u32 {
        self.source
    }

    #[inline(always)]
    fn destination(self) -> u32 {
        self.destination
    }

    #[inline(always)]
    fn protocol(self) -> u8 {
        self.protocol
    }

    #[inline(always)]
    fn behind(self) -> Option<usize> {
        Some(ETHERNET_LEN + self.header_len()?)
    }

    #[inline(always)]
    fn is_fragment(self) -> bool {
        self.header.read::<u16>(offset_of!(Ipv4Hdr, frags)) & FRAGMENT != 0
    }

    #[inline(always)]
    fn is_later_fragment(self) -> bool {
        self.header.read::<u16>(offset_of!(Ipv4Hdr, frags)) & FRAGMENT_OFFSET != 0
    }

    #[inline(always)]
    fn must_not_be_fragmented(self) -> bool {
        self.header.read::<u16>(offset_of!(Ipv4Hdr, frags)) & DO_NOT_FRAGMENT != 0
    }

    #[inline(always)]
    fn total_len(self) -> u64 {
        u64::from(u16::from_be(self.header.read(offset_of!(Ipv4Hdr, tot_len))))
    }

    #[inline(always)]
    fn ttl(self) -> u8 {
        self.header.read(offset_of!(Ipv4Hdr, ttl))
    }

    #[inline(always)]
    fn traffic_class(self) -> u8 {
        self.header.read(1)
    }

    #[inline(always)]
    fn outer_identification(self) -> u32 {
        /// Odd, so that no two pieces of a datagram have the same number, and far from the differences of such.
        const APART: u16 = 0x9e37;
        let fragment: u16 = self.header.read(offset_of!(Ipv4Hdr, frags));
        let offset = u16::from_be(fragment & FRAGMENT_OFFSET);
        let number = u16::from_be(self.identification()).wrapping_add(offset.wrapping_mul(APART));
        u32::from(number.to_be()) | u32::from(fragment & DO_NOT_FRAGMENT) << 16
    }

    #[inline(always)]
    fn dscp(self) -> u8 {
        self.header.read::<u8>(1) >> 2
    }

    #[inline(always)]
    fn set_destination(self, address: u32, delta: Delta, ttl: TimeToLive) {
        self.header.write(offset_of!(Ipv4Hdr, dst_addr), address);
        self.finish(delta, ttl);
    }

    #[inline(always)]
    fn set_source(self, address: u32, delta: Delta, ttl: TimeToLive) {
        self.header.write(offset_of!(Ipv4Hdr, src_addr), address);
        self.finish(delta, ttl);
    }

    #[inline(always)]
    fn put_source(self, address: u32) {
        self.header.write(offset_of!(Ipv4Hdr, src_addr), address);
    }

    /// A group's (RFC 5771), a reserved one, or everyone's. Such a packet is no reply, and no router sends it on.
    #[inline(always)]
    fn is_of_many(address: u32) -> bool {
        const FIRST_GROUP: u8 = 224;
        address.to_ne_bytes()[0] >= FIRST_GROUP
    }
}

impl Ip {
    #[inline(always)]
    fn finish(self, delta: Delta, ttl: TimeToLive) {
        let delta = match ttl {
            TimeToLive::Decrement => {
                self.header.write(offset_of!(Ipv4Hdr, ttl), self.ttl().wrapping_sub(1));
                delta
            }
            TimeToLive::Keep => delta.and(Delta::replace16(u16::from_ne_bytes([0, 0]), u16::from_ne_bytes([1, 0]))),
        };
        apply_ip(self, delta);
    }
}
