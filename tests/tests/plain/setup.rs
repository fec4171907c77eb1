//! The host and the services, as lines of `ip`, as the program's tables, and as the model sees them.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use grayxdp::model::{
    config::Protocol,
    kernel::{
        BackendId, ServiceId, Split, VersionId, Wanted, WantedBackend, WantedBuckets, WantedService, WantedVersion,
    },
};
use grayxdp_common::SLOTS;
use grayxdp_tests::{
    host::{FAR, NEAR, name, own_mac},
    packet::Mac,
    plain::{Backend, Hop, Interface, Service, Way, World},
};

/// The longest packet that the second interface takes.
const NARROW: usize = 1_400;
/// Addresses of gateways: by the first interface, by the second.
const GATEWAYS: [[&str; 2]; 2] = [["10.1.0.254", "10.2.0.254"], ["2001:db8:1::fe", "2001:db8:2::fe"]];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn end(text: &str) -> SocketAddr {
    text.parse().expect("an endpoint")
}

/// The Ethernet address of a neighbour: of the last four bytes of its own.
fn mac_of(address: IpAddr) -> Mac {
    let last: [u8; 4] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => address.octets()[12..].try_into().expect("four bytes"),
    };
    let family = if address.is_ipv6() { 0xcc } else { 0xbb };
    [2, family, last[0], last[1], last[2], last[3]]
}

fn hop(interface: u32, address: IpAddr) -> Hop {
    Hop { interface, own: own_mac(interface), neighbour: mac_of(address) }
}

/// What a backend's next hop is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Near,
    Far,
    Unknown,
    /// There is no backend.
    Nobody,
}

/// Number, virtual endpoint, protocol, backend, its next hop.
const SERVICES: &[(u16, &str, Protocol, &str, Next)] = &[
    (1, "192.0.2.10:80", Protocol::Tcp, "10.9.0.1:8081", Next::Near),
    (2, "192.0.2.10:53", Protocol::Udp, "10.9.0.2:8082", Next::Near),
    (3, "192.0.2.13:80", Protocol::Tcp, "10.9.0.3:8083", Next::Unknown),
    (4, "192.0.2.14:80", Protocol::Tcp, "10.9.0.4:8084", Next::Nobody),
    (5, "192.0.2.15:80", Protocol::Tcp, "10.9.0.5:8085", Next::Far),
    (6, "192.0.2.16:80", Protocol::Tcp, "10.9.0.6:8086", Next::Near),
    (7, "192.0.2.17:53", Protocol::Udp, "10.9.0.7:8087", Next::Far),
    (8, "192.0.2.18:53", Protocol::Udp, "10.9.0.8:8088", Next::Unknown),
    (11, "[2001:db8:ff::10]:80", Protocol::Tcp, "[fd00:9::1:1]:8081", Next::Near),
    (12, "[2001:db8:ff::10]:53", Protocol::Udp, "[fd00:9::1:2]:8082", Next::Near),
    (13, "[2001:db8:ff::13]:80", Protocol::Tcp, "[fd00:9::1:3]:8083", Next::Unknown),
    (14, "[2001:db8:ff::14]:80", Protocol::Tcp, "[fd00:9::1:4]:8084", Next::Nobody),
    (15, "[2001:db8:ff::15]:80", Protocol::Tcp, "[fd00:9::1:5]:8085", Next::Far),
    (16, "[2001:db8:ff::16]:80", Protocol::Tcp, "[fd00:9::1:6]:8086", Next::Near),
    (17, "[2001:db8:ff::17]:53", Protocol::Udp, "[fd00:9::1:7]:8087", Next::Far),
    (18, "[2001:db8:ff::18]:53", Protocol::Udp, "[fd00:9::1:8]:8088", Next::Unknown),
];
/// Services at an address that the host has itself.
const LOCAL: [u16; 2] = [6, 16];
/// Services whose address is announced.
const ANNOUNCED: [u16; 4] = [1, 2, 11, 12];

/// Clients, neighbours, this host, groups and others.
const STRANGERS: &[&str] = &[
    "10.64.0.1:40000",
    "10.64.0.1:40000",
    "10.64.0.2:53",
    "10.65.0.1:40000",
    "10.1.0.7:9",
    "10.1.0.9:9",
    "10.2.0.77:9",
    "10.1.0.1:50000",
    "10.77.0.1:9",
    "10.99.0.1:9",
    "198.51.100.1:80",
    "224.0.0.5:9",
    "127.0.0.1:9",
    "0.0.0.0:68",
    "[2001:db8:c::1]:40000",
    "[2001:db8:c::1]:40000",
    "[2001:db8:c::2]:53",
    "[2001:db8:d::1]:40000",
    "[2001:db8:1::7]:9",
    "[2001:db8:1::9]:9",
    "[2001:db8:2::77]:9",
    "[2001:db8:1::1]:50000",
    "[fd00:77::1]:9",
    "[2001:db8:99::1]:9",
    "[2001:db8:e::1]:80",
    "[ff02::1]:9",
    "[::1]:9",
    "[::]:68",
];
/// Neighbours that are known besides backends and gateways: all by the first interface.
const NEIGHBOURS: [&str; 2] = ["10.1.0.7", "2001:db8:1::7"];

/// Ends of packets that are not services' or backends'.
pub(crate) fn strangers() -> Vec<SocketAddr> {
    STRANGERS.iter().map(|text| end(text)).collect()
}

/// Lines of `ip` that make the host out of the usual one.
pub(crate) fn lines() -> Vec<String> {
    let (near, far) = (name(NEAR), name(FAR));
    let mut lines = vec![
        format!("addr add 2001:db8:1::1/64 dev {near} nodad"),
        format!("addr add 2001:db8:2::1/64 dev {far} nodad"),
        format!("link set {far} mtu {NARROW}"),
        format!("route add default via {}", GATEWAYS[1][0]),
        format!("route add fd00:9::/64 dev {near}"),
        format!("route add 10.65.0.0/16 via {}", GATEWAYS[0][1]),
        format!("route add 2001:db8:d::/48 via {}", GATEWAYS[1][1]),
        "route add unreachable 10.99.0.0/16".to_owned(),
        "route add unreachable 2001:db8:99::/48".to_owned(),
    ];
    for (number, vip, _, backend, next) in SERVICES {
        let (vip, backend) = (end(vip).ip(), end(backend).ip());
        let bits = if vip.is_ipv6() { 128 } else { 32 };
        if LOCAL.contains(number) {
            lines.push(format!("addr add {vip}/{bits} dev lo"));
        }
        if *next == Next::Far {
            lines.push(format!("route add {backend}/{bits} dev {far}"));
        }
    }
    let line = |(address, hop): (IpAddr, Hop)| {
        let mac = hop.neighbour.map(|byte| format!("{byte:02x}")).join(":");
        format!("neigh replace {address} lladdr {mac} nud permanent dev {}", name(hop.interface))
    };
    lines.extend(neighbours().into_iter().map(line));
    lines
}

fn next_hop(next: Next, address: IpAddr) -> Option<Hop> {
    match next {
        Next::Near => Some(hop(NEAR, address)),
        Next::Far => Some(hop(FAR, address)),
        Next::Unknown | Next::Nobody => None,
    }
}

/// All neighbours that are known.
fn neighbours() -> Vec<(IpAddr, Hop)> {
    let backends = SERVICES.iter().filter_map(|(_, _, _, backend, next)| {
        let address = end(backend).ip();
        Some((address, next_hop(*next, address)?))
    });
    let gateways = GATEWAYS.iter().flat_map(|[near, far]| [(ip(near), NEAR), (ip(far), FAR)]);
    let others = NEIGHBOURS.iter().map(|text| (ip(text), NEAR));
    backends.chain(gateways.chain(others).map(|(address, interface)| (address, hop(interface, address)))).collect()
}

/// The program's tables.
pub(crate) fn wanted() -> Wanted {
    let services = SERVICES.iter().map(|(number, vip, protocol, backend, next)| {
        let (vip, backend) = (end(vip), end(backend));
        let backends = match next {
            Next::Nobody => Vec::new(),
            Next::Near | Next::Far | Next::Unknown => {
                vec![WantedBackend::up(BackendId(number * 10), backend.ip(), backend.port())]
            }
        };
        let slot = backends.first().map_or(BackendId::NONE, |backend| backend.id);
        WantedService {
            id: ServiceId(*number),
            vip: vip.ip(),
            ports: vec![vip.port()],
            protocol: *protocol,
            announce: ANNOUNCED.contains(number),
            versions: vec![WantedVersion::settled(VersionId(*number), 0, backends, Arc::from(vec![slot; SLOTS]))],
            buckets: WantedBuckets::Split(Split::default()),
            ..WantedService::default()
        }
    });
    Wanted { services: services.collect(), direct_access: vec![(ip("10.77.0.0"), 16), (ip("fd00:77::"), 32)] }
}

/// The same as the model sees it.
pub(crate) fn world() -> World {
    let services = SERVICES.iter().map(|(number, vip, protocol, backend, next)| {
        let backend_end = end(backend);
        let backend = Backend { id: BackendId(number * 10), end: backend_end, hop: next_hop(*next, backend_end.ip()) };
        Service {
            id: ServiceId(*number),
            vip: end(vip),
            protocol: *protocol,
            is_announced: ANNOUNCED.contains(number),
            is_local: LOCAL.contains(number),
            backend: (*next != Next::Nobody).then_some(backend),
        }
    });
    let interface =
        |index, ipv4, ipv6, mtu| Interface { index, mac: own_mac(index), ipv4: ip(ipv4), ipv6: ip(ipv6), mtu };
    World {
        services: services.collect(),
        routes: routes(),
        neighbours: neighbours(),
        interfaces: vec![
            interface(NEAR, "10.1.0.1", "2001:db8:1::1", 1_500),
            interface(FAR, "10.2.0.1", "2001:db8:2::1", NARROW),
        ],
    }
}

/// The host's routes: what `lines` and `host` make, and what the kernel makes of addresses.
fn routes() -> Vec<(IpAddr, u8, Way)> {
    let gateway = |family: usize, interface| {
        let address = ip(GATEWAYS[family][usize::from(interface == FAR)]);
        Way::Gateway(hop(interface, address))
    };
    let mut routes = vec![
        (ip("0.0.0.0"), 0, gateway(0, NEAR)),
        (ip("10.65.0.0"), 16, gateway(0, FAR)),
        (ip("::"), 0, gateway(1, NEAR)),
        (ip("2001:db8:d::"), 48, gateway(1, FAR)),
    ];
    for (prefix, length) in
        [("10.1.0.0", 24), ("10.2.0.0", 24), ("10.9.0.0", 16), ("2001:db8:1::", 64), ("2001:db8:2::", 64)]
    {
        routes.push((ip(prefix), length, Way::OnLink));
    }
    routes.extend([(ip("fd00:9::"), 64, Way::OnLink), (ip("fe80::"), 64, Way::OnLink)]);
    routes.extend([(ip("10.99.0.0"), 16, Way::Unreachable), (ip("2001:db8:99::"), 48, Way::Unreachable)]);
    for (prefix, length) in [("10.77.0.0", 16), ("fd00:77::", 32)] {
        routes.push((ip(prefix), length, Way::Untouched));
    }
    // Everyone's addresses, and those of any router (RFC 4291, section 2.6.1), of the host's own networks: nothing is forwarded there.
    routes.extend(["10.1.0.255", "10.2.0.255"].map(|address| (ip(address), 32, Way::Unreachable)));
    routes.extend(["2001:db8:1::", "2001:db8:2::", "fe80::"].map(|address| (ip(address), 128, Way::Unreachable)));
    // Addresses that the host has, as `ip address` shows them: the rest of 127.0.0.0/8 is not among them.
    let own = ["127.0.0.1", "10.1.0.1", "10.2.0.1", "192.0.2.16"];
    routes.extend(own.map(|address| (ip(address), 32, Way::Untouched)));
    let own = ["::1", "2001:db8:1::1", "2001:db8:2::1", "2001:db8:ff::16"];
    routes.extend(own.map(|address| (ip(address), 128, Way::Untouched)));
    routes.extend([NEAR, FAR].map(|interface| (link_local(own_mac(interface)).into(), 128, Way::Untouched)));
    routes
}

/// The address that an interface gives itself (RFC 4291, appendix A).
fn link_local([a, b, c, d, e, f]: Mac) -> Ipv6Addr {
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}
