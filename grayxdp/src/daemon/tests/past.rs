//! What was, from the journal.

use std::net::SocketAddr;

use super::*;
use crate::{model::api::Explained, model::api::RolloutRecord};

fn explain_at(owner: &mut Owner, port: u16, at: jiff::Timestamp) -> Result<Explained, ApiError> {
    let request = Request::Explain {
        source: SocketAddr::new([198, 51, 100, 7].into(), port),
        destination: "192.0.2.10:80".parse().expect("an address"),
        protocol: Protocol::Tcp,
        dscp: 0,
        later: false,
        at: Some(at),
    };
    match ask(owner, request)? {
        Response::Explained(explained) => Ok(*explained),
        other => panic!("not explained: {other:?}"),
    }
}

fn wall(host: &Host) -> jiff::Timestamp {
    crate::model::time::timestamp(host.clock.now().wall)
}

fn record(owner: &mut Owner) -> RolloutRecord {
    match ask(owner, Request::RolloutRecord { name: name("recsys-v2"), number: None }) {
        Ok(Response::Record(record)) => *record,
        other => panic!("no record: {other:?}"),
    }
}

#[test]
fn the_journal_knows_which_version_a_flow_got_at_any_time() {
    let host = Host::new();
    let mut owner = host.start();
    host.seconds(&mut owner, 5);
    let before = wall(&host);
    host.seconds(&mut owner, 5);
    ask(&mut owner, set_weights(&[("v1", 70), ("v2", 30)], ChangeOptions::default())).expect("set");
    host.seconds(&mut owner, 5);
    let during = wall(&host);
    host.seconds(&mut owner, 5);
    ask(&mut owner, set_weights(&[("v1", 100)], ChangeOptions::default())).expect("set");
    host.seconds(&mut owner, 5);
    let ports = 1_u16..=400;
    let of = |owner: &mut Owner, at| -> Vec<bool> {
        let is_v2 = |port| explain_at(owner, port, at).expect("known").version == Some(name("v2"));
        ports.clone().map(is_v2).collect()
    };
    let counted = |found: &[bool]| found.iter().filter(|is_v2| **is_v2).count();
    assert_eq!(counted(&of(&mut owner, before)), 0);
    let found = of(&mut owner, during);
    // 30 % of 400, within five standard deviations.
    assert!((75..=165).contains(&counted(&found)), "{}", counted(&found));
    assert_eq!(counted(&of(&mut owner, wall(&host))), 0);
    // A restart changes nothing of what was.
    drop(owner);
    let mut owner = host.start();
    assert_eq!(of(&mut owner, during), found);
    let early = explain_at(&mut owner, 1, jiff::Timestamp::constant(1_700_000_000, 0)).expect_err("too early");
    assert!(early.message.contains("knows no service at 192.0.2.10:80"), "{}", early.message);
    let late = wall(&host).checked_add(jiff::SignedDuration::from_hours(1)).expect("a time");
    let late = explain_at(&mut owner, 1, late).expect_err("not past");
    assert!(late.message.contains("is not past"), "{}", late.message);
}

#[test]
fn a_record_has_events_with_actors_and_the_weights_of_its_run_alone() {
    let host = Host::new();
    let mut owner = host.start();
    let options = ChangeOptions { reason: Some("release 7".to_owned()), ..ChangeOptions::default() };
    ask(&mut owner, Request::RolloutStart { plan: Box::new(canary()), options }).expect("started");
    host.seconds(&mut owner, 12);
    ask(&mut owner, change("recsys-v2", RolloutAction::Abort)).expect("aborted");
    host.seconds(&mut owner, 3);
    let first = record(&mut owner);
    let begin = &first.events[0];
    assert_eq!((begin.kind.as_str(), begin.actor.as_str()), ("rolloutStarted", "uid 1000 (ann)"));
    assert_eq!(begin.reason.as_deref(), Some("release 7"));
    let weights: Vec<_> = first.weights.iter().map(|at| at.weights[&name("default")].to_string()).collect();
    assert_eq!(weights, ["5", "50", "0"]);
    assert_eq!((first.runs.clone(), first.status.state), (vec![1], RolloutState::RolledBack));

    start_rollout(&mut owner, canary()).expect("again");
    host.seconds(&mut owner, 3);
    let second = record(&mut owner);
    assert_eq!((second.number, second.runs.clone(), second.weights.len()), (2, vec![2, 1], 1));
    let number = Some(1);
    let Ok(Response::Record(again)) = ask(&mut owner, Request::RolloutRecord { name: name("recsys-v2"), number })
    else {
        panic!("the first run is kept")
    };
    assert_eq!((again.events.len(), again.weights.len()), (first.events.len(), 3));
    let unknown = refused(ask(&mut owner, Request::RolloutRecord { name: name("recsys-v2"), number: Some(9) }));
    assert!(unknown.message.contains("has no run 9"), "{}", unknown.message);
}

#[test]
fn what_the_journal_could_not_take_is_written_later_with_its_own_time() {
    let host = Host::new();
    let mut owner = host.start();
    host.seconds(&mut owner, 2);
    start_rollout(&mut owner, canary()).expect("started");
    host.seconds(&mut owner, 4);
    host.break_journal(true);
    ask(&mut owner, change("recsys-v2", RolloutAction::Abort)).expect("a rollback waits for no disk");
    let aborted = wall(&host);
    host.seconds(&mut owner, 20);
    host.break_journal(false);
    host.seconds(&mut owner, 40);
    let last = record(&mut owner).weights.pop().expect("weights");
    assert_eq!((last.time, last.weights[&name("default")]), (aborted, Weight::ZERO));
}
