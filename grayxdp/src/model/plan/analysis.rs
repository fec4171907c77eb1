//! What judges a candidate: when it is looked at, and its metrics.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    Name,
    config::duration,
    plan::{Condition, Provider, ThresholdRange},
};

/// What judges the candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Analysis {
    /// Time between looks.
    #[serde(default = "default_interval", with = "duration")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// How much longer than its pause a step may wait for data before the rollout pauses.
    #[serde(default = "default_max_extension", with = "duration")]
    #[schemars(with = "String")]
    pub max_extension: Duration,
    /// The metrics.
    #[serde(default)]
    pub metrics: Vec<Metric>,
}

fn default_interval() -> Duration {
    Duration::from_secs(10)
}

fn default_max_extension() -> Duration {
    Duration::from_secs(3_600)
}

impl Default for Analysis {
    fn default() -> Self {
        Self { interval: default_interval(), max_extension: default_max_extension(), metrics: Vec::new() }
    }
}

/// One measured thing and its limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metric {
    /// Its name.
    pub name: Name,
    /// Where it comes from.
    pub provider: Provider,
    /// Plain limits.
    #[serde(default, skip_serializing_if = "ThresholdRange::is_none")]
    pub threshold_range: ThresholdRange,
    /// What makes a look at a value from outside a pass; with `failureCondition` beside it, neither is inconclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_condition: Option<Condition>,
    /// What makes a look at a value from outside a fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_condition: Option<Condition>,
    /// Kernel signals: concluded handshakes of the candidate in a look below which there is no verdict.
    #[serde(default = "default_min_samples")]
    pub min_samples: u64,
    /// Time after the step's begin in which the metric is not looked at.
    #[serde(default, with = "duration")]
    #[schemars(with = "String")]
    pub initial_delay: Duration,
    /// Fails that are allowed in the whole rollout.
    #[serde(default)]
    pub failure_limit: u32,
    /// Fails in a row that are allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_failure_limit: Option<u32>,
    /// Whether a breach runs `onFailure`; else it pauses.
    #[serde(default = "yes")]
    pub critical: bool,
    /// Shown, never acted upon.
    #[serde(default)]
    pub dry_run: bool,
}

/// The samples that a look needs where the plan names no number.
pub const DEFAULT_MIN_SAMPLES: u64 = 20;

fn default_min_samples() -> u64 {
    DEFAULT_MIN_SAMPLES
}

fn yes() -> bool {
    true
}
