//! What happened: the lines of `grayxdp events`, of the journal and of the log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Name;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Rises by one; 0 until the journal has numbered it.
    pub id: u64,
    /// When, on the wall clock.
    pub time: jiff::Timestamp,
    /// Who caused it: `daemon`, `engine`, or a user as `uid 1000 (name)`.
    pub actor: String,
    /// The service that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
    /// The rollout that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Name>,
    /// What kind of thing, in camelCase: `weightsApplied`, `rolloutStarted`, `stepReached`, `verdict`, `rolledBack`, …
    pub kind: String,
    /// One plain sentence with the numbers.
    pub message: String,
    /// Why, as given with `--reason`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
