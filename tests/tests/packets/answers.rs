//! What the program answers by itself: closed ports, packets too long for the next link, and how often.

use std::{net::SocketAddrV4, time::Duration};

use etherparse::{Icmpv4Type, icmpv4::DestUnreachableHeader};
use grayxdp::{
    datapath::Capacity,
    model::kernel::{Counters, Reason, ServiceId, Wanted},
};
use grayxdp_tests::{
    bench::case::verdict,
    host,
    packet::{Flags, Packet, Transport},
    subject::Subject,
};

use crate::world::{
    Case, FAR, LOST, PLAIN, WEB, backend, client, endpoint, error_about, forward, gateway, in_world, reason, reverse,
    run, run_in_world, service, to_backend, to_client, vip,
};

/// A port of a virtual address that no service has.
fn closed() -> SocketAddrV4 {
    endpoint(vip(LOST).ip().octets(), 81)
}

/// The RST that answers a segment, by RFC 9293, section 3.10.7.1.
fn reset(to: &Packet, flags: Flags, sequence: u32, acknowledged: u32) -> Packet {
    Packet {
        macs: (to.macs.1, to.macs.0),
        identification: 0,
        window: 0,
        ..Packet::tcp_with(to.destination, to.source, flags, sequence, acknowledged)
    }
}

fn unreachable(header: DestUnreachableHeader) -> Icmpv4Type {
    Icmpv4Type::DestinationUnreachable(header)
}

fn port_unreachable(to: &Packet) -> Packet {
    error_about(to, *to.destination.ip(), unreachable(DestUnreachableHeader::Port))
}

#[test]
fn a_closed_port_of_a_virtual_address_is_refused() {
    let syn = Packet::tcp_with(client(), closed(), Flags::SYN, 0x0102_0304, 0);
    let data = Packet::tcp(client(), closed(), Flags::ACK).with_payload(&[7; 900]);
    let fin = Packet::tcp(client(), closed(), Flags { fin: true, ..Flags::default() }).with_payload(b"bye");
    let datagram = Packet::udp(client(), closed()).with_payload(&[1; 100]);
    let other = Packet::udp(client(), vip(LOST));
    let answered = || reason(LOST, Reason::PortClosed);
    let case = |name, packet: &Packet, answer: &Packet| Case::sent(name, verdict::TX, packet, answer, answered());
    let cases = [
        case("SYN", &syn, &reset(&syn, Flags::RST_ACK, 0, 0x0102_0305)),
        case("padded SYN", &syn.clone().padded(), &reset(&syn, Flags::RST_ACK, 0, 0x0102_0305)),
        case("data", &data, &reset(&data, Flags::RST, 0x0a0b_0c0d, 0)),
        case("FIN without acknowledgement", &fin, &reset(&fin, Flags::RST_ACK, 0, 0x0102_0308)),
        case("datagram", &datagram, &port_unreachable(&datagram)),
        case("the service's port of another protocol, no data", &other, &port_unreachable(&other)),
        case("the last hop", &datagram.clone().with_ttl(1), &port_unreachable(&datagram.clone().with_ttl(1))),
    ];
    run_in_world(&cases);
}

#[test]
fn what_must_not_be_answered_is_dropped_and_counted() {
    let no_service = || reason(LOST, Reason::NoService);
    let from = |address, port| endpoint(address, port);
    let syn = |source| Packet::tcp(source, closed(), Flags::SYN);
    let udp = |source| Packet::udp(source, closed());
    let dropped = |name, packet: &Packet| Case::dropped(name, packet.bytes(), no_service());
    let to_group = |packet: Packet| Packet { macs: (packet.macs.0, [0xff; 6]), ..packet };
    let options = |packet: Packet| Packet { ip_options: vec![1, 1, 1, 0], ..packet };
    let expired = |name, packet: &Packet| Case::dropped(name, packet.bytes(), reason(WEB, Reason::TtlExpired));
    let last_hop = |flags| Packet::tcp(client(), vip(WEB), flags).with_ttl(1);
    let cases = [
        dropped("RST", &Packet::tcp(client(), closed(), Flags::RST)),
        dropped("RST with acknowledgement", &Packet::tcp(client(), closed(), Flags::RST_ACK)),
        dropped("from a group", &syn(from([224, 0, 0, 5], 9))),
        dropped("from everybody", &udp(from([255, 255, 255, 255], 9))),
        dropped("from a reserved address", &udp(from([240, 0, 0, 1], 9))),
        dropped("from nobody", &syn(from([0, 0, 0, 0], 9))),
        dropped("from a loopback address", &udp(from([127, 0, 0, 1], 9))),
        dropped("SYN to everybody on the link", &to_group(syn(client()))),
        dropped("datagram to everybody on the link", &to_group(udp(client()))),
        dropped("SYN with IPv4 options", &options(syn(client()))),
        dropped("datagram with IPv4 options", &options(udp(client()))),
        dropped("another protocol", &Packet::new(client(), closed(), Transport::Other(47)).with_payload(&[0; 24])),
        expired("a RST whose time to live ran out", &last_hop(Flags::RST)),
        expired("the same with IPv4 options", &options(last_hop(Flags::ACK))),
        expired("the same from a group", &Packet { source: from([224, 0, 0, 9], 9), ..last_hop(Flags::ACK) }),
    ];
    run_in_world(&cases);
}

/// What the narrow link behind the load balancer takes.
const NARROW: u16 = 1_300;

fn narrow() -> [String; 1] {
    [format!("link set {} mtu {NARROW}", host::name(host::FAR))]
}

#[test]
fn a_packet_too_long_for_the_next_link_is_answered_with_the_length_that_fits_or_left_to_the_kernel() {
    let of_length = |length: usize| Packet::tcp(client(), vip(FAR), Flags::ACK).with_payload(&vec![0x5a; length - 40]);
    let needed = |packet: &Packet, mtu| {
        let message = unreachable(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu });
        error_about(packet, host::NEAR_ADDRESS, message)
    };
    let narrow_mtu = usize::from(NARROW);
    let (fits, long) = (of_length(narrow_mtu), of_length(narrow_mtu + 1));
    let may = Packet { may_be_fragmented: true, ..of_length(1_500) };
    let mut passed: Counters = reason(FAR, Reason::TooBigPassed);
    passed.backends = forward(FAR, &may, PLAIN).backends;
    let kept = Packet { destination: backend(FAR), ..may.clone() };
    let near = Packet::tcp(client(), vip(WEB), Flags::ACK).with_payload(&[0x5a; 1_460]);
    let from_far = Packet::tcp(backend(FAR), client(), Flags::ACK).with_payload(&[0x5a; 1_460]);
    let to_near = to_client(FAR, &from_far, gateway());
    let reset =
        Packet { destination: vip(FAR), ..Packet::tcp(client(), vip(FAR), Flags::RST) }.with_payload(&[1; 1_400]);
    let answered = reason(FAR, Reason::FragmentationNeeded);
    let cases = [
        Case::sent("fits", verdict::REDIRECT, &fits, &to_backend(FAR, &fits), forward(FAR, &fits, PLAIN)),
        Case::sent("one byte too long", verdict::TX, &long, &needed(&long, NARROW), answered),
        Case::sent("may be cut into pieces", verdict::PASS, &may, &kept, passed),
        Case::sent("by a wider link", verdict::TX, &near, &to_backend(WEB, &near), forward(WEB, &near, PLAIN)),
        Case::sent("from there by a wider link", verdict::TX, &from_far, &to_near, reverse(FAR, &from_far, PLAIN)),
        Case::dropped("a RST is not answered", reset.bytes(), reason(FAR, Reason::TooBig)),
    ];
    in_world(&narrow(), |subject| run(subject, &cases));
}

#[test]
fn a_reply_too_long_for_the_link_to_its_client_is_answered_to_the_backend_or_left_to_the_kernel() {
    const CLIENT: [u8; 4] = [10, 88, 0, 1];
    const GATEWAY: [u8; 4] = [10, 2, 0, 254];
    let reply = Packet::tcp(backend(WEB), endpoint(CLIENT, 40_000), Flags::ACK).with_payload(&[0xa5; 1_300]);
    let message = unreachable(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: NARROW });
    let may = Packet { may_be_fragmented: true, ..reply.clone() };
    let mut passed: Counters = reason(WEB, Reason::TooBigPassed);
    passed.backends = reverse(WEB, &may, PLAIN).backends;
    let cases = [
        Case::sent(
            "must not be cut into pieces",
            verdict::TX,
            &reply,
            &error_about(&reply, host::NEAR_ADDRESS, message),
            reason(WEB, Reason::FragmentationNeeded),
        ),
        Case::sent("may be cut into pieces", verdict::PASS, &may, &Packet { source: vip(WEB), ..may.clone() }, passed),
    ];
    let mut lines = narrow().to_vec();
    lines.push(host::neighbour(host::FAR, GATEWAY.into()));
    lines.push("route add 10.88.0.0/16 via 10.2.0.254".to_owned());
    in_world(&lines, |subject| run(subject, &cases));
}

#[test]
fn answers_are_limited_each_kind_by_itself_and_what_is_too_many_is_counted() {
    let wanted =
        Wanted { services: vec![service(WEB, grayxdp::model::config::Protocol::Tcp, true)], direct_access: Vec::new() };
    let namespace = host::host(&[host::neighbour(host::NEAR, *backend(WEB).ip())]).expect("tests need root and `ip`");
    namespace.run(|| {
        let capacity = Capacity::of(&wanted).with_room();
        let mut subject = Subject::open_timeless(&wanted, capacity).expect("the kernel takes the program");
        let closed = endpoint(vip(WEB).ip().octets(), 81);
        let syn = Packet::tcp(client(), closed, Flags::SYN).bytes();
        let expired = Packet::tcp(client(), vip(WEB), Flags::ACK).with_ttl(1).bytes();
        let send = |subject: &mut Subject, frame: &[u8], count: u64| {
            let verdicts = (0..count).map(|_| subject.run(frame, host::NEAR).expect("the kernel runs the packet").0);
            verdicts.filter(|verdict| *verdict == verdict::TX).count()
        };
        let counted = |subject: &Subject, reason: Reason| {
            let counters = subject.counters().expect("counters can be read");
            counters.reasons.get(&(ServiceId(1), reason)).copied().unwrap_or_default()
        };
        subject.set_clock(Duration::from_secs(100)).expect("the clock can be set");
        assert_eq!(send(&mut subject, &syn, 400), 250, "a quarter of a second's at once");
        assert_eq!(send(&mut subject, &expired, 400), 250, "another kind");
        assert_eq!(counted(&subject, Reason::PortClosed), 250);
        assert_eq!(counted(&subject, Reason::TimeExceeded), 250);
        assert_eq!(counted(&subject, Reason::AnswerLimited), 300);
        subject.set_clock(Duration::from_millis(100_010)).expect("the clock can be set");
        assert_eq!(send(&mut subject, &syn, 400), 10, "one a millisecond");
        subject.set_clock(Duration::from_secs(102)).expect("the clock can be set");
        assert_eq!(send(&mut subject, &syn, 400), 250);
    });
}
