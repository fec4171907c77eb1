//! The traffic that `plan simulate` meets.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Name, config::duration};

/// What clients do and how versions answer, over a simulated time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Traffic {
    /// New flows a second at the height of the day, `0.0..=1e6`.
    pub flows_per_second: f64,
    /// The least rate of the day as a part of the height, `0.0..=1.0`; 1: the same all day. It is met at 02:00 UTC.
    pub nightly: f64,
    /// Shares of segments, `0.0..=1.0`; what is left is the default segment's.
    pub segments: BTreeMap<Name, f64>,
    /// How stable answers.
    pub stable: Answers,
    /// How the candidate answers.
    pub candidate: Answers,
    /// What happens on the way.
    pub incidents: Vec<Incident>,
    /// What others measure, by metric: one value for ever.
    pub outside: BTreeMap<Name, f64>,
    /// How long an operator takes to resume what the plan lets wait for one.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub resume_after: Duration,
    /// When it begins.
    pub start: jiff::Timestamp,
    /// The longest time that is simulated.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub max_duration: Duration,
    /// Of the random numbers: the same seed gives the same story.
    pub seed: u64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            flows_per_second: 100.0,
            nightly: 1.0,
            segments: BTreeMap::new(),
            stable: Answers::default(),
            candidate: Answers::default(),
            incidents: Vec::new(),
            outside: BTreeMap::new(),
            resume_after: Duration::from_secs(60),
            // A Monday.
            start: jiff::Timestamp::constant(1_767_600_000, 0),
            max_duration: Duration::from_secs(60 * 86_400),
            seed: 1,
        }
    }
}

/// How a version answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Answers {
    /// The part of its connections that it refuses, `0.0..=1.0`.
    pub failure_ratio: f64,
    /// Time to the first byte.
    pub first_byte: Latency,
}

impl Default for Answers {
    fn default() -> Self {
        let first_byte = Latency { median: Duration::from_millis(20), p99: Duration::from_millis(80) };
        Self { failure_ratio: 0.001, first_byte }
    }
}

/// Times that are distributed log-normally.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Latency {
    /// Half of them are shorter.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub median: Duration,
    /// One in a hundred is longer; not below the median.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub p99: Duration,
}

/// Something that happens to a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Incident {
    /// When, since the begin.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub at: Duration,
    /// For how long; to the end where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::optional")]
    #[schemars(with = "Option<String>")]
    pub duration: Option<Duration>,
    /// To whom.
    #[serde(default)]
    pub to: Struck,
    /// How it answers meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_ratio: Option<f64>,
    /// How it answers meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Latency>,
}

/// Whom an incident strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Struck {
    /// The candidate.
    #[default]
    Candidate,
    /// Stable.
    Stable,
    /// Both.
    Both,
}
