//! Where a rollout stands, and what was found about it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Name;

/// Where a rollout stands (ENGINE: the release engine).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RolloutState {
    /// Accepted; nothing exposed yet.
    Pending,
    /// On the way through its steps.
    Progressing,
    /// Waits for `resume`.
    Paused,
    /// Doubt or outage; left when its cause ends, or by `resume`.
    Frozen,
    /// The last weight is on its way to the kernel.
    Promoting,
    /// Stable's weight is on its way to the kernel.
    RollingBack,
    /// The candidate holds 100 % and is stable from now on.
    Promoted,
    /// Stable holds 100 % again.
    RolledBack,
    /// Ended without promotion, as planned.
    Completed,
    /// Ended otherwise, or refused before any exposure.
    Failed,
}

impl RolloutState {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Progressing,
        Self::Paused,
        Self::Frozen,
        Self::Promoting,
        Self::RollingBack,
        Self::Promoted,
        Self::RolledBack,
        Self::Completed,
        Self::Failed,
    ];

    /// Whether nothing more happens by itself.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Promoted | Self::RolledBack | Self::Completed | Self::Failed => true,
            Self::Pending | Self::Progressing | Self::Paused | Self::Frozen | Self::Promoting | Self::RollingBack => {
                false
            }
        }
    }

    /// The name in files, metrics and what people read.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Progressing => "progressing",
            Self::Paused => "paused",
            Self::Frozen => "frozen",
            Self::Promoting => "promoting",
            Self::RollingBack => "rollingBack",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolledBack",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// What one look at a metric found. Five different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Within the limits.
    Pass,
    /// Beyond the limits.
    Fail,
    /// Neither can be said.
    Inconclusive,
    /// Too few samples.
    NoData,
    /// It could not be computed.
    Error,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pass, Self::Fail, Self::Inconclusive, Self::NoData, Self::Error];

    /// The name in files, metrics and what people read.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
            Self::NoData => "noData",
            Self::Error => "error",
        }
    }
}

/// What a step can show of a metric at the traffic of now, or at one that is supposed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prospect {
    /// The metric.
    pub metric: Name,
    /// The least effect that the step finds on average: a ratio of failures, the part of the candidate's flows beyond stable's quantile, or a
    /// difference of means in standard deviations. None where the step finds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detectable: Option<f64>,
    /// Seconds until a candidate passes that is as good as stable; of a judge that looks once, until it does. None where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_needed: Option<f64>,
    /// Both in one plain sentence.
    pub sentence: String,
}

/// A verdict with its numbers, said in one sentence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The metric.
    pub metric: Name,
    /// What was found.
    pub verdict: Verdict,
    /// The value, in the signal's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// How many samples it rests on.
    pub samples: u64,
    /// The numbers that it rests on, by name: `eValue`, `alarm`, `candidate`, `stable`, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub numbers: BTreeMap<String, f64>,
    /// One plain sentence: "v2 refuses 4.1 % of 1,200 connections; limit 1 %".
    pub sentence: String,
}
