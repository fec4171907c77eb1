//! What watches over a service: health checks and the fuse; and what parts its traffic into segments.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    Name, Weight,
    config::{Prefix, duration},
};

/// Name of the segment of whatever matches no other.
pub const DEFAULT_SEGMENT: &str = "default";

/// A class of traffic with weights of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Segment {
    /// Its name; not `default`.
    pub name: Name,
    /// What belongs to it.
    pub r#match: Match,
    /// Initial weights in percent, the sum is 100; the service's where they are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<Name, Weight>,
}

/// What belongs to a segment: fields that are given must all match, of a field's values any. Among segments that match, the
/// longest source prefix decides, then a port, then a DSCP, then the order in the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Match {
    /// Prefixes of the client's address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Prefix>,
    /// Differentiated services code points of a flow's first packet, `0..=63`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dscp: Vec<u8>,
    /// Virtual ports, some of the service's `ports`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
}

impl Match {
    /// Whether it says nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.dscp.is_empty() && self.ports.is_empty()
    }
}

/// How backends are checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthCheck {
    /// What a check is.
    pub r#type: CheckType,
    /// HTTP: what is asked for; `/` where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The port; the backend's where it is left out, or the service's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Time between the beginnings of two checks of a backend, `100ms..=1h`.
    #[serde(default = "default_interval", with = "duration")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// How long a check may take, `10ms..=interval`.
    #[serde(default = "default_timeout", with = "duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// Good checks in a row after which a backend that is down is up, `1..=100`.
    #[serde(default = "default_rise")]
    pub rise: u32,
    /// Bad checks in a row after which a backend that is up is down, `1..=100`.
    #[serde(default = "default_fall")]
    pub fall: u32,
}

const fn default_interval() -> Duration {
    Duration::from_secs(1)
}

const fn default_timeout() -> Duration {
    Duration::from_millis(500)
}

const fn default_rise() -> u32 {
    2
}

const fn default_fall() -> u32 {
    3
}

/// What a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CheckType {
    /// A TCP connection that is accepted.
    Tcp,
    /// A GET that is answered with a status of 200 to 399.
    Http,
}

/// When the data path turns a candidate off by itself: more than `limit` connect failures inside `window` that are at
/// least `ratio` of its attempts there, while the stable version's failures are at most half of `ratio` of its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fuse {
    /// Failures that are let pass, `1..=1023`.
    #[serde(default = "default_limit")]
    pub limit: u32,
    /// Least part of the attempts, `0.01..=1`.
    #[serde(default = "default_ratio")]
    pub ratio: f64,
    /// The window, `100ms..=1m`.
    #[serde(default = "default_window", with = "duration")]
    #[schemars(with = "String")]
    pub window: Duration,
}

const fn default_limit() -> u32 {
    20
}

const fn default_ratio() -> f64 {
    0.5
}

const fn default_window() -> Duration {
    Duration::from_secs(1)
}
