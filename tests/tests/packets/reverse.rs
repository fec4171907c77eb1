//! From a backend back to the client, and what of a backend's packets is left alone.

use grayxdp::model::kernel::{BackendCounters, Reason};
use grayxdp_common::records::{NextHop, Route, RouteKind};
use grayxdp_tests::{
    bench::case::verdict,
    packet::{Flags, Packet, Transport, UdpChecksum},
};

use crate::world::{
    Case, DIRECT_NET, GATEWAY, INTERFACE, NAMES, OTHER_INTERFACE, OWN_MAC, PLAIN, WEB, backend, client, endpoint,
    nothing, reason, reverse, run, to_client, world,
};

fn tcp(flags: Flags, sequence: u32) -> Packet {
    let transport = Transport::Tcp { flags, sequence, options: Vec::new() };
    Packet::new(backend(WEB), client(), transport)
}

/// A case of the web service: sent by the gateway.
fn web(name: &'static str, packet: &Packet, flags: BackendCounters) -> Case {
    Case::sent(name, verdict::TX, packet, &to_client(WEB, packet, GATEWAY), reverse(WEB, packet, flags))
}

#[test]
fn replies_come_from_the_virtual_endpoint() {
    let options = Packet { ip_options: vec![1, 1, 1, 0], ..tcp(Flags::ACK, 5).with_payload(b"odd") };
    let udp = Packet::udp(backend(NAMES), client()).with_payload(b"answer");
    let absent = Packet { transport: Transport::Udp(UdpChecksum::Absent), ..udp.clone() };
    let names = |name, packet: &Packet| {
        Case::sent(name, verdict::TX, packet, &to_client(NAMES, packet, GATEWAY), reverse(NAMES, packet, PLAIN))
    };
    let cases = [
        web("SYN-ACK", &tcp(Flags::SYN_ACK, 1), BackendCounters { syn_acks: 1, ..PLAIN }),
        web("data", &tcp(Flags::ACK, 1).with_payload(b"HTTP/1.1 200 OK\r\n\r\n"), PLAIN),
        web("data of odd length with IPv4 options", &options, PLAIN),
        web("FIN", &tcp(Flags::FIN_ACK, 9), BackendCounters { fins_reverse: 1, ..PLAIN }),
        web("RST with sequence number 0 is a refusal", &tcp(Flags::RST_ACK, 0), BackendCounters { refusals: 1, ..PLAIN }),
        web("RST of a connection", &tcp(Flags::RST, 4711), BackendCounters { resets_reverse: 1, ..PLAIN }),
        names("datagram", &udp),
        names("datagram without checksum", &absent),
        Case::dropped("time to live 1", tcp(Flags::ACK, 1).with_ttl(1).bytes(), reason(WEB, Reason::TtlExpired)),
    ];
    run(&world(), &cases);
}

#[test]
fn what_is_not_of_the_service_passes_untouched() {
    let here = endpoint([10, 77, 0, 1], 51_000);
    let mut subject = world();
    let route = Route { kind: RouteKind::Untouched as u32, reserved: 0, next_hop: NextHop::UNKNOWN };
    subject.set_route(*here.ip(), 32, route).expect("a route can be set");
    let other_port = endpoint(backend(WEB).ip().octets(), 22);
    let other_protocol = Packet::udp(backend(WEB), client()).with_payload(b"log line");
    let cases = [
        Case::untouched(
            "the answer to a health check of this host",
            Packet::tcp(backend(WEB), here, Flags::SYN_ACK).bytes(),
            reason(WEB, Reason::DirectAccess),
        ),
        Case::untouched(
            "the last hop of a health check",
            Packet::tcp(backend(WEB), here, Flags::ACK).with_ttl(1).bytes(),
            reason(WEB, Reason::DirectAccess),
        ),
        Case::untouched("another port", Packet::tcp(other_port, client(), Flags::ACK).bytes(), nothing()),
        Case::untouched("another protocol", other_protocol.bytes(), nothing()),
        Case::untouched(
            "the service port towards a backend",
            Packet::tcp(client(), backend(WEB), Flags::SYN).bytes(),
            nothing(),
        ),
    ];
    run(&subject, &cases);
}

#[test]
fn routes_decide_for_what_does_not_go_by_the_gateway() {
    let at = |last: u8| endpoint([10, 77, 0, last], 40_000);
    let hop = |last: u8, interface| NextHop { destination: [2, 0, 0, 0, 0xdd, last], source: OWN_MAC, interface };
    let route = |kind: RouteKind, next_hop| Route { kind: kind as u32, reserved: 0, next_hop };
    let mut subject = world();
    subject.set_route(DIRECT_NET, 24, route(RouteKind::OnLink, NextHop::UNKNOWN)).expect("a route can be set");
    subject.set_route(*at(2).ip(), 32, route(RouteKind::Gateway, hop(2, OTHER_INTERFACE))).expect("a route can be set");
    subject.set_route(*at(4).ip(), 32, route(RouteKind::Kernel, NextHop::UNKNOWN)).expect("a route can be set");
    subject.set_neighbour(*at(1).ip(), hop(1, INTERFACE)).expect("a neighbour can be set");
    let to = |last| Packet::tcp(backend(WEB), at(last), Flags::ACK);
    let sent = |name, verdict, last, interface| {
        let packet = to(last);
        Case::sent(name, verdict, &packet, &to_client(WEB, &packet, hop(last, interface)), reverse(WEB, &packet, PLAIN))
    };
    let cases = [
        sent("a neighbour on the link", verdict::TX, 1, INTERFACE),
        sent("a gateway behind another interface", verdict::REDIRECT, 2, OTHER_INTERFACE),
        Case::untouched("an unknown neighbour without a route", to(3).bytes(), reason(WEB, Reason::NoRoute)),
        Case::untouched("the kernel decides and has no route", to(4).bytes(), reason(WEB, Reason::NoRoute)),
    ];
    run(&subject, &cases);
}
