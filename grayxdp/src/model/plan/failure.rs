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
