//! The cases: the yardstick and its like, then every path of the program under test with the mark that it is to reach.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;
use grayxdp::lab::Namespace;

use crate::{
    bench::{
        case::{Baseline, Case, Expected, verdict},
        frames::{Client, Flows, feed},
        harness::{Harness, Slot},
        layout::{NatBackend, NatKey},
        worlds::{self, Direction, World},
    },
    host,
    packet::{Flags, Packet},
};

/// First client.
pub(super) const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 64, 0, 0), 32_768);
/// First client of those in a hundred networks.
const CLIENT_OF_HUNDRED: SocketAddrV4 = SocketAddrV4::new(worlds::FIRST_OF_HUNDRED, 32_768);
/// Where nobody here listens.
const ELSEWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 80);

/// What the yardstick's map holds: the first service and its first backend.
#[must_use]
pub fn nat() -> Vec<(NatKey, NatBackend)> {
    let bits = |address: &Ipv4Addr| u32::from_ne_bytes(address.octets());
    let (to, hop) = (worlds::backend(1), worlds::hop(1));
    let macs = [hop.destination(), hop.source()];
    let backend = NatBackend { address: bits(to.ip()), port: to.port().to_be(), macs, zero: [0; 2] };
    let from = worlds::virtual_endpoint(0);
    let key = |protocol| NatKey { address: bits(from.ip()), port: from.port().to_be(), protocol, zero: 0 };
    vec![(key(6), backend), (key(17), backend)]
}

/// All cases; the yardstick with TCP and UDP first.
///
/// # Errors
/// If a host cannot be made or the kernel refuses the program.
pub fn all(harness: &mut Harness) -> Result<Vec<Case>> {
    let one = World::one_service(harness)?;
    let mut cases = baselines(&one.host);
    cases.extend(to_backends(&one));
    let at_rest = World::many_services(harness, worlds::AT_REST)?;
    cases.push(over_many_services(&at_rest, "established, settled, 64 services at rest"));
    let tenth = World::many_services(harness, worlds::TENTH)?;
    cases.push(over_many_services(&tenth, "established, settled, 64 services at 90:10"));
    cases.push(back(&one, "to the client, one gateway", Flows::THOUSAND, CLIENT, 0.9));
    let routes = World::hundred_routes(harness)?;
    cases.push(back(&routes, "to the client, 100 routes", Flows::HUNDRED_NETWORKS, CLIENT_OF_HUNDRED, 3.0));
    let kernel = World::routes_of_the_kernel(harness)?;
    cases.push(back(&kernel, "to the client, bpf_fib_lookup", Flows::THOUSAND, CLIENT, 4.5));
    cases.push(not_ours(&one));
    cases.extend(super::ipv6::cases(harness)?);
    cases.extend(super::unsettled::cases(harness)?);
    Ok(cases)
}

pub(super) fn baselines(host: &Namespace) -> Vec<Case> {
    let service = worlds::virtual_endpoint(0);
    let tcp = Packet::tcp(CLIENT, service, Flags::ACK);
    let udp = Packet::udp(CLIENT, service);
    let nat = |path, packet, flows, baseline| Case {
        path,
        host: host.clone(),
        slot: Slot::YARDSTICK,
        feed: feed(packet, Client::Source, flows, &[service]),
        baseline,
        mark: None,
        verdict: verdict::TX,
        expected: Expected::To(vec![(worlds::backend(1), worlds::hop(1))]),
        runs: None,
        prepare: None,
        counter: Some(Box::new(Harness::yardstick_packets)),
    };
    vec![
        nat("one-lookup NAT, TCP", &tcp, Flows::ONE, Baseline::Tcp),
        nat("one-lookup NAT, UDP", &udp, Flows::ONE, Baseline::Udp),
        nat("one-lookup NAT, TCP", &tcp, Flows::MILLION, Baseline::Tcp),
        Case {
            path: "swap Ethernet addresses",
            host: host.clone(),
            slot: Slot::SWAP,
            feed: feed(&tcp, Client::Source, Flows::ONE, &[service]),
            baseline: Baseline::Tcp,
            mark: None,
            verdict: verdict::TX,
            expected: Expected::Swapped,
            runs: None,
            prepare: None,
            counter: None,
        },
    ]
}

fn to_backends(world: &World) -> Vec<Case> {
    let service = worlds::virtual_endpoint(0);
    let forward = |path, packet: Packet, flows, baseline, mark| Case {
        path,
        host: world.host.clone(),
        slot: world.slot,
        feed: feed(&packet, Client::Source, flows, &[service]),
        baseline,
        mark: Some(mark),
        verdict: verdict::TX,
        expected: world.to_any_backend(),
        runs: None,
        prepare: None,
        counter: Some(world.counter(Direction::Forward)),
    };
    let established = || Packet::tcp(CLIENT, service, Flags::ACK);
    let syn = Packet::tcp(CLIENT, service, Flags::SYN);
    let udp = Packet::udp(CLIENT, service);
    vec![
        forward("established, settled, one service at 90:10", established(), Flows::ONE, Baseline::Tcp, 1.0),
        forward("established, settled, one service at 90:10", established(), Flows::MILLION, Baseline::Tcp, 1.15),
        forward("SYN of a new flow, settled", syn, Flows::NEW, Baseline::Tcp, 1.2),
        forward("UDP, settled, one service", udp, Flows::ONE, Baseline::Udp, 1.1),
    ]
}

fn over_many_services(world: &World, path: &'static str) -> Case {
    let services: Vec<_> = (0..worlds::MANY).map(worlds::virtual_endpoint).collect();
    Case {
        path,
        host: world.host.clone(),
        slot: world.slot,
        feed: feed(&Packet::tcp(CLIENT, services[0], Flags::ACK), Client::Source, Flows::MILLION, &services),
        baseline: Baseline::Tcp,
        mark: Some(1.9),
        verdict: verdict::TX,
        expected: world.to_any_backend(),
        runs: None,
        prepare: None,
        counter: Some(world.counter(Direction::Forward)),
    }
}

fn back(world: &World, path: &'static str, flows: Flows, client: SocketAddrV4, mark: f64) -> Case {
    let backend = worlds::backend(1);
    Case {
        path,
        host: world.host.clone(),
        slot: world.slot,
        feed: feed(&Packet::tcp(backend, client, Flags::ACK), Client::Destination, flows, &[backend]),
        baseline: Baseline::Tcp,
        mark: Some(mark),
        verdict: verdict::TX,
        expected: Expected::From(worlds::virtual_endpoint(0), host::hop(host::NEAR, world.gateway)),
        runs: None,
        prepare: None,
        counter: Some(world.counter(Direction::Reverse)),
    }
}

fn not_ours(world: &World) -> Case {
    Case {
        path: "for no service, passed",
        host: world.host.clone(),
        slot: world.slot,
        feed: feed(&Packet::tcp(CLIENT, ELSEWHERE, Flags::ACK), Client::Source, Flows::THOUSAND, &[ELSEWHERE]),
        baseline: Baseline::Tcp,
        mark: Some(0.45),
        verdict: verdict::PASS,
        expected: Expected::Untouched,
        runs: None,
        prepare: None,
        counter: None,
    }
}
