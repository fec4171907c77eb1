//! What is for a virtual address but for no service, and what is for nobody here.

use etherparse::{ArpOperation, EtherType, IcmpEchoHeader, Icmpv4Type};
use grayxdp::model::kernel::Reason;
use grayxdp_tests::{
    bench::case::verdict,
    host,
    packet::{Flags, Packet, Transport, arp, ethernet},
};

use crate::world::{Case, LOCAL, LOST, NAMES, WEB, client, endpoint, nothing, reason, run_in_world, vip};

const ASKER: [u8; 6] = [2, 0, 0, 0, 0xee, 1];
const BROADCAST: [u8; 6] = [0xff; 6];

#[test]
fn a_packet_for_a_virtual_address_never_goes_up_unless_the_address_is_local() {
    let port = |service, port| endpoint(vip(service).ip().octets(), port);
    let tcp = |to| Packet::tcp(client(), to, Flags::SYN).bytes();
    let other = |to| Packet::new(client(), to, Transport::Other(47)).with_payload(&[0; 24]).bytes();
    let unreachable = |to| {
        let message = Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Host);
        Packet::icmp(*client().ip(), to, message).with_payload(&[0; 28]).bytes()
    };
    let cases = [
        Case::dropped("another protocol", other(vip(LOST)), reason(LOST, Reason::NoService)),
        Case::dropped("an ICMP error", unreachable(*vip(LOST).ip()), reason(LOST, Reason::Icmp)),
        Case::untouched("another port of a local address", tcp(port(LOCAL, 22)), reason(LOCAL, Reason::LocalAddress)),
        Case::untouched("another protocol to a local address", other(vip(LOCAL)), reason(LOCAL, Reason::LocalAddress)),
        Case::untouched(
            "an ICMP error to a local one",
            unreachable(*vip(LOCAL).ip()),
            reason(LOCAL, Reason::LocalAddress),
        ),
    ];
    run_in_world(&cases);
}

#[test]
fn echo_requests_to_a_virtual_address_are_answered() {
    let header = IcmpEchoHeader { id: 77, seq: 3 };
    let request = |payload: &[u8]| {
        Packet::icmp(*client().ip(), *vip(LOST).ip(), Icmpv4Type::EchoRequest(header)).with_payload(payload)
    };
    let reply = |request: &Packet| {
        Packet {
            macs: (request.macs.1, request.macs.0),
            source: request.destination,
            destination: request.source,
            transport: Transport::Icmp(Icmpv4Type::EchoReply(header)),
            ..request.clone()
        }
        .with_ttl(64)
    };
    let echo =
        |name, request: &Packet| Case::sent(name, verdict::TX, request, &reply(request), reason(LOST, Reason::Echo));
    let answer = Packet::icmp(*client().ip(), *vip(LOST).ip(), Icmpv4Type::EchoReply(header));
    let local = Packet::icmp(*client().ip(), *vip(LOCAL).ip(), Icmpv4Type::EchoRequest(header));
    let elsewhere = Packet::icmp(*client().ip(), [198, 51, 100, 1].into(), Icmpv4Type::EchoRequest(header));
    let cases = [
        echo("echo request", &request(b"abcdefgh")),
        echo("echo request of odd length", &request(b"abc")),
        echo("echo request without data", &request(&[])),
        echo("echo request with time to live 1", &request(b"ab").with_ttl(1)),
        echo("echo request with IPv4 options", &Packet { ip_options: vec![1, 1, 1, 0], ..request(b"ab") }),
        echo("echo request whose reply sums up to zero", &request(&[0xf7, 0xff - 77, 0xff, 0xfc])),
        Case::dropped("echo reply", answer.bytes(), reason(LOST, Reason::Icmp)),
        Case::untouched("echo request to a local address", local.bytes(), reason(LOCAL, Reason::LocalAddress)),
        Case::untouched("echo request to another", elsewhere.bytes(), nothing()),
    ];
    run_in_world(&cases);
}

#[test]
fn arp_is_answered_for_announced_addresses_only() {
    let own_mac = host::own_mac(host::NEAR);
    let asker = (ASKER, *client().ip());
    let ask = |target| arp((ASKER, BROADCAST), ArpOperation::REQUEST, asker, ([0; 6], target));
    let announced = *vip(WEB).ip();
    let gratuitous = arp((ASKER, BROADCAST), ArpOperation::REQUEST, (ASKER, announced), ([0; 6], announced));
    let reply = arp((ASKER, own_mac), ArpOperation::REPLY, asker, (own_mac, announced));
    let answer = Case {
        name: "a request for an announced address",
        input: ask(announced),
        verdict: verdict::TX,
        output: arp((own_mac, ASKER), ArpOperation::REPLY, (own_mac, announced), asker),
        change: reason(WEB, Reason::Arp),
    };
    let mut padded = Case { name: "a padded request", change: reason(WEB, Reason::Arp), ..answer_padded(&answer) };
    padded.input.resize(60, 0);
    padded.output.resize(60, 0);
    let cases = [
        answer,
        padded,
        Case::untouched("a request for an address that is not announced", ask(*vip(LOST).ip()), nothing()),
        Case::untouched("a request for another address", ask([198, 51, 100, 1].into()), nothing()),
        Case::untouched("a gratuitous request", gratuitous, nothing()),
        Case::untouched("a reply", reply, nothing()),
    ];
    run_in_world(&cases);
}

/// The same case once more.
fn answer_padded(case: &Case) -> Case {
    Case { input: case.input.clone(), output: case.output.clone(), change: nothing(), ..*case }
}

#[test]
fn what_is_not_ours_passes_byte_for_byte() {
    let frame = |kind: u16, body: &[u8]| {
        let mut frame = ethernet((ASKER, host::own_mac(host::NEAR)), EtherType(kind));
        frame.extend_from_slice(body);
        frame
    };
    let inner = Packet::tcp(client(), vip(WEB), Flags::SYN).bytes();
    let tagged = [&[0x00, 0x64, 0x08, 0x00], &inner[14..]].concat();
    let ipv6 = [&[0x60, 0, 0, 0, 0, 20, 6, 64][..], &[0xfe; 52]].concat();
    let elsewhere = Packet::tcp(client(), endpoint([198, 51, 100, 1], 80), Flags::SYN);
    let cases = [
        Case::untouched("IPv6", frame(0x86dd, &ipv6), nothing()),
        Case::untouched("a VLAN tag", frame(0x8100, &tagged), nothing()),
        Case::untouched("a service VLAN tag", frame(0x88a8, &tagged), nothing()),
        Case::untouched("another kind of frame", frame(0x88cc, &[7; 60]), nothing()),
        Case::untouched("a length in place of a kind", frame(0x0040, &[0x42; 64]), nothing()),
        Case::untouched("nothing but an Ethernet header", frame(0x0800, &[]), nothing()),
        Case::untouched("TCP to another address", elsewhere.bytes(), nothing()),
        Case::untouched("TCP to another address, last hop", elsewhere.with_ttl(1).bytes(), nothing()),
        Case::untouched(
            "UDP to another address",
            Packet::udp(client(), endpoint([198, 51, 100, 1], 53)).with_payload(&[0; 5]).bytes(),
            nothing(),
        ),
    ];
    assert_eq!(vip(WEB).ip(), vip(NAMES).ip(), "two services share the announced address");
    run_in_world(&cases);
}
