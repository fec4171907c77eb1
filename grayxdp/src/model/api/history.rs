//! What the journal knows of a rollout, in the API.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Name, Weight, api::RolloutStatus, event::Event};

/// All that the journal knows of one run of a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRecord {
    /// Its number, unique for ever.
    pub number: u64,
    /// Numbers of all runs of this name, the newest first.
    pub runs: Vec<u64>,
    /// How it stands or ended.
    pub status: RolloutStatus,
    /// Its plan.
    pub plan: serde_json::Value,
    /// What happened, with actor and reason, oldest first.
    pub events: Vec<Event>,
    /// What the data path gave the candidate, at each change, oldest first.
    pub weights: Vec<AppliedWeights>,
}

/// The candidate's weights from a time on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedWeights {
    /// Since when.
    pub time: jiff::Timestamp,
    /// The service's epoch.
    pub epoch: u64,
    /// By segment; `default` is what matches no other.
    pub weights: BTreeMap<Name, Weight>,
}
