//! Pieces of datagrams: the first goes its flow's way, the others follow it, and none goes alone.

use grayxdp::model::kernel::{Counters, Reason, ServiceId};
use grayxdp_tests::{
    bench::case::verdict,
    host,
    packet::{Flags, Packet, Transport, UdpChecksum},
};

use crate::world::{
    Case, FAR, LOCAL, LOST, NAMES, PLAIN, WEB, backend, client, endpoint, forward, gateway, in_world, nothing, reason,
    reverse, run, run_in_world, to_backend, to_client, vip,
};

const UDP: u8 = 17;

/// The first piece of a datagram with a number, from an end to another.
fn first(number: u16, ends: (std::net::SocketAddrV4, std::net::SocketAddrV4)) -> Packet {
    Packet { identification: number, more_fragments: true, ..Packet::udp(ends.0, ends.1) }.with_payload(&[0x11; 64])
}

/// The last piece of the same datagram.
fn last(first: &Packet) -> Packet {
    Packet {
        more_fragments: false,
        fragment_offset: 9,
        transport: Transport::Other(UDP),
        payload: vec![0x22; 33],
        ..first.clone()
    }
}

/// A piece in the middle.
fn middle(first: &Packet) -> Packet {
    Packet { more_fragments: true, ..last(first) }
}

fn there(name: &'static str, service: ServiceId, piece: &Packet) -> Case {
    let verdict = if service == FAR { verdict::REDIRECT } else { verdict::TX };
    Case::sent(name, verdict, piece, &to_backend(service, piece), forward(service, piece, PLAIN))
}

fn back(name: &'static str, service: ServiceId, piece: &Packet) -> Case {
    Case::sent(name, verdict::TX, piece, &to_client(service, piece, gateway()), reverse(service, piece, PLAIN))
}

#[test]
fn later_pieces_go_where_the_first_one_went() {
    let question = first(7, (client(), vip(NAMES)));
    let answer = first(7, (backend(NAMES), client()));
    let absent = Packet { transport: Transport::Udp(UdpChecksum::Absent), ..first(8, (client(), vip(NAMES))) };
    let segment = Packet { identification: 9, more_fragments: true, ..Packet::tcp(client(), vip(FAR), Flags::ACK) };
    let rest = Packet { transport: Transport::Other(6), ..last(&segment) };
    let options = Packet { ip_options: vec![1, 1, 1, 0], ..first(10, (client(), vip(NAMES))) };
    let cases = [
        there("the first", NAMES, &question),
        there("one in the middle", NAMES, &middle(&question)),
        there("the last", NAMES, &last(&question)),
        there("the last once more", NAMES, &last(&question)),
        back("the first of an answer with the same number", NAMES, &answer),
        back("the last of the answer", NAMES, &last(&answer)),
        there("the last of the question still", NAMES, &last(&question)),
        there("without checksum", NAMES, &absent),
        there("its last", NAMES, &last(&absent)),
        there("TCP, by another interface", FAR, &segment),
        there("its last", FAR, &rest),
        there("with IPv4 options", NAMES, &options),
        there("its last", NAMES, &last(&options)),
    ];
    run_in_world(&cases);
}

#[test]
fn a_later_piece_without_its_first_is_dropped_and_counted() {
    let question = first(7, (client(), vip(NAMES)));
    let fragment = || reason(WEB, Reason::Fragment);
    let dropped = |name, piece: &Packet| Case::dropped(name, piece.bytes(), fragment());
    let other_client = Packet { source: endpoint([10, 64, 0, 2], 9), ..last(&question) };
    let other_protocol = Packet { transport: Transport::Other(6), ..last(&question) };
    let other_number = Packet { identification: 8, ..last(&question) };
    let elsewhere = first(7, (client(), endpoint([198, 51, 100, 1], 80)));
    let unknown = first(7, (backend(NAMES), client()));
    let echo = Packet { more_fragments: true, ..Packet::new(client(), vip(WEB), Transport::Other(1)) }
        .with_payload(&[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    let local = first(7, (client(), vip(LOCAL)));
    let cases = [
        dropped("before its first", &last(&question)),
        there("the first", NAMES, &question),
        dropped("of another client", &other_client),
        dropped("of another protocol", &other_protocol),
        dropped("of another datagram", &other_number),
        dropped("the first of an echo request", &echo),
        Case::untouched("a backend's own, before any first", last(&unknown).bytes(), nothing()),
        Case::untouched("the first for another address", elsewhere.bytes(), nothing()),
        Case::untouched("the last for another address", last(&elsewhere).bytes(), nothing()),
        Case::untouched(
            "the last for a local address",
            last(&Packet { destination: endpoint(vip(LOCAL).ip().octets(), 9), ..local }).bytes(),
            reason(LOCAL, Reason::LocalAddress),
        ),
    ];
    run_in_world(&cases);
}

#[test]
fn later_pieces_share_the_fate_of_the_first() {
    let (lost, far) = (first(7, (client(), vip(NAMES))), first(8, (client(), vip(NAMES))));
    let tcp = |service, number| Packet {
        identification: number,
        more_fragments: true,
        ..Packet::tcp(client(), vip(service), Flags::ACK)
    };
    let unresolved = Packet { transport: Transport::Other(6), ..last(&tcp(LOST, 9)) };
    let passed = |packet: &Packet, service, why| {
        let mut counted: Counters = reason(service, why);
        counted.backends = forward(service, packet, PLAIN).backends;
        counted
    };
    let kept = |service, packet: &Packet| Packet { destination: backend(service), ..packet.clone() };
    let long = Packet { transport: Transport::Other(6), ..last(&tcp(FAR, 10)) }.with_payload(&[1; 1_400]);
    let cases = [
        there("the first", NAMES, &lost),
        Case::dropped("time to live 1", last(&lost).with_ttl(1).bytes(), reason(NAMES, Reason::TtlExpired)),
        there("another first", NAMES, &far),
        Case::dropped("shorter than it says", cut(&last(&far)), reason(NAMES, Reason::Malformed)),
        Case::sent(
            "the first, to a backend whose next hop is not known",
            verdict::PASS,
            &tcp(LOST, 9),
            &kept(LOST, &tcp(LOST, 9)),
            passed(&tcp(LOST, 9), LOST, Reason::UnresolvedBackend),
        ),
        Case::sent(
            "its last",
            verdict::PASS,
            &unresolved,
            &kept(LOST, &unresolved),
            passed(&unresolved, LOST, Reason::UnresolvedBackend),
        ),
        there("the first, by a narrow link", FAR, &tcp(FAR, 10)),
        Case::sent(
            "a piece that is too long for it",
            verdict::PASS,
            &long,
            &kept(FAR, &long),
            passed(&long, FAR, Reason::TooBigPassed),
        ),
    ];
    let narrow = [format!("link set {} mtu 1300", host::name(host::FAR))];
    in_world(&narrow, |subject| run(subject, &cases));
}

fn cut(piece: &Packet) -> Vec<u8> {
    let mut frame = piece.bytes();
    frame.pop();
    frame
}
