//! Packets that the program answers itself: ICMP echo requests for a virtual address, ARP requests for an announced one,
//! segments of connections that are to end, ports without service, packets that cannot go on.

use core::mem::offset_of;

use grayxdp_common::checksum::Delta;
use network_types::{arp::ArpHdr, icmp::Icmpv4Hdr, ip::Ipv4Hdr, tcp::TcpHdr};

use crate::{
    frame::{Frame, View},
    packet::{ETHERNET_LEN, ETHERTYPE_IPV4, ICMP, Ip, Network as _, Packet, TCP, flags},
    rewrite,
};

/// Time to live of an answer.
pub(crate) const ANSWER_TTL: u8 = 64;
/// ICMP type of an echo request.
const ECHO_REQUEST: u8 = 8;
/// ARP over Ethernet for IPv4: hardware and protocol type, address lengths, as they lie in memory.
const ETHERNET_IPV4: u64 = u64::from_ne_bytes([0, 1, 8, 0, 6, 4, 0, 0]);
/// The bits of that word that are not the operation.
const NOT_OPERATION: u64 = u64::from_ne_bytes([255, 255, 255, 255, 255, 255, 0, 0]);
/// ARP request.
const REQUEST: u16 = 1_u16.to_be();
/// ARP reply.
const REPLY: u16 = 2_u16.to_be();

/// Turns an ICMP echo request into its reply; false where it is none, then nothing was changed.
#[inline(always)]
#[must_use]
pub fn echo(frame: Frame, ip: Ip) -> bool {
    if ip.protocol != ICMP || ip.is_fragment() {
        return false;
    }
    let Some(length) = ip.header_len() else { return false };
    if !may_answer(frame, ip) {
        return false;
    }
    let Some(icmp) = frame.at::<Icmpv4Hdr>(ETHERNET_LEN + length) else { return false };
    if !ip.is_whole(frame, size_of::<Icmpv4Hdr>()) {
        return false;
    }
    let kind: u16 = icmp.read(0);
    if kind != u16::from_ne_bytes([ECHO_REQUEST, 0]) {
        return false;
    }
    icmp.write(0, 0_u16);
    let check: u16 = icmp.read(offset_of!(Icmpv4Hdr, check));
    icmp.write(offset_of!(Icmpv4Hdr, check), Delta::replace16(kind, 0).apply(check));
    ip.header.write(offset_of!(Ipv4Hdr, src_addr), ip.destination);
    ip.header.write(offset_of!(Ipv4Hdr, dst_addr), ip.source);
    let old: u16 = ip.header.read(offset_of!(Ipv4Hdr, ttl));
    ip.header.write(offset_of!(Ipv4Hdr, ttl), ANSWER_TTL);
    rewrite::apply_ip(ip, Delta::replace16(old, ip.header.read(offset_of!(Ipv4Hdr, ttl))));
    swap_ethernet(frame);
    true
}

/// Whether anything may be answered to a packet: it came to this host alone and from one host (RFC 1122, sections 3.2.1.3
/// and 3.2.2).
#[inline(always)]
#[must_use]
pub fn may_answer(frame: Frame, ip: Ip) -> bool {
    let Some(ethernet) = frame.at::<[u8; 14]>(0) else { return false };
    let [source, ..] = ip.source.to_ne_bytes();
    let [destination, ..] = ip.destination.to_ne_bytes();
    ethernet.read::<u8>(0) & 1 == 0 && source != 0 && source != 127 && source < 224 && destination < 224
}

/// Bytes that an ICMP error puts before the packet that it is about: its own IP and ICMP header.
pub const ERROR_HEAD: usize = 28;
/// Bytes that it repeats of the packet.
const REPEATED: usize = 28;
/// Bytes of the frame of an ICMP error.
pub const ERROR_LEN: usize = ETHERNET_LEN + ERROR_HEAD + REPEATED;

/// First and second word of an ICMP header, without its checksum, as they lie in memory.
#[derive(Clone, Copy)]
pub struct Message {
    type_and_code: u16,
    rest: u32,
}

/// Nobody serves the port.
pub const PORT_UNREACHABLE: Message = Message { type_and_code: u16::from_ne_bytes([3, 3]), rest: 0 };
/// The time to live ran out.
pub const TIME_EXCEEDED: Message = Message { type_and_code: u16::from_ne_bytes([11, 0]), rest: 0 };

/// The packet must be shorter (RFC 1191, section 4).
#[inline(always)]
#[must_use]
pub const fn fragmentation_needed(mtu: u16) -> Message {
    let [high, low] = mtu.to_be_bytes();
    Message { type_and_code: u16::from_ne_bytes([3, 4]), rest: u32::from_ne_bytes([0, 0, high, low]) }
}

/// Whether an ICMP error may repeat a packet: it may be answered, is a whole TCP segment without RST or the beginning of a
/// UDP datagram, and has no IP options.
#[inline(always)]
#[must_use]
pub fn may_be_repeated(frame: Frame, ip: Ip) -> bool {
    let Some(packet) = Packet::of(frame, ip) else { return false };
    let is_reset = ip.protocol == TCP && packet.tcp(frame).is_none_or(is_reset);
    let fits = ip.total_len() >= REPEATED as u64 && ip.total_len() + ETHERNET_LEN as u64 <= frame.len();
    packet.offset == ETHERNET_LEN + 20 && fits && !is_reset && may_answer(frame, ip)
}

/// Whether a TCP segment is a RST.
#[inline(always)]
pub(crate) fn is_reset(tcp: View<TcpHdr>) -> bool {
    tcp.read::<u8>(13) & flags::RST != 0
}

/// Writes an ICMP error in front of the packet that it is about, to which [`ERROR_HEAD`] bytes were added there; false where
/// the frame is too short. The frame is [`ERROR_LEN`] bytes long then; the rest is to be cut off.
#[inline(always)]
#[must_use]
pub fn error(frame: Frame, from: u32, message: Message) -> bool {
    let inner_at = ETHERNET_LEN + ERROR_HEAD;
    let (Some(ethernet), Some(old)) = (frame.at::<[u8; 14]>(0), frame.at::<[u8; 14]>(ERROR_HEAD)) else { return false };
    let (Some(ip), Some(icmp)) = (frame.at::<Ipv4Hdr>(ETHERNET_LEN), frame.at::<[u8; 8]>(ETHERNET_LEN + 20)) else {
        return false;
    };
    let Some(inner) = frame.at::<[u8; REPEATED]>(inner_at) else { return false };
    let to: u32 = inner.read(offset_of!(Ipv4Hdr, src_addr));
    let (to_mac, from_mac) = ((old.read::<u32>(6), old.read::<u16>(10)), (old.read::<u32>(0), old.read::<u16>(4)));
    ethernet.write(0, to_mac.0);
    ethernet.write(4, to_mac.1);
    ethernet.write(6, from_mac.0);
    ethernet.write(10, from_mac.1);
    ethernet.write(12, ETHERTYPE_IPV4);

    // Version, length and service ("internetwork control"); total length, identity, "do not fragment"; time to live, protocol.
    let words = [
        u16::from_ne_bytes([0x45, 0xc0]),
        ((ERROR_HEAD + REPEATED) as u16).to_be(),
        0,
        0x4000_u16.to_be(),
        u16::from_ne_bytes([ANSWER_TTL, ICMP]),
    ];
    ip.write(0, words[0]);
    ip.write(2, words[1]);
    ip.write(4, words[2]);
    ip.write(6, words[3]);
    ip.write(8, words[4]);
    let head = u64::from(words[0]) + u64::from(words[1]) + u64::from(words[3]) + u64::from(words[4]);
    ip.write(offset_of!(Ipv4Hdr, check), checksum(head + halves(from) + halves(to)));
    ip.write(offset_of!(Ipv4Hdr, src_addr), from);
    ip.write(offset_of!(Ipv4Hdr, dst_addr), to);

    let first = halves(inner.read(0)) + halves(inner.read(4)) + halves(inner.read(8)) + halves(inner.read(12));
    let repeated = first + halves(inner.read(16)) + halves(inner.read(20)) + halves(inner.read(24));
    icmp.write(0, message.type_and_code);
    icmp.write(2, checksum(u64::from(message.type_and_code) + halves(message.rest) + repeated));
    icmp.write(4, message.rest);
    true
}

/// Bytes of the frame of a RST.
pub const RESET_LEN: usize = ETHERNET_LEN + 20 + 20;

/// Turns a TCP segment into the RST that answers it (RFC 9293, section 3.10.7.1), in its first [`RESET_LEN`] bytes; false
/// where the IP header has options, the TCP header's length is wrong or nothing may be answered, then nothing was changed. A
/// segment with RST must not be answered.
#[inline(always)]
#[must_use]
pub fn reset(frame: Frame, packet: &Packet, tcp: View<TcpHdr>) -> bool {
    let header_len = u64::from(tcp.read::<u8>(12) >> 4) * 4 + 20;
    let is_odd = packet.offset != ETHERNET_LEN + 20 || header_len < 40 || header_len > packet.ip.total_len();
    if is_odd || !may_answer(frame, packet.ip) {
        return false;
    }
    let reset = Reset::of(tcp, (packet.ip.total_len() - header_len) as u32);
    let (source, destination) = (packet.ip.destination, packet.ip.source);

    let ip = packet.ip.header;
    // Version, length and service; total length, identity, "do not fragment"; time to live, protocol.
    let words =
        [u16::from_ne_bytes([0x45, 0]), 40_u16.to_be(), 0, 0x4000_u16.to_be(), u16::from_ne_bytes([ANSWER_TTL, TCP])];
    ip.write(0, words[0]);
    ip.write(2, words[1]);
    ip.write(4, words[2]);
    ip.write(6, words[3]);
    ip.write(8, words[4]);
    let addresses = halves(source) + halves(destination);
    let head = u64::from(words[0]) + u64::from(words[1]) + u64::from(words[3]) + u64::from(words[4]);
    ip.write(offset_of!(Ipv4Hdr, check), checksum(head + addresses));
    ip.write(offset_of!(Ipv4Hdr, src_addr), source);
    ip.write(offset_of!(Ipv4Hdr, dst_addr), destination);

    let pseudo = addresses + u64::from(u16::from_ne_bytes([0, TCP])) + u64::from(20_u16.to_be());
    reset.write(tcp, packet.source_port, packet.destination_port, pseudo);
    swap_ethernet(frame);
    true
}

/// What the RST says that answers a segment.
pub(crate) struct Reset {
    sequence: u32,
    acknowledges: u32,
    bits: u8,
}

impl Reset {
    /// Of a segment with so many bytes of payload.
    #[inline(always)]
    pub(crate) fn of(tcp: View<TcpHdr>, payload: u32) -> Self {
        let bits: u8 = tcp.read(13);
        let taken = payload + u32::from(bits & flags::SYN != 0) + u32::from(bits & flags::FIN != 0);
        let sequence: u32 = tcp.read(offset_of!(TcpHdr, seq));
        if bits & flags::ACK != 0 {
            return Self { sequence: tcp.read(offset_of!(TcpHdr, ack_seq)), acknowledges: 0, bits: flags::RST };
        }
        let acknowledges = u32::from_be(sequence).wrapping_add(taken).to_be();
        Self { sequence: 0, acknowledges, bits: flags::RST | flags::ACK }
    }

    /// Writes it over the segment, whose ports are given; `pseudo` is the sum of the pseudo header.
    #[inline(always)]
    pub(crate) fn write(&self, tcp: View<TcpHdr>, source_port: u16, destination_port: u16, pseudo: u64) {
        let ports = u32::from_ne_bytes(join(destination_port, source_port));
        let offset_and_flags = u16::from_ne_bytes([5 << 4, self.bits]);
        let sum =
            pseudo + halves(ports) + halves(self.sequence) + halves(self.acknowledges) + u64::from(offset_and_flags);
        tcp.write(0, ports);
        tcp.write(4, self.sequence);
        tcp.write(8, self.acknowledges);
        tcp.write(12, offset_and_flags);
        tcp.write(14, 0_u16);
        tcp.write(16, checksum(sum));
        tcp.write(18, 0_u16);
    }
}

const fn join(first: u16, second: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    [a, b, c, d]
}

/// The sum of the two halves of four bytes.
#[inline(always)]
pub(crate) const fn halves(word: u32) -> u64 {
    (word & 0xffff) as u64 + (word >> 16) as u64
}

/// The Internet checksum of a sum of fewer than 2^16 words (RFC 1071).
#[inline(always)]
pub(crate) const fn checksum(sum: u64) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// The address that an ARP request asks for; none where the frame is no request for another's IPv4 address.
#[inline(always)]
#[must_use]
pub fn arp_target(frame: Frame) -> Option<u32> {
    let arp = frame.at::<ArpHdr>(ETHERNET_LEN)?;
    let operation: u16 = arp.read(offset_of!(ArpHdr, oper));
    let sender: u32 = arp.read(offset_of!(ArpHdr, spa));
    let target: u32 = arp.read(offset_of!(ArpHdr, tpa));
    let sound = arp.read::<u64>(0) & NOT_OPERATION == ETHERNET_IPV4;
    (sound && operation == REQUEST && sender != target).then_some(target)
}

/// Turns an ARP request into the reply that says `address`.
#[inline(always)]
pub fn arp(frame: Frame, address: [u8; 6]) {
    let (Some(arp), Some(ethernet)) = (frame.at::<ArpHdr>(ETHERNET_LEN), frame.at::<[u8; 14]>(0)) else { return };
    let request = arp.get();
    let mut reply = request;
    reply.oper = REPLY.to_ne_bytes();
    (reply.sha, reply.spa) = (address, request.tpa);
    (reply.tha, reply.tpa) = (request.sha, request.spa);
    arp.set(reply);
    write_ethernet(ethernet, request.sha, address);
}

/// Sends a frame back where it came from.
#[inline(always)]
pub(crate) fn swap_ethernet(frame: Frame) {
    if let Some(header) = frame.at::<[u8; 14]>(0) {
        let bytes = header.get();
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, _, _] = bytes;
        write_ethernet(header, [s0, s1, s2, s3, s4, s5], [d0, d1, d2, d3, d4, d5]);
    }
}

#[inline(always)]
pub(crate) fn write_ethernet(header: View<[u8; 14]>, to: [u8; 6], from: [u8; 6]) {
    let mut bytes = header.get();
    (bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]) = (to[0], to[1], to[2], to[3], to[4], to[5]);
    (bytes[6], bytes[7], bytes[8], bytes[9], bytes[10], bytes[11]) =
        (from[0], from[1], from[2], from[3], from[4], from[5]);
    header.set(bytes);
}
