//! What a breach does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a breach does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OnFailure {
    /// The action.
    #[serde(default)]
    pub action: FailureAction,
    /// How a rollback goes.
    #[serde(default)]
    pub mode: RollbackMode,
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

/// How a rollback goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RollbackMode {
    /// Stable has all new flows at once.
    #[default]
    AtOnce,
    /// Back through the steps, `analysis.interval` apart. Fuse and `rollout abort` go at once anyway.
    ReverseSteps,
}

/// What a long outage of a metric's provider does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OutageAction {
    /// The rollout stays frozen until the provider answers again, or an operator resumes.
    #[default]
    Hold,
    /// Stable gets all new flows back.
    Rollback,
}

/// What a metric that stays without data does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NoDataAction {
    /// The weights stay until an operator decides.
    #[default]
    Pause,
    /// Stable gets all new flows back.
    Rollback,
}
