//! Packets of IPv6 that the program answers itself: echo requests for a virtual address, neighbour solicitations for an announced
//! one, segments of connections that are to end, ports without service, packets that cannot go on.

use grayxdp_common::{checksum::Delta, ipv6::Address6};
use network_types::tcp::TcpHdr;

use crate::{
    answer::{self, ANSWER_TTL, Reset, swap_ethernet},
    frame::{Frame, View},
    packet::{ETHERNET_LEN, ICMPV6, IPV6_HEADER_LEN, Ip6, Network as _, Packet, TCP},
};

/// ICMPv6 types.
mod kinds {
    pub(super) const TIME_EXCEEDED: u8 = 3;
    pub(super) const UNREACHABLE: u8 = 1;
    pub(super) const TOO_BIG: u8 = 2;
    pub(super) const ECHO_REQUEST: u8 = 128;
    pub(super) const ECHO_REPLY: u8 = 129;
    pub(super) const SOLICITATION: u8 = 135;
    pub(super) const ADVERTISEMENT: u8 = 136;
}

/// Where what is behind a header without extensions begins.
const BEHIND: usize = ETHERNET_LEN + IPV6_HEADER_LEN;
/// Version 6, no traffic class, no flow label.
const VERSION: u32 = u32::from_ne_bytes([0x60, 0, 0, 0]);
/// All nodes of a link: ff02::1.
const ALL_NODES: Address6 = Address6::from_bytes([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
const UNSPECIFIED: Address6 = Address6([0, 0]);
const LOOPBACK: Address6 = Address6::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/// Turns an echo request into its reply; false where it is none or has extension headers, then nothing was changed.
#[inline(always)]
#[must_use]
pub fn echo(frame: Frame, ip: Ip6) -> bool {
    if ip.protocol() != ICMPV6 || ip.has_extensions() || !may_answer(frame, ip) {
        return false;
    }
    let Some(icmp) = frame.at::<[u8; 8]>(BEHIND) else { return false };
    let kind: u16 = icmp.read(0);
    if !ip.is_whole(frame, 8) || kind != u16::from_ne_bytes([kinds::ECHO_REQUEST, 0]) {
        return false;
    }
    let reply = u16::from_ne_bytes([kinds::ECHO_REPLY, 0]);
    icmp.write(0, reply);
    icmp.write(2, Delta::replace16(kind, reply).apply(icmp.read(2)));
    let (source, destination) = (ip.source(), ip.destination());
    write_addresses(ip, destination, source);
    ip.header.write(7, ANSWER_TTL);
    swap_ethernet(frame);
    true
}

#[inline(always)]
fn write_addresses(ip: Ip6, source: Address6, destination: Address6) {
    ip.header.write(8, source.0[0]);
    ip.header.write(16, source.0[1]);
    ip.header.write(24, destination.0[0]);
    ip.header.write(32, destination.0[1]);
}

/// Whether anything may be answered to a packet: it came to this host alone and from one host (RFC 4443, section 2.4).
#[inline(always)]
#[must_use]
pub fn may_answer(frame: Frame, ip: Ip6) -> bool {
    let Some(ethernet) = frame.at::<[u8; 14]>(0) else { return false };
    let source = ip.source();
    ethernet.read::<u8>(0) & 1 == 0
        && !Ip6::is_of_many(source)
        && source != UNSPECIFIED
        && source != LOOPBACK
        && !Ip6::is_of_many(ip.destination())
}

/// Bytes that an ICMPv6 error puts before the packet that it is about: its own IP and ICMP header.
pub const ERROR_HEAD: usize = IPV6_HEADER_LEN + 8;

/// First and second word of an ICMPv6 header, without its checksum, as they lie in memory.
#[derive(Clone, Copy)]
pub struct Message {
    type_and_code: u16,
    rest: u32,
}

/// Nobody serves the port.
pub const PORT_UNREACHABLE: Message = Message { type_and_code: u16::from_ne_bytes([kinds::UNREACHABLE, 4]), rest: 0 };
/// The hop limit ran out.
pub const TIME_EXCEEDED: Message = Message { type_and_code: u16::from_ne_bytes([kinds::TIME_EXCEEDED, 0]), rest: 0 };

/// The packet must be shorter (RFC 4443, section 3.2).
#[inline(always)]
#[must_use]
pub const fn too_big(mtu: u32) -> Message {
    Message { type_and_code: u16::from_ne_bytes([kinds::TOO_BIG, 0]), rest: mtu.to_be() }
}

/// Whether an ICMPv6 error may be sent about a packet: it may be answered, and is a whole TCP segment without RST or the
/// beginning of a UDP datagram.
#[inline(always)]
#[must_use]
pub fn may_be_repeated(frame: Frame, ip: Ip6) -> bool {
    let Some(packet) = Packet::of(frame, ip) else { return false };
    let is_reset = ip.protocol() == TCP && packet.tcp(frame).is_none_or(answer::is_reset);
    ip.is_whole(frame, 8) && !is_reset && may_answer(frame, ip)
}

/// Writes an ICMPv6 error in front of the packet that it is about, to which [`ERROR_HEAD`] bytes were added there; false where
/// the frame is too short. `repeated` bytes of the packet are part of it, whose one's complement sum is `sum`; the rest is to be cut off.
#[inline(always)]
#[must_use]
pub fn error(frame: Frame, from: Address6, message: Message, repeated: usize, sum: u32) -> bool {
    let (Some(ethernet), Some(old)) = (frame.at::<[u8; 14]>(0), frame.at::<[u8; 14]>(ERROR_HEAD)) else { return false };
    let (Some(ip), Some(icmp)) = (frame.at::<[u8; IPV6_HEADER_LEN]>(ETHERNET_LEN), frame.at::<[u8; 8]>(BEHIND)) else {
        return false;
    };
    let Some(inner) = frame.at::<[u8; IPV6_HEADER_LEN]>(ETHERNET_LEN + ERROR_HEAD) else { return false };
    let to = Address6([inner.read(8), inner.read(16)]);
    let (to_mac, from_mac) = ((old.read::<u32>(6), old.read::<u16>(10)), (old.read::<u32>(0), old.read::<u16>(4)));
    ethernet.write(0, to_mac.0);
    ethernet.write(4, to_mac.1);
    ethernet.write(6, from_mac.0);
    ethernet.write(10, from_mac.1);
    ethernet.write(12, crate::packet::ETHERTYPE_IPV6);
    write_header(ip, from, to, ICMPV6, (8 + repeated) as u16, ANSWER_TTL);
    let head = u64::from(message.type_and_code)
        + answer::halves(message.rest)
        + u64::from(sum & 0xffff)
        + u64::from(sum >> 16);
    icmp.write(0, message.type_and_code);
    icmp.write(2, answer::checksum(head + pseudo(from, to, (8 + repeated) as u16, ICMPV6)));
    icmp.write(4, message.rest);
    true
}

/// Writes a header without extensions.
#[inline(always)]
fn write_header<T: crate::frame::Wire>(
    ip: View<T>,
    source: Address6,
    destination: Address6,
    protocol: u8,
    length: u16,
    hop_limit: u8,
) {
    ip.write(0, VERSION);
    ip.write(4, length.to_be());
    ip.write(6, u16::from_ne_bytes([protocol, hop_limit]));
    ip.write(8, source.0[0]);
    ip.write(16, source.0[1]);
    ip.write(24, destination.0[0]);
    ip.write(32, destination.0[1]);
}

/// The sum of the pseudo header (RFC 8200, section 8.1).
#[inline(always)]
const fn pseudo(source: Address6, destination: Address6, length: u16, protocol: u8) -> u64 {
    source.sum() as u64 + destination.sum() as u64 + length.to_be() as u64 + u16::from_ne_bytes([0, protocol]) as u64
}

/// Bytes of the frame of a RST.
pub const RESET_LEN: usize = BEHIND + 20;

/// Turns a TCP segment into the RST that answers it, in its first [`RESET_LEN`] bytes; false where there are extension headers,
/// the TCP header's length is wrong or nothing may be answered, then nothing was changed. A segment with RST must not be answered.
#[inline(always)]
#[must_use]
pub fn reset(frame: Frame, packet: &Packet<Ip6>, tcp: View<TcpHdr>) -> bool {
    let header_len = u64::from(tcp.read::<u8>(12) >> 4) * 4 + IPV6_HEADER_LEN as u64;
    let total_len = packet.ip.total_len();
    let is_odd = packet.offset != BEHIND || header_len < IPV6_HEADER_LEN as u64 + 20 || header_len > total_len;
    if is_odd || !may_answer(frame, packet.ip) {
        return false;
    }
    let reset = Reset::of(tcp, (total_len - header_len) as u32);
    let (source, destination) = (packet.ip.destination(), packet.ip.source());
    write_header(packet.ip.header, source, destination, TCP, 20, ANSWER_TTL);
    reset.write(tcp, packet.source_port, packet.destination_port, pseudo(source, destination, 20, TCP));
    swap_ethernet(frame);
    true
}

/// Bytes of a solicitation without options.
const SOLICITATION_LEN: usize = 24;

/// The address that a neighbour solicitation asks for (RFC 4861, section 7.1.1); none where the frame is none.
#[inline(always)]
#[must_use]
pub fn solicited(frame: Frame, ip: Ip6) -> Option<Address6> {
    if ip.protocol() != ICMPV6 || ip.has_extensions() || ip.ttl() != 255 || !ip.is_whole(frame, SOLICITATION_LEN) {
        return None;
    }
    let icmp = frame.at::<[u8; SOLICITATION_LEN]>(BEHIND)?;
    let target = Address6([icmp.read(8), icmp.read(16)]);
    (icmp.read::<u16>(0) == u16::from_ne_bytes([kinds::SOLICITATION, 0]) && !Ip6::is_of_many(target)).then_some(target)
}

/// Turns a neighbour solicitation into the advertisement that says `address` (RFC 4861, section 7.2.4): to whoever asked, or to all
/// where he has no address yet. The address is said in the place of the solicitation's options; where it has none, the answer has
/// none.
#[inline(always)]
pub fn advertise(frame: Frame, ip: Ip6, address: [u8; 6]) {
    let (Some(icmp), Some(ethernet)) = (frame.at::<[u8; SOLICITATION_LEN]>(BEHIND), frame.at::<[u8; 14]>(0)) else {
        return;
    };
    let asker = ip.source();
    let target = Address6([icmp.read(8), icmp.read(16)]);
    let is_claimed = asker == UNSPECIFIED;
    let to = if is_claimed { ALL_NODES } else { asker };
    let option = if ip.total_len() >= (IPV6_HEADER_LEN + SOLICITATION_LEN + 8) as u64 {
        frame.at::<[u8; 8]>(BEHIND + SOLICITATION_LEN)
    } else {
        None
    };
    // Solicited and override; who claims the address himself did not ask.
    let flags = u32::from_ne_bytes([if is_claimed { 0x20 } else { 0x60 }, 0, 0, 0]);
    let mut length = SOLICITATION_LEN;
    let mut sum =
        u64::from(u16::from_ne_bytes([kinds::ADVERTISEMENT, 0])) + answer::halves(flags) + u64::from(target.sum());
    let [a, b, c, d, e, f] = address;
    if let Some(option) = option {
        const TARGET_ADDRESS: u8 = 2;
        let (first, second) = (u32::from_ne_bytes([TARGET_ADDRESS, 1, a, b]), u32::from_ne_bytes([c, d, e, f]));
        option.write(0, first);
        option.write(4, second);
        sum += answer::halves(first) + answer::halves(second);
        length += 8;
    }
    write_header(ip.header, target, to, ICMPV6, length as u16, 255);
    icmp.write(0, u16::from_ne_bytes([kinds::ADVERTISEMENT, 0]));
    icmp.write(4, flags);
    icmp.write(2, answer::checksum(sum + pseudo(target, to, length as u16, ICMPV6)));
    let macs = ethernet.get();
    let to_mac =
        if is_claimed { [0x33, 0x33, 0, 0, 0, 1] } else { [macs[6], macs[7], macs[8], macs[9], macs[10], macs[11]] };
    answer::write_ethernet(ethernet, to_mac, address);
}
