//! ICMP errors about packets of a service: whom they go to, and what stands in them.

use std::net::Ipv4Addr;

use etherparse::{
    Icmpv4Type,
    icmpv4::{DestUnreachableHeader, ParameterProblemHeader, RedirectCode, RedirectHeader, TimeExceededCode},
};
use grayxdp::model::kernel::{BackendCounters, Counters, Reason, ServiceId};
use grayxdp_common::records::NextHop;
use grayxdp_tests::{
    bench::case::verdict,
    host,
    packet::{Flags, Packet, Transport, UdpChecksum},
};

use crate::world::{
    Case, EMPTY, FAR, LOCAL, LOST, NAMES, PLAIN, WEB, backend, client, endpoint, forward, gateway, hop, in_world,
    nothing, reason, reverse, run, run_in_world, vip,
};

/// A router between here and a client, or between here and a backend.
const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// An IPv4 header and the eight bytes behind it that every error repeats.
const SHORT: usize = 28;
/// More than any packet here has.
const WHOLE: usize = 2_000;

fn fragmentation_needed() -> Icmpv4Type {
    Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1_400 })
}

fn time_exceeded() -> Icmpv4Type {
    Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit)
}

/// A reply of a service as it left here, some routers ago.
fn reply(service: ServiceId) -> Packet {
    match service {
        NAMES => Packet::udp(vip(NAMES), client()),
        _ => Packet::tcp(vip(service), client(), Flags::ACK),
    }
    .with_payload(&[0xa5; 40])
    .with_ttl(51)
}

/// A client's packet as it left here for a backend, some routers ago.
fn question(service: ServiceId) -> Packet {
    Packet { source: client(), destination: backend(service), ..reply(service) }
}

/// An error on its way to a service's backend.
fn forwarded(service: ServiceId, error: &Packet) -> Packet {
    let hop = hop(service);
    let destination = endpoint(backend(service).ip().octets(), 0);
    Packet { destination, macs: (hop.source(), hop.destination()), ..error.clone() }.with_ttl(error.ttl - 1)
}

/// An error about a reply becomes one about what the backend sent.
fn to_backend(name: &'static str, service: ServiceId, error: &Packet, about: &Packet) -> Case {
    let sent = Packet { source: backend(service), ..about.clone() };
    let payload = sent.bytes()[14..14 + error.payload.len()].to_vec();
    let output = forwarded(service, &Packet { payload, ..error.clone() });
    let flags = BackendCounters { icmp_errors_forward: 1, ..PLAIN };
    let verdict = if hop(service).interface == host::NEAR { verdict::TX } else { verdict::REDIRECT };
    Case::sent(name, verdict, error, &output, forward(service, error, flags))
}

/// An error about what a backend was sent becomes one about what the client sent.
fn to_client(name: &'static str, service: ServiceId, error: &Packet, about: &Packet) -> Case {
    let hop: NextHop = gateway();
    let length = error.payload.len();
    let sent = Packet { destination: vip(service), ..about.clone() };
    let is_own = error.source.ip() == backend(service).ip();
    let output = Packet {
        source: if is_own { endpoint(vip(service).ip().octets(), 0) } else { error.source },
        macs: (hop.source(), hop.destination()),
        payload: sent.bytes()[14..14 + length].to_vec(),
        ..error.clone()
    }
    .with_ttl(error.ttl - 1);
    let flags = BackendCounters { icmp_errors_reverse: 1, ..PLAIN };
    Case::sent(name, verdict::TX, error, &output, reverse(service, error, flags))
}

#[test]
fn an_error_about_a_reply_goes_to_the_backend_that_sent_it() {
    let about = |service, message: Icmpv4Type, length| Packet::icmp_about(ROUTER, message, &reply(service), length);
    let case = |name, service, error: &Packet| to_backend(name, service, error, &reply(service));
    let pointer = Icmpv4Type::ParameterProblem(ParameterProblemHeader::PointerIndicatesError(9));
    let port = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port);
    let absent = Packet { transport: Transport::Udp(UdpChecksum::Absent), ..reply(NAMES) };
    let options = Packet { ip_options: vec![7, 7, 4, 0, 0, 0, 0, 0], ..reply(WEB) };
    let first_piece = Packet { more_fragments: true, ..reply(NAMES) };
    let from_client = Packet::icmp_about(*client().ip(), port.clone(), &reply(NAMES), WHOLE);
    let outer_options = Packet { ip_options: vec![1, 1, 1, 0], ..about(WEB, fragmentation_needed(), SHORT) };
    let half = about(WEB, fragmentation_needed(), 37);
    let mut half_checksum = case("cut within the TCP checksum, whose half stays as it is", WEB, &half);
    half_checksum.output = {
        let mut expected = half.clone();
        expected.payload = Packet { source: backend(WEB), ..reply(WEB) }.bytes()[14..51].to_vec();
        expected.payload[36] = half.payload[36];
        forwarded(WEB, &expected).bytes()
    };
    let cases = [
        case("frag needed, eight bytes repeated", WEB, &about(WEB, fragmentation_needed(), SHORT)),
        case("frag needed, the whole packet repeated", WEB, &about(WEB, fragmentation_needed(), WHOLE)),
        case("cut in front of the TCP checksum", WEB, &about(WEB, fragmentation_needed(), 36)),
        half_checksum,
        case("cut behind the TCP checksum", WEB, &about(WEB, fragmentation_needed(), 38)),
        case("an odd number of bytes repeated", WEB, &about(WEB, fragmentation_needed(), 51)),
        case("time exceeded", WEB, &about(WEB, time_exceeded(), SHORT)),
        case("parameter problem", WEB, &about(WEB, pointer, SHORT)),
        case("UDP, eight bytes repeated", NAMES, &about(NAMES, port.clone(), SHORT)),
        case("UDP, the whole datagram repeated", NAMES, &about(NAMES, port, WHOLE)),
        to_backend(
            "UDP without checksum",
            NAMES,
            &Packet::icmp_about(ROUTER, time_exceeded(), &absent, WHOLE),
            &absent,
        ),
        to_backend(
            "options in the repeated header",
            WEB,
            &Packet::icmp_about(ROUTER, fragmentation_needed(), &options, 36),
            &options,
        ),
        to_backend(
            "a first piece of a datagram",
            NAMES,
            &Packet::icmp_about(ROUTER, time_exceeded(), &first_piece, WHOLE),
            &first_piece,
        ),
        case("options in the error's own header", WEB, &outer_options),
        case("padding behind the error", WEB, &Packet { padding: vec![0xde; 9], ..about(WEB, time_exceeded(), SHORT) }),
        case("from the client itself", NAMES, &from_client),
        case("to a backend behind another interface", FAR, &about(FAR, fragmentation_needed(), WHOLE)),
        case("the last hop but one", WEB, &about(WEB, time_exceeded(), SHORT).with_ttl(2)),
    ];
    run_in_world(&cases);
}

#[test]
fn an_error_about_a_clients_packet_goes_to_the_client_who_sees_the_virtual_endpoint() {
    let about = |service, message: Icmpv4Type, length| Packet::icmp_about(ROUTER, message, &question(service), length);
    let case = |name, service, error: &Packet| to_client(name, service, error, &question(service));
    let own =
        |service, message, length| Packet::icmp_about(*backend(service).ip(), message, &question(service), length);
    let port = || Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port);
    let cases = [
        case("frag needed by a router, eight bytes repeated", WEB, &about(WEB, fragmentation_needed(), SHORT)),
        case("frag needed by a router, the whole packet repeated", WEB, &about(WEB, fragmentation_needed(), WHOLE)),
        case("time exceeded at a router", WEB, &about(WEB, time_exceeded(), SHORT)),
        case("UDP, time exceeded at a router", NAMES, &about(NAMES, time_exceeded(), WHOLE)),
        case("no port at the backend", NAMES, &own(NAMES, port(), WHOLE)),
        case("no port at the backend, eight bytes repeated", NAMES, &own(NAMES, port(), SHORT)),
        case("the backend itself, about TCP", WEB, &own(WEB, port(), WHOLE)),
        case("of a backend whose own way is unknown", LOST, &own(LOST, port(), WHOLE)),
    ];
    run_in_world(&cases);
}

#[test]
fn an_error_that_is_about_nothing_of_a_service_is_not_followed() {
    let about = |message, packet: &Packet, length| Packet::icmp_about(ROUTER, message, packet, length);
    let redirect = Icmpv4Type::Redirect(RedirectHeader {
        code: RedirectCode::RedirectForHost,
        gateway_internet_address: [203, 0, 113, 9],
    });
    let other_port = Packet { source: endpoint(vip(WEB).ip().octets(), 81), ..reply(WEB) };
    let later_piece = Packet { fragment_offset: 100, ..reply(NAMES) };
    let of_echo = Packet::new(vip(WEB), client(), Transport::Other(1)).with_payload(&[0; 8]);
    let elsewhere = Packet { destination: endpoint([10, 64, 0, 9], 0), ..about(time_exceeded(), &reply(WEB), SHORT) };
    let stranger = Packet { destination: endpoint([10, 8, 8, 8], 443), ..question(WEB) };
    let other_source = Packet { destination: vip(WEB), ..about(time_exceeded(), &question(WEB), SHORT) };
    let piece = Packet { more_fragments: true, ..about(time_exceeded(), &reply(WEB), SHORT) };
    let mut cut = about(time_exceeded(), &reply(WEB), SHORT).bytes();
    cut.truncate(cut.len() - 1);
    let icmp = || reason(WEB, Reason::Icmp);
    let dropped = |name, packet: &Packet| Case::dropped(name, packet.bytes(), icmp());
    let untouched = |name, packet: &Packet| Case::untouched(name, packet.bytes(), nothing());
    let last_hop = about(time_exceeded(), &reply(WEB), SHORT).with_ttl(1);
    let last_hop_back = about(time_exceeded(), &question(WEB), SHORT).with_ttl(1);
    let cases = [
        dropped("a redirect", &about(redirect, &reply(WEB), SHORT)),
        dropped("about another port", &about(time_exceeded(), &other_port, SHORT)),
        dropped("about a later piece of a datagram", &about(time_exceeded(), &later_piece, SHORT)),
        dropped("about an echo", &about(time_exceeded(), &of_echo, SHORT)),
        dropped("seven bytes repeated", &about(time_exceeded(), &reply(WEB), SHORT - 1)),
        dropped("for a virtual address, about somebody else's packet", &other_source),
        Case::dropped("a piece of an error", piece.bytes(), reason(WEB, Reason::Fragment)),
        Case::dropped("shorter than it says", cut, reason(WEB, Reason::Malformed)),
        Case::dropped("without time to live", last_hop.bytes(), reason(WEB, Reason::TtlExpired)),
        Case::dropped("without time to live, to a client", last_hop_back.bytes(), reason(WEB, Reason::TtlExpired)),
        Case::dropped(
            "about a service without backends",
            about(time_exceeded(), &reply(EMPTY), SHORT).bytes(),
            reason(EMPTY, Reason::NoBackend),
        ),
        untouched("for another address than the repeated packet's source", &elsewhere),
        untouched("about a packet to a stranger", &about(time_exceeded(), &stranger, SHORT)),
        Case::untouched(
            "about another port of a local address",
            about(time_exceeded(), &Packet { source: endpoint(vip(LOCAL).ip().octets(), 22), ..reply(LOCAL) }, SHORT)
                .bytes(),
            reason(LOCAL, Reason::LocalAddress),
        ),
    ];
    run_in_world(&cases);
}

#[test]
fn an_error_whose_next_hop_is_not_known_passes_rewritten() {
    let error = Packet::icmp_about(ROUTER, fragmentation_needed(), &reply(LOST), WHOLE);
    let flags = BackendCounters { icmp_errors_forward: 1, ..PLAIN };
    let mut counted: Counters = reason(LOST, Reason::UnresolvedBackend);
    counted.backends = forward(LOST, &error, flags).backends;
    let sent = Packet { source: backend(LOST), ..reply(LOST) };
    let output = Packet {
        destination: endpoint(backend(LOST).ip().octets(), 0),
        payload: sent.bytes()[14..].to_vec(),
        ..error.clone()
    };
    let case = Case::sent("to a backend", verdict::PASS, &error, &output, counted);
    // An error for this host itself, about a health check, is left to it.
    let check = Packet { source: endpoint(host::NEAR_ADDRESS.octets(), 50_000), ..question(WEB) };
    let own = Packet::icmp_about(ROUTER, time_exceeded(), &check, SHORT);
    let passes = Case::untouched("about a health check", own.bytes(), reason(WEB, Reason::DirectAccess));
    in_world(&[], |subject| run(subject, &[case, passes]));
}
