//! How everything stands.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BackendStatus;
use crate::model::{
    Name, Weight,
    config::Forwarding,
    settling::{ExceptionTableStatus, FlowTableStatus, FlowsStatus, SegmentStatus, SettlingStatus},
    signals::SignalsStatus,
    state::Prospect,
};

/// How everything stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since when it runs.
    pub started: jiff::Timestamp,
    /// What is wrong now: one sentence each. Empty when all is well.
    pub warnings: Vec<String>,
    /// What this machine's kernel lacks, and what takes its place: one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Interfaces.
    pub interfaces: Vec<InterfaceStatus>,
    /// The exception table.
    #[serde(default)]
    pub exceptions: ExceptionTableStatus,
    /// The flow table of `full-nat`.
    #[serde(default)]
    pub flow_table: FlowTableStatus,
    /// Services.
    pub services: Vec<ServiceStatus>,
}

/// [`InterfaceStatus::mode`] of an interface that does not carry the program.
pub const DETACHED: &str = "detached";

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// `native`, `generic`, or `detached`.
    pub mode: String,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Its name.
    pub name: Name,
    /// `192.0.2.10:80/tcp`.
    pub endpoint: String,
    /// How packets reach its backends.
    #[serde(default)]
    pub forwarding: Forwarding,
    /// Rises with every applied change of weights.
    pub epoch: u64,
    /// The stable version.
    pub stable: Name,
    /// The running rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Name>,
    /// What the rollout's present step can show of metrics that have not passed yet, and how long a pass takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prospects: Vec<Prospect>,
    /// Set when the file's weights differ from the applied ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<String>,
    /// Segments beside the default one, in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<SegmentStatus>,
    /// How far it is from being settled.
    #[serde(default)]
    pub settling: SettlingStatus,
    /// Its flows, if it forwards by `full-nat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flows: Option<FlowsStatus>,
    /// Its versions, in the order of the file.
    pub versions: Vec<VersionStatus>,
    /// Drops, passes and answers by reason.
    pub reasons: BTreeMap<String, u64>,
}

/// One version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// Its name.
    pub name: Name,
    /// Wanted share of new flows.
    pub weight: Weight,
    /// Buckets of 16,384.
    pub buckets: u16,
    /// Observed share of new flows over the last seconds, `0.0..=1.0`; none without new flows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<f64>,
    /// Share of bytes over the last seconds, `0.0..=1.0`; none without traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<f64>,
    /// New flows a second over the last seconds.
    pub flows_per_second: f64,
    /// Totals since the maps were made.
    pub totals: Totals,
    /// Its signals.
    #[serde(default)]
    pub signals: SignalsStatus,
    /// Its backends.
    pub backends: Vec<BackendStatus>,
}

/// Totals since the maps were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Packets to backends.
    pub packets_forward: u64,
    /// Packets from backends.
    pub packets_reverse: u64,
    /// Bytes to backends.
    pub bytes_forward: u64,
    /// Bytes from backends.
    pub bytes_reverse: u64,
    /// SYNs, repeated ones included.
    pub syns: u64,
    /// SYN-ACKs, repeated ones included.
    pub syn_acks: u64,
    /// Refused connections.
    pub refusals: u64,
    /// Resets by either side in the middle.
    pub resets: u64,
}
