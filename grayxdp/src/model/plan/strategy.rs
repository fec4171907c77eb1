//! How the candidate gets its traffic.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    Name, Weight,
    config::{BackendAddress, Match, duration},
    plan::{SecretSource, Shadow},
};

/// How the candidate gets its traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Strategy {
    /// In steps.
    Canary(Canary),
    /// All at once, or in a few stages, after a preview.
    BlueGreen(BlueGreen),
    /// A fixed split until a test has decided.
    AbTest(AbTest),
    /// Backend by backend.
    Rolling(Rolling),
    /// By copies of what stable is asked; of UDP.
    Shadow(Shadow),
}

impl Strategy {
    /// The name in files.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Canary(_) => "canary",
            Self::BlueGreen(_) => "blueGreen",
            Self::AbTest(_) => "abTest",
            Self::Rolling(_) => "rolling",
            Self::Shadow(_) => "shadow",
        }
    }
}

/// The candidate stands beside stable as large as it, is looked at in a preview, and takes over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlueGreen {
    /// Clients that meet the candidate, on the same virtual address, before anybody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
    /// Names of the metrics that judge the preview; all where it is left out, none for `[]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_promotion_analysis: Option<Vec<Name>>,
    /// The candidate's weights on the way, rising, the last 100.
    #[serde(default = "at_once")]
    pub steps: Vec<Weight>,
    /// Whether it goes on by itself after the preview; else an operator resumes.
    #[serde(default = "yes")]
    pub auto_promotion_enabled: bool,
    /// Names of the metrics that judge the candidate at 100 %; all that need no stable beside it where it is left out, none
    /// for `[]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_promotion_analysis: Option<Vec<Name>>,
    /// How long the candidate is judged at 100 % before it is the stable version.
    #[serde(default, with = "duration")]
    #[schemars(with = "String")]
    pub post_promotion_duration: Duration,
}

fn at_once() -> Vec<Weight> {
    vec![Weight::FULL]
}

const fn yes() -> bool {
    true
}

/// Backend by backend: drained, replaced, and the candidate's takes its part of new flows. Both versions have as many backends;
/// the first of stable is replaced by the first of the candidate, and so on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rolling {
    /// How many backends are out at once, at least 1 and fewer than there are.
    #[serde(default = "one")]
    pub max_unavailable: u32,
    /// How long a drained backend's flows are waited for, `1s..=30d`.
    #[serde(default = "default_drain_deadline", with = "duration")]
    #[schemars(with = "String")]
    pub drain_deadline: Duration,
    /// What replaces backends that are drained; without it somebody else does, and a backend counts as replaced at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<Replace>,
    /// How long each batch is judged at least before the next one.
    #[serde(default, with = "duration")]
    #[schemars(with = "String")]
    pub pause: Duration,
    /// Names of the metrics that judge in between; all where it is left out, none for `[]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Vec<Name>>,
}

const fn one() -> u32 {
    1
}

const fn default_drain_deadline() -> Duration {
    Duration::from_secs(600)
}

/// What replaces backends: a command or a webhook. After a restart of the daemon it is asked again: it has to bear that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Replace {
    /// A program, by its full path, and its arguments; the addresses of the candidate's backends of the batch follow them. It
    /// runs as the daemon's user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Who is asked to do it; a status from 200 to 299 says that it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<ReplaceHook>,
    /// How long it may take, `1s..=1d`.
    #[serde(default = "default_replace_timeout", with = "duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
}

const fn default_replace_timeout() -> Duration {
    Duration::from_secs(600)
}

/// A webhook that replaces backends. What is posted has `backends`, the addresses of the candidate's backends of the batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplaceHook {
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where the address is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_from: Option<SecretSource>,
    /// Headers that are no secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Headers whose values are read elsewhere, as `Authorization`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers_from: BTreeMap<String, SecretSource>,
    /// How often it is called again at once where there was no answer, at most 10.
    #[serde(default)]
    pub retries: u32,
    /// What is posted besides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// Who meets the candidate before anybody else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Preview {
    /// Which clients.
    pub r#match: Match,
}

/// Two versions side by side until it is known which is better. In a step of a canary without `weights` and `onWinner`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AbTest {
    /// The split, in percent: stable and candidate, the sum is 100; even where it is left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<Name, Weight>,
    /// What is compared: flows, or clients, which needs `affinity: client`.
    #[serde(default)]
    pub unit: TestUnit,
    /// Name of the metric that decides.
    pub primary: Name,
    /// How means are compared.
    #[serde(default)]
    pub test: TestKind,
    /// Whether it may end as soon as the difference is sure, valid at every look; else it is tested once, when both versions
    /// have `minSamples`.
    #[serde(default = "yes")]
    pub sequential: bool,
    /// How rarely a difference is found where there is none, above 0 and at most 0.5.
    #[serde(default = "default_test_alpha")]
    pub alpha: f64,
    /// Samples of each version below which nothing is decided.
    #[serde(default = "default_test_samples")]
    pub min_samples: u64,
    /// By which part of stable's mean a winner has to be better, `0.0..=10.0`.
    #[serde(default)]
    pub min_improvement: f64,
    /// When it ends without a decision.
    #[serde(default = "default_test_duration", with = "duration")]
    #[schemars(with = "String")]
    pub max_duration: Duration,
    /// What becomes of a candidate that wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_winner: Option<OnWinner>,
    /// Names of the metrics that guard it; all where it is left out, none for `[]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Vec<Name>>,
}

const fn default_test_alpha() -> f64 {
    0.05
}

const fn default_test_samples() -> u64 {
    1_000
}

const fn default_test_duration() -> Duration {
    Duration::from_secs(14 * 86_400)
}

/// What an A/B test compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TestUnit {
    /// Flows.
    #[default]
    Flow,
    /// Clients: all flows of one meet one version.
    Client,
}

/// How an A/B test that is tested once compares means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TestKind {
    /// Variances may differ.
    #[default]
    Welch,
    /// Both variances are the same.
    Student,
}

/// What becomes of a candidate that wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnWinner {
    /// It gets all new flows and is stable.
    Promote,
    /// It is only told; stable gets all new flows back.
    Report,
}

/// A canary release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Canary {
    /// One of the candidate's backends that gets some of the clients before the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// The steps, at least one; either these or `ramp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// A weight that grows along a curve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Ramp>,
    /// Shorter pauses while all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<Adaptive>,
}

impl Canary {
    /// The candidate's weight in the segments that have another than that of the step.
    #[must_use]
    pub fn segments_at(&self, step: usize) -> BTreeMap<Name, Weight> {
        let mut fixed = BTreeMap::new();
        for step in self.steps.iter().take(step + 1) {
            if step.set_weight.is_some() {
                fixed.clear();
            }
            fixed.extend(step.segments.iter().map(|(name, weight)| (name.clone(), *weight)));
        }
        fixed
    }

    /// The step at which a segment was given its last weight, where that is not 100 %.
    #[must_use]
    pub fn held_back(&self) -> Option<(usize, &Name)> {
        let last = |segment: &Name| self.steps.iter().rposition(|step| step.segments.contains_key(segment));
        let held = self.segments_at(self.steps.len()).into_iter().find(|(_, weight)| *weight != Weight::FULL)?;
        let index = last(&held.0)?;
        self.steps[index].segments.get_key_value(&held.0).map(|(name, _)| (index, name))
    }
}

/// A weight that grows along a curve, a point every interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ramp {
    /// Its form.
    pub curve: Curve,
    /// The weight that it begins at; 0 where it is left out.
    #[serde(default)]
    pub from: Weight,
    /// The weight that it ends at; 100 where it is left out.
    #[serde(default = "full")]
    pub to: Weight,
    /// How long it takes, `1s..=365d`.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub duration: Duration,
    /// Time between two points, `1s..=duration`; `values` and `count` share the duration evenly.
    #[serde(default = "default_ramp_interval", with = "duration")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// Of `exponential`: every rise is so many times the one before; above 0, 1.25 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<f64>,
    /// Of `step`: the weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Weight>,
    /// Of `step`: so many equal batches, `1..=10000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Names of the metrics that judge it; all where it is left out, none for `[]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Vec<Name>>,
}

const fn full() -> Weight {
    Weight::FULL
}

const fn default_ramp_interval() -> Duration {
    Duration::from_secs(60)
}

/// The form of a ramp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Curve {
    /// A straight line.
    Linear,
    /// Flat at both ends.
    Cubic,
    /// Every rise is `growth` times the one before.
    Exponential,
    /// `values`, or `count` equal batches.
    Step,
}

impl Curve {
    /// The name in files.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Cubic => "cubic",
            Self::Exponential => "exponential",
            Self::Step => "step",
        }
    }
}

/// Pauses become shorter while all is well: after so many looks in a row in which every metric passed, what pauses are left
/// are divided by `factor`. A doubt freezes until all metrics pass again, and the pauses are as planned from then on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Adaptive {
    /// Looks in a row, at least 1.
    #[serde(default = "default_accelerate_after")]
    pub accelerate_after: u32,
    /// What pauses are divided by, above 1 and at most 100.
    #[serde(default = "default_factor")]
    pub factor: f64,
    /// No pause becomes shorter than this.
    #[serde(default = "default_min_pause", with = "duration")]
    #[schemars(with = "String")]
    pub min_pause: Duration,
}

const fn default_accelerate_after() -> u32 {
    3
}

const fn default_factor() -> f64 {
    2.0
}

const fn default_min_pause() -> Duration {
    Duration::from_secs(60)
}

/// A canary instance: the candidate stands at 0 %, and one of its backends alone gets the matched new flows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Instance {
    /// Address of the backend, one of the candidate's: `10.0.2.1:8080`, or `10.0.2.1` where its port is left out.
    pub backend: BackendAddress,
    /// Which clients.
    pub r#match: Match,
    /// How long; without `duration` until an operator resumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Names of the metrics that judge it; all where it is left out, none for `[]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Vec<Name>>,
}

/// One step: a target, then a pause. A step without `setWeight` keeps the weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// The candidate's weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_weight: Option<Weight>,
    /// How long it stays there; without `duration` until an operator resumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Names of the metrics that judge this step; all where it is left out, none for `[]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Vec<Name>>,
    /// A test that ends the step: a candidate that wins goes on, one that loses runs `onFailure`, and without a decision an
    /// operator decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ab_test: Option<AbTest>,
    /// The candidate's weight in segments of the service that are to have another than the rest, until a later step with
    /// `setWeight`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub segments: BTreeMap<Name, Weight>,
}

/// A stay at a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pause {
    /// How long; until `rollout resume` where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::optional")]
    #[schemars(with = "Option<String>")]
    pub duration: Option<Duration>,
}
