//! Signals of a version as `status` shows them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Median and 99th percentile, in seconds; censored values are counted.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quantiles {
    /// Values that they rest on.
    pub samples: u64,
    /// Half of all values are not greater; none without values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median: Option<f64>,
    /// 99 of 100 values are not greater; where that cannot be known, because too many went out of sight, what it is above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
}

/// Signals of a version, since the daemon began to read them.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignalsStatus {
    /// Measured handshakes: all while a rollout runs, else one in 64.
    pub attempts: u64,
    /// … that a SYN-ACK answered.
    pub opened: u64,
    /// … that a RST answered.
    pub refused: u64,
    /// … that nothing answered within three seconds.
    pub timeouts: u64,
    /// … whose SYN was repeated before any answer.
    pub syn_retransmits: u64,
    /// SYNs that could not be measured.
    pub unmarked: u64,
    /// Time from SYN to SYN-ACK.
    pub connect: Quantiles,
    /// Followed flows.
    pub flows: u64,
    /// … of which nothing more is counted.
    pub ended: u64,
    /// Time from the client's first payload to the backend's.
    pub first_byte: Quantiles,
    /// Followed flows that a RST of the client ended.
    pub reset_by_client: u64,
    /// Followed flows that a RST of the backend ended.
    pub reset_by_backend: u64,
    /// Segments of followed flows with payload.
    pub segments: u64,
    /// … of them repeated.
    pub retransmits: u64,
    /// Followed flows with a zero window.
    pub zero_window: u64,
    /// Flows that were to be followed and found no place in the sample table.
    pub lost: u64,
    /// UDP: followed flows without an answer.
    pub unanswered: u64,
    /// Mean payload of followed flows that ended, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_flow: Option<f64>,
}
