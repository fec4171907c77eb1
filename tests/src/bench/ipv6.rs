//! Paths of IPv6 against a yardstick of their own. Clients differ in eight bits and more of the first half of their address, and
//! in their interface identifier, where the wrapper can put numbers in; their port stays.

use std::net::{Ipv6Addr, SocketAddrV6};

use anyhow::Result;
use etherparse::PacketBuilder;
use grayxdp::model::{
    config::Protocol,
    kernel::{WantedBackend, WantedService},
};
use grayxdp_common::records::NextHop;

use crate::{
    bench::{
        case::{Baseline, Case, Expected, verdict},
        frames::Flows,
        harness::{Feed, Harness, Slot},
        layout::{LONG_HEADERS_LEN, NatBackend6, NatKey6, Setup, Target},
        worlds::{self, Direction, World},
    },
    host,
};

/// Bytes of a measured frame.
const FRAME_LEN: usize = LONG_HEADERS_LEN;
const VIP: SocketAddrV6 = SocketAddrV6::new(Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x10), 80, 0, 0);
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xfe);
/// First client; the wrapper puts numbers into its third to fourth and into its seventh 16-bit word.
const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const CLIENT_PORT: u16 = 40_000;

fn backend(id: u16) -> SocketAddrV6 {
    SocketAddrV6::new(Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, id), 8080, 0, 0)
}

/// The next hop to a neighbour: its Ethernet address is of its last four bytes.
fn hop(address: Ipv6Addr) -> NextHop {
    let [.., a, b, c, d] = address.octets();
    NextHop::new([2, 0xcc, a, b, c, d], host::own_mac(host::NEAR), host::NEAR)
}

fn neighbour(address: Ipv6Addr) -> String {
    let mac = hop(address).destination().map(|byte| format!("{byte:02x}")).join(":");
    format!("neigh replace {address} lladdr {mac} nud permanent dev {}", host::name(host::NEAR))
}

/// The one service of IPv4 at an address of IPv6, its backends likewise.
fn service() -> WantedService {
    let mut service = WantedService { vip: (*VIP.ip()).into(), ..worlds::service(0, 0, Protocol::Tcp) };
    for version in &mut service.versions {
        version.backends = version
            .backends
            .iter()
            .map(|it| WantedBackend { address: (*backend(it.id.0).ip()).into(), ..*it })
            .collect();
    }
    service
}

/// The yardstick and the rows that are compared with it.
pub(super) fn cases(harness: &mut Harness) -> Result<Vec<Case>> {
    let words = |address: &Ipv6Addr| {
        let octets = address.octets();
        [0, 4, 8, 12].map(|at| u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]))
    };
    let (first, next) = (backend(1), hop(*backend(1).ip()));
    harness.teach_ipv6(
        NatKey6 { address: words(VIP.ip()), port: VIP.port().to_be(), protocol: 6, zero: 0 },
        NatBackend6 {
            address: words(first.ip()),
            port: first.port().to_be(),
            macs: [next.destination(), next.source()],
            zero: [0; 2],
        },
    )?;
    let service = service();
    let ids: Vec<u16> =
        service.versions.iter().flat_map(|version| &version.backends).map(|backend| backend.id.0).collect();
    let mut lines = vec![
        format!("addr add 2001:db8:1::1/64 dev {} nodad", host::name(host::NEAR)),
        format!("route add default via {GATEWAY}"),
        format!("route add fd00:9::/64 dev {}", host::name(host::NEAR)),
        neighbour(GATEWAY),
    ];
    lines.extend(ids.iter().map(|&id| neighbour(*backend(id).ip())));
    let world = World::of_lines(harness, vec![service], &lines)?;
    let all: Vec<_> = ids.iter().map(|&id| (backend(id), hop(*backend(id).ip()))).collect();
    let client = SocketAddrV6::new(CLIENT, CLIENT_PORT, 0, 0);
    let case = |path, slot, flags, flows, mark, expected, counter| Case {
        path,
        host: world.host.clone(),
        slot,
        feed: feed(client, VIP, flags, flows),
        baseline: Baseline::Ipv6,
        mark,
        verdict: verdict::TX,
        expected: Expected::Ipv6(true, expected),
        runs: None,
        prepare: None,
        counter,
    };
    let to_any = |path, flags, flows, mark| {
        case(path, world.slot, flags, flows, Some(mark), all.clone(), Some(world.counter(Direction::Forward)))
    };
    Ok(vec![
        case("one-lookup NAT, IPv6 TCP", Slot::YARDSTICK6, ACK, Flows::ONE, None, vec![(first, next)], None),
        to_any("IPv6 established, settled, one service at 90:10", ACK, Flows::ONE, 1.1),
        to_any("IPv6 established, settled, one service at 90:10", ACK, Flows::MILLION, 1.15),
        to_any("IPv6 SYN of a new flow, settled", SYN, Flows::NEW, 1.2),
        Case {
            feed: feed(backend(1), client, ACK, Flows::THOUSAND),
            expected: Expected::Ipv6(false, vec![(VIP, hop(GATEWAY))]),
            counter: Some(world.counter(Direction::Reverse)),
            ..to_any("IPv6 to the client, one gateway", ACK, Flows::THOUSAND, 1.1)
        },
    ])
}

const ACK: u8 = 16;
const SYN: u8 = 2;

/// A segment; where it comes from a client, or goes to one, the client varies from flow to flow.
fn feed(source: SocketAddrV6, destination: SocketAddrV6, flags: u8, flows: Flows) -> Feed {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let segment = builder.ipv6(source.ip().octets(), destination.ip().octets(), 64).tcp(
        source.port(),
        destination.port(),
        1,
        8_192,
    );
    let segment = if flags == SYN { segment.syn() } else { segment.ack(1) };
    let mut frame = Vec::with_capacity(FRAME_LEN);
    segment.write(&mut frame, &[]).expect("a vector takes all bytes");
    assert_eq!(frame.len(), FRAME_LEN, "Ethernet, IPv6 and TCP");
    let word = |at: usize| u64::from_ne_bytes(frame[at..at + 8].try_into().expect("eight bytes"));
    // A reply's client stays the same: its place in the frame is beyond the wrapper's reach.
    let varies = *source.ip() == CLIENT;
    let (count, stride) = if varies { (flows.count, flows.stride()) } else { (1, 1) };
    let setup = Setup {
        front: [word(0), word(8)],
        back: [word(18), word(26), word(34), word(42), word(50)],
        tail: [word(58), word(66)],
        total_length: u16::from_ne_bytes([frame[16], frame[17]]),
        port_bits: flows.port_bits,
        address_bits: 0,
        address_shift: 0,
        port_shift: 0,
        address: 0,
        port: 0,
        frame_len: FRAME_LEN as u64,
        flows: count,
        stride,
        hold: flows.hold,
        target_mask: 0,
        flow: 0,
        held: 0,
        fell_through: 0,
    };
    Feed { frame, setup, targets: vec![Target::default()] }
}
