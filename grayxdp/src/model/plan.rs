//! The plan file, as types. `config` reads and checks it.

mod analysis;
mod failure;
mod flows;
mod judge;
mod signal;
mod strategy;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Name;

pub use analysis::{Analysis, Metric, Provider};
pub use failure::{FailureAction, OnFailure};
pub use flows::{ExistingFlows, FlowsEnd, Lease};
pub use judge::{Judge, JudgeType, QualityLimits, ValueBound};
pub use signal::{KernelSignal, Signal, ThresholdRange, Unit};
pub use strategy::{Canary, Instance, Pause, Step, Strategy};

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
