//! Fuse and lease through the daemon: what the kernel latched, and what the daemon makes of it.

use super::*;
use crate::{
    model::{
        api::BackendAction,
        kernel::LeaseEnd,
        plan::{FlowsEnd, Lease, Strategy},
    },
    rollout::RolloutNeeds,
};

/// A host whose service has a fuse.
fn host() -> Host {
    let host = Host::new();
    host.configure(&CONFIG.replace("  weights: {v1: 100, v2: 0}", "  fuse: {limit: 20}\n  weights: {v1: 100, v2: 0}"));
    host
}

fn leased() -> Plan {
    let mut plan = canary();
    plan.spec.lease = Some(Lease { duration: Duration::from_secs(30), on_expiry: LeaseEnd::Stable });
    plan
}

/// Puts the guard of the running attempt into the kernel of memory.
fn arm(host: &Host, owner: &Owner) {
    let service = owner.layout.ids.service(&name("recsys")).expect("a number");
    let state = &owner.engines[&name("recsys")].state;
    let (rollout, attempt) = (state.number, state.attempt);
    let (tripped, expired, lease_until) = (None, None, None);
    host.kernel.memory().guards =
        vec![GuardStatus { service, rollout, attempt, tripped, expired, alarm: false, lease_until, failures: 0 }];
}

fn with_guard(host: &Host, change: impl FnOnce(&mut GuardStatus)) {
    change(&mut host.kernel.memory().guards[0]);
}

fn needs(owner: &Owner) -> RolloutNeeds {
    owner.layout.needs.get(&name("recsys")).cloned().unwrap_or_default()
}

fn kinds(owner: &mut Owner) -> Vec<String> {
    let Ok(Response::Events(events)) = ask(owner, Request::Events { after: 0, limit: 1_000 }) else {
        panic!("no events")
    };
    events.into_iter().map(|event| event.kind).collect()
}

#[test]
fn a_trip_rolls_back_without_waiting_for_a_tick_and_blocks_the_name_until_a_retry() {
    let host = host();
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.seconds(&mut owner, 3);
    assert!(needs(&owner).guard.is_some_and(|guard| guard.fuse.is_some_and(|fuse| fuse.limit == 20)));
    arm(&host, &owner);
    with_guard(&host, |guard| (guard.tripped, guard.failures) = (Some(Duration::from_secs(503)), 23));
    owner.look_at_guards();
    let found = rollout(&mut owner, "recsys-v2");
    assert_eq!((found.state, host.candidate_buckets()), (RolloutState::RolledBack, 0));
    let what = "23 connections to v2 failed, more than 20 within 1s";
    assert_eq!(found.message, format!("the fuse tripped: {what}; v1 has all new flows again"));
    // The guard goes with the rollout's end, and what it had counted stays.
    host.kernel.memory().guards.clear();
    let fuse = rollout(&mut owner, "recsys-v2").fuse.expect("a fuse");
    assert_eq!((fuse.tripped.as_deref(), fuse.failures), (Some(what), 23));
    assert!(kinds(&mut owner).contains(&"fuseTripped".to_owned()));

    for _ in 0..2 {
        let error = refused(start_rollout(&mut owner, canary()));
        assert_eq!(
            error.message,
            format!(
                "rollout recsys-v2 was stopped by its fuse: {what}; `grayxdp rollout retry recsys-v2` clears it, or use another name"
            )
        );
        drop(owner);
        owner = host.start();
    }
    host.kernel.memory().guards.clear();
    done(ask(&mut owner, change("recsys-v2", RolloutAction::Retry)));
    host.seconds(&mut owner, 2);
    let found = rollout(&mut owner, "recsys-v2");
    assert_eq!((found.state, found.attempt, found.weight.hundredths()), (RolloutState::Progressing, 2, 500));
    assert_eq!(needs(&owner).guard.map(|guard| guard.attempt), Some(2));
    host.seconds(&mut owner, 40);
    assert_eq!(rollout(&mut owner, "recsys-v2").state, RolloutState::Promoted);
    assert_eq!(needs(&owner), RolloutNeeds::default());
}

#[test]
fn a_latch_of_another_attempt_is_not_ours() {
    let host = host();
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.seconds(&mut owner, 3);
    arm(&host, &owner);
    with_guard(&host, |guard| (guard.tripped, guard.attempt) = (Some(Duration::from_secs(503)), 2));
    host.seconds(&mut owner, 2);
    assert_eq!(rollout(&mut owner, "recsys-v2").state, RolloutState::Progressing);
}

#[test]
fn a_trip_while_no_daemon_ran_rolls_back_at_the_start() {
    let host = host();
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.seconds(&mut owner, 3);
    arm(&host, &owner);
    drop(owner);
    with_guard(&host, |guard| guard.tripped = Some(Duration::from_secs(503)));
    let mut owner = host.start();
    assert_eq!((rollout(&mut owner, "recsys-v2").state, host.candidate_buckets()), (RolloutState::RolledBack, 0));
}

#[test]
fn the_lease_is_renewed_by_ticks_shown_and_its_end_waits_for_resume() {
    let host = host();
    let mut owner = host.start();
    start_rollout(&mut owner, leased()).expect("a rollout");
    host.seconds(&mut owner, 2);
    arm(&host, &owner);
    host.second(&mut owner);
    let lease = rollout(&mut owner, "recsys-v2").lease.expect("a lease");
    assert_eq!((lease.remaining_seconds, lease.on_expiry), (Some(30.0), LeaseEnd::Stable));
    with_guard(&host, |guard| guard.expired = Some(Duration::from_secs(540)));
    host.second(&mut owner);
    let found = rollout(&mut owner, "recsys-v2");
    assert_eq!((found.state, found.lease.map(|lease| lease.expired)), (RolloutState::Paused, Some(true)));
    host.seconds(&mut owner, 20);
    assert_eq!(rollout(&mut owner, "recsys-v2").state, RolloutState::Paused);
    done(ask(&mut owner, change("recsys-v2", RolloutAction::Resume)));
    host.second(&mut owner);
    assert_eq!(host.kernel.memory().guards[0].expired, None);
    host.seconds(&mut owner, 40);
    assert_eq!(rollout(&mut owner, "recsys-v2").state, RolloutState::Promoted);
}

#[test]
fn an_alarm_is_an_event() {
    let host = host();
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.seconds(&mut owner, 3);
    arm(&host, &owner);
    with_guard(&host, |guard| guard.alarm = true);
    host.seconds(&mut owner, 3);
    assert_eq!(kinds(&mut owner).iter().filter(|kind| *kind == "noStableBackend").count(), 1);
    assert_eq!(rollout(&mut owner, "recsys-v2").state, RolloutState::Progressing);
}

#[test]
fn flows_of_the_version_that_lost_are_ended_until_none_can_be_left() {
    let host = host();
    let mut owner = host.start();
    let mut plan = canary();
    plan.spec.existing_flows.on_rollback = FlowsEnd::Reset;
    start_rollout(&mut owner, plan).expect("a rollout");
    host.seconds(&mut owner, 3);
    done(ask(&mut owner, change("recsys-v2", RolloutAction::Abort)));
    assert_eq!(needs(&owner).existing, Some((name("v2"), crate::model::kernel::ExistingFlows::Reset)));
    host.second(&mut owner);
    assert!(needs(&owner).existing.is_some());
    {
        let mut now = host.clock.0.lock().expect("no panic");
        now.wall += Duration::from_secs(3_600);
        now.monotonic += Duration::from_secs(3_600);
    }
    host.second(&mut owner);
    assert_eq!(needs(&owner), RolloutNeeds::default());
}

/// Buckets of a segment in the kernel that look, and how many segments there are.
fn looking(host: &Host) -> (usize, usize) {
    match &host.kernel.memory().wanted.services[0].buckets {
        WantedBuckets::Split(_) => (0, 0),
        WantedBuckets::Cells(tables) => (tables[0].iter().filter(|bucket| bucket.looks()).count(), tables.len()),
    }
}

#[test]
fn the_clients_of_a_canary_instance_stay_found_after_its_end() {
    let host = host();
    let mut owner = host.start();
    let mut plan = canary();
    let Strategy::Canary(canary) = &mut plan.spec.strategy else { panic!("a canary") };
    let backend = owner.layout.config.services[0].version(&name("v2")).expect("v2").backends[0].clone();
    let backend = owner.layout.config.services[0].backend_address(&backend);
    let instance =
        serde_json::json!({"backend": backend.to_string(), "match": {"sources": ["10.64.32.0/20"]}, "pause": {}});
    canary.instance = Some(serde_json::from_value(instance).expect("an instance"));
    start_rollout(&mut owner, plan).expect("a rollout");
    let id = owner.layout.ids.service(&name("recsys")).expect("a number");
    host.kernel.memory().swept.insert(id, SweptService { buckets: [5, 7].into(), ..SweptService::default() });
    host.seconds(&mut owner, 3);
    assert_eq!(looking(&host), (16_384, 2));
    assert!(host.kernel.memory().wanted.services[0].instance.is_some());
    done(ask(&mut owner, change("recsys-v2", RolloutAction::Abort)));
    assert_eq!(looking(&host), (16_384, 1));
    host.seconds(&mut owner, 2);
    assert_eq!(looking(&host), (16_384, 1));
    host.seconds(&mut owner, 10);
    assert_eq!(looking(&host), (2, 1));
    host.kernel.memory().swept.clear();
    host.seconds(&mut owner, 4);
    assert_eq!(looking(&host), (0, 0));
}

/// Lets an hour and more pass in one step.
fn an_hour(host: &Host) {
    let mut now = host.clock.0.lock().expect("no panic");
    now.wall += Duration::from_secs(3_700);
    now.monotonic += Duration::from_secs(3_700);
}

#[test]
fn buckets_of_a_candidate_that_an_expired_lease_turned_off_look_before_the_latch_is_cleared_and_until_a_later_sweep() {
    for (end, kept) in [(LeaseEnd::Stable, 819), (LeaseEnd::Hold, 0)] {
        let host = host();
        let mut owner = host.start();
        let mut plan = plan("recsys-v2", serde_json::json!([{"setWeight": 5, "pause": {}}, {"setWeight": 100}]));
        plan.spec.lease = Some(Lease { duration: Duration::from_secs(30), on_expiry: end });
        start_rollout(&mut owner, plan).expect("a rollout");
        host.seconds(&mut owner, 3);
        an_hour(&host);
        host.seconds(&mut owner, 20);
        assert_eq!(looking(&host), (0, 1), "settled, and no entries");
        arm(&host, &owner);
        with_guard(&host, |guard| guard.expired = Some(Duration::from_secs(4_300)));
        owner.look_at_guards();
        done(ask(&mut owner, change("recsys-v2", RolloutAction::Resume)));
        host.second(&mut owner);
        assert_eq!(host.kernel.memory().guards[0].expired, None);
        assert_eq!(looking(&host), (kept, 1), "{end:?}");
        host.seconds(&mut owner, 3);
        assert_eq!(looking(&host), (kept, 1), "{end:?}");
        host.seconds(&mut owner, 6);
        assert_eq!(looking(&host), (0, 1), "{end:?}");
    }
}

#[test]
fn a_latch_stays_while_the_kernel_does_not_take_the_look_of_its_buckets() {
    let host = host();
    let mut owner = host.start();
    start_rollout(&mut owner, leased()).expect("a rollout");
    host.seconds(&mut owner, 2);
    arm(&host, &owner);
    with_guard(&host, |guard| guard.expired = Some(Duration::from_secs(501)));
    owner.look_at_guards();
    host.kernel.memory().broken = true;
    done(ask(&mut owner, change("recsys-v2", RolloutAction::Resume)));
    host.seconds(&mut owner, 3);
    assert!(host.kernel.memory().guards[0].expired.is_some());
    host.kernel.memory().broken = false;
    host.seconds(&mut owner, 10);
    done(ask(&mut owner, change("recsys-v2", RolloutAction::Resume)));
    host.seconds(&mut owner, 2);
    assert_eq!(host.kernel.memory().guards[0].expired, None);
}

#[test]
fn neither_a_candidate_under_guard_nor_a_version_whose_flows_end_stands_in_for_an_empty_pool() {
    let host = host();
    let mut owner = host.start();
    let stand_in = |host: &Host| host.kernel.memory().wanted.services[0].versions[0].failover;
    let state = |owner: &mut Owner, action| {
        let names = ["v1/10.0.1.1", "v1/10.0.1.2"].iter().map(|name| name.parse().expect("a backend")).collect();
        let (service, options) = (name("recsys"), ChangeOptions::default());
        done(ask(owner, Request::BackendChange { service, backends: names, action, options }));
    };
    state(&mut owner, BackendAction::Disable);
    assert_eq!(stand_in(&host), Some(1));
    state(&mut owner, BackendAction::Enable);
    let mut plan = canary();
    plan.spec.existing_flows.on_rollback = FlowsEnd::Reset;
    start_rollout(&mut owner, plan).expect("a rollout");
    host.seconds(&mut owner, 3);
    state(&mut owner, BackendAction::Disable);
    assert_eq!((needs(&owner).guard.is_some(), stand_in(&host)), (true, None));
    done(ask(&mut owner, change("recsys-v2", RolloutAction::Abort)));
    host.second(&mut owner);
    assert_eq!((needs(&owner).guard.is_some(), stand_in(&host)), (false, None));
    an_hour(&host);
    host.second(&mut owner);
    assert_eq!(stand_in(&host), Some(1));
}
