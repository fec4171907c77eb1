//! `plan simulate`: the engine itself under a virtual clock, against simulated traffic, kernel and journal.

mod dice;
mod flows;
mod world;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    model::{
        Name, Weight,
        config::Service,
        plan::Plan,
        state::{Finding, RolloutState, Verdict},
        traffic::Traffic,
    },
    rollout::simulation::world::World,
};

/// What was simulated.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Simulated {
    /// The rollout.
    pub name: Name,
    /// Where it stood at last.
    pub state: RolloutState,
    /// Why: one sentence.
    pub message: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What happened.
    pub timeline: Vec<Moment>,
    /// The candidate's weight in every segment, at each change.
    pub weights: Vec<WeightsAt>,
    /// Looks by metric and verdict.
    pub verdicts: BTreeMap<Name, BTreeMap<Verdict, u64>>,
    /// New flows of both versions.
    pub flows: u64,
    /// … of the candidate.
    pub candidate_flows: u64,
    /// Connections that stable refused.
    pub stable_failures: u64,
    /// Connections that the candidate refused.
    pub candidate_failures: u64,
    /// The greatest share of clients that the candidate had at one time, `0.0..=1.0`.
    pub clients_exposed: f64,
    /// Until the candidate had everything, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_to_full: Option<f64>,
    /// From each incident of the candidate until the rollout stopped, paused or went back, in seconds.
    pub detections: Vec<Detection>,
    /// Whether new flows were divided as the buckets say; none where there were none to say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub division: Option<Finding>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// Seconds since the begin.
    pub at: f64,
    /// On the wall clock.
    pub time: jiff::Timestamp,
    /// What kind of thing.
    pub kind: String,
    /// One plain sentence.
    pub message: String,
}

/// Weights at a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightsAt {
    /// Seconds since the begin.
    pub at: f64,
    /// By segment; `default` is what matches no other.
    pub weights: BTreeMap<Name, Weight>,
}

/// What became of an incident.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Detection {
    /// When it began, in seconds since the begin.
    pub at: f64,
    /// How long it took until something was done about it, in seconds; none: nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// What was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Simulates a plan that was checked. The service gives fuse and stable version where the plan has none.
#[must_use]
pub fn simulate(plan: &Plan, service: Option<&Service>, traffic: &Traffic) -> Simulated {
    let mut world = World::new(plan, service, traffic);
    while world.at < traffic.max_duration && !world.is_over() {
        world.tick();
    }
    world.finish()
}
