//! A plan's way before it is walked: the sub-steps to each stage, and how long they take.

use std::time::Duration;

use crate::{
    model::{Name, plan::Plan, time::Now},
    rollout::{exposure::Exposure, state::State, walk::Onward},
};

/// Most sub-steps of a stage that are looked at.
const LIMIT: usize = 20_000;

/// The way to one stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// Index of the stage.
    pub stage: usize,
    /// What is exposed after each sub-step; the last is the stage's goal.
    pub exposures: Vec<Exposure>,
    /// Least time from the first sub-step to the last.
    pub takes: Duration,
    /// Why the goal cannot be reached.
    pub stuck: Option<String>,
}

/// The ways to all stages of a plan with segments or caps; nothing for one without. Segments whose shares the plan does not
/// give count as having none, and so none of it is refused.
#[must_use]
pub fn ways(plan: &Plan, stable: &Name) -> Vec<Way> {
    if plan.spec.segments.is_empty() && plan.spec.constraints.is_none() {
        return Vec::new();
    }
    let now = Now { monotonic: Duration::ZERO, wall: Duration::ZERO };
    let mut state = State::new(0, plan.clone(), stable.clone(), 0, now);
    state.shares = plan.spec.segments.iter().filter_map(|rule| Some((rule.name.clone(), rule.share?))).collect();
    let per = state.constraints().per;
    let mut ways = Vec::new();
    for stage in 0..state.stage_count() {
        let mut way = Way { stage, exposures: Vec::new(), takes: Duration::ZERO, stuck: None };
        while way.exposures.len() < LIMIT {
            match state.onward(stage) {
                Onward::There => break,
                Onward::Next(next) => {
                    state.hold(next.exposure.clone(), 0);
                    way.exposures.push(next.exposure);
                }
                Onward::Stuck(why) => {
                    way.stuck = Some(why);
                    break;
                }
            }
        }
        let waits = u32::try_from(way.exposures.len().saturating_sub(1)).unwrap_or(u32::MAX);
        way.takes = per.saturating_mul(waits);
        ways.push(way);
    }
    ways
}

/// Whether the plan gives the share of every segment that its steps or rules name.
#[must_use]
pub fn has_all_shares(plan: &Plan) -> bool {
    plan.spec.segments.iter().all(|rule| rule.share.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(steps: serde_json::Value, more: serde_json::Value) -> Plan {
        let mut json = serde_json::json!({
            "apiVersion": "grayxdp.io/v1", "kind": "Rollout", "metadata": {"name": "a"},
            "spec": {"service": "recsys", "candidate": "v2", "strategy": {"canary": {"steps": steps}}},
        });
        for (key, value) in more.as_object().expect("fields") {
            json["spec"][key] = value.clone();
        }
        serde_json::from_value(json).expect("a plan")
    }

    #[test]
    fn sub_steps_and_their_time_are_known_before() {
        let caps = serde_json::json!({"constraints": {"maxTotalStep": 20, "per": "5m"}});
        let steps = serde_json::json!([{"setWeight": 50}, {"setWeight": 100}]);
        let stable = "v1".parse().expect("a name");
        let ways = ways(&plan(steps, caps), &stable);
        let said = |way: &Way| way.exposures.iter().map(Exposure::said).collect::<Vec<_>>();
        assert_eq!(said(&ways[0]), ["20 %", "40 %", "50 %"]);
        assert_eq!(said(&ways[1]), ["70 %", "90 %", "100 %"]);
        assert_eq!(ways[0].takes, Duration::from_secs(600));
    }

    #[test]
    fn what_can_never_be_reached_is_known_before() {
        let segments = serde_json::json!({"segments": [{"name": "asia", "share": 0.6}]});
        let steps = serde_json::json!([{"setWeight": 20, "segments": {"asia": 50}}, {"setWeight": 100}]);
        let stable = "v1".parse().expect("a name");
        let ways = ways(&plan(steps, segments), &stable);
        assert_eq!(
            ways[0].stuck.as_deref(),
            Some("the segments given by name (asia 50) make 30 % already, more than 20 %")
        );
    }
}
