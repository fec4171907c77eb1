//! A load balancer's host as a namespace without anybody behind its links: addresses, routes and neighbours are as
//! configured, so what the daemon's side of the data path makes of them is known beforehand.

use std::net::{IpAddr, Ipv4Addr};

use grayxdp::lab::{LabError, Namespace};
use grayxdp_common::records::NextHop;

use crate::packet::Mac;

/// Index of the interface that clients, the gateway and most backends are behind.
pub const NEAR: u32 = 10;
/// Index of a second interface.
pub const FAR: u32 = 12;
/// This host's address on [`NEAR`], of 10.1.0.0/24.
pub const NEAR_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// The default route's gateway, behind [`NEAR`].
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 254);

/// An address that is one of IPv4.
///
/// # Panics
/// If it is not.
#[must_use]
pub fn ipv4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} is not of IPv4"),
    }
}

/// A link's own Ethernet address.
#[must_use]
pub fn own_mac(interface: u32) -> Mac {
    [2, 0, 0, 0, 0xaa, interface as u8]
}

/// The next hop to an address that is a neighbour by [`neighbour`].
#[must_use]
pub fn hop(interface: u32, address: Ipv4Addr) -> NextHop {
    let [_, a, b, c] = address.octets();
    NextHop::new([2, 0xbb, 0, a, b, c], own_mac(interface), interface)
}

/// A line of `ip` that makes an address a neighbour for good.
#[must_use]
pub fn neighbour(interface: u32, address: Ipv4Addr) -> String {
    let mac = hop(interface, address).destination().map(|byte| format!("{byte:02x}")).join(":");
    format!("neigh replace {address} lladdr {mac} nud permanent dev {}", name(interface))
}

/// A link's name.
#[must_use]
pub fn name(interface: u32) -> &'static str {
    if interface == NEAR { "near" } else { "far" }
}

/// Makes the host; `more` are further lines of `ip`.
///
/// # Errors
/// No rights to make namespaces, no `ip`, or a line that it refuses.
pub fn host(more: &[String]) -> Result<Namespace, LabError> {
    let namespace = Namespace::new("host")?;
    let mut lines = vec!["link set lo up".to_owned()];
    for (interface, network) in [(NEAR, "10.1.0.1/24"), (FAR, "10.2.0.1/24")] {
        let name = name(interface);
        let mac = own_mac(interface).map(|byte| format!("{byte:02x}")).join(":");
        lines.extend([
            format!(
                "link add {name} index {interface} address {mac} type veth peer name {name}-end index {}",
                interface + 1
            ),
            format!("link set {name}-end up"),
            format!("link set {name} up"),
            format!("addr add {network} dev {name}"),
        ]);
    }
    lines.extend([
        format!("route add default via {GATEWAY}"),
        neighbour(NEAR, GATEWAY),
        format!("route add 10.9.0.0/16 dev {}", name(NEAR)),
    ]);
    lines.extend_from_slice(more);
    namespace.ip(&lines)?;
    namespace.sysctl("net/ipv4/ip_forward", "1")?;
    namespace.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    Ok(namespace)
}
