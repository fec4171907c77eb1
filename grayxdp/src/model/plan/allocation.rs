//! How fast exposure may grow: caps of segments and of all, and which segments are key.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Name, Weight, config::duration};

/// A segment of the service in the allocation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SegmentRule {
    /// The segment.
    pub name: Name,
    /// Whether the candidate's weight in it is never above that in a segment that is not key.
    #[serde(default)]
    pub key: bool,
    /// How far its weight may move at once, in percentage points above 0; 100 where it is left out.
    #[serde(default = "whole")]
    pub max_step: Weight,
    /// Its share of all new flows, `0.0..=1.0`; measured where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

const fn whole() -> Weight {
    Weight::FULL
}

/// Caps of the whole service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Constraints {
    /// How far the candidate's share of all new flows may grow at once, in percentage points above 0; 100 where it is left
    /// out.
    #[serde(default = "whole")]
    pub max_total_step: Weight,
    /// Least time between two changes, `1s..=30d`.
    #[serde(default = "default_per", with = "duration")]
    #[schemars(with = "String")]
    pub per: Duration,
}

const fn default_per() -> Duration {
    Duration::from_secs(60)
}

impl Default for Constraints {
    fn default() -> Self {
        Self { max_total_step: Weight::FULL, per: default_per() }
    }
}
