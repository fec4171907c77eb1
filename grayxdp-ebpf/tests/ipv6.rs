//! The packet code of IPv6 on the host: what it writes is compared with packets that another library builds.

use etherparse::{IcmpEchoHeader, Icmpv6Type, PacketBuilder};
use grayxdp_common::{
    ids::{ServiceId, VersionId},
    ipv6::{Address6, Ends6},
    records::BackendRecord,
};
use grayxdp_ebpf::{
    answer6,
    frame::Frame,
    packet::{Extensions, Ip6, Network as _, Packet},
    quote::Quote,
    rewrite::{self, Checksum, NewEnd, TimeToLive},
};
use proptest::prelude::*;

const FROM: [u8; 6] = [2, 0, 0, 0, 0, 1];
const TO: [u8; 6] = [2, 0, 0, 0, 0, 2];

#[derive(Clone, Copy, Debug)]
struct End {
    address: [u8; 16],
    port: u16,
}

fn end() -> impl Strategy<Value = End> {
    (any::<[u8; 16]>(), 1_u16..).prop_map(|(address, port)| End { address, port })
}

/// Addresses of one host.
fn host() -> impl Strategy<Value = [u8; 16]> {
    any::<[u8; 16]>().prop_filter("an address of one host", |address| !matches!(address[0], 0 | 0xff))
}

fn frame(from: End, to: End, hops: u8, is_udp: bool, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(FROM, TO).ipv6(from.address, to.address, hops);
    let mut bytes = Vec::new();
    if is_udp {
        builder.udp(from.port, to.port).write(&mut bytes, payload)
    } else {
        builder.tcp(from.port, to.port, 7, 1_000).ack(9).write(&mut bytes, payload)
    }
    .expect("a vector takes all bytes");
    bytes
}

fn checksum(packet: &Packet<Ip6>, frame: Frame, is_udp: bool) -> Checksum {
    if is_udp { Checksum::Udp(packet.ports) } else { Checksum::Tcp(packet.tcp(frame).expect("a TCP header")) }
}

fn record(vip: End, backend: End) -> (Ends6, BackendRecord) {
    let ends =
        Ends6 { address: Address6::from_bytes(backend.address), virtual_address: Address6::from_bytes(vip.address) };
    (ends, BackendRecord::new6(ServiceId(1), VersionId(1), &ends, vip.port.to_be(), backend.port.to_be()))
}

proptest! {
    #[test]
    fn a_packet_and_its_reply_become_those_of_the_other_end(
        client in end(), vip in end(), backend in end(), hops in 2_u8.., is_udp: bool, payload in prop::collection::vec(any::<u8>(), 0..100)
    ) {
        let (ends, record) = record(vip, backend);
        let mut bytes = frame(client, vip, hops, is_udp, &payload);
        let view = Frame::of(&mut bytes);
        let packet = Packet::of(view, Ip6::of(view).expect("a header")).expect("ports");
        let new = NewEnd { address: ends.address, port: record.port, ip: record.forward_ip, l4: record.forward_l4 };
        rewrite::destination(&packet, checksum(&packet, view, is_udp), new, TimeToLive::Decrement);
        prop_assert_eq!(bytes, frame(client, backend, hops - 1, is_udp, &payload));

        let mut bytes = frame(backend, client, hops, is_udp, &payload);
        let view = Frame::of(&mut bytes);
        let packet = Packet::of(view, Ip6::of(view).expect("a header")).expect("ports");
        let new = NewEnd { address: ends.virtual_address, port: record.virtual_port, ip: record.reverse_ip, l4: record.reverse_l4 };
        rewrite::source(&packet, checksum(&packet, view, is_udp), new, TimeToLive::Keep);
        prop_assert_eq!(bytes, frame(vip, client, hops, is_udp, &payload));
    }

    #[test]
    fn an_echo_request_becomes_its_reply(client in host(), vip in host(), hops: u8, id: u16, seq: u16, payload in prop::collection::vec(any::<u8>(), 0..100)) {
        let build = |macs: ([u8; 6], [u8; 6]), from, to, hops, kind| {
            let mut bytes = Vec::new();
            let builder = PacketBuilder::ethernet2(macs.0, macs.1).ipv6(from, to, hops).icmpv6(kind);
            builder.write(&mut bytes, &payload).expect("a vector takes all bytes");
            bytes
        };
        let header = IcmpEchoHeader { id, seq };
        let mut bytes = build((FROM, TO), client, vip, hops, Icmpv6Type::EchoRequest(header));
        let view = Frame::of(&mut bytes);
        prop_assert!(answer6::echo(view, Ip6::of(view).expect("a header")));
        prop_assert_eq!(&bytes, &build((TO, FROM), vip, client, 64, Icmpv6Type::EchoReply(header)));
        let view = Frame::of(&mut bytes);
        prop_assert!(!answer6::echo(view, Ip6::of(view).expect("a header")), "a reply is no request");
    }

    #[test]
    fn no_bytes_make_the_parser_read_outside_the_frame(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kinds in prop::collection::vec(0_usize..6, 0..10)) {
        // Chains of extension headers where a header may say which one is next.
        let known = [0, 43, 44, 51, 60, 6];
        for (at, kind) in [20, 54, 62, 70, 78, 86, 94, 102, 110, 118].into_iter().zip(kinds) {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = known[kind];
            }
        }
        if let Some(byte) = bytes.get_mut(14) {
            *byte = 0x60 | (*byte & 15);
        }
        let before = bytes.clone();
        let view = Frame::of(&mut bytes);
        let _ = Extensions::of(view);
        if let Some(ip) = Ip6::of(view) {
            if let Some(packet) = Packet::of(view, ip) {
                prop_assert!(packet.offset >= 54 && packet.offset + 8 <= before.len());
                prop_assert_eq!(packet.source_port, u16::from_ne_bytes([before[packet.offset], before[packet.offset + 1]]));
            }
            let _ = (ip.datagram(view), ip.is_fragment(), answer6::solicited(view, ip), Quote::of(view, ip).is_some());
        }
        prop_assert_eq!(bytes, before);
    }
}
