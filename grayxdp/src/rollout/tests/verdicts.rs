//! Limits, outages, deadlines, windows and rollbacks in steps.

use super::{strategies::with, *};
use crate::rollout::Cause;

fn metric(more: serde_json::Value) -> Plan {
    let mut plan = serde_json::to_value(plan()).expect("JSON");
    let metric = plan["spec"]["analysis"]["metrics"][0].as_object_mut().expect("a metric");
    metric.extend(more.as_object().expect("fields").clone());
    serde_json::from_value(plan).expect("a plan")
}

fn spec(more: serde_json::Value) -> Plan {
    let strategy = serde_json::to_value(&plan().spec.strategy).expect("JSON");
    with(strategy, more)
}

fn weights(world: &World) -> Vec<String> {
    world.trace.iter().filter_map(|line| line.strip_prefix("publish ")).map(str::to_owned).collect()
}

/// Seconds until a rollout leaves `progressing`.
fn stays(mut world: World) -> (RolloutState, u32) {
    for second in 0..200 {
        world.second();
        if !matches!(world.state.phase, RolloutState::Progressing | RolloutState::Pending) {
            return (world.state.phase, second);
        }
    }
    (world.state.phase, 200)
}

#[test]
fn so_many_fails_are_allowed_as_the_limit_says() {
    let looks = |more| {
        let mut world = World::new(metric(more));
        world.candidate = Candidate::Refusing;
        stays(world)
    };
    let (state, none) = looks(serde_json::json!({}));
    assert_eq!(state, RolloutState::RolledBack);
    for (more, allowed) in [
        (serde_json::json!({"failureLimit": 3}), 3),
        (serde_json::json!({"consecutiveFailureLimit": 2}), 2),
        (serde_json::json!({"failureLimit": 5, "consecutiveFailureLimit": 1}), 1),
    ] {
        assert_eq!(looks(more.clone()), (RolloutState::RolledBack, none + 2 * allowed), "{more}");
    }
}

#[test]
fn passes_in_a_row_make_earlier_fails_forgotten() {
    for (recover_after, end) in [(Some(3), RolloutState::Promoted), (None, RolloutState::RolledBack)] {
        let mut more = serde_json::json!({"failureLimit": 8});
        if let Some(after) = recover_after {
            more["recoverAfter"] = after.into();
        }
        let mut world = World::new(metric(more));
        for burst in 0..40 {
            world.candidate = if burst % 8 == 3 { Candidate::Refusing } else { Candidate::Sound };
            world.seconds(4);
            if world.state.phase.is_final() {
                break;
            }
        }
        assert_eq!(world.state.phase, end, "{}", world.state.message);
    }
}

#[test]
fn a_metric_that_is_not_critical_pauses_and_one_on_trial_is_only_shown() {
    let run = |more| {
        let mut world = World::new(metric(more));
        world.candidate = Candidate::Refusing;
        world.seconds(8);
        (world.state.phase, world.kernel.weight)
    };
    assert_eq!(run(serde_json::json!({"critical": false})), (RolloutState::Paused, percent(5)));
    assert_eq!(run(serde_json::json!({"dryRun": true})).0, RolloutState::Progressing);
    assert_eq!(run(serde_json::json!({"initialDelay": "30s"})).0, RolloutState::Progressing);
}

#[test]
fn looks_without_data_count_after_the_pause_only_and_then_do_what_the_plan_says() {
    let run = |more| {
        let mut world = World::new(metric(more));
        world.candidate = Candidate::Idle;
        stays(world)
    };
    let (state, at) = run(serde_json::json!({"noDataLimit": 2}));
    assert_eq!(state, RolloutState::Paused);
    assert!((14..=17).contains(&at), "ten seconds of pause, then three looks two seconds apart: {at}");
    assert_eq!(run(serde_json::json!({"noDataLimit": 0, "onNoData": "rollback"})).0, RolloutState::RolledBack);
}

#[test]
fn what_is_not_measured_freezes_and_goes_on_by_itself_or_rolls_back_after_a_while() {
    let unseen = |world: &mut World, seconds: u32| (0..seconds).for_each(|_| world.unobserved());
    let mut world = World::new(metric(serde_json::json!({"consecutiveErrorLimit": 2, "maxOutage": "30s"})));
    world.seconds(3);
    unseen(&mut world, 8);
    assert_eq!((world.state.phase, world.state.cause), (RolloutState::Frozen, Some(Cause::Outage)));
    unseen(&mut world, 100);
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::Frozen, percent(5)), "onOutage: hold");
    world.seconds(3);
    assert_eq!(world.state.phase, RolloutState::Progressing);
    world.until(RolloutState::Promoted, 120);

    let more = serde_json::json!({"consecutiveErrorLimit": 2, "maxOutage": "30s", "onOutage": "rollback"});
    let mut world = World::new(metric(more));
    world.seconds(3);
    unseen(&mut world, 28);
    assert_eq!(world.state.phase, RolloutState::Frozen);
    unseen(&mut world, 6);
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::RolledBack, Weight::ZERO));
}

#[test]
fn a_freeze_on_failure_is_left_only_by_resume() {
    let mut world = World::new(spec(serde_json::json!({"onFailure": {"action": "freeze"}})));
    world.seconds(12);
    world.candidate = Candidate::Refusing;
    world.until(RolloutState::Frozen, 10);
    world.candidate = Candidate::Sound;
    world.seconds(60);
    assert_eq!((world.state.phase, world.state.cause), (RolloutState::Frozen, Some(Cause::Breach)));
    world.operator(RolloutAction::Resume);
    world.until(RolloutState::Promoted, 100);
}

#[test]
fn a_rollback_in_reverse_steps_goes_back_as_it_came_and_an_abort_makes_it_at_once() {
    let reverse = || spec(serde_json::json!({"onFailure": {"action": "rollback", "mode": "reverseSteps"}}));
    let to_fifty = || {
        let mut world = World::new(reverse());
        while world.kernel.weight != percent(50) {
            world.second();
        }
        world.trace.clear();
        world.candidate = Candidate::Refusing;
        world
    };
    let mut world = to_fifty();
    world.until(RolloutState::RolledBack, 30);
    assert_eq!(weights(&world), ["25", "5", "0"]);

    let mut world = to_fifty();
    world.journal_works = false;
    world.until(RolloutState::RollingBack, 10);
    world.operator(RolloutAction::Abort);
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::RolledBack, Weight::ZERO));

    let mut world = to_fifty();
    world.until(RolloutState::RollingBack, 10);
    world.guard.tripped = true;
    world.second();
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::RolledBack, Weight::ZERO));
}

#[test]
fn the_deadline_counts_while_nobody_and_no_window_pauses() {
    let mut world = World::new(spec(serde_json::json!({"progressDeadline": "20s"})));
    world.seconds(5);
    world.operator(RolloutAction::Pause);
    world.seconds(100);
    world.operator(RolloutAction::Resume);
    world.seconds(10);
    assert_eq!(world.state.phase, RolloutState::Progressing, "{}", world.state.message);
    world.seconds(10);
    assert_eq!(world.state.phase, RolloutState::RolledBack);
    assert!(world.state.message.starts_with("the deadline of 20s has passed"), "{}", world.state.message);
}

/// Berlin's clocks go back from 3 to 2 on 2026-10-25 and forward from 2 to 3 on 2027-03-28.
fn windowed(from: &str, to: &str, start: &str) -> World {
    let windows =
        serde_json::json!({"timeZone": "Europe/Berlin", "allow": [{"days": ["sun"], "from": from, "to": to}]});
    let mut world = World::new(spec(serde_json::json!({"windows": windows})));
    let start: jiff::Timestamp = start.parse().expect("a time");
    world.now.wall = Duration::from_secs(start.as_second() as u64);
    world
}

#[test]
fn a_closed_window_stops_advances_and_nothing_else() {
    // 15:59:40 in summer time; closed at 16:00.
    let mut world = windowed("09:00", "16:00", "2026-06-07T13:59:40Z");
    world.seconds(120);
    let at = world.kernel.weight;
    assert_eq!((world.state.phase, world.state.closed), (RolloutState::Progressing, true));
    assert!(at > Weight::ZERO && at < Weight::FULL);
    let dwell = world.state.dwell;
    world.seconds(600);
    assert_eq!((world.kernel.weight, world.state.dwell), (at, dwell));
    world.candidate = Candidate::Refusing;
    world.until(RolloutState::RolledBack, 10);
}

#[test]
fn the_deadline_stops_in_a_closed_window_and_an_abort_works_there() {
    let mut world = windowed("09:00", "16:00", "2026-06-07T13:59:40Z");
    world.state.plan.spec.progress_deadline = Some(Duration::from_secs(60));
    world.seconds(600);
    assert_eq!(world.state.phase, RolloutState::Progressing);
    world.operator(RolloutAction::Abort);
    assert_eq!(world.state.phase, RolloutState::RolledBack);
}

#[test]
fn a_skipped_hour_opens_at_the_next_instant_and_a_repeated_hour_counts_once() {
    // Spring: 02:30 does not exist; the window opens when clocks show 03:00, at 01:00 UTC.
    let mut spring = windowed("02:30", "04:00", "2027-03-28T00:59:50Z");
    spring.seconds(9);
    assert_eq!(spring.kernel.weight, Weight::ZERO);
    spring.seconds(2);
    assert_eq!(spring.kernel.weight, percent(5));
    // Autumn: 02:00 to 02:30 happens twice; it is open once.
    let mut autumn = windowed("02:00", "02:30", "2026-10-25T00:00:00Z");
    autumn.second();
    assert_eq!(autumn.kernel.weight, percent(5));
    let mut second_time = windowed("02:00", "02:30", "2026-10-25T01:10:00Z");
    second_time.seconds(60);
    assert_eq!((second_time.kernel.weight, second_time.state.phase), (Weight::ZERO, RolloutState::Pending));
}

#[test]
fn a_wall_clock_that_is_set_into_a_window_is_an_event_and_no_advance() {
    let mut world = windowed("09:00", "16:00", "2026-06-07T05:00:00Z");
    world.seconds(5);
    world.now.wall += Duration::from_secs(3 * 3_600);
    world.second();
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::Pending, Weight::ZERO));
    assert!(world.trace.contains(&"event clockJumped".to_owned()));
    world.second();
    assert_eq!(world.kernel.weight, percent(5), "from then on the clock is believed");
}

fn apply(world: &mut World, steps: serde_json::Value) {
    let plan = Box::new(plan_with(steps));
    world.input(Input::Apply { plan, actor: "uid 1000 (ann)".to_owned(), reason: None });
}

#[test]
fn another_plan_goes_on_from_where_the_rollout_stands_and_never_jumps() {
    let mut world = World::new(plan());
    while world.kernel.weight != percent(25) {
        world.second();
    }
    world.seconds(4);
    let step = serde_json::json!({"setWeight": 5});
    // The same step: its pause goes on; what follows is other.
    apply(&mut world, serde_json::json!([step, {"setWeight": 25, "pause": {"duration": "1m"}}, {"setWeight": 100}]));
    assert_eq!((world.state.step, world.kernel.weight), (1, percent(25)));
    assert!(world.state.dwell >= Duration::from_secs(4));
    // No such step: the last that exposes no more; its pause begins, nothing is published.
    world.trace.clear();
    apply(
        &mut world,
        serde_json::json!([{"setWeight": 10}, {"setWeight": 20, "pause": {"duration": "20s"}}, {"setWeight": 40, "pause": {}}, {"setWeight": 100}]),
    );
    assert_eq!((world.state.step, world.state.dwell), (1, Duration::ZERO));
    assert!(weights(&world).is_empty());
    world.seconds(18);
    assert_eq!(world.kernel.weight, percent(25));
    world.until(RolloutState::Paused, 20);
    assert_eq!(world.kernel.weight, percent(40));
    // Only steps above: refused, all stays.
    let before = world.state.clone();
    apply(&mut world, serde_json::json!([{"setWeight": 50}, {"setWeight": 100}]));
    assert_eq!(world.state, before);
    assert!(world.refused[0].contains("stands at 40 %, and the new plan begins at 50 %"), "{:?}", world.refused);
}
