//! What happens to flows in progress, and for how long a weight holds without a daemon.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{config::duration, kernel::LeaseEnd};

/// What happens to flows in progress of the version that loses its new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExistingFlows {
    /// Those of the stable version when the candidate was promoted.
    #[serde(default)]
    pub on_promote: FlowsEnd,
    /// Those of the candidate at a rollback.
    #[serde(default)]
    pub on_rollback: FlowsEnd,
    /// How long `drain` lets them go on, `1s..=30d`.
    #[serde(default = "default_deadline", with = "duration")]
    #[schemars(with = "String")]
    pub deadline: Duration,
}

const fn default_deadline() -> Duration {
    Duration::from_secs(3_600)
}

impl Default for ExistingFlows {
    fn default() -> Self {
        Self { on_promote: FlowsEnd::Pin, on_rollback: FlowsEnd::Pin, deadline: default_deadline() }
    }
}

/// What happens to flows in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FlowsEnd {
    /// They go on until they end by themselves.
    #[default]
    Pin,
    /// They go on until the deadline; then TCP's next packet is answered with RST, and UDP moves.
    Drain,
    /// TCP: the next packet is answered with RST.
    Reset,
    /// UDP: they move at once.
    Move,
}

/// For how long the candidate's weight holds without a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lease {
    /// How long, `3s..=1d`; renewed every second.
    #[serde(default = "default_lease", with = "duration")]
    #[schemars(with = "String")]
    pub duration: Duration,
    /// What its end does.
    #[serde(default = "default_end")]
    pub on_expiry: LeaseEnd,
}

const fn default_lease() -> Duration {
    Duration::from_secs(30)
}

const fn default_end() -> LeaseEnd {
    LeaseEnd::Stable
}
