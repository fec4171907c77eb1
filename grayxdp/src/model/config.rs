//! The configuration file, as types. `config` reads and checks it.

mod address;
pub mod duration;
mod flow_log;
mod guarding;
mod pool;
mod prefix;
mod service;
mod tunnel;

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use address::{BackendAddress, NotABackend};
pub use flow_log::FlowLog;
pub use guarding::{CheckType, DEFAULT_SEGMENT, Fuse, HealthCheck, Match, Segment};
pub use pool::{NotARange, PoolRange};
pub use prefix::{NotAPrefix, Prefix, width};
pub use service::{Affinity, Backend, Forwarding, OnDown, OnEmptyPool, Protocol, Service, Version};
pub use tunnel::Tunnel;

use crate::model::{Name, plan::SecretSource};

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
    /// What tunnels of services with `forwarding: ipip` have in common.
    #[serde(default)]
    pub tunnel: Tunnel,
    /// Where it is written which version sampled flows went to; nowhere where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_log: Option<FlowLog>,
    /// How long the journal keeps history.
    #[serde(default = "default_history_retention", with = "crate::model::config::duration")]
    #[schemars(with = "String")]
    pub history_retention: Duration,
    /// Exceptions that the data path has room for at once, `1024..=16777216`: flows that do not go where their bucket and
    /// slot say. Takes effect at the first start and after `detach`.
    #[serde(default = "default_exceptions")]
    pub exceptions: u32,
    /// Flows of services with `forwarding: full-nat` that the flow table has room for, `1024..=16777216`; rounded up to a power of two. Takes
    /// effect with the first such service, and later after `detach`.
    #[serde(default = "default_translations")]
    pub translations: u32,
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

const fn default_translations() -> u32 {
    1 << 18
}

const fn default_exceptions() -> u32 {
    1_000_000
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
    /// Who may change something there; nobody where it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<HttpToken>,
}

/// A token that allows changes over HTTP, sent as `Authorization: Bearer …`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpToken {
    /// Its holder's name, as history shows it.
    pub name: Name,
    /// Where it is read, for each request anew; 16 bytes or more.
    pub token_from: SecretSource,
    /// What it allows.
    #[serde(default)]
    pub scope: TokenScope,
}

/// What a token allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TokenScope {
    /// Every change.
    #[default]
    All,
    /// To post the quality of models.
    Quality,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: std::net::SocketAddr::from(([127, 0, 0, 1], 9477)), tokens: Vec::new() }
    }
}
