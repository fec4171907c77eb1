//! From a client to a backend.

use grayxdp::model::kernel::{BackendCounters, Reason};
use grayxdp_tests::{
    bench::case::verdict,
    packet::{Flags, Packet, Transport, UdpChecksum},
};

use crate::world::{
    Case, EMPTY, FAR, LOCAL, LOST, NAMES, PLAIN, WEB, backend, client, forward, reason, run_in_world, time_exceeded,
    to_backend, vip,
};

fn tcp(flags: Flags) -> Packet {
    Packet::tcp(client(), vip(WEB), flags)
}

fn udp(payload: &[u8]) -> Packet {
    Packet::udp(client(), vip(NAMES)).with_payload(payload)
}

/// A case of the web service: sent to its backend by the interface that it came in by.
fn web(name: &'static str, packet: &Packet, flags: BackendCounters) -> Case {
    Case::sent(name, verdict::TX, packet, &to_backend(WEB, packet), forward(WEB, packet, flags))
}

fn names(name: &'static str, packet: &Packet) -> Case {
    Case::sent(name, verdict::TX, packet, &to_backend(NAMES, packet), forward(NAMES, packet, PLAIN))
}

#[test]
fn tcp_goes_to_the_backend_with_valid_checksums() {
    let syn = BackendCounters { syns: 1, ..PLAIN };
    let options = vec![2, 4, 5, 0xb4, 1, 3, 3, 7, 4, 2, 1, 1];
    let with_options = |flags: Flags, sequence| {
        let transport = Transport::Tcp { flags, sequence, acknowledged: 0x0a0b_0c0d, options: options.clone() };
        Packet::new(client(), vip(WEB), transport)
    };
    let record_route = vec![7, 7, 4, 0, 0, 0, 0, 0];
    let trailer = Packet { padding: vec![0xde, 0xad, 0xbe, 0xef, 0x01], ..tcp(Flags::ACK).with_payload(&[9]) };
    let cases = [
        web("SYN", &tcp(Flags::SYN), syn),
        web("SYN padded to the shortest frame", &tcp(Flags::SYN).padded(), syn),
        web("SYN with TCP options", &with_options(Flags::SYN, 0), syn),
        web("SYN with IPv4 options", &Packet { ip_options: vec![1, 1, 1, 0], ..tcp(Flags::SYN) }, syn),
        web(
            "data with IPv4 and TCP options",
            &Packet { ip_options: record_route, ..with_options(Flags::ACK, 7) },
            PLAIN,
        ),
        web("data with forty bytes of IPv4 options", &Packet { ip_options: vec![1; 40], ..tcp(Flags::ACK) }, PLAIN),
        web("acknowledgement", &tcp(Flags::ACK), PLAIN),
        web("data of even length", &tcp(Flags::ACK).with_payload(b"GET / HTTP/1.1\r\n"), PLAIN),
        web("data of odd length", &tcp(Flags::ACK).with_payload(b"GET"), PLAIN),
        web("data of a full frame", &tcp(Flags::ACK).with_payload(&[0xa5; 1460]), PLAIN),
        web("bytes behind the datagram are kept", &trailer, PLAIN),
        web("FIN", &tcp(Flags::FIN_ACK), BackendCounters { fins_forward: 1, ..PLAIN }),
        web("RST", &tcp(Flags::RST), BackendCounters { resets_forward: 1, ..PLAIN }),
        web("SYN-ACK from a client counts as no SYN", &tcp(Flags::SYN_ACK), PLAIN),
        web("the last hop but one", &tcp(Flags::ACK).with_ttl(2), PLAIN),
        web("the longest time to live", &tcp(Flags::ACK).with_ttl(255), PLAIN),
        time_exceeded("time to live 1", &tcp(Flags::ACK).with_ttl(1), WEB),
        time_exceeded("time to live 0", &tcp(Flags::SYN).with_ttl(0), WEB),
    ];
    run_in_world(&cases);
}

#[test]
fn udp_goes_to_the_backend_and_no_checksum_stays_none() {
    let absent = Packet { transport: Transport::Udp(UdpChecksum::Absent), ..udp(b"query") };
    let plain = to_backend(NAMES, &udp(&[0, 0])).bytes();
    let becomes_zero = udp(&[plain[40], plain[41]]);
    assert_eq!(to_backend(NAMES, &becomes_zero).bytes()[40..42], [0xff, 0xff], "the case is what its name says");
    let cases = [
        names("datagram", &udp(b"question")),
        names("datagram of odd length", &udp(b"odd")),
        names("datagram without data", &udp(&[])),
        names("datagram with IPv4 options", &Packet { ip_options: vec![1, 1, 1, 0], ..udp(b"query") }),
        names("datagram without checksum", &absent),
        names("datagram whose new checksum is zero", &becomes_zero),
        names("datagram of a full frame", &udp(&[0x5a; 1472])),
        time_exceeded("time to live 1", &udp(&[]).with_ttl(1), NAMES),
    ];
    run_in_world(&cases);
}

#[test]
fn the_next_hop_decides_how_a_packet_leaves() {
    let far = Packet::tcp(client(), vip(FAR), Flags::ACK);
    let lost = Packet::tcp(client(), vip(LOST), Flags::ACK);
    let local = Packet::tcp(client(), vip(LOCAL), Flags::ACK);
    let mut unresolved = reason(LOST, Reason::UnresolvedBackend);
    unresolved.backends = forward(LOST, &lost, PLAIN).backends;
    let cases = [
        Case::sent("another interface", verdict::REDIRECT, &far, &to_backend(FAR, &far), forward(FAR, &far, PLAIN)),
        Case::sent(
            "no next hop: rewritten, with the time to live as it was",
            verdict::PASS,
            &lost,
            &Packet { destination: backend(LOST), ..lost.clone() },
            unresolved,
        ),
        Case::sent(
            "a service at an address of this host",
            verdict::TX,
            &local,
            &to_backend(LOCAL, &local),
            forward(LOCAL, &local, PLAIN),
        ),
        Case::dropped(
            "a version without backends",
            Packet::tcp(client(), vip(EMPTY), Flags::SYN).bytes(),
            reason(EMPTY, Reason::NoBackend),
        ),
    ];
    run_in_world(&cases);
}
