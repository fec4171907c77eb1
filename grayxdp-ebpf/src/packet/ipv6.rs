//! IPv6 and its extension headers.

use core::mem::offset_of;

use grayxdp_common::{checksum::Delta, ipv6::Address6};
use network_types::ip::Ipv6Hdr;

use super::{ETHERNET_LEN, ICMPV6, Network};
use crate::{
    frame::{Frame, View},
    outer::IPV6_INSIDE,
    rewrite::TimeToLive,
};

/// Bytes of the header that every packet has.
pub const HEADER_LEN: usize = size_of::<Ipv6Hdr>();

/// Extension headers that are looked behind at most.
const EXTENSIONS: usize = 8;
/// They end before this offset in the frame.
const FARTHEST: usize = 1_024;
/// Next header: hop-by-hop options.
const HOP_BY_HOP: u8 = 0;
/// Next header: routing.
const ROUTING: u8 = 43;
/// Next header: fragment.
const FRAGMENT: u8 = 44;
/// Next header: authentication.
const AUTHENTICATION: u8 = 51;
/// Next header: destination options.
const DESTINATION: u8 = 60;
/// A bit for each of them.
const KINDS: u64 = 1 << HOP_BY_HOP | 1 << ROUTING | 1 << FRAGMENT | 1 << AUTHENTICATION | 1 << DESTINATION;

/// Where a fragment belongs: bits of the word as it lies in memory.
const FRAGMENT_OFFSET: u16 = 0xfff8_u16.to_be();
/// More fragments, or an offset.
const PIECE: u16 = 0xfff9_u16.to_be();

/// What lies behind an IPv6 header, in one word: where the extension headers end (11 bits), the protocol there (8, from bit
/// 16), where the fragment header lies (11, from bit 24; 0: there is none) and its word of offset and flag as it lies in memory
/// (16, from bit 40). 0: they are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensions(pub u64);

impl Extensions {
    const MASK: u64 = 0x7ff;

    /// No extension header.
    #[inline(always)]
    const fn none(protocol: u8) -> Self {
        Self((ETHERNET_LEN + HEADER_LEN) as u64 | (protocol as u64) << 16)
    }

    /// Looks behind the extension headers of the packet in a frame. Broken are chains that are cut, too long, that have two fragment
    /// headers, or a routing header by which the packet has farther to go.
    ///
    /// All but the ways out is arithmetic: each branch in here would be followed on all ways that lead to it.
    #[inline(always)]
    #[must_use]
    pub fn of(frame: Frame) -> Self {
        let Some(header) = frame.at::<Ipv6Hdr>(ETHERNET_LEN) else { return Self(0) };
        let mut kind = u64::from(header.read::<u8>(offset_of!(Ipv6Hdr, next_hdr)));
        let (mut at, mut fragment, mut count) = (ETHERNET_LEN + HEADER_LEN, 0_u64, 0);
        while count <= EXTENSIONS {
            if kind > 63 || KINDS >> (kind & 63) & 1 == 0 {
                return Self(at as u64 | kind << 16 | fragment);
            }
            let Some(extension) = frame.at::<[u8; 8]>(at) else { return Self(0) };
            let (is_fragment, is_routing, is_authentication) =
                (is(kind, FRAGMENT), is(kind, ROUTING), is(kind, AUTHENTICATION));
            let segments_left = u64::from(extension.read::<u8>(3)) & 0_u64.wrapping_sub(is_routing);
            let twice = fragment & 0_u64.wrapping_sub(is_fragment);
            if segments_left | twice != 0 {
                return Self(0);
            }
            let word = u64::from(extension.read::<u16>(2));
            fragment |= ((at as u64) << 24 | word << 40) & 0_u64.wrapping_sub(is_fragment);
            kind = u64::from(extension.read::<u8>(0));
            let units = u64::from(extension.read::<u8>(1)) & is_fragment.wrapping_sub(1);
            at += ((units + 1 + is_authentication) << (3 - is_authentication)) as usize;
            if at > FARTHEST {
                return Self(0);
            }
            if (fragment >> 40) as u16 & FRAGMENT_OFFSET != 0 {
                return Self(at as u64 | kind << 16 | fragment);
            }
            count += 1;
        }
        Self(0)
    }

    /// Where they end.
    #[inline(always)]
    const fn behind(self) -> usize {
        (self.0 & Self::MASK) as usize
    }

    #[inline(always)]
    const fn protocol(self) -> u8 {
        (self.0 >> 16) as u8
    }

    #[inline(always)]
    const fn fragment_at(self) -> usize {
        (self.0 >> 24 & Self::MASK) as usize
    }

    #[inline(always)]
    const fn fragment(self) -> u16 {
        (self.0 >> 40) as u16
    }
}

/// 1 where a kind of extension header is another one; without a branch.
#[inline(always)]
const fn is(kind: u64, other: u8) -> u64 {
    (kind ^ other as u64).wrapping_sub(1) >> 63
}

/// An IPv6 header in a frame.
#[derive(Clone, Copy)]
pub struct Ip6 {
    /// The 40 bytes that every packet has.
    pub header: View<Ipv6Hdr>,
    extensions: Extensions,
}

impl Ip6 {
    /// The header behind the Ethernet header; `extensions` is asked where there are some.
    #[inline(always)]
    #[must_use]
    pub fn with(frame: Frame, extensions: impl FnOnce() -> Extensions) -> Option<Self> {
        let header = frame.at::<Ipv6Hdr>(ETHERNET_LEN)?;
        let next: u8 = header.read(offset_of!(Ipv6Hdr, next_hdr));
        let is_version_6 = header.read::<u8>(0) >> 4 == 6;
        let extensions = if !is_version_6 {
            Extensions(0)
        } else if next < 64 && KINDS >> next & 1 != 0 {
            extensions()
        } else {
            Extensions::none(next)
        };
        Some(Self { header, extensions })
    }

    /// Number of the datagram that it is a piece of, as it lies in memory, and the protocol that its fragment header names, which all its
    /// pieces have in common: of the first one alone can be known what lies behind further headers. 0 of a whole one.
    #[inline(always)]
    #[must_use]
    pub fn datagram(self, frame: Frame) -> (u32, u8) {
        let at = self.extensions.fragment_at();
        if at == 0 {
            return (0, 0);
        }
        frame.at::<[u8; 8]>(at).map_or((0, 0), |header| (header.read(4), header.read(0)))
    }

    /// Whether extension headers lie before the protocol.
    #[inline(always)]
    #[must_use]
    pub fn has_extensions(self) -> bool {
        self.extensions.behind() != ETHERNET_LEN + HEADER_LEN
    }
}

impl Network for Ip6 {
    type Address = Address6;

    const ICMP: u8 = ICMPV6;
    const UDP_HAS_CHECKSUM: bool = true;
    const INSIDE: u8 = IPV6_INSIDE;

    #[inline(always)]
    fn of(frame: Frame) -> Option<Self> {
        Self::with(frame, || Extensions::of(frame))
    }

    #[inline(always)]
    fn source(self) -> Address6 {
        Address6([self.header.read(8), self.header.read(16)])
    }

    #[inline(always)]
    fn destination(self) -> Address6 {
        Address6([self.header.read(24), self.header.read(32)])
    }

    #[inline(always)]
    fn protocol(self) -> u8 {
        self.extensions.protocol()
    }

    #[inline(always)]
    fn behind(self) -> Option<usize> {
        let behind = self.extensions.behind();
        (behind != 0).then_some(behind)
    }

    #[inline(always)]
    fn is_fragment(self) -> bool {
        self.extensions.fragment() & PIECE != 0
    }

    #[inline(always)]
    fn is_later_fragment(self) -> bool {
        self.extensions.fragment() & FRAGMENT_OFFSET != 0
    }

    #[inline(always)]
    fn must_not_be_fragmented(self) -> bool {
        true
    }

    #[inline(always)]
    fn total_len(self) -> u64 {
        HEADER_LEN as u64 + u64::from(u16::from_be(self.header.read(offset_of!(Ipv6Hdr, payload_len))))
    }

    #[inline(always)]
    fn ttl(self) -> u8 {
        self.header.read(offset_of!(Ipv6Hdr, hop_limit))
    }

    #[inline(always)]
    fn traffic_class(self) -> u8 {
        (u16::from_be(self.header.read(0)) >> 4) as u8
    }

    #[inline(always)]
    fn outer_identification(self) -> u32 {
        const DO_NOT_FRAGMENT: u16 = 0x4000_u16.to_be();
        u32::from(DO_NOT_FRAGMENT) << 16
    }

    #[inline(always)]
    fn dscp(self) -> u8 {
        (u16::from_be(self.header.read(0)) >> 6) as u8 & 63
    }

    #[inline(always)]
    fn set_destination(self, address: Address6, _: Delta, ttl: TimeToLive) {
        self.header.write(24, address.0[0]);
        self.header.write(32, address.0[1]);
        self.forward(ttl);
    }

    #[inline(always)]
    fn set_source(self, address: Address6, _: Delta, ttl: TimeToLive) {
        self.header.write(8, address.0[0]);
        self.header.write(16, address.0[1]);
        self.forward(ttl);
    }

    #[inline(always)]
    fn put_source(self, address: Address6) {
        self.header.write(8, address.0[0]);
        self.header.write(16, address.0[1]);
    }

    /// A group's (RFC 4291, section 2.7).
    #[inline(always)]
    fn is_of_many(address: Address6) -> bool {
        address.first_byte() == 0xff
    }
}

impl Ip6 {
    #[inline(always)]
    pub(crate) fn forward(self, ttl: TimeToLive) {
        if ttl == TimeToLive::Decrement {
            self.header.write(offset_of!(Ipv6Hdr, hop_limit), self.ttl().wrapping_sub(1));
        }
    }
}
