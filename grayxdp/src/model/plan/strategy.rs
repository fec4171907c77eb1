//! How the candidate gets its traffic.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    Name, Weight,
    config::{BackendAddress, Match, duration},
};

/// How the candidate gets its traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Strategy {
    /// In steps.
    Canary(Canary),
}

/// A canary release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Canary {
    /// One of the candidate's backends that gets some of the clients before the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// The steps, at least one.
    pub steps: Vec<Step>,
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
