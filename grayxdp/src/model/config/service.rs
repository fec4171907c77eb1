//! A virtual service: where clients meet it, its versions and their backends, and how its flows live.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    Name, Weight,
    config::{BackendAddress, Fuse, HealthCheck, PoolRange, Segment, duration},
};

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Its name.
    pub name: Name,
    /// The virtual address.
    pub vip: IpAddr,
    /// The virtual port. Either this or `ports`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Several virtual ports, at most 16; backends then have none of their own and keep the client's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// TCP or UDP.
    #[serde(default)]
    pub protocol: Protocol,
    /// UDP: a long-header Initial of QUIC counts as the first packet of a flow.
    #[serde(default)]
    pub quic: bool,
    /// How packets reach a backend.
    #[serde(default)]
    pub forwarding: Forwarding,
    /// With `forwarding: full-nat` the addresses that stand for clients: addresses and prefixes, together at most 64 addresses, of the
    /// backends' family; each gives 64,512 flows to each backend's port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_pool: Vec<PoolRange>,
    /// What makes a flow.
    #[serde(default)]
    pub affinity: Affinity,
    /// Whether ARP requests for the VIP are answered.
    #[serde(default)]
    pub announce: bool,
    /// One to eight versions; the order is part of the choice of buckets.
    pub versions: Vec<Version>,
    /// Initial weights in percent; the sum is 100.
    #[serde(default)]
    pub weights: BTreeMap<Name, Weight>,
    /// Classes of traffic with weights of their own, at most 15; what matches none is the segment `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<Segment>,
    /// How backends are checked; without it all count as up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// When the data path turns the candidate of a rollout off by itself; without it never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuse: Option<Fuse>,
    /// Where new flows of a version without an up backend go.
    #[serde(default)]
    pub on_empty_pool: OnEmptyPool,
    /// What happens to flows in progress of a backend that is down.
    #[serde(default)]
    pub on_down: OnDown,
    /// Silence after which a flow may be forgotten or moved, `1s..=7d`.
    #[serde(default = "default_idle_timeout", with = "duration")]
    #[schemars(with = "String")]
    pub idle_timeout: Duration,
    /// How long after a change flows that still go by the old choice are kept in mind one by one, `0s..=1d`.
    #[serde(default = "default_settle_after", with = "duration")]
    #[schemars(with = "String")]
    pub settle_after: Duration,
    /// How long a closed flow is kept in mind, `1s..=1h` and at most `idleTimeout`.
    #[serde(default = "default_closing_timeout", with = "duration")]
    #[schemars(with = "String")]
    pub closing_timeout: Duration,
    /// How long a sampled flow is followed, `1s..=10m`.
    #[serde(default = "default_flow_horizon", with = "duration")]
    #[schemars(with = "String")]
    pub flow_horizon: Duration,
    /// How long a removed or drained backend's flows may go on, `0s..=30d`.
    #[serde(default = "default_drain_timeout", with = "duration")]
    #[schemars(with = "String")]
    pub drain_timeout: Duration,
}

const fn default_idle_timeout() -> Duration {
    Duration::from_secs(3_600)
}

const fn default_settle_after() -> Duration {
    Duration::from_secs(15 * 60)
}

const fn default_closing_timeout() -> Duration {
    Duration::from_secs(60)
}

const fn default_flow_horizon() -> Duration {
    Duration::from_secs(60)
}

const fn default_drain_timeout() -> Duration {
    Duration::from_secs(3_600)
}

impl Service {
    /// Whether its flows show no opening: they are learnt in a window after a change. With `full-nat` each is known one by one.
    #[must_use]
    pub const fn learns(&self) -> bool {
        matches!(self.protocol, Protocol::Udp) && !self.quic && !self.forwarding.knows_flows()
    }

    /// A service of one port with nothing set that may be left out, and no version yet.
    #[must_use]
    pub fn new(name: Name, vip: impl Into<IpAddr>, port: u16) -> Self {
        Self {
            name,
            vip: vip.into(),
            port: Some(port),
            ports: Vec::new(),
            protocol: Protocol::default(),
            quic: false,
            forwarding: Forwarding::default(),
            source_pool: Vec::new(),
            affinity: Affinity::default(),
            announce: false,
            versions: Vec::new(),
            weights: BTreeMap::new(),
            segments: Vec::new(),
            health_check: None,
            fuse: None,
            on_empty_pool: OnEmptyPool::default(),
            on_down: OnDown::default(),
            idle_timeout: default_idle_timeout(),
            settle_after: default_settle_after(),
            closing_timeout: default_closing_timeout(),
            flow_horizon: default_flow_horizon(),
            drain_timeout: default_drain_timeout(),
        }
    }

    /// The addresses of its pool, at most one more than it may have.
    pub fn pool_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        const LIMIT: usize = grayxdp_common::translations::POOL_ADDRESSES + 1;
        self.source_pool.iter().flat_map(|range| range.addresses(LIMIT)).take(LIMIT)
    }

    /// All its virtual ports, in the order of the file; the first is the class 0 of destination ports.
    #[must_use]
    pub fn virtual_ports(&self) -> &[u16] {
        if self.ports.is_empty() { self.port.as_slice() } else { &self.ports }
    }

    /// The virtual port, if there is only one; 0 where there are several.
    #[must_use]
    pub fn only_port(&self) -> u16 {
        match self.virtual_ports() {
            [only] => *only,
            _ => 0,
        }
    }

    /// The port of a backend; 0 where it keeps the client's, one of several.
    #[must_use]
    pub fn port_of(&self, backend: &Backend) -> u16 {
        backend.port.unwrap_or(self.only_port())
    }

    /// Where a backend is met: `10.0.1.1:8080`; the address alone where it keeps one of several ports of the client.
    #[must_use]
    pub fn backend_address(&self, backend: &Backend) -> BackendAddress {
        let only = self.virtual_ports().len() == 1;
        let port = backend.port.or_else(|| only.then(|| self.only_port()));
        BackendAddress { address: backend.address, port }
    }

    /// A version.
    #[must_use]
    pub fn version(&self, name: &Name) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == *name)
    }

    /// `192.0.2.10:80/tcp`, `192.0.2.10:80,443/tcp`, `[2001:db8::10]:80/tcp`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let ports: Vec<_> = self.virtual_ports().iter().map(u16::to_string).collect();
        let vip = match self.vip {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        format!("{vip}:{}/{}", ports.join(","), self.protocol.label())
    }
}

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// `tcp` or `udp`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// How packets reach a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Forwarding {
    /// Destination address, port and Ethernet addresses are rewritten; replies come back through the load balancer.
    #[default]
    Nat,
    /// Only the Ethernet addresses are rewritten: backends are on a link of this host, have the virtual address themselves (on their
    /// loopback), and answer clients directly.
    Dsr,
    /// Packets go to the backend inside another one (4-in-4, 6-in-6, 4-in-6): backends take them out again, have the virtual address
    /// themselves, and answer clients directly.
    Ipip,
    /// As `nat`, and the client's address and port are replaced by one of `sourcePool`: answers come back to this host whatever
    /// the backend's routes are. Every flow is in a table.
    #[serde(rename = "full-nat")]
    FullNat,
}

impl Forwarding {
    /// Its name in the configuration.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Dsr => "dsr",
            Self::Ipip => "ipip",
            Self::FullNat => "full-nat",
        }
    }

    /// Whether what backends answer comes by, so that it can be seen.
    #[must_use]
    pub const fn sees_answers(self) -> bool {
        match self {
            Self::Nat | Self::FullNat => true,
            Self::Dsr | Self::Ipip => false,
        }
    }

    /// Whether every flow has an entry that says where it goes, so that no change of weights or backends moves any.
    #[must_use]
    pub const fn knows_flows(self) -> bool {
        match self {
            Self::FullNat => true,
            Self::Nat | Self::Dsr | Self::Ipip => false,
        }
    }
}

/// What makes a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Affinity {
    /// Addresses, ports and protocol.
    #[default]
    Flow,
    /// The client's address.
    Client,
}

/// Where new flows of a version without an up backend go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnEmptyPool {
    /// To the stable version, or else to the heaviest that has an up backend.
    #[default]
    Failover,
    /// Nowhere: their packets are dropped and counted.
    Drop,
}

/// What happens to flows in progress of a backend that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnDown {
    /// The client's next TCP packet is answered with RST.
    #[default]
    Reset,
    /// Their packets still go there.
    Keep,
}

/// A pool of backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Version {
    /// Its name.
    pub name: Name,
    /// Its backends, at least one.
    pub backends: Vec<Backend>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Its port; the client's where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its share of the version's slots relative to the others', `1..=1000`.
    #[serde(default = "default_backend_weight")]
    pub weight: u16,
}

fn default_backend_weight() -> u16 {
    1
}
