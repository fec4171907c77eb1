//! What the journal keeps, as types.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    balance::ids::BackendKey,
    model::{Name, Weight, kernel::Split},
};

/// A service's weights and roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRecord {
    /// Its versions in the order of the file: the split's threshold counts the second's buckets.
    pub versions: Vec<Name>,
    /// Weight of each version.
    pub weights: BTreeMap<Name, Weight>,
    /// The stable version.
    pub stable: Name,
    /// Who owns which bucket.
    #[serde(with = "SplitFields")]
    pub split: Split,
    /// Rises with every applied change of weights.
    pub epoch: u64,
    /// Number of the rollout that set this; 0: none.
    pub rollout: u64,
}

/// The form of a [`Split`] in the journal.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Split")]
struct SplitFields {
    offset: u16,
    threshold: u16,
}

/// What the journal knows of a service; at least one of the two is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournaledService {
    /// Its name.
    pub name: Name,
    /// What the kernel was last known to hold.
    pub applied: Option<ServiceRecord>,
    /// What it was to hold next, and may hold already.
    pub intent: Option<ServiceRecord>,
}

/// A rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct JournaledRollout {
    /// Unique for ever; from 1.
    pub number: u64,
    /// Its name; several rollouts, one after the other, may have it.
    pub name: Name,
    /// Its plan, as JSON.
    pub plan: serde_json::Value,
    /// The engine's state, as JSON.
    pub state: serde_json::Value,
    /// When it began.
    pub started: jiff::Timestamp,
    /// When it ended.
    pub ended: Option<jiff::Timestamp>,
}

/// What is to be known of a backend after a restart, beyond the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournaledBackend {
    /// The backend.
    pub key: BackendKey,
    /// What an operator wants of it.
    pub wish: Wish,
    /// Who wanted that.
    pub actor: Option<String>,
    /// Why, as given.
    pub reason: Option<String>,
    /// Whether it answered its health checks.
    pub is_healthy: bool,
    /// Since when it is so, on the wall clock.
    pub since: Duration,
}

/// What an operator wants of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Wish {
    /// Nothing special.
    #[default]
    Enabled,
    /// No new flows.
    Drained,
    /// No flows.
    Disabled,
}
