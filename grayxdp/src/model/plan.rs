//! The plan file, as types. `config` reads and checks it.

mod allocation;
mod analysis;
mod condition;
mod failure;
mod flows;
mod judge;
mod provider;
mod secret;
mod shadow;
mod signal;
mod strategy;
mod webhook;
mod windows;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Name, config::duration};

pub use allocation::{Constraints, SegmentRule};
pub use analysis::{Analysis, DEFAULT_MIN_SAMPLES, Metric};
pub use condition::{Condition, NotACondition};
pub use failure::{FailureAction, NoDataAction, OnFailure, OutageAction, RollbackMode};
pub use flows::{ExistingFlows, FlowsEnd, Lease};
pub use judge::{Judge, JudgeType, QualityLimits, ValueBound};
pub use provider::{CommandQuery, HttpQuery, Posted, PrometheusQuery, Provider, Range, Reduce};
pub use secret::SecretSource;
pub use shadow::Shadow;
pub use signal::{KernelSignal, Signal, ThresholdRange, Unit};
pub use strategy::{
    AbTest, Adaptive, BlueGreen, Canary, Curve, Instance, OnWinner, Pause, Preview, Ramp, Replace, ReplaceHook,
    Rolling, Step, Strategy, TestKind, TestUnit,
};
pub use webhook::{HookError, HookType, Notification, NotificationType, Webhook};
pub use windows::{ClockTime, Day, NotAClockTime, Window, Windows};

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
    /// Segments of the service among which the candidate's share is allocated; without them all have the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<SegmentRule>,
    /// How fast exposure may grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Constraints>,
    /// What judges it.
    #[serde(default)]
    pub analysis: Analysis,
    /// What a breach does.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// For how long the old stable version is kept after a promotion: so long `rollout undo` gives it all new flows back, and
    /// a reload does not remove it. Where it is left out, `undo` works for as long as the version is configured.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::optional")]
    #[schemars(with = "Option<String>")]
    pub retain_stable: Option<Duration>,
    /// For how long after a rollback no rollout of the same candidate begins, but with `--force`.
    #[serde(default, with = "duration")]
    #[schemars(with = "String")]
    pub lockout: Duration,
    /// How long the rollout may take, pauses by an operator, the plan or windows not counted; then `onFailure` runs.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::optional")]
    #[schemars(with = "Option<String>")]
    pub progress_deadline: Option<Duration>,
    /// What happens to flows in progress of the version that loses its new flows at the end.
    #[serde(default)]
    pub existing_flows: ExistingFlows,
    /// For how long the candidate's weight holds without a daemon that observes it; for ever where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// When it may go on; always where they are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Windows>,
    /// Who is asked on the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<Webhook>,
    /// Who is told what happens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notifications: Vec<Notification>,
}
