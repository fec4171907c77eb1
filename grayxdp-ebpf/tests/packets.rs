//! The packet code on the host: what it writes is compared with packets that another library builds.

use etherparse::{ArpEthIpv4Packet, ArpOperation, IcmpEchoHeader, Icmpv4Type, PacketBuilder, SlicedPacket};
use grayxdp_common::{
    ids::{ServiceId, VersionId},
    records::{BackendRecord, NextHop},
};
use grayxdp_ebpf::{
    answer,
    frame::Frame,
    packet::{Ip, Network as _, Packet},
    rewrite::{self, Checksum, NewEnd, TimeToLive},
};
use proptest::prelude::*;

const FROM: [u8; 6] = [2, 0, 0, 0, 0, 1];
const TO: [u8; 6] = [2, 0, 0, 0, 0, 2];

#[derive(Clone, Copy, Debug)]
struct End {
    address: [u8; 4],
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Transport {
    Tcp,
    Udp,
}

fn frame(macs: ([u8; 6], [u8; 6]), from: End, to: End, ttl: u8, transport: Transport, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(macs.0, macs.1).ipv4(from.address, to.address, ttl);
    let mut bytes = Vec::new();
    match transport {
        Transport::Tcp => builder.tcp(from.port, to.port, 7, 1_000).ack(9).write(&mut bytes, payload),
        Transport::Udp => builder.udp(from.port, to.port).write(&mut bytes, payload),
    }
    .expect("a vector takes all bytes");
    bytes
}

/// Packet, its checksum's place, and the record of the backend.
fn rewritten(bytes: &mut [u8], transport: Transport, apply: impl Fn(&Packet, Checksum)) {
    let frame = Frame::of(bytes);
    let ip = Ip::of(frame).expect("an IP header");
    let packet = Packet::of(frame, ip).expect("ports");
    let checksum = match transport {
        Transport::Tcp => Checksum::Tcp(packet.tcp(frame).expect("a TCP header")),
        Transport::Udp => Checksum::Udp(packet.ports),
    };
    apply(&packet, checksum);
}

fn raw(address: [u8; 4]) -> u32 {
    u32::from_ne_bytes(address)
}

fn record(vip: End, backend: End) -> BackendRecord {
    let (virtual_end, end) = ((raw(vip.address), vip.port.to_be()), (raw(backend.address), backend.port.to_be()));
    BackendRecord::new(ServiceId(1), VersionId(1), virtual_end, end)
}

fn end() -> impl Strategy<Value = End> {
    (any::<[u8; 4]>(), 1_u16..).prop_map(|(address, port)| End { address, port })
}

/// Addresses of one host: not of groups, this host or nobody.
fn host() -> impl Strategy<Value = [u8; 4]> {
    any::<[u8; 4]>().prop_filter("an address of one host", |[first, ..]| !matches!(first, 0 | 127 | 224..))
}

proptest! {
    #[test]
    fn a_packet_to_the_vip_becomes_the_one_that_a_client_would_send_to_the_backend(
        client in end(), vip in end(), backend in end(), ttl in 2_u8.., udp: bool, payload in prop::collection::vec(any::<u8>(), 0..100)
    ) {
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        let mut bytes = frame((FROM, TO), client, vip, ttl, transport, &payload);
        let record = record(vip, backend);
        let new = NewEnd { address: record.address, port: record.port, ip: record.forward_ip, l4: record.forward_l4 };
        rewritten(&mut bytes, transport, |packet, checksum| rewrite::destination(packet, checksum, new, TimeToLive::Decrement));
        prop_assert_eq!(bytes, frame((FROM, TO), client, backend, ttl - 1, transport, &payload));
    }

    #[test]
    fn a_reply_becomes_the_services_and_its_time_to_live_stays_where_the_kernel_forwards(
        client in end(), vip in end(), backend in end(), ttl in 2_u8.., udp: bool, payload in prop::collection::vec(any::<u8>(), 0..100)
    ) {
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        let mut bytes = frame((FROM, TO), backend, client, ttl, transport, &payload);
        let record = record(vip, backend);
        let new = NewEnd { address: record.virtual_address, port: record.virtual_port, ip: record.reverse_ip, l4: record.reverse_l4 };
        rewritten(&mut bytes, transport, |packet, checksum| rewrite::source(packet, checksum, new, TimeToLive::Keep));
        prop_assert_eq!(bytes, frame((FROM, TO), vip, client, ttl, transport, &payload));
    }

    #[test]
    fn an_echo_request_becomes_its_reply(client in host(), vip in host(), ttl: u8, id: u16, seq: u16, payload in prop::collection::vec(any::<u8>(), 0..100)) {
        let build = |macs: ([u8; 6], [u8; 6]), from: [u8; 4], to: [u8; 4], ttl, kind: Icmpv4Type| {
            let mut bytes = Vec::new();
            let builder = PacketBuilder::ethernet2(macs.0, macs.1).ipv4(from, to, ttl).icmpv4(kind);
            builder.write(&mut bytes, &payload).expect("a vector takes all bytes");
            bytes
        };
        let header = IcmpEchoHeader { id, seq };
        let mut bytes = build((FROM, TO), client, vip, ttl, Icmpv4Type::EchoRequest(header));
        let frame = Frame::of(&mut bytes);
        prop_assert!(answer::echo(frame, Ip::of(frame).expect("an IP header")));
        prop_assert_eq!(&bytes, &build((TO, FROM), vip, client, 64, Icmpv4Type::EchoReply(header)));
        let frame = Frame::of(&mut bytes);
        prop_assert!(!answer::echo(frame, Ip::of(frame).expect("an IP header")), "a reply is no request");
    }

    #[test]
    fn no_bytes_make_the_parser_read_outside_the_frame(mut bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let before = bytes.clone();
        let frame = Frame::of(&mut bytes);
        if let Some(ip) = Ip::of(frame)
            && let Some(packet) = Packet::of(frame, ip)
        {
            prop_assert!(packet.offset + 8 <= before.len());
            prop_assert_eq!(packet.source_port, u16::from_ne_bytes([before[packet.offset], before[packet.offset + 1]]));
        }
        let _ = answer::arp_target(frame);
        prop_assert_eq!(bytes, before);
    }
}

#[test]
fn an_arp_request_becomes_the_reply_of_the_interface() {
    let build = |macs: ([u8; 6], [u8; 6]), arp: ArpEthIpv4Packet| {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(macs.0, macs.1).arp(arp.into()).write(&mut bytes).expect("a vector takes all bytes");
        bytes
    };
    let (client, vip) = ([10, 0, 0, 9], [10, 0, 0, 100]);
    let request = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: FROM,
        sender_ipv4: client,
        target_mac: [0; 6],
        target_ipv4: vip,
    };
    let mut bytes = build((FROM, [255; 6]), request.clone());
    let frame = Frame::of(&mut bytes);
    assert_eq!(answer::arp_target(frame), Some(u32::from_ne_bytes(vip)));
    answer::arp(frame, TO);
    let reply = ArpEthIpv4Packet {
        operation: ArpOperation::REPLY,
        sender_mac: TO,
        sender_ipv4: vip,
        target_mac: FROM,
        target_ipv4: client,
    };
    assert_eq!(bytes, build((TO, FROM), reply));
    let mut gratuitous = build((FROM, [255; 6]), ArpEthIpv4Packet { target_ipv4: client, ..request });
    assert_eq!(answer::arp_target(Frame::of(&mut gratuitous)), None);
}

#[test]
fn ethernet_addresses_are_those_of_the_next_hop() {
    let client = End { address: [10, 0, 0, 9], port: 40_000 };
    let mut bytes = frame((FROM, TO), client, End { address: [192, 0, 2, 1], port: 80 }, 9, Transport::Tcp, b"x");
    let hop = NextHop::new([6; 6], [7; 6], 3);
    rewrite::ethernet(Frame::of(&mut bytes), &hop);
    let packet = SlicedPacket::from_ethernet(&bytes).expect("still a frame");
    let ethernet = packet.link.and_then(|link| link.to_header()).and_then(|header| header.ethernet2());
    let ethernet = ethernet.expect("an Ethernet header");
    assert_eq!((ethernet.destination, ethernet.source), ([6; 6], [7; 6]));
    assert_eq!((hop.destination(), hop.source()), ([6; 6], [7; 6]));
}

#[test]
fn only_the_first_piece_of_a_datagram_has_ports() {
    let client = End { address: [10, 0, 0, 9], port: 40_000 };
    let mut bytes = frame((FROM, TO), client, End { address: [192, 0, 2, 1], port: 80 }, 9, Transport::Udp, b"x");
    let cases = [
        (0x40, 0, false, true),
        (0x20, 0, true, true),
        (0, 1, true, false),
        (0x20, 1, true, false),
        (0x1f, 0xff, true, false),
    ];
    for (high, low, is_piece, has_ports) in cases {
        (bytes[20], bytes[21]) = (high, low);
        let frame = Frame::of(&mut bytes);
        let ip = Ip::of(frame).expect("an IP header");
        assert_eq!((ip.is_fragment(), Packet::of(frame, ip).is_some()), (is_piece, has_ports));
    }
}
