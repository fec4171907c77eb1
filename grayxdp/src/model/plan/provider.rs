//! Where the values of a metric come from.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    config::duration,
    plan::{KernelSignal, SecretSource},
};

/// Where a metric's values come from. In queries, addresses and arguments `{{service}}`, `{{stable}}`, `{{candidate}}` and
/// `{{rollout}}` stand for those names, `{{interval}}` for the time between looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Provider {
    /// What the data path counts.
    Kernel(KernelSignal),
    /// A query to a Prometheus server.
    Prometheus(PrometheusQuery),
    /// A document that an HTTP server gives.
    Http(HttpQuery),
    /// What a program of the daemon's host prints.
    Command(CommandQuery),
    /// What `grayxdp quality post` brings.
    Posted(Posted),
}

impl Provider {
    /// Whether somebody outside is asked.
    #[must_use]
    pub const fn is_asked(&self) -> bool {
        match self {
            Self::Kernel(_) | Self::Posted(_) => false,
            Self::Prometheus(_) | Self::Http(_) | Self::Command(_) => true,
        }
    }
}

/// A query to a Prometheus server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrometheusQuery {
    /// Its address: `http://127.0.0.1:9090`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Where its address is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_from: Option<SecretSource>,
    /// The query.
    pub query: String,
    /// Over a stretch of time; at one instant where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// Headers that are no secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Headers whose values are read elsewhere, as `Authorization`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers_from: BTreeMap<String, SecretSource>,
    /// How long an answer may take, `100ms..=5m`.
    #[serde(default = "default_timeout", with = "duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// How often it is asked again within a look after it failed, at most 10.
    #[serde(default)]
    pub retries: u32,
}

/// A query over a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Range {
    /// How far back, from the server's now.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub window: Duration,
    /// Time between two values.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub step: Duration,
    /// What becomes of the values.
    #[serde(default)]
    pub reduce: Reduce,
}

/// What many values become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Reduce {
    /// Their mean.
    #[default]
    Mean,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// The newest.
    Last,
}

/// A document that an HTTP server gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpQuery {
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where the address is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_from: Option<SecretSource>,
    /// Which value of the JSON document (RFC 6901): `/stats/errors`; the document itself where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// Headers that are no secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Headers whose values are read elsewhere, as `Authorization`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers_from: BTreeMap<String, SecretSource>,
    /// How long an answer may take, `100ms..=5m`.
    #[serde(default = "default_timeout", with = "duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// How often it is asked again within a look after it failed, at most 10.
    #[serde(default)]
    pub retries: u32,
}

/// What a program prints: a number, or JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommandQuery {
    /// The program, by its full path, and its arguments.
    pub command: Vec<String>,
    /// Which value of the JSON that it prints (RFC 6901).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// How long it may take, `100ms..=5m`; then it is killed with all that it began.
    #[serde(default = "default_timeout", with = "duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// How often it is begun again within a look after it failed, at most 10.
    #[serde(default)]
    pub retries: u32,
}

/// What somebody posts when he knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Posted {
    /// How long it counts, `10s..=30d`; without a newer one there is no data then.
    #[serde(default = "default_max_age", with = "duration")]
    #[schemars(with = "String")]
    pub max_age: Duration,
}

const fn default_max_age() -> Duration {
    Duration::from_secs(3_600)
}

const fn default_timeout() -> Duration {
    Duration::from_secs(5)
}
