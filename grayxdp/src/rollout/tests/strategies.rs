//! Blue-green, A/B tests and adaptive canaries under a virtual clock, to their good and to their bad ends.

use super::*;
use crate::rollout::Cause;

/// The plan of the other tests with another strategy, and with fields of its own.
pub(in crate::rollout::tests) fn with(strategy: serde_json::Value, more: serde_json::Value) -> Plan {
    let mut json = serde_json::to_value(plan()).expect("JSON");
    json["spec"]["strategy"] = strategy;
    for (key, value) in more.as_object().expect("fields") {
        json["spec"][key] = value.clone();
    }
    serde_json::from_value(json).expect("a plan")
}

fn none() -> serde_json::Value {
    serde_json::json!({})
}

fn published(world: &World) -> Vec<&str> {
    world.trace.iter().filter_map(|line| line.strip_prefix("publish ")).collect()
}

fn blue_green(more: serde_json::Value) -> Plan {
    let mut whole = serde_json::json!({"preview": {"match": {"dscp": [46]}}, "postPromotionDuration": "20s"});
    whole.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    with(serde_json::json!({"blueGreen": whole}), none())
}

#[test]
fn blue_green_shows_a_preview_switches_is_judged_and_swaps_roles() {
    let mut world = World::new(blue_green(none()));
    world.previewed = 100;
    world.second();
    assert_eq!(published(&world), ["0 and the instance"]);
    assert_eq!(world.state.message, "step 1 of 2: v2 has the matched clients");
    world.seconds(10);
    assert_eq!(published(&world)[1..], ["100"]);
    assert_eq!((world.state.phase, world.stable_in_journal.as_str()), (RolloutState::Progressing, "v1"));
    world.until(RolloutState::Promoted, 40);
    assert_eq!((world.stable_in_journal.as_str(), world.kernel.weight), ("v2", Weight::FULL));
    assert_eq!(world.state.status(1).steps, ["preview", "switch 100, judged 20s"]);
}

#[test]
fn a_preview_without_clients_never_switches() {
    let mut world = World::new(blue_green(none()));
    world.until(RolloutState::Paused, 120);
    assert_eq!((world.state.cause, world.kernel.weight), (Some(Cause::Inconclusive), Weight::ZERO));
}

#[test]
fn without_auto_promotion_an_operator_resumes_and_the_analysis_still_has_to_pass() {
    let mut world = World::new(blue_green(serde_json::json!({"autoPromotionEnabled": false, "steps": [10, 100]})));
    world.seconds(30);
    assert_eq!((world.state.phase, world.state.cause), (RolloutState::Paused, Some(Cause::Plan)));
    world.operator(RolloutAction::Resume);
    world.seconds(5);
    assert_eq!(world.kernel.weight, Weight::ZERO, "nobody has met it");
    world.previewed = 100;
    world.until(RolloutState::Promoted, 100);
    assert_eq!(published(&world), ["0 and the instance", "10", "100"]);
}

#[test]
fn a_switch_that_breaks_goes_back_and_so_does_an_undo() {
    let mut world = World::new(blue_green(none()));
    world.previewed = 100;
    while world.kernel.weight != Weight::FULL {
        world.second();
    }
    world.candidate = Candidate::Refusing;
    world.until(RolloutState::RolledBack, 20);
    assert_eq!((world.stable_in_journal.as_str(), world.kernel.weight), ("v1", Weight::ZERO));

    let mut world = World::new(blue_green(none()));
    world.previewed = 100;
    world.until(RolloutState::Promoted, 100);
    world.operator(RolloutAction::Undo);
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::RolledBack, Weight::ZERO));
    assert_eq!(world.stable_in_journal.as_str(), "v1");
    assert_eq!(world.state.message, "promotion undone by uid 1000 (ann); v1 has all new flows again");
}

#[test]
fn an_undo_comes_too_late_once_the_old_version_is_kept_no_more() {
    let mut world = World::new(with(serde_json::json!({"blueGreen": {}}), serde_json::json!({"retainStable": "1m"})));
    world.until(RolloutState::Promoted, 60);
    world.seconds(61);
    world.operator(RolloutAction::Undo);
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::Promoted, Weight::FULL));
    assert!(world.refused[0].contains("kept v1 until"), "{:?}", world.refused);
}

fn ab_test(more: serde_json::Value) -> Plan {
    let mut whole = serde_json::json!({
        "primary": "errors", "minSamples": 1000, "maxDuration": "2m", "sequential": true, "analysis": [],
    });
    whole.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    with(serde_json::json!({"abTest": whole}), none())
}

#[test]
fn a_test_promotes_or_reports_its_winner() {
    for (on_winner, end) in [("promote", RolloutState::Promoted), ("report", RolloutState::Completed)] {
        let mut world =
            World::new(ab_test(serde_json::json!({"onWinner": on_winner, "weights": {"v1": 70, "v2": 30}})));
        world.stable_refuses = 40;
        world.until(end, 60);
        assert_eq!(published(&world)[0], "30");
        let last = if end == RolloutState::Promoted { Weight::FULL } else { Weight::ZERO };
        assert_eq!(world.kernel.weight, last, "{}", world.state.message);
        assert!(world.trace.contains(&"event testDecided".to_owned()));
    }
}

#[test]
fn a_test_that_the_candidate_loses_or_nobody_wins_completes_with_stable() {
    let mut lost = World::new(ab_test(serde_json::json!({"onWinner": "promote"})));
    lost.candidate = Candidate::Refusing;
    lost.until(RolloutState::Completed, 60);
    assert!(lost.state.message.contains("the test has ended: v1 is better: v2 has mean 1.0"), "{}", lost.state.message);
    assert_eq!((lost.kernel.weight, lost.stable_in_journal.as_str()), (Weight::ZERO, "v1"));

    let mut even = World::new(ab_test(serde_json::json!({"onWinner": "promote"})));
    even.stable_refuses = 0;
    even.until(RolloutState::Completed, 180);
    assert!(even.state.message.contains("no difference was found"), "{}", even.state.message);
}

#[test]
fn a_test_inside_a_step_lets_the_winner_go_on_and_a_loser_go_back() {
    let steps = serde_json::json!([
        {"setWeight": 25, "abTest": {"primary": "errors", "maxDuration": "2m"}, "analysis": []}, {"setWeight": 100, "analysis": []},
    ]);
    let plan = || with(serde_json::json!({"canary": {"steps": steps}}), none());
    let mut won = World::new(plan());
    won.stable_refuses = 40;
    won.until(RolloutState::Promoted, 60);
    let mut lost = World::new(plan());
    lost.candidate = Candidate::Refusing;
    lost.until(RolloutState::RolledBack, 60);
    let mut even = World::new(plan());
    even.until(RolloutState::Paused, 180);
    assert_eq!(even.state.cause, Some(Cause::Inconclusive));
    even.operator(RolloutAction::Resume);
    even.until(RolloutState::Promoted, 60);
}

#[test]
fn a_test_survives_a_crash_with_what_it_has_measured() {
    let mut world = World::new(ab_test(serde_json::json!({"onWinner": "report"})));
    world.stable_refuses = 2;
    world.seconds(20);
    let before = world.state.trial.clone().expect("a trial").finding;
    world.restart();
    world.seconds(2);
    let after = world.state.trial.clone().expect("a trial").finding;
    assert_eq!(before.map(|finding| finding.outcome), after.map(|finding| finding.outcome));
    world.until(RolloutState::Completed, 180);
}

#[test]
fn an_adaptive_canary_is_faster_while_all_is_well_and_freezes_on_doubt() {
    let steps = serde_json::json!([
        {"setWeight": 10, "pause": {"duration": "2m"}}, {"setWeight": 50, "pause": {"duration": "2m"}}, {"setWeight": 100},
    ]);
    let adaptive = serde_json::json!({"accelerateAfter": 3, "factor": 2, "minPause": "15s"});
    let metrics = serde_json::json!({"interval": "2s", "metrics": [
        {"name": "errors", "provider": {"kernel": {"signal": "connectFailureRatio"}}, "thresholdRange": {"max": 0.02},
         "failureLimit": 100},
    ]});
    let plan = with(
        serde_json::json!({"canary": {"steps": steps, "adaptive": adaptive}}),
        serde_json::json!({"analysis": metrics}),
    );
    let mut world = World::new(plan);
    world.seconds(30);
    assert_eq!(world.kernel.weight, percent(50), "120 s became 60, 30, 15 s; not less");
    world.candidate = Candidate::Refusing;
    world.until(RolloutState::Frozen, 10);
    assert_eq!((world.state.cause, world.state.boost), (Some(Cause::Unsure), 0));
    world.candidate = Candidate::Sound;
    world.until(RolloutState::Progressing, 40);
    world.until(RolloutState::Promoted, 200);
}

#[test]
fn one_step_back_needs_no_journal_and_goes_on_from_there() {
    let mut world = World::new(plan());
    world.seconds(15);
    assert_eq!(world.kernel.weight, percent(25));
    world.journal_works = false;
    world.operator(RolloutAction::Back);
    assert_eq!((world.kernel.weight, world.state.step, world.state.reached), (percent(5), 0, true));
    world.operator(RolloutAction::Back);
    assert!(world.refused[0].contains("is at its first step"), "{:?}", world.refused);
    world.journal_works = true;
    world.until(RolloutState::Promoted, 100);
}

#[test]
fn an_operators_freeze_is_left_only_by_resume_and_acceleration_shortens_pauses() {
    let mut world = World::new(plan_with(serde_json::json!([
        {"setWeight": 5, "pause": {"duration": "10m"}}, {"setWeight": 100},
    ])));
    world.seconds(20);
    world.operator(RolloutAction::Freeze);
    world.seconds(900);
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::Frozen, percent(5)));
    world.operator(RolloutAction::Resume);
    (0..5).for_each(|_| world.operator(RolloutAction::Accelerate));
    world.until(RolloutState::Promoted, 60);
}
