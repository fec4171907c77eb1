//! The configuration file, as types. `config` reads and checks it.

use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Name, Weight};

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Interfaces that carry clients' or backends' packets.
    pub interfaces: Vec<Interface>,
    /// Where the journal and the hash key lie.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Where the program's maps and links are pinned; on a BPF file system.
    #[serde(default = "default_pin_dir")]
    pub pin_dir: PathBuf,
    /// The operators' socket.
    #[serde(default)]
    pub control: Control,
    /// Metrics and API.
    #[serde(default)]
    pub http: Http,
    /// The hash key's file; `hash.key` in `stateDir` where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_key_file: Option<PathBuf>,
    /// Prefixes to which backends may also talk past the VIP, as `10.9.0.0/16`.
    #[serde(default)]
    pub direct_access: Vec<Prefix>,
    /// How long the journal keeps history.
    #[serde(default = "default_history_retention", with = "crate::model::config::duration")]
    #[schemars(with = "String")]
    pub history_retention: Duration,
    /// The virtual services.
    #[serde(default)]
    pub services: Vec<Service>,
}

fn default_state_dir() -> PathBuf {
    "/var/lib/grayxdp".into()
}

/// Where programs, links and maps are pinned unless the file says otherwise.
#[must_use]
pub fn default_pin_dir() -> PathBuf {
    "/sys/fs/bpf/grayxdp".into()
}

fn default_history_retention() -> Duration {
    Duration::from_secs(400 * 86_400)
}

/// A network interface to attach to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Interface {
    /// Its name, as in `ip link`.
    pub name: String,
    /// How to attach.
    #[serde(default)]
    pub mode: AttachMode,
}

/// How the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AttachMode {
    /// By the driver where it can, else generic.
    #[default]
    Auto,
    /// By the driver, or not at all.
    Native,
    /// After the kernel has made a socket buffer: slow, works everywhere.
    Generic,
}

/// The operators' socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Control {
    /// Path of the Unix socket.
    pub socket: PathBuf,
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: "/run/grayxdp/grayxdp.sock".into() }
    }
}

/// Metrics and API over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Http {
    /// Address and port.
    pub listen: std::net::SocketAddr,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: std::net::SocketAddr::from(([127, 0, 0, 1], 9477)) }
    }
}

/// An IPv4 prefix, written `10.9.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    /// The address, host bits zero.
    pub address: Ipv4Addr,
    /// Leading bits that count, `0..=32`.
    pub length: u8,
}

/// Text that is no [`Prefix`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not an IPv4 prefix such as 10.9.0.0/16 (host bits must be zero)")]
pub struct NotAPrefix(String);

impl TryFrom<String> for Prefix {
    type Error = NotAPrefix;

    fn try_from(text: String) -> Result<Self, NotAPrefix> {
        let parse = || {
            let (address, length) = text.split_once('/')?;
            let (address, length) = (address.parse::<Ipv4Addr>().ok()?, length.parse::<u8>().ok()?);
            let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            (length <= 32 && address.to_bits() & host == 0).then_some(Self { address, length })
        };
        parse().ok_or(NotAPrefix(text.clone()))
    }
}

impl JsonSchema for Prefix {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Prefix".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^[0-9.]+/[0-9]{1,2}$"})
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        format!("{}/{}", prefix.address, prefix.length)
    }
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Its name.
    pub name: Name,
    /// The virtual address.
    pub vip: Ipv4Addr,
    /// The virtual port.
    pub port: u16,
    /// TCP or UDP.
    #[serde(default)]
    pub protocol: Protocol,
    /// How packets reach a backend.
    #[serde(default)]
    pub forwarding: Forwarding,
    /// What makes a flow.
    #[serde(default)]
    pub affinity: Affinity,
    /// Whether ARP requests for the VIP are answered.
    #[serde(default)]
    pub announce: bool,
    /// One or two versions; the order is part of the choice of buckets.
    pub versions: Vec<Version>,
    /// Initial weights in percent; the sum is 100.
    #[serde(default)]
    pub weights: BTreeMap<Name, Weight>,
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
    pub address: Ipv4Addr,
    /// Its port; the service's where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its share of the version's slots relative to the others', `1..=1000`.
    #[serde(default = "default_backend_weight")]
    pub weight: u16,
}

fn default_backend_weight() -> u16 {
    1
}

/// Durations as `500ms`, `30s`, `5m`, `1h`, `14d`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes a duration.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    /// Reads a duration.
    ///
    /// # Errors
    /// Text that is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map_err(|_| serde::de::Error::custom(format!("`{text}` is not a duration such as 500ms, 30s, 5m or 1h")))
    }
}
