//! Rollouts in the API: how they stand, with fuse and lease.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    Name, Weight,
    kernel::LeaseEnd,
    plan::HookType,
    shadow::ShadowCounts,
    state::{Finding, Prospect, RolloutState, Verdict},
};

/// One rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Its name.
    pub name: Name,
    /// The service.
    pub service: Name,
    /// The version that had the traffic before.
    pub stable: Name,
    /// The version to release.
    pub candidate: Name,
    /// Where it stands.
    pub state: RolloutState,
    /// Which try it is, from 1.
    pub attempt: u64,
    /// Why it stands there: one sentence.
    pub message: String,
    /// Index of the current step, from 0.
    pub step: usize,
    /// All steps, as `setWeight 25, pause 30m`.
    pub steps: Vec<String>,
    /// The candidate's wanted share.
    pub weight: Weight,
    /// Its wanted share in segments that have another.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub segments: BTreeMap<Name, Weight>,
    /// What keeps it from going to the step's target at once, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binding: Vec<String>,
    /// How far the current step is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// How much of the current pause has passed, in seconds.
    pub dwell_seconds: f64,
    /// How long the current pause is, in seconds; none until an operator resumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_seconds: Option<f64>,
    /// The newest finding of each metric.
    pub findings: Vec<Finding>,
    /// What the step can show of metrics that have not passed yet, at the traffic of now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prospects: Vec<Prospect>,
    /// Looks so far, by metric and verdict.
    pub verdicts: BTreeMap<Name, BTreeMap<Verdict, u64>>,
    /// When it began.
    pub started: jiff::Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<jiff::Timestamp>,
    /// Epoch of the service now, for `--if-epoch`.
    pub epoch: u64,
    /// The fuse, while it is armed and after it tripped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuse: Option<FuseStatus>,
    /// The lease, while it is armed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseStatus>,
    /// What became of the copies of a shadow release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowCounts>,
    /// Webhooks that are asked, in the order of the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookStatus>,
    /// Where news went, and whether it arrived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outlets: Vec<OutletStatus>,
}

/// How far the current step is: through a ramp, through sub-steps under caps, through a batch. Times are the least: metrics that do
/// not pass, pauses of operators and closed windows add to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The candidate's share of all new flows, `0.0..=1.0`, by the shares of the segments.
    pub share: f64,
    /// What the step leads to; none where it names segments only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Weight>,
    /// Which point of the ramp, or part of the batch, it is at, from 1.
    pub position: usize,
    /// How many there are.
    pub count: usize,
    /// The last that is done, the present one and some ahead; empty for a step that is reached at once.
    pub parts: Vec<ProgressPart>,
    /// Until the step is over, in seconds; none where an operator, or a backend that drains, ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_seconds_left: Option<f64>,
    /// Until all steps are over, in seconds: pauses only. None where not only time decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<f64>,
}

/// A part of the current step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProgressPart {
    /// What it exposes, or does: `25 %, asia 10 %`, `drain`.
    pub what: String,
    /// Whether it is over, runs, or is ahead.
    pub standing: Standing,
    /// When it begins at the earliest, in seconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_seconds: Option<f64>,
}

/// Where a part of a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// Over.
    Done,
    /// It runs.
    Now,
    /// It comes.
    Ahead,
}

/// A webhook of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookStatus {
    /// Its name.
    pub name: Name,
    /// When it is called.
    pub r#type: HookType,
    /// How often it was called in this attempt.
    pub calls: u64,
    /// Whether its answer is awaited now.
    pub awaited: bool,
    /// Why the newest answer was no yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An endpoint that is told what happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutletStatus {
    /// `notification 1`, counted from 1 in the plan, or `webhook NAME`.
    pub outlet: String,
    /// News that arrived.
    pub delivered: u64,
    /// News that was given up.
    pub lost: u64,
    /// News on its way.
    pub waiting: u64,
    /// Why the newest try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The fuse of a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FuseStatus {
    /// Failures that are let pass within the window.
    pub limit: u32,
    /// Least part of the attempts.
    pub ratio: f64,
    /// The window in seconds.
    pub window_seconds: f64,
    /// Connect failures of the candidate in this attempt.
    pub failures: u64,
    /// What tripped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tripped: Option<String>,
}

/// The lease of a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseStatus {
    /// How long the weight holds without the daemon, in seconds.
    pub duration_seconds: f64,
    /// What its end does.
    pub on_expiry: LeaseEnd,
    /// How much is left of it, in seconds; none before the first renewal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_seconds: Option<f64>,
    /// Whether it ran out and nobody resumed since.
    pub expired: bool,
}
