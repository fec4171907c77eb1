//! Whole canaries under a virtual clock.

use super::*;
use crate::rollout::Cause;

#[test]
fn a_sound_candidate_goes_through_all_steps_and_becomes_stable() {
    let mut world = World::new(plan());
    let mut weights = vec![];
    for _ in 0..60 {
        world.second();
        if weights.last() != Some(&world.kernel.weight) {
            weights.push(world.kernel.weight);
        }
    }
    assert_eq!(weights, [5, 25, 50, 100].map(percent));
    assert_eq!(world.state.phase, RolloutState::Promoted);
    assert_eq!(world.stable_in_journal, name("v2"));
    assert_eq!(world.kernel.epoch, 45);
}

#[test]
fn each_step_lasts_exactly_its_pause() {
    let mut world = World::new(plan());
    world.until(RolloutState::Progressing, 2);
    let reached = world.now.monotonic;
    while world.kernel.weight == percent(5) {
        world.second();
    }
    assert_eq!(world.now.monotonic - reached, Duration::from_secs(10));
}

#[test]
fn a_refusing_candidate_is_rolled_back_at_the_first_look_with_enough_samples() {
    let mut world = World::new(plan());
    world.candidate = Candidate::Refusing;
    world.until(RolloutState::RolledBack, 4);
    assert_eq!(world.kernel.weight, Weight::ZERO);
    assert_eq!(world.stable_in_journal, name("v1"));
    let finding = world.state.metrics[&name("errors")].finding.clone().expect("a finding");
    assert_eq!(finding.sentence, "v2 refuses 100 % of 100 connections; limit 2 %");
}

#[test]
fn a_candidate_that_turns_silent_half_way_is_rolled_back() {
    let mut world = World::new(plan());
    while world.kernel.weight != percent(50) {
        world.second();
    }
    world.candidate = Candidate::Silent;
    world.until(RolloutState::RolledBack, 8);
}

#[test]
fn missing_data_extends_the_step_then_pauses_and_never_advances() {
    let mut world = World::new(plan());
    world.candidate = Candidate::Idle;
    world.seconds(30);
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::Progressing, percent(5)));
    assert!(world.state.message.contains("waits for a pass"), "{}", world.state.message);
    world.seconds(30);
    assert_eq!((world.state.phase, world.state.cause), (RolloutState::Paused, Some(Cause::Inconclusive)));
    assert_eq!(world.kernel.weight, percent(5));
    world.candidate = Candidate::Sound;
    world.operator(RolloutAction::Resume);
    world.until(RolloutState::Promoted, 60);
}

#[test]
fn a_pause_without_duration_waits_for_resume_and_judges_meanwhile() {
    let steps = serde_json::json!([{"setWeight": 20, "pause": {}}, {"setWeight": 100}]);
    let mut world = World::new(plan_with(steps.clone()));
    world.seconds(100);
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::Paused, percent(20)));
    world.operator(RolloutAction::Resume);
    world.until(RolloutState::Promoted, 20);

    let mut world = World::new(plan_with(steps));
    world.until(RolloutState::Paused, 5);
    world.candidate = Candidate::Refusing;
    world.until(RolloutState::RolledBack, 10);
}

#[test]
fn a_step_without_analysis_advances_by_time_alone() {
    let steps = serde_json::json!([{"setWeight": 20, "pause": {"duration": "5s"}, "analysis": []}, {"setWeight": 50, "pause": {}}]);
    let mut world = World::new(plan_with(steps));
    world.candidate = Candidate::Refusing;
    world.seconds(6);
    assert_eq!(world.kernel.weight, percent(50));
}

#[test]
fn an_operators_pause_stops_the_clock_of_the_step() {
    let mut world = World::new(plan());
    world.seconds(5);
    world.operator(RolloutAction::Pause);
    world.seconds(100);
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::Paused, percent(5)));
    world.operator(RolloutAction::Resume);
    world.seconds(5);
    assert_eq!(world.kernel.weight, percent(5));
    world.second();
    assert_eq!(world.kernel.weight, percent(25));
}

#[test]
fn promote_ends_one_pause_and_full_skips_to_the_end() {
    let mut world = World::new(plan());
    world.seconds(3);
    world.operator(RolloutAction::Promote { full: false });
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::Progressing, percent(25)));
    world.operator(RolloutAction::Promote { full: true });
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::Promoted, Weight::FULL));
    assert_eq!(world.stable_in_journal, name("v2"));
}

#[test]
fn a_plan_that_ends_below_100_percent_is_promoted_to_100() {
    let mut world = World::new(plan_with(serde_json::json!([{"setWeight": 40, "pause": {"duration": "5s"}}])));
    world.until(RolloutState::Promoted, 20);
    assert_eq!(world.kernel.weight, Weight::FULL);
}

#[test]
fn limits_allow_as_many_fails_as_they_say() {
    let fails_until_rollback = |change: fn(&mut crate::model::plan::Metric)| {
        let mut plan = plan();
        change(&mut plan.spec.analysis.metrics[0]);
        let mut world = World::new(plan);
        world.candidate = Candidate::Refusing;
        world.until(RolloutState::RolledBack, 40);
        world.state.metrics[&name("errors")].fails
    };
    assert_eq!(fails_until_rollback(|_| ()), 1);
    assert_eq!(fails_until_rollback(|metric| metric.failure_limit = 2), 3);
    assert_eq!(fails_until_rollback(|metric| metric.consecutive_failure_limit = Some(3)), 4);
    assert_eq!(
        fails_until_rollback(|metric| (metric.failure_limit, metric.consecutive_failure_limit) = (5, Some(1))),
        2
    );
}

#[test]
fn fails_that_are_allowed_do_not_advance_either() {
    let mut plan = plan();
    plan.spec.analysis.metrics[0].failure_limit = 1_000;
    let mut world = World::new(plan);
    world.candidate = Candidate::Refusing;
    world.seconds(60);
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::Paused, percent(5)));
}

#[test]
fn a_dry_run_metric_shows_and_never_acts() {
    let mut plan = plan();
    plan.spec.analysis.metrics[0].dry_run = true;
    let mut world = World::new(plan);
    world.candidate = Candidate::Refusing;
    world.until(RolloutState::Promoted, 60);
    assert!(world.state.metrics[&name("errors")].fails > 1);
}

#[test]
fn a_breach_does_what_on_failure_and_critical_say() {
    use crate::model::plan::FailureAction::{Freeze, Pause, Rollback};
    let ends = [
        (Rollback, true, RolloutState::RolledBack),
        (Pause, true, RolloutState::Paused),
        (Freeze, true, RolloutState::Frozen),
        (Rollback, false, RolloutState::Paused),
        (Freeze, false, RolloutState::Paused),
    ];
    for (action, critical, end) in ends {
        let mut plan = plan();
        plan.spec.on_failure.action = action;
        plan.spec.analysis.metrics[0].critical = critical;
        let mut world = World::new(plan);
        world.candidate = Candidate::Refusing;
        world.seconds(100);
        assert_eq!(world.state.phase, end, "{action:?} {critical}");
        if end != RolloutState::RolledBack {
            assert_eq!((world.kernel.weight, world.state.cause), (percent(5), Some(Cause::Breach)));
            world.candidate = Candidate::Sound;
            world.seconds(20);
            assert_eq!(world.state.phase, end, "left only by resume");
            world.operator(RolloutAction::Resume);
            world.until(RolloutState::Promoted, 100);
        }
    }
}

#[test]
fn a_metric_is_not_looked_at_before_its_initial_delay() {
    let mut plan = plan();
    plan.spec.analysis.metrics[0].initial_delay = Duration::from_secs(7);
    let mut world = World::new(plan);
    world.candidate = Candidate::Refusing;
    world.seconds(7);
    assert_eq!(world.state.phase, RolloutState::Progressing);
    world.until(RolloutState::RolledBack, 3);
}

#[test]
fn a_wall_clock_that_is_set_is_an_event_and_never_an_advance() {
    let mut world = World::new(plan());
    world.seconds(10);
    let before = world.state.dwell;
    world.now.wall += Duration::from_secs(86_400);
    world.second();
    assert_eq!((world.state.dwell, world.kernel.weight), (before, percent(5)));
    assert!(world.trace.contains(&"event clockJumped".to_owned()));
    world.seconds(2);
    assert_eq!(world.kernel.weight, percent(25));
}

#[test]
fn time_in_which_nobody_observed_does_not_count() {
    let mut world = World::new(plan());
    world.seconds(3);
    let before = world.state.dwell;
    world.pass(Duration::from_secs(3_600));
    assert_eq!((world.state.dwell, world.kernel.weight), (before, percent(5)));
    for _ in 0..20 {
        world.now.monotonic += Duration::from_secs(1);
        world.now.wall += Duration::from_secs(1);
        world.input(Input::Tick { observed: None });
    }
    assert_eq!((world.state.dwell, world.kernel.weight), (before, percent(5)));
    let record = &world.state.metrics[&name("errors")];
    assert!(record.verdicts[&crate::model::state::Verdict::Error] >= 9, "{record:?}");
}
