//! Tunnels to backends of services with `forwarding: ipip`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::config::Prefix;

/// Bytes of the header that a tunnel of IPv4 puts around a packet.
const IPV4_HEAD: u16 = 20;
/// … of IPv6.
const IPV6_HEAD: u16 = 40;

/// What tunnels have in common.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tunnel {
    /// Prefixes of outer sources, at most one a family: the flow's hash fills the rest (of IPv6 at most the last 32 bits), so that a
    /// backend's network card spreads flows over its queues. Left out: 172.16.0.0/16 and 100::/64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Prefix>,
    /// The longest outer packet that the way to backends takes, in bytes, `1280..=9000`, where that is less than the MTU of the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
}

impl Tunnel {
    /// The prefix of outer sources of tunnels to a backend.
    #[must_use]
    pub fn source(&self, backend: IpAddr) -> Prefix {
        let own = self.sources.iter().find(|prefix| prefix.address.is_ipv4() == backend.is_ipv4());
        own.copied().unwrap_or_else(|| match backend {
            IpAddr::V4(_) => Prefix { address: Ipv4Addr::new(172, 16, 0, 0).into(), length: 16 },
            IpAddr::V6(_) => Prefix { address: Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0).into(), length: 64 },
        })
    }

    /// The longest packet that a tunnel to a backend takes by a link, both in bytes; 0 where neither is known.
    #[must_use]
    pub fn inner_mtu(&self, backend: IpAddr, link: u32) -> u32 {
        let head = if backend.is_ipv4() { IPV4_HEAD } else { IPV6_HEAD };
        let outer = match (self.mtu.map(u32::from), link) {
            (None, link) => link,
            (Some(own), 0) => own,
            (Some(own), link) => own.min(link),
        };
        outer.saturating_sub(u32::from(head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_what_the_narrower_of_link_and_way_leaves_beside_the_header() {
        let (four, six) = (IpAddr::from([10, 0, 0, 1]), "fd00::1".parse().expect("an address"));
        let tunnel = |mtu| Tunnel { mtu, ..Tunnel::default() };
        assert_eq!((tunnel(None).inner_mtu(four, 1_500), tunnel(None).inner_mtu(six, 1_500)), (1_480, 1_460));
        assert_eq!(tunnel(Some(1_400)).inner_mtu(four, 1_500), 1_380);
        assert_eq!(tunnel(Some(9_000)).inner_mtu(four, 1_500), 1_480);
        assert_eq!((tunnel(None).inner_mtu(four, 0), tunnel(Some(1_400)).inner_mtu(four, 0)), (0, 1_380));
    }

    #[test]
    fn each_family_has_a_prefix_of_its_own() {
        let (four, six) = (IpAddr::from([10, 0, 0, 1]), "fd00::1".parse().expect("an address"));
        let own: Prefix = "10.7.0.0/20".to_owned().try_into().expect("a prefix");
        let tunnel = Tunnel { sources: vec![own], mtu: None };
        assert_eq!((tunnel.source(four), Tunnel::default().source(four).length), (own, 16));
        assert_eq!(tunnel.source(six), Prefix { address: "100::".parse().expect("an address"), length: 64 });
    }
}
