//! Backends that go and come: by their health, and by operators.

use super::*;
use crate::{
    balance::ids::BackendKey,
    health::Report,
    model::{
        api::{Availability, BackendAction, ListedBackend},
        kernel::{BackendState, SweptService},
    },
};

/// A host whose service is checked.
fn host() -> Host {
    let host = Host::new();
    host.configure(
        &CONFIG.replace("  weights: {v1: 100, v2: 0}", "  healthCheck: {type: tcp}\n  weights: {v1: 100, v2: 0}"),
    );
    host
}

fn key(owner: &Owner, version: usize, backend: usize) -> BackendKey {
    let service = &owner.layout.config.services[0];
    BackendKey::of(service, &service.versions[version]).nth(backend).expect("a backend")
}

fn report(owner: &mut Owner, backend: BackendKey, error: Option<&str>, is_up: bool) {
    owner.note_health(Report { backend, is_up, error: error.map(str::to_owned) });
    owner.follow_backends();
}

fn list(owner: &mut Owner) -> Vec<ListedBackend> {
    match ask(owner, Request::BackendList { service: Some(name("recsys")) }) {
        Ok(Response::Backends(listed)) => listed,
        other => panic!("no backends: {other:?}"),
    }
}

fn act(backend: &str, action: BackendAction) -> Request {
    let options = ChangeOptions { reason: Some("disk".to_owned()), ..ChangeOptions::default() };
    Request::BackendChange {
        service: name("recsys"),
        backends: vec![backend.parse().expect("a backend")],
        action,
        options,
    }
}

fn kinds(owner: &mut Owner) -> Vec<String> {
    let Ok(Response::Events(events)) = ask(owner, Request::Events { after: 0, limit: 1_000 }) else {
        panic!("no events")
    };
    events.into_iter().map(|event| event.kind).filter(|kind| kind.starts_with("backend")).collect()
}

#[test]
fn a_backend_that_fails_its_checks_takes_no_flows_until_it_is_well_again() {
    let host = host();
    let mut owner = host.start();
    let down = key(&owner, 0, 1);
    report(&mut owner, down.clone(), Some("connection refused"), true);
    let listed = &list(&mut owner)[1];
    assert_eq!((listed.backend.state, listed.backend.why.clone()), (Availability::Up, None));
    assert_eq!(listed.backend.check_error.as_deref(), Some("connection refused"));
    assert!(owner.layout.backends.is_empty());

    report(&mut owner, down.clone(), Some("connection refused"), false);
    assert_eq!(owner.layout.backends[&down], BackendState::Down { resets: true });
    let listed = list(&mut owner);
    let (first, second) = (&listed[0].backend, &listed[1].backend);
    assert_eq!((second.state, second.slots, first.slots), (Availability::Down, 0, 16_381));
    assert_eq!(second.why.as_deref(), Some("health check: connection refused"));
    assert_eq!(second.since, "2027-01-15T08:00:00Z".parse().ok());

    drop(owner);
    let mut owner = host.start();
    assert_eq!(owner.layout.backends[&down], BackendState::Down { resets: true }, "a restart forgets nothing");
    assert_eq!(list(&mut owner)[1].backend.why.as_deref(), Some("health check: not well before the restart"));
    report(&mut owner, down, None, true);
    assert_eq!(list(&mut owner)[1].backend.state, Availability::Up);
    assert!(owner.layout.backends.is_empty());
    assert_eq!(kinds(&mut owner), ["backendDown", "backendUp"]);
}

#[test]
fn operators_drain_disable_and_enable_and_a_restart_keeps_it() {
    let host = host();
    let mut owner = host.start();
    let backend = key(&owner, 0, 0);
    let drained = done(ask(&mut owner, act("v1/10.0.1.1", BackendAction::Drain)));
    assert_eq!(drained.changes, ["v1/10.0.1.1:80: enabled → drained"]);
    assert_eq!(owner.layout.backends[&backend], BackendState::Draining);
    let again = done(ask(&mut owner, act("v1/10.0.1.1:80", BackendAction::Drain)));
    assert_eq!(again.changes, ["v1/10.0.1.1:80: drained already"]);
    drop(owner);
    let mut owner = host.start();
    let listed = list(&mut owner).remove(0).backend;
    assert_eq!((listed.state, listed.slots), (Availability::Draining, 0));
    assert_eq!(listed.why.as_deref(), Some("drained by uid 1000 (ann): disk"));
    done(ask(&mut owner, act("v1/10.0.1.1", BackendAction::Disable)));
    assert_eq!(owner.layout.backends[&backend], BackendState::Down { resets: true });
    done(ask(&mut owner, act("v1/10.0.1.1", BackendAction::Enable)));
    assert!(owner.layout.backends.is_empty());
    assert_eq!(kinds(&mut owner), ["backendDrained", "backendDisabled", "backendEnabled"]);
}

#[test]
fn a_dry_run_and_a_wrong_name_change_nothing() {
    let host = host();
    let mut owner = host.start();
    let Request::BackendChange { service, backends, action, options } = act("v1/10.0.1.1", BackendAction::Drain) else {
        panic!("a change")
    };
    let dry = ChangeOptions { dry_run: true, ..options };
    let dry = Request::BackendChange { service, backends, action, options: dry };
    assert_eq!(done(ask(&mut owner, dry)).changes, ["v1/10.0.1.1:80: enabled → drained"]);
    let error = refused(ask(&mut owner, act("v1/10.0.1.9", BackendAction::Drain)));
    assert_eq!(error.message, "there is no backend v1/10.0.1.9 of recsys; known are 10.0.1.1:80, 10.0.1.2:80");
    let error = refused(ask(&mut owner, act("v9/10.0.1.1", BackendAction::Drain)));
    assert!(error.message.starts_with("there is no version of recsys `v9`; did you mean"), "{error}");
    assert!(owner.layout.backends.is_empty());
}

#[test]
fn a_drain_needs_no_journal_and_an_enable_does() {
    let host = host();
    let mut owner = host.start();
    host.break_journal(true);
    done(ask(&mut owner, act("v1/10.0.1.1", BackendAction::Drain)));
    assert_eq!(owner.layout.backends.len(), 1);
    let error = refused(ask(&mut owner, act("v1/10.0.1.1", BackendAction::Enable)));
    assert!(error.message.starts_with("nothing was changed:"), "{error}");
    assert_eq!(list(&mut owner)[0].backend.state, Availability::Draining);
    host.break_journal(false);
    owner.tick();
    drop(owner);
    assert_eq!(host.start().layout.backends.len(), 1, "the tick made it durable");
}

#[test]
fn a_kernel_that_refuses_leaves_a_wish_undone_and_health_to_the_next_tick() {
    let host = host();
    let mut owner = host.start();
    host.kernel.memory().broken = true;
    let error = refused(ask(&mut owner, act("v1/10.0.1.1", BackendAction::Drain)));
    assert!(error.message.contains("no memory for the tables"), "{error}");
    assert_eq!(list(&mut owner)[0].backend.state, Availability::Up);
    let down = key(&owner, 0, 1);
    report(&mut owner, down, Some("connection refused"), false);
    assert!(status(&mut owner).warnings[0].contains("the kernel did not take a change"));
    host.kernel.memory().broken = false;
    owner.tick();
    assert_eq!((owner.layout.backends.len(), list(&mut owner)[1].backend.state), (1, Availability::Down));
    assert!(status(&mut owner).warnings.is_empty());
}

#[test]
fn a_version_without_backends_is_said_to_who_emptied_it_and_in_status() {
    let host = host();
    let mut owner = host.start();
    let done = done(ask(&mut owner, act("v2/10.0.2.1", BackendAction::Disable)));
    assert_eq!(done.changes[1], "v2 of recsys has no backend left for new flows");
    assert!(status(&mut owner).warnings.contains(&done.changes[1]));
}

#[test]
fn without_health_checks_a_finding_from_before_counts_for_nothing() {
    let host = host();
    let mut owner = host.start();
    let down = key(&owner, 0, 1);
    report(&mut owner, down.clone(), Some("connection refused"), false);
    host.configure(CONFIG);
    let reload = Request::Reload { diff: false, reset_weights: vec![], options: ChangeOptions::default() };
    done(ask(&mut owner, reload));
    assert!(owner.layout.backends.is_empty());
    report(&mut owner, down, Some("connection refused"), false);
    assert!(owner.layout.backends.is_empty());
}

#[test]
fn a_backend_is_drained_once_no_slot_no_entry_and_no_packet_is_left() {
    let host = host();
    let mut owner = host.start();
    let id = owner.layout.ids.backend(&key(&owner, 0, 0)).expect("a number");
    let service = owner.layout.ids.service(&name("recsys")).expect("a number");
    done(ask(&mut owner, act("v1/10.0.1.1", BackendAction::Drain)));
    let sweep = |entries: u64| {
        let found = SweptService {
            backends: [(id, entries)].into_iter().filter(|(_, n)| *n > 0).collect(),
            ..Default::default()
        };
        host.kernel.memory().swept = [(service, found)].into();
    };
    let drained = |owner: &mut Owner| list(owner)[0].backend.drained;
    // The test's traffic goes to the first backend of each version: none of it any more.
    done(ask(&mut owner, set_weights(&[("v1", 0), ("v2", 100)], ChangeOptions::default())));
    host.seconds(&mut owner, 15);
    assert_eq!(drained(&mut owner), Some(false), "its slots are still its home");
    for _ in 0..260 {
        {
            let mut now = host.clock.0.lock().expect("no panic");
            now.monotonic += Duration::from_secs(60);
            now.wall += Duration::from_secs(60);
        }
        sweep(1);
        host.second(&mut owner);
    }
    assert_eq!(drained(&mut owner), Some(false), "an entry names it");
    sweep(0);
    host.seconds(&mut owner, 3);
    assert_eq!(drained(&mut owner), Some(true));
    done(ask(&mut owner, act("v1/10.0.1.1", BackendAction::Enable)));
    assert_eq!(drained(&mut owner), None);
}

#[test]
fn a_canary_instance_is_found_without_its_port_is_not_reloaded_away_and_is_told_of_when_it_takes_nothing() {
    let host = host();
    let mut owner = host.start();
    let mut plan = canary();
    let crate::model::plan::Strategy::Canary(canary) = &mut plan.spec.strategy else { panic!("a canary") };
    let instance = serde_json::json!({"backend": "10.0.2.1", "match": {"dscp": [46]}, "pause": {}});
    canary.instance = Some(serde_json::from_value(instance).expect("an instance"));
    start_rollout(&mut owner, plan).expect("a rollout");
    host.seconds(&mut owner, 3);
    let number = owner.layout.ids.backend(&key(&owner, 1, 0));
    assert_eq!(host.kernel.memory().wanted.services[0].instance.map(|instance| instance.backend), number);
    assert!(status(&mut owner).warnings.is_empty());

    let other = std::fs::read_to_string(host.config_path()).expect("the file").replace("10.0.2.1", "10.0.2.9");
    std::fs::write(host.config_path(), other).expect("the file");
    let reload = Request::Reload { diff: false, reset_weights: Vec::new(), options: ChangeOptions::default() };
    let error = refused(ask(&mut owner, reload));
    assert!(error.message.contains("the canary instance 10.0.2.1 of recsys is removed"), "{error:?}");

    done(ask(&mut owner, act("v2/10.0.2.1", BackendAction::Disable)));
    let warnings = status(&mut owner).warnings;
    assert_eq!(warnings[0], "rollout recsys-v2: the canary instance 10.0.2.1 takes no new flows");
}
