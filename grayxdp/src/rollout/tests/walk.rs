//! Ramps, caps and allocation under a virtual clock.

use super::*;
use crate::model::plan::Constraints;

fn spec(canary: serde_json::Value, more: serde_json::Value) -> Plan {
    let mut json = serde_json::to_value(plan()).expect("JSON");
    json["spec"]["strategy"] = serde_json::json!({"canary": canary});
    for (key, value) in more.as_object().expect("fields") {
        json["spec"][key] = value.clone();
    }
    serde_json::from_value(json).expect("a plan")
}

fn published(world: &World) -> Vec<&str> {
    world.trace.iter().filter_map(|line| line.strip_prefix("publish ")).collect()
}

#[test]
fn an_exponential_ramp_goes_10_18_28_and_on_to_promotion() {
    let ramp = serde_json::json!({"curve": "exponential", "from": 10, "duration": "90s", "interval": "15s"});
    let mut world = World::new(spec(serde_json::json!({"ramp": ramp}), serde_json::json!({})));
    world.until(RolloutState::Promoted, 200);
    // vectors/curves.json: growth 1.25, six intervals, 10 to 100.
    assert_eq!(published(&world), ["10", "17.99", "27.99", "40.48", "56.09", "75.6", "100"]);
}

#[test]
fn a_ramp_from_nothing_begins_with_its_first_share_and_takes_its_time() {
    let ramp = serde_json::json!({"curve": "linear", "duration": "60s", "interval": "15s"});
    let mut world = World::new(spec(serde_json::json!({"ramp": ramp}), serde_json::json!({})));
    world.second();
    assert_eq!(world.kernel.weight, percent(25));
    world.seconds(59);
    assert_eq!(world.state.phase, RolloutState::Progressing);
    world.until(RolloutState::Promoted, 20);
    assert_eq!(published(&world), ["25", "50", "75", "100"]);
    assert_eq!(world.state.status(1).steps, ["ramp linear 25 to 100 in 1m"]);
}

#[test]
fn equal_batches_and_given_values() {
    for (ramp, expected) in [
        (serde_json::json!({"curve": "step", "count": 4, "duration": "60s"}), vec!["25", "50", "75", "100"]),
        (
            serde_json::json!({"curve": "step", "values": [10, 30, 80, 100], "duration": "60s"}),
            vec!["10", "30", "80", "100"],
        ),
    ] {
        let mut world = World::new(spec(serde_json::json!({"ramp": ramp}), serde_json::json!({})));
        world.until(RolloutState::Promoted, 100);
        assert_eq!(published(&world), expected);
    }
}

#[test]
fn a_cap_on_the_total_makes_sub_steps_that_are_apart_and_the_pause_begins_at_the_target() {
    let steps = serde_json::json!([{"setWeight": 50, "pause": {"duration": "20s"}}, {"setWeight": 100}]);
    let caps = serde_json::json!({"constraints": {"maxTotalStep": 20, "per": "15s"}});
    let mut world = World::new(spec(serde_json::json!({"steps": steps}), caps));
    world.second();
    assert_eq!((world.kernel.weight, world.state.reached), (percent(20), false));
    assert_eq!(world.state.status(1).binding, ["maxTotalStep"]);
    assert_eq!(
        world.state.message,
        "on the way to step 1 of 2: v2 has 20 % of new flows; maxTotalStep keeps it from more at once"
    );
    world.seconds(14);
    assert_eq!(world.kernel.weight, percent(20));
    world.seconds(17);
    assert_eq!(
        (world.kernel.weight, world.state.reached, world.state.dwell),
        (percent(50), true, Duration::from_secs(1))
    );
    world.until(RolloutState::Promoted, 100);
    assert_eq!(published(&world), ["20", "40", "50", "70", "90", "100"]);
}

#[test]
fn without_a_pass_no_sub_step_follows() {
    let caps = serde_json::json!({"constraints": {"maxTotalStep": 20, "per": "5s"}});
    let steps = serde_json::json!([{"setWeight": 100, "pause": {"duration": "20s"}}]);
    let mut world = World::new(spec(serde_json::json!({"steps": steps}), caps));
    world.candidate = Candidate::Idle;
    world.until(RolloutState::Paused, 60);
    assert_eq!((world.kernel.weight, world.state.cause), (percent(20), Some(crate::rollout::Cause::Inconclusive)));
    world.candidate = Candidate::Sound;
    world.operator(RolloutAction::Resume);
    world.until(RolloutState::Promoted, 200);
}

/// Six regions of which Asia goes first, then North America; the rest fill what is left.
#[test]
fn segments_that_a_step_names_are_fixed_and_the_others_fill_the_total() {
    let shares = [("asia", 0.4), ("na", 0.2)];
    let rules: Vec<_> = shares
        .iter()
        .map(|(name, share)| serde_json::json!({"name": name, "share": share, "key": *name == "asia"}))
        .collect();
    let steps = serde_json::json!([
        {"segments": {"asia": 5}, "pause": {"duration": "15s"}},
        {"setWeight": 50, "segments": {"asia": 10}, "pause": {"duration": "15s"}},
        {"setWeight": 100, "pause": {"duration": "15s"}},
    ]);
    let mut world = World::new(spec(serde_json::json!({"steps": steps}), serde_json::json!({"segments": rules})));
    world.second();
    assert_eq!(published(&world), ["0, asia 5, na 0"]);
    assert!(world.kernel.in_segments);
    world.candidate = Candidate::Sound;
    world.seconds(15);
    world.operator(RolloutAction::Promote { full: false });
    // 0.5 = 0.4 × 0.1 + 0.6 × 0.76̄
    assert_eq!(published(&world)[1], "76.66, asia 10, na 76.67");
    world.until(RolloutState::Promoted, 100);
    assert_eq!(published(&world)[2..], ["100, asia 100, na 100", "100"]);
}

#[test]
fn measured_shares_are_frozen_for_the_way_to_a_step() {
    let steps = serde_json::json!([{"setWeight": 30, "segments": {"asia": 0}, "pause": {"duration": "15s"}}, {"setWeight": 100}]);
    let caps = serde_json::json!({"constraints": {"maxTotalStep": 10, "per": "15s"}, "segments": [{"name": "asia"}]});
    let mut world = World::new(spec(serde_json::json!({"steps": steps}), caps));
    world.input(Input::Shares([(name("asia"), 0.5)].into()));
    world.second();
    assert_eq!(published(&world), ["20, asia 0"]);
    world.input(Input::Shares([(name("asia"), 0.9)].into()));
    world.seconds(32);
    assert_eq!(published(&world), ["20, asia 0", "40, asia 0", "60, asia 0"]);
}

#[test]
fn a_crash_on_the_way_goes_on_from_what_the_kernel_holds() {
    let steps = serde_json::json!([{"setWeight": 60, "pause": {"duration": "20s"}}, {"setWeight": 100}]);
    let caps = serde_json::json!({"constraints": {"maxTotalStep": 20, "per": "15s"}});
    let mut world = World::new(spec(serde_json::json!({"steps": steps}), caps));
    world.seconds(20);
    world.restart();
    assert_eq!((world.kernel.weight, world.state.reached, world.state.walking), (percent(40), false, true));
    world.until(RolloutState::Promoted, 200);
    assert_eq!(published(&world), ["20", "40", "60", "80", "100"]);
    assert_eq!(
        world.state.plan.spec.constraints,
        Some(Constraints { max_total_step: percent(20), per: Duration::from_secs(15) })
    );
}
