//! Fuse, lease and canary instance under a virtual clock.

use super::*;
use crate::{
    model::{
        config::{Protocol, Service},
        kernel::{ExistingFlows, LeaseEnd, WantedFuse},
        plan::{FlowsEnd, Lease, Strategy},
    },
    rollout::{Cause, RolloutNeeds},
};

/// The same plan with a canary instance for five seconds before its first step.
pub(super) fn with_instance(mut plan: Plan) -> Plan {
    let Strategy::Canary(canary) = &mut plan.spec.strategy else { panic!("a canary") };
    let instance = serde_json::json!({
        "backend": "10.0.2.1:8080", "match": {"sources": ["198.51.100.0/28"]}, "pause": {"duration": "5s"},
        "analysis": [],
    });
    canary.instance = Some(serde_json::from_value(instance).expect("an instance"));
    plan
}

fn with_lease(on_expiry: LeaseEnd) -> World {
    let mut plan = plan();
    plan.spec.lease = Some(Lease { duration: Duration::from_secs(30), on_expiry });
    World::new(plan)
}

fn service(protocol: Protocol) -> Service {
    let fuse = serde_json::from_value(serde_json::json!({})).expect("a fuse");
    let service = Service::new(name("recsys"), std::net::Ipv4Addr::new(192, 0, 2, 10), 80);
    Service { protocol, fuse: Some(fuse), ..service }
}

fn needs(world: &World) -> RolloutNeeds {
    world.state.needs(&service(Protocol::Tcp), &world.state.exposure, world.now.wall)
}

#[test]
fn a_fuse_that_trips_rolls_back_at_once_and_names_itself() {
    let mut world = World::new(plan());
    world.seconds(12);
    world.trace.clear();
    world.guard.tripped = true;
    world.second();
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::RolledBack, Weight::ZERO));
    assert_eq!(world.state.message, "the fuse tripped: 23 connections to v2 failed; v1 has all new flows again");
    assert_eq!(world.trace[0], "publish 0");
    assert_eq!(world.trace.iter().filter(|line| *line == "event fuseTripped").count(), 1);
    world.seconds(5);
    assert_eq!(world.state.tripped.as_deref(), Some("23 connections to v2 failed"));
}

#[test]
fn a_fuse_trips_at_100_percent_before_the_promotion_and_not_after() {
    let mut world = World::new(plan());
    while world.kernel.weight != Weight::FULL {
        world.second();
    }
    assert!(needs(&world).guard.is_some());
    let mut promoted = World::new(plan());
    world.guard.tripped = true;
    world.second();
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::RolledBack, Weight::ZERO));

    promoted.until(RolloutState::Promoted, 60);
    assert_eq!(needs(&promoted).guard, None);
    promoted.guard.tripped = true;
    promoted.seconds(3);
    assert_eq!((promoted.state.phase, promoted.kernel.weight), (RolloutState::Promoted, Weight::FULL));
}

#[test]
fn a_trip_while_the_daemon_was_away_rolls_back_at_its_start() {
    let mut world = World::new(plan());
    world.seconds(12);
    world.guard.tripped = true;
    world.restart();
    world.second();
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::RolledBack, Weight::ZERO));
}

#[test]
fn retry_begins_another_attempt_from_the_first_step_with_nothing_latched() {
    let mut world = World::new(plan());
    world.seconds(12);
    world.guard.tripped = true;
    world.second();
    world.trace.clear();
    world.operator(RolloutAction::Retry);
    assert_eq!((world.state.phase, world.state.attempt), (RolloutState::Pending, 2));
    assert_eq!(world.trace, ["clear Tripped", "clear LeaseExpired", "journal State", "event retried"]);
    assert_eq!((world.state.tripped.clone(), world.state.metrics[&name("errors")].fails), (None, 0));
    world.until(RolloutState::Promoted, 60);
    assert_eq!(world.state.number, 7);
}

#[test]
fn ticks_that_observe_renew_the_lease_and_others_do_not() {
    let mut world = with_lease(LeaseEnd::Stable);
    world.seconds(1);
    for _ in 0..6 {
        world.second();
        assert_eq!(world.guard.lease_until, Some(world.now.monotonic + Duration::from_secs(30)));
    }
    let until = world.guard.lease_until;
    for _ in 0..20 {
        world.now.monotonic += Duration::from_secs(1);
        world.now.wall += Duration::from_secs(1);
        world.input(Input::Tick { observed: None });
    }
    assert_eq!((world.guard.lease_until, world.state.phase), (until, RolloutState::Frozen));
}

#[test]
fn an_operators_pause_keeps_the_lease_and_an_end_stops_renewing_it() {
    let mut world = with_lease(LeaseEnd::Stable);
    world.seconds(3);
    world.operator(RolloutAction::Pause);
    world.seconds(100);
    assert!(!world.guard.expired);
    world.operator(RolloutAction::Abort);
    let until = world.guard.lease_until;
    world.seconds(5);
    assert_eq!(world.guard.lease_until, until);
}

#[test]
fn a_lease_that_ran_out_pauses_and_resume_begins_the_step_anew() {
    for (on_expiry, message) in [
        (LeaseEnd::Stable, "paused: nobody renewed the lease of 30s; new flows go to v1 until resumed"),
        (LeaseEnd::Hold, "paused at 25 %: nobody renewed the lease of 30s"),
    ] {
        let mut world = with_lease(on_expiry);
        world.seconds(14);
        world.now.monotonic += Duration::from_secs(40);
        world.now.wall += Duration::from_secs(40);
        world.restart();
        world.second();
        assert_eq!((world.state.phase, world.state.cause), (RolloutState::Paused, Some(Cause::Lease)));
        assert_eq!(world.state.message, message);
        world.seconds(100);
        assert_eq!((world.effective(), world.guard.expired), (Weight::ZERO, true), "resumed by nobody");

        for action in [RolloutAction::Promote { full: false }, RolloutAction::Promote { full: true }] {
            world.refused.clear();
            world.operator(action);
            assert!(world.refused[0].contains("lost its lease; `rollout resume` first"), "{:?}", world.refused);
        }
        world.trace.clear();
        world.operator(RolloutAction::Resume);
        world.second();
        let order: Vec<_> = world.trace.iter().filter(|line| !line.starts_with("event")).collect();
        assert_eq!(order[..4], ["journal State", "journal Intent", "clear LeaseExpired", "publish 25"]);
        assert_eq!((world.effective(), world.state.dwell), (percent(25), Duration::ZERO));
        world.until(RolloutState::Promoted, 60);
    }
}

#[test]
fn what_the_end_of_the_lease_took_away_is_not_exposed_without_a_journal() {
    let mut world = with_lease(LeaseEnd::Stable);
    world.seconds(14);
    world.guard.expired = true;
    world.second();
    world.journal_works = false;
    world.operator(RolloutAction::Resume);
    world.seconds(60);
    assert_eq!((world.state.phase, world.effective()), (RolloutState::Progressing, Weight::ZERO));
    world.journal_works = true;
    world.seconds(31);
    assert!(world.effective() > Weight::ZERO);
}

#[test]
fn a_stable_version_without_backends_is_an_alarm_once_an_attempt() {
    let mut world = World::new(plan());
    world.seconds(5);
    world.trace.clear();
    for _ in 0..3 {
        world.input(Input::NoStable);
    }
    assert_eq!(world.trace.iter().filter(|line| *line == "event noStableBackend").count(), 1);
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::Progressing, percent(5)));
}

#[test]
fn an_instance_is_the_first_step_at_no_weight() {
    let mut world = World::new(with_instance(plan()));
    world.second();
    assert_eq!(world.trace, ["journal Intent", "publish 0 and the instance", "journal State", "event stepReached"]);
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::Progressing, Weight::ZERO));
    let needed = needs(&world).aside.expect("an instance");
    assert_eq!(
        (needed.backend.map(|backend| backend.to_string()), needed.candidate),
        (Some("10.0.2.1:8080".to_owned()), name("v2"))
    );
    assert_eq!(world.state.status(1).steps[0], "instance 10.0.2.1:8080, pause 5s");
    world.trace.clear();
    while world.kernel.weight == Weight::ZERO {
        world.second();
    }
    assert_eq!((world.state.step, world.kernel.weight), (1, percent(5)));
    assert_eq!(needs(&world).aside, None);
    world.until(RolloutState::Promoted, 60);
}

#[test]
fn an_instance_that_stands_alone_is_taken_away_by_an_abort_and_by_a_promotion() {
    for action in [RolloutAction::Abort, RolloutAction::Promote { full: true }] {
        let mut world = World::new(with_instance(plan()));
        world.seconds(3);
        world.operator(action);
        world.seconds(2);
        assert!(world.state.phase.is_final());
        assert_eq!((needs(&world).aside, &world.state.exposure), (None, &Exposure::of(world.kernel.weight)));
    }
}

#[test]
fn a_restart_between_the_instance_and_its_journal_goes_on_with_it() {
    let mut world = World::new(with_instance(plan()));
    world.commands_left = 2;
    world.second();
    world.restart();
    assert_eq!((world.state.phase, world.state.exposure.aside.is_some()), (RolloutState::Progressing, true));
    world.until(RolloutState::Promoted, 80);
}

#[test]
fn segments_of_a_step_have_their_own_weight_until_the_next_weight() {
    let steps = serde_json::json!([
        {"setWeight": 50, "pause": {"duration": "5s"}, "segments": {"asia": 10}},
        {"pause": {"duration": "5s"}, "segments": {"europe": 20}},
        {"setWeight": 100},
    ]);
    let mut world = World::new(plan_with(steps));
    world.second();
    assert_eq!(needs(&world).segments, [(name("asia"), percent(10))].into());
    assert_eq!(world.state.status(1).steps[0], "setWeight 50, segments asia 10, pause 5s");
    world.seconds(7);
    assert_eq!(needs(&world).segments, [(name("asia"), percent(10)), (name("europe"), percent(20))].into());
    world.until(RolloutState::Promoted, 20);
    assert_eq!(needs(&world).segments, [].into());
}

#[test]
fn fuse_and_lease_are_needed_from_the_first_weight_to_the_promotion() {
    let mut world = with_lease(LeaseEnd::Hold);
    assert_eq!(needs(&world).guard, None);
    world.second();
    let guard = needs(&world).guard.expect("armed");
    assert_eq!((guard.attempt, guard.candidate, guard.stable), (1, name("v2"), name("v1")));
    assert_eq!(guard.fuse, Some(WantedFuse { limit: 20, ratio: 0.5, window: Duration::from_secs(1) }));
    assert_eq!((guard.lease, needs(&world).measures), (Some(LeaseEnd::Hold), true));
    world.operator(RolloutAction::Abort);
    assert_eq!((needs(&world).guard, needs(&world).measures), (None, false));
}

#[test]
fn flows_in_progress_end_as_the_plan_says() {
    let ended = |action, end, protocol, seconds: u64| {
        let mut plan = plan();
        (plan.spec.existing_flows.on_promote, plan.spec.existing_flows.on_rollback) = (end, end);
        plan.spec.existing_flows.deadline = Duration::from_secs(600);
        let mut world = World::new(plan);
        world.seconds(3);
        assert_eq!(world.state.needs(&service(protocol), &world.state.exposure, world.now.wall).existing, None);
        world.operator(action);
        let later = world.now.wall + Duration::from_secs(seconds);
        world.state.needs(&service(protocol), &world.state.exposure, later).existing
    };
    let (abort, promote) = (RolloutAction::Abort, RolloutAction::Promote { full: true });
    let (v1, v2) = (name("v1"), name("v2"));
    assert_eq!(ended(abort, FlowsEnd::Pin, Protocol::Tcp, 1), None);
    assert_eq!(ended(abort, FlowsEnd::Reset, Protocol::Tcp, 1), Some((v2.clone(), ExistingFlows::Reset)));
    assert_eq!(ended(promote, FlowsEnd::Reset, Protocol::Tcp, 1), Some((v1.clone(), ExistingFlows::Reset)));
    assert_eq!(ended(promote, FlowsEnd::Move, Protocol::Udp, 1), Some((v1.clone(), ExistingFlows::Move)));
    assert_eq!(ended(promote, FlowsEnd::Drain, Protocol::Tcp, 599), None);
    assert_eq!(ended(promote, FlowsEnd::Drain, Protocol::Tcp, 601), Some((v1, ExistingFlows::Reset)));
    assert_eq!(ended(abort, FlowsEnd::Drain, Protocol::Udp, 601), Some((v2, ExistingFlows::Move)));
    assert_eq!(ended(abort, FlowsEnd::Reset, Protocol::Tcp, 3_601), None, "an hour later no flow is left");
}
