//! The plan file, as types. `config` reads and checks it.

mod signal;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Name, Weight, config::duration};

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// Always `grayxdp.io/v1`.
    pub api_version: ApiVersion,
    /// Always `Rollout`.
    pub kind: Kind,
    /// The rollout's name.
    pub metadata: Metadata,
    /// What is to happen.
    pub spec: Spec,
}

/// Version of the plan's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The only one.
    #[serde(rename = "grayxdp.io/v1")]
    V1,
}

/// What the file describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// A rollout.
    Rollout,
}

/// The rollout's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// The rollout's name.
    pub name: Name,
}

/// What is to happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// The service.
    pub service: Name,
    /// The version that has the traffic now; the journal knows it where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<Name>,
    /// The version to release.
    pub candidate: Name,
    /// How.
    pub strategy: Strategy,
    /// What judges it.
    #[serde(default)]
    pub analysis: Analysis,
    /// What a breach does.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// How the candidate gets its traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Strategy {
    /// In steps.
    Canary(Canary),
}

/// A canary release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Canary {
    /// The steps, at least one.
    pub steps: Vec<Step>,
}

/// One step: a target, then a pause. A step without `setWeight` keeps the weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// The candidate's weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_weight: Option<Weight>,
    /// How long it stays there; without `duration` until an operator resumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Names of the metrics that judge this step; all where it is left out, none for `[]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Vec<Name>>,
}

/// A stay at a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pause {
    /// How long; until `rollout resume` where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::optional")]
    #[schemars(with = "Option<String>")]
    pub duration: Option<Duration>,
}

/// What judges the candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Analysis {
    /// Time between looks.
    #[serde(default = "default_interval", with = "crate::model::config::duration")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// How much longer than its pause a step may wait for data before the rollout pauses.
    #[serde(default = "default_max_extension", with = "crate::model::config::duration")]
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
    pub threshold_range: ThresholdRange,
    /// Concluded handshakes of the candidate in a look below which there is no verdict.
    #[serde(default = "default_min_samples")]
    pub min_samples: u64,
    /// Time after the step's begin in which the metric is not looked at.
    #[serde(default, with = "crate::model::config::duration")]
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

fn default_min_samples() -> u64 {
    20
}

fn yes() -> bool {
    true
}

/// Where a metric's values come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Provider {
    /// What the data path counts.
    Kernel(KernelSignal),
}

pub use signal::{KernelSignal, Signal, ThresholdRange, Unit};

/// What a breach does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OnFailure {
    /// The action.
    #[serde(default)]
    pub action: FailureAction,
}

/// What a breach does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FailureAction {
    /// Stable gets all new flows back, at once.
    #[default]
    Rollback,
    /// The weights stay until an operator decides.
    Pause,
    /// The weights stay; judging goes on; left only by `rollout resume`.
    Freeze,
}
