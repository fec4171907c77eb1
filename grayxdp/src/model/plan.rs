//! The plan file, as types. `config` reads and checks it.

mod signal;

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    Name, Weight,
    config::{BackendAddress, Match, duration},
    kernel::LeaseEnd,
};

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
    /// What happens to flows in progress of the version that loses its new flows at the end.
    #[serde(default)]
    pub existing_flows: ExistingFlows,
    /// For how long the candidate's weight holds without a daemon that observes it; for ever where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
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
    /// One of the candidate's backends that gets some of the clients before the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// The steps, at least one.
    pub steps: Vec<Step>,
}

impl Canary {
    /// The candidate's weight in the segments that have another than that of the step.
    #[must_use]
    pub fn segments_at(&self, step: usize) -> BTreeMap<Name, Weight> {
        let mut fixed = BTreeMap::new();
        for step in self.steps.iter().take(step + 1) {
            if step.set_weight.is_some() {
                fixed.clear();
            }
            fixed.extend(step.segments.iter().map(|(name, weight)| (name.clone(), *weight)));
        }
        fixed
    }

    /// The step at which a segment was given its last weight, where that is not 100 %.
    #[must_use]
    pub fn held_back(&self) -> Option<(usize, &Name)> {
        let last = |segment: &Name| self.steps.iter().rposition(|step| step.segments.contains_key(segment));
        let held = self.segments_at(self.steps.len()).into_iter().find(|(_, weight)| *weight != Weight::FULL)?;
        let index = last(&held.0)?;
        self.steps[index].segments.get_key_value(&held.0).map(|(name, _)| (index, name))
    }
}

/// A canary instance: the candidate stands at 0 %, and one of its backends alone gets the matched new flows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Instance {
    /// Address of the backend, one of the candidate's: `10.0.2.1:8080`, or `10.0.2.1` where its port is left out.
    pub backend: BackendAddress,
    /// Which clients.
    pub r#match: Match,
    /// How long; without `duration` until an operator resumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Names of the metrics that judge it; all where it is left out, none for `[]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Vec<Name>>,
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
    /// The candidate's weight in segments of the service that are to have another than the rest, until a later step with
    /// `setWeight`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub segments: BTreeMap<Name, Weight>,
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
