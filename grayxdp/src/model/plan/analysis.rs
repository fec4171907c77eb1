//! What judges a candidate: when it is looked at, and its metrics.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::model::{
    Name,
    config::duration,
    plan::{Condition, Judge, NoDataAction, OutageAction, Provider, QualityLimits, ThresholdRange},
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
    /// How it is judged; where it is left out, by `thresholdRange`, and failures against stable's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<Judge>,
    /// Plain limits.
    #[serde(default, skip_serializing_if = "ThresholdRange::is_none", deserialize_with = "given")]
    pub threshold_range: ThresholdRange,
    /// What makes a look at a value from outside a pass; with `failureCondition` beside it, neither is inconclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_condition: Option<Condition>,
    /// What makes a look at a value from outside a fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_condition: Option<Condition>,
    /// Limits of a model's quality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<QualityLimits>,
    /// Of failures against stable's: while stable's own ratio is above this, nothing passes and the rollout is frozen. Three times
    /// its ratio before the rollout, at least 0.01, where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_limit: Option<f64>,
    /// Of `connectFailureRatio` against stable's: how many failures of one of 256 cells of clients count in a look, beyond what
    /// the cell's attempts let expect; 3 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_client_cap: Option<u32>,
    /// Kernel signals: mature samples below which there is no verdict: of the candidate in a look; of each side in a step where
    /// it is compared with stable. Judges that look once do so when each side has as many.
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
    /// Passes in a row after which earlier fails count no more; at least 1, never where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recover_after: Option<u32>,
    /// Inconclusive looks after the end of a pause that are allowed; then the rollout pauses. As long as `maxExtension` where
    /// it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inconclusive_limit: Option<u32>,
    /// Looks without data after the end of a pause that are allowed; then `onNoData` runs. As long as `maxExtension` where it
    /// is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_data_limit: Option<u32>,
    /// What too many looks without data do.
    #[serde(default)]
    pub on_no_data: NoDataAction,
    /// Errors in a row that are allowed; then the rollout freezes until the metric is measured again.
    #[serde(default = "default_error_limit")]
    pub consecutive_error_limit: u32,
    /// How long errors in a row may last before `onOutage` runs.
    #[serde(default = "default_max_outage", with = "duration")]
    #[schemars(with = "String")]
    pub max_outage: Duration,
    /// What errors that last for longer do.
    #[serde(default)]
    pub on_outage: OutageAction,
    /// Whether a breach runs `onFailure`; else it pauses.
    #[serde(default = "yes")]
    pub critical: bool,
    /// Shown, never acted upon.
    #[serde(default)]
    pub dry_run: bool,
}

/// The samples that a look needs where the plan names no number.
pub const DEFAULT_MIN_SAMPLES: u64 = 20;

/// Limits that are written are meant: one at least.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ThresholdRange, D::Error> {
    let range = ThresholdRange::deserialize(deserializer)?;
    if range.is_none() { Err(D::Error::custom("no limit; give `min`, `max` or both")) } else { Ok(range) }
}

fn default_min_samples() -> u64 {
    DEFAULT_MIN_SAMPLES
}

const fn default_error_limit() -> u32 {
    4
}

const fn default_max_outage() -> Duration {
    Duration::from_secs(600)
}

fn yes() -> bool {
    true
}
