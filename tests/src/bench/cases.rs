//! The cases: the yardstick and its like, then every path of the program under test with the mark that it is to reach.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::{
    bench::{
        case::{Baseline, Case, Expected, verdict},
        frames::{Client, Flows, feed},
        harness::Slot,
        layout::{NatBackend, NatKey},
    },
    packet::{Flags, Mac, Packet},
};

/// The interface that packets seem to come in by: every namespace's `lo`.
pub const LOOPBACK: u32 = 1;
/// First client.
pub const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 64, 0, 0), 32_768);
/// The virtual endpoint.
pub const VIRTUAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 10), 80);
/// The yardstick's backend.
const BACKEND: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 7), 8080);
/// Next hop and own Ethernet address.
pub const MACS: [Mac; 2] = [[2, 0, 0, 0, 9, 9], [2, 0, 0, 0, 8, 8]];

/// What the yardstick's map holds.
#[must_use]
pub fn nat() -> Vec<(NatKey, NatBackend)> {
    let bits = |address: &Ipv4Addr| u32::from_ne_bytes(address.octets());
    let backend = NatBackend { address: bits(BACKEND.ip()), port: BACKEND.port().to_be(), macs: MACS, zero: [0; 2] };
    let key = |protocol| NatKey { address: bits(VIRTUAL.ip()), port: VIRTUAL.port().to_be(), protocol, zero: 0 };
    vec![(key(6), backend), (key(17), backend)]
}

/// The yardstick with TCP and UDP, then figures to compare with.
#[must_use]
pub fn baselines() -> Vec<Case> {
    let tcp = Packet::tcp(CLIENT, VIRTUAL, Flags::ACK);
    let udp = Packet::udp(CLIENT, VIRTUAL);
    let nat = |path, packet, flows, baseline| Case {
        path,
        slot: Slot::YARDSTICK,
        feed: feed(packet, Client::Source, flows, &[VIRTUAL], LOOPBACK),
        baseline,
        mark: None,
        verdict: verdict::TX,
        expected: Expected::To(vec![BACKEND], MACS),
        counter: Some(Box::new(|harness| harness.yardstick_packets())),
    };
    vec![
        nat("one-lookup NAT, TCP", &tcp, Flows::ONE, Baseline::Tcp),
        nat("one-lookup NAT, UDP", &udp, Flows::ONE, Baseline::Udp),
        nat("one-lookup NAT, TCP", &tcp, Flows::MILLION, Baseline::Tcp),
        Case {
            path: "swap Ethernet addresses",
            slot: Slot::SWAP,
            feed: feed(&tcp, Client::Source, Flows::ONE, &[VIRTUAL], LOOPBACK),
            baseline: Baseline::Tcp,
            mark: None,
            verdict: verdict::TX,
            expected: Expected::Swapped,
            counter: None,
        },
    ]
}
