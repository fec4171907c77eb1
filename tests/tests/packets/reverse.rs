//! From a backend back to the client, and what of a backend's packets is left alone.

use std::net::{Ipv4Addr, SocketAddrV4};

use grayxdp::model::kernel::{BackendCounters, Reason};
use grayxdp_tests::{
    bench::case::verdict,
    host,
    packet::{Flags, Packet, Transport, UdpChecksum},
};

use crate::world::{
    Case, NAMES, PLAIN, WEB, backend, client, endpoint, gateway, in_world, nothing, reason, reverse, run, run_in_world,
    time_exceeded, to_client, vip,
};

fn tcp(flags: Flags, sequence: u32) -> Packet {
    Packet::tcp_with(backend(WEB), client(), flags, sequence, 0x0a0b_0c0d)
}

/// A case of the web service: sent by the gateway.
fn web(name: &'static str, packet: &Packet, flags: BackendCounters) -> Case {
    Case::sent(name, verdict::TX, packet, &to_client(WEB, packet, gateway()), reverse(WEB, packet, flags))
}

#[test]
fn replies_come_from_the_virtual_endpoint() {
    let options = Packet { ip_options: vec![1, 1, 1, 0], ..tcp(Flags::ACK, 5).with_payload(b"odd") };
    let udp = Packet::udp(backend(NAMES), client()).with_payload(b"answer");
    let absent = Packet { transport: Transport::Udp(UdpChecksum::Absent), ..udp.clone() };
    let names = |name, packet: &Packet| {
        Case::sent(name, verdict::TX, packet, &to_client(NAMES, packet, gateway()), reverse(NAMES, packet, PLAIN))
    };
    let cases = [
        web("SYN-ACK", &tcp(Flags::SYN_ACK, 1), BackendCounters { syn_acks: 1, ..PLAIN }),
        web("data", &tcp(Flags::ACK, 1).with_payload(b"HTTP/1.1 200 OK\r\n\r\n"), PLAIN),
        web("data of odd length with IPv4 options", &options, PLAIN),
        web("FIN", &tcp(Flags::FIN_ACK, 9), BackendCounters { fins_reverse: 1, ..PLAIN }),
        web(
            "RST with sequence number 0 is a refusal",
            &tcp(Flags::RST_ACK, 0),
            BackendCounters { refusals: 1, ..PLAIN },
        ),
        web("RST of a connection", &tcp(Flags::RST, 4711), BackendCounters { resets_reverse: 1, ..PLAIN }),
        names("datagram", &udp),
        names("datagram without checksum", &absent),
        time_exceeded("time to live 1", &tcp(Flags::ACK, 1).with_ttl(1), WEB),
    ];
    run_in_world(&cases);
}

#[test]
fn what_is_not_of_the_service_passes_untouched() {
    let here = SocketAddrV4::new(host::NEAR_ADDRESS, 51_000);
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
    run_in_world(&cases);
}

/// A client for each kind of way back.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 7);
const UNKNOWN_NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 9);
const BEHIND_SECOND_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
const UNREACHABLE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const SECOND_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 254);

#[test]
fn the_route_to_the_client_decides_how_a_reply_leaves() {
    let to = |address| Packet::tcp(backend(WEB), SocketAddrV4::new(address, 40_000), Flags::ACK);
    let sent = |name, verdict, address, hop| {
        let packet = to(address);
        Case::sent(name, verdict, &packet, &to_client(WEB, &packet, hop), reverse(WEB, &packet, PLAIN))
    };
    let unresolved = to(UNKNOWN_NEIGHBOUR);
    let mut passed = reverse(WEB, &unresolved, PLAIN);
    passed.reasons = reason(WEB, Reason::UnresolvedClient).reasons;
    let cases = [
        sent("the default gateway", verdict::TX, *client().ip(), gateway()),
        sent("a neighbour on the link", verdict::TX, NEIGHBOUR, host::hop(host::NEAR, NEIGHBOUR)),
        Case::sent(
            "an unknown neighbour: rewritten, with the time to live as it was",
            verdict::PASS,
            &unresolved,
            &Packet { source: vip(WEB), ..unresolved.clone() },
            passed,
        ),
        sent(
            "a second gateway behind another interface",
            verdict::REDIRECT,
            BEHIND_SECOND_GATEWAY,
            host::hop(host::FAR, SECOND_GATEWAY),
        ),
        Case::untouched("a network that cannot be reached", to(UNREACHABLE).bytes(), reason(WEB, Reason::NoRoute)),
    ];
    let few = [host::neighbour(host::NEAR, NEIGHBOUR)];
    in_world(&few, |subject| run(subject, &cases[..3]));
    let many = [
        host::neighbour(host::NEAR, NEIGHBOUR),
        host::neighbour(host::FAR, SECOND_GATEWAY),
        format!("route add 10.88.0.0/16 via {SECOND_GATEWAY}"),
        "route add unreachable 10.99.0.0/16".to_owned(),
    ];
    in_world(&many, |subject| run(subject, &cases));
}
