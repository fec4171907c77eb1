//! Shadow releases under a virtual clock: nothing is exposed, the candidate is judged all the same.

use super::{strategies::with, *};
use crate::{model::shadow::ShadowCounts, rollout::Cause};

fn shadow(more: serde_json::Value) -> Plan {
    with(serde_json::json!({"shadow": {"sample": 10, "duration": "20s"}}), more)
}

fn counts(copied: u64) -> ShadowCounts {
    ShadowCounts { copied, sent: copied, ..ShadowCounts::default() }
}

#[test]
fn a_good_shadow_completes_and_never_exposes_anything() {
    let mut world = World::new(shadow(serde_json::json!({})));
    world.seconds(2);
    assert_eq!(world.state.phase, RolloutState::Progressing);
    assert_eq!(world.state.message, "step 1 of 1: v2 is sent copies of 10 % of flows and answers nobody");
    assert_eq!(world.state.status(1).steps, ["shadow 10, 20s"]);
    world.seconds(17);
    assert_eq!(world.state.phase, RolloutState::Progressing, "it lasts as long as the plan says");
    world.until(RolloutState::Completed, 20);
    assert!(world.places.iter().all(|(_, _, weight)| *weight == Weight::ZERO), "{:?}", world.places);
    assert!(!world.trace.iter().any(|line| line.starts_with("journal Intent")), "{:?}", world.trace);
    assert_eq!(world.stable_in_journal.as_str(), "v1");
}

#[test]
fn a_candidate_that_refuses_copies_is_rolled_back() {
    let mut world = World::new(shadow(serde_json::json!({})));
    world.candidate = Candidate::Refusing;
    world.until(RolloutState::RolledBack, 20);
    assert!(world.state.message.contains("errors broke its limit"), "{}", world.state.message);
}

#[test]
fn a_shadow_without_copies_never_completes() {
    let mut world = World::new(shadow(serde_json::json!({})));
    world.candidate = Candidate::Idle;
    world.until(RolloutState::Paused, 120);
    assert_eq!(world.state.cause, Some(Cause::Inconclusive));
}

#[test]
fn a_shadow_needs_no_metrics_where_the_plan_wants_none() {
    let strategy = serde_json::json!({"shadow": {"sample": 10, "duration": "20s", "analysis": []}});
    let mut world = World::new(with(strategy, serde_json::json!({})));
    world.candidate = Candidate::Refusing;
    world.until(RolloutState::Completed, 30);
}

#[test]
fn an_operator_ends_a_shadow_and_cannot_promote_by_it() {
    let mut world = World::new(shadow(serde_json::json!({})));
    world.seconds(3);
    world.operator(RolloutAction::Promote { full: true });
    assert!(world.refused.pop().is_some_and(|line| line.contains("exposes nothing")));
    world.operator(RolloutAction::Back);
    assert!(world.refused.pop().is_some(), "there is nothing to go back to");
    world.operator(RolloutAction::Pause);
    assert!(world.state.copying().is_some(), "what is held up is judged on");
    world.seconds(40);
    assert_eq!(world.state.phase, RolloutState::Paused);
    world.operator(RolloutAction::Resume);
    world.operator(RolloutAction::Promote { full: false });
    assert_eq!(world.state.phase, RolloutState::Completed, "{}", world.state.message);
    world.operator(RolloutAction::Undo);
    assert!(world.refused.pop().is_some(), "nothing was promoted");

    let mut aborted = World::new(shadow(serde_json::json!({})));
    aborted.seconds(3);
    aborted.operator(RolloutAction::Abort);
    assert_eq!((aborted.state.phase, aborted.state.copying()), (RolloutState::RolledBack, None));
}

#[test]
fn counts_go_on_over_restarts_and_stand_in_the_last_word() {
    let mut world = World::new(shadow(serde_json::json!({})));
    world.input(Input::Copied(counts(0)));
    world.seconds(8);
    world.input(Input::Copied(counts(700)));
    world.seconds(6);
    world.restart();
    assert_eq!((world.state.phase, world.state.copies()), (RolloutState::Progressing, Some(counts(700))));
    assert!(world.state.copying().is_some(), "it goes on by itself");
    world.input(Input::Copied(counts(50)));
    assert_eq!(world.state.copies(), Some(counts(750)));
    world.until(RolloutState::Completed, 60);
    assert!(world.state.message.contains("750 copies: 750 sent"), "{}", world.state.message);
}

#[test]
fn another_sample_applies_at_once() {
    let mut world = World::new(shadow(serde_json::json!({})));
    world.seconds(10);
    let dwell = world.state.dwell;
    let plan = with(serde_json::json!({"shadow": {"sample": 50, "duration": "40s"}}), serde_json::json!({}));
    world.input(Input::Apply { plan: Box::new(plan), actor: "uid 0 (root)".to_owned(), reason: None });
    assert_eq!(world.state.copying().map(|shadow| shadow.sample), Some(percent(50)));
    assert_eq!((world.state.phase, world.state.dwell), (RolloutState::Progressing, dwell));
}
