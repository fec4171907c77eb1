//! Settling, leaving, and what comes back after a restart and after a reboot.

use grayxdp_common::SLOTS;

use super::*;
use crate::model::kernel::{CellStamps, WantedVersion};

/// The services, with flows that may be silent for 75 s.
fn quick(config: &str) -> String {
    config.replace("  port: 80\n", "  port: 80\n  idleTimeout: 75s\n  closingTimeout: 5s\n  settleAfter: 20s\n")
}

fn host() -> Host {
    let host = Host::new();
    host.configure(&quick(CONFIG));
    host
}

fn weights(owner: &mut Owner, weights: &[(&str, u16)]) {
    done(ask(owner, set_weights(weights, ChangeOptions::default())));
}

/// The buckets of a segment of the first service.
fn buckets(host: &Host, segment: usize) -> Vec<Bucket> {
    match &host.kernel.memory().published[0].buckets {
        WantedBuckets::Cells(tables) => tables[segment].to_vec(),
        WantedBuckets::Split(_) => panic!("a split"),
    }
}

fn versions(host: &Host) -> Vec<WantedVersion> {
    host.kernel.memory().wanted.services[0].versions.clone()
}

fn is_split(host: &Host) -> bool {
    host.kernel.memory().published[0].split().is_some()
}

fn unsettled(owner: &mut Owner) -> [u64; 2] {
    let settling = status(owner).services[0].settling;
    [settling.unsettled_buckets, settling.unsettled_slots]
}

/// Lets a packet of a flow of these buckets be resolved by home every second.
fn stamp(host: &Host, buckets: &[u16]) {
    let seen = CellStamps { seen: buckets.to_vec(), ..CellStamps::default() };
    let stamps = ServiceStamps { segments: vec![seen], ..ServiceStamps::default() };
    host.kernel.memory().stamps = [(ServiceId(1), stamps)].into();
}

fn reload(owner: &mut Owner) -> Vec<String> {
    let options = ChangeOptions::default();
    done(ask(owner, Request::Reload { diff: false, reset_weights: Vec::new(), options })).changes
}

#[test]
fn buckets_that_nobody_uses_settle_after_the_idle_timeout_and_the_arithmetic_returns() {
    let host = host();
    let mut owner = host.start();
    weights(&mut owner, &[("v1", 90), ("v2", 10)]);
    host.seconds(&mut owner, 70);
    assert_eq!(
        (unsettled(&mut owner), buckets(&host, 0).iter().filter(|bucket| bucket.pins()).count()),
        ([1_638, 0], 1_638)
    );
    host.seconds(&mut owner, 10);
    let settling = status(&mut owner).services[0].settling;
    assert_eq!((settling.unsettled_buckets, settling.settled_idle, settling.settled_pinned), (0, 1_638, 0));
    host.seconds(&mut owner, 10);
    assert!(is_split(&host));
    let publishes = host.kernel.memory().publishes;
    host.seconds(&mut owner, 100);
    assert_eq!(host.kernel.memory().publishes, publishes);
    assert_eq!(host.candidate_buckets(), 1_638);
}

#[test]
fn a_bucket_with_a_stray_packet_now_and_then_settles_by_pinning() {
    let host = host();
    let mut owner = host.start();
    weights(&mut owner, &[("v2", 100)]);
    stamp(&host, &[77, 78]);
    host.seconds(&mut owner, 90);
    assert_eq!(unsettled(&mut owner), [2, 0]);
    host.seconds(&mut owner, 20);
    let settling = status(&mut owner).services[0].settling;
    assert_eq!((settling.unsettled_buckets, settling.settled_pinned), (0, 2));
    assert_eq!(settling.settled_idle, u64::from(BUCKETS) - 2);
}

#[test]
fn a_bucket_looks_for_as_long_as_a_sweep_finds_entries_of_it() {
    let host = host();
    let mut owner = host.start();
    weights(&mut owner, &[("v2", 100)]);
    let found = SweptService { buckets: [5].into(), established: 1, ..SweptService::default() };
    host.kernel.memory().swept = [(ServiceId(1), found)].into();
    host.seconds(&mut owner, 100);
    assert_eq!(
        buckets(&host, 0).iter().enumerate().filter(|(_, bucket)| bucket.looks()).map(|(n, _)| n).collect::<Vec<_>>(),
        [5]
    );
    assert_eq!(status(&mut owner).services[0].settling.established, 1);
    host.kernel.memory().swept.clear();
    host.seconds(&mut owner, 5);
    assert!(is_split(&host));
}

#[test]
fn a_restart_takes_over_what_the_kernel_holds_and_waits_from_then_on() {
    let host = host();
    let mut owner = host.start();
    weights(&mut owner, &[("v1", 75), ("v2", 25)]);
    host.seconds(&mut owner, 60);
    let before = host.kernel.memory().published.clone();
    drop(owner);
    let mut owner = host.start();
    assert_eq!(host.kernel.memory().published, before);
    host.seconds(&mut owner, 70);
    assert_eq!(unsettled(&mut owner), [4_096, 0]);
    host.seconds(&mut owner, 10);
    assert_eq!(unsettled(&mut owner), [0, 0]);
}

#[test]
fn a_reboot_restores_homes_and_says_how_many_exceptions_it_lost() {
    let mut host = host();
    let mut owner = host.start();
    weights(&mut owner, &[("v1", 75), ("v2", 25)]);
    host.configure(&quick(&CONFIG.replace("{address: 10.0.1.2}", "{address: 10.0.1.3}")));
    reload(&mut owner);
    host.kernel.memory().swept = [(ServiceId(1), SweptService { established: 7, ..SweptService::default() })].into();
    host.seconds(&mut owner, 15);
    let owners = |host: &Host| {
        let buckets: Vec<_> = buckets(host, 0).iter().map(|bucket| (bucket.current(), bucket.home())).collect();
        let slots: Vec<_> = versions(host).into_iter().map(|of| (of.slots.current, of.slots.home)).collect();
        (buckets, slots)
    };
    let before = owners(&host);
    assert!(before.1[0].0 != before.1[0].1);
    drop(owner);
    host.reboot();
    let mut owner = host.start();
    assert!(owners(&host) == before);
    assert!(versions(&host)[0].backends.iter().any(|backend| backend.address == std::net::IpAddr::from([10, 0, 1, 2])));
    let Ok(Response::Events(events)) = ask(&mut owner, Request::Events { after: 0, limit: 100 }) else {
        panic!("no events")
    };
    let lost = events.iter().find(|event| event.kind == "exceptionsLost").expect("it is said");
    assert!(lost.message.starts_with("7 flows in progress had an exception entry"), "{}", lost.message);
    host.seconds(&mut owner, 200);
    assert_eq!((unsettled(&mut owner), is_split(&host)), ([0, 0], true));
}

#[test]
fn a_removed_backend_serves_its_flows_until_its_slots_are_settled() {
    let host = host();
    let mut owner = host.start();
    host.configure(&quick(&CONFIG.replace(", {address: 10.0.1.2}", "")));
    assert_eq!(reload(&mut owner), ["service recsys: backend 10.0.1.2:80 of v1 removed"]);
    let [v1, _] = versions(&host).try_into().expect("two versions");
    assert_eq!(
        (v1.backends.len(), v1.slots.home.iter().filter(|id| **id == v1.backends[1].id).count()),
        (2, SLOTS / 2)
    );
    assert!(v1.slots.current.iter().all(|id| *id == v1.backends[0].id));
    host.seconds(&mut owner, 100);
    assert_eq!((versions(&host)[0].backends.len(), is_split(&host)), (1, true));
}

#[test]
fn a_version_that_takes_anothers_place_in_the_file_gets_a_place_of_its_own_and_at_last_the_others() {
    let host = host();
    let mut owner = host.start();
    weights(&mut owner, &[("v2", 100)]);
    let third = CONFIG.replace(
        "name: v1, backends: [{address: 10.0.1.1}, {address: 10.0.1.2}]",
        "name: v3, backends: [{address: 10.0.5.1}]",
    );
    host.configure(&quick(&third.replace("weights: {v1: 100, v2: 0}", "weights: {v2: 100, v3: 0}")));
    reload(&mut owner);
    assert_eq!(versions(&host).iter().map(|version| version.place).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(buckets(&host, 0).iter().all(|bucket| (bucket.current(), bucket.home()) == (1, 0)));
    host.seconds(&mut owner, 110);
    assert_eq!(versions(&host).iter().map(|version| version.place).collect::<Vec<_>>(), [0, 1]);
    assert!(is_split(&host));
    let status = status(&mut owner);
    let shown: Vec<_> = status.services[0].versions.iter().map(|of| (of.name.to_string(), of.buckets)).collect();
    assert_eq!(shown, [("v3".to_owned(), 0), ("v2".to_owned(), BUCKETS)]);
    let before = host.kernel.memory().published.clone();
    drop(owner);
    let _owner = host.start();
    assert_eq!(host.kernel.memory().published, before);
}

const THREE: &str = "
services:
- name: recsys
  vip: 192.0.2.10
  port: 80
  versions:
  - {name: v1, backends: [{address: 10.0.1.1}]}
  - {name: v2, backends: [{address: 10.0.2.1}]}
  - {name: v3, backends: [{address: 10.0.3.1}]}
  segments:
  - {name: asia, match: {sources: [203.0.113.0/24]}}
";

fn segment_weights(weights: &[(&str, u16)]) -> Request {
    match set_weights(weights, ChangeOptions::default()) {
        Request::WeightsSet { service, segment: _, weights, options } => {
            Request::WeightsSet { service, segment: Some(name("asia")), weights, options }
        }
        other => other,
    }
}

#[test]
fn three_versions_and_a_segment_have_weights_that_last() {
    let host = Host::new();
    host.configure(&quick(THREE));
    let mut owner = host.start();
    weights(&mut owner, &[("v1", 50), ("v2", 30), ("v3", 20)]);
    let shares = |host: &Host, segment| {
        buckets(host, segment).iter().fold([0; 3], |mut counts, bucket| {
            counts[usize::from(bucket.current())] += 1;
            counts
        })
    };
    // 16,384 × 0.5, 0.3, 0.2 = 8192, 4915.2, 3276.8.
    assert_eq!((shares(&host, 0), shares(&host, 1)), ([8_192, 4_915, 3_277], [8_192, 4_915, 3_277]));
    done(ask(&mut owner, segment_weights(&[("v1", 100)])));
    assert_eq!((shares(&host, 0), shares(&host, 1)), ([8_192, 4_915, 3_277], [16_384, 0, 0]));
    weights(&mut owner, &[("v1", 40), ("v2", 30), ("v3", 30)]);
    assert_eq!((shares(&host, 0), shares(&host, 1)), ([6_554, 4_915, 4_915], [16_384, 0, 0]));
    let before = host.kernel.memory().published.clone();
    drop(owner);
    let mut owner = host.start();
    assert_eq!(host.kernel.memory().published, before);
    let shown = &status(&mut owner).services[0].segments[0];
    assert_eq!(shown.buckets.values().copied().collect::<Vec<_>>(), [16_384, 0, 0]);
    let wrong = ask(
        &mut owner,
        match segment_weights(&[("v1", 100)]) {
            Request::WeightsSet { service, segment: _, weights, options } => {
                Request::WeightsSet { service, segment: Some(name("asien")), weights, options }
            }
            other => other,
        },
    );
    assert_eq!(refused(wrong).message, "there is no segment of recsys `asien`; did you mean `asia`?");
}

#[test]
fn a_segment_that_is_removed_serves_its_flows_until_its_sources_are_settled() {
    let host = Host::new();
    host.configure(&quick(THREE));
    let mut owner = host.start();
    done(ask(&mut owner, segment_weights(&[("v2", 100)])));
    host.seconds(&mut owner, 100);
    host.configure(&quick(THREE.split("  segments:").next().expect("before")));
    reload(&mut owner);
    let tables = |host: &Host| match &host.kernel.memory().published[0].buckets {
        WantedBuckets::Cells(tables) => tables.len(),
        WantedBuckets::Split(_) => panic!("three versions"),
    };
    assert_eq!((tables(&host), status(&mut owner).services[0].settling.unsettled_sources), (2, 1));
    host.seconds(&mut owner, 100);
    assert_eq!((tables(&host), owner.layout.services[&name("recsys")].segments.len()), (1, 0));
}

#[test]
fn nothing_settles_while_the_journal_cannot_hold_it() {
    let host = host();
    let mut owner = host.start();
    weights(&mut owner, &[("v2", 100)]);
    host.break_journal(true);
    host.seconds(&mut owner, 200);
    assert_eq!(unsettled(&mut owner)[0], u64::from(BUCKETS));
    assert!(buckets(&host, 0).iter().all(|bucket| bucket.pins() && bucket.home() == 0));
    host.break_journal(false);
    host.seconds(&mut owner, 200);
    assert!(is_split(&host));
}

#[test]
fn a_rollout_back_and_forth_settles_in_the_end() {
    let mut host = host();
    host.refusing = vec!["v2"];
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.seconds(&mut owner, 5);
    assert_eq!(state(&mut owner), RolloutState::RolledBack);
    assert!(buckets(&host, 0).iter().all(|bucket| bucket.is_settled()));
    host.seconds(&mut owner, 10);
    assert!(is_split(&host));
}

#[test]
fn a_file_that_is_edited_between_two_runs_lets_things_leave_as_a_reload_does() {
    let edited = THREE
        .replace("  - {name: v3, backends: [{address: 10.0.3.1}]}\n", "")
        .replace("10.0.1.1", "10.0.1.9")
        .replace("  segments:\n  - {name: asia, match: {sources: [203.0.113.0/24]}}\n", "");
    let settled = || {
        let host = host();
        host.configure(&quick(THREE));
        let mut owner = host.start();
        weights(&mut owner, &[("v1", 50), ("v3", 50)]);
        done(ask(&mut owner, segment_weights(&[("v2", 100)])));
        host.seconds(&mut owner, 110);
        assert_eq!(unsettled(&mut owner), [0, 0]);
        host.configure(&quick(&edited));
        (host, owner)
    };
    let held = |host: &Host| {
        let memory = host.kernel.memory();
        let service = &memory.wanted.services[0];
        let WantedBuckets::Cells(tables) = &service.buckets else { panic!("a split") };
        let owners = |table: &std::sync::Arc<[Bucket]>| {
            table.iter().map(|bucket| (bucket.current(), bucket.home())).collect::<Vec<_>>()
        };
        let slots = service.versions.iter().map(|version| {
            let WantedVersion { id, place, backends, slots, .. } = version;
            (*id, *place, backends.clone(), slots.current.clone(), slots.home.clone())
        });
        (tables.iter().map(owners).collect::<Vec<_>>(), slots.collect::<Vec<_>>(), service.segments.clone())
    };

    let (reloaded, mut owner) = settled();
    reload(&mut owner);
    let wanted = held(&reloaded);
    assert!(wanted.0[0].iter().any(|(current, home)| (*current, *home) == (0, 2)));
    assert_eq!((wanted.0.len(), wanted.1.len(), wanted.1[0].2.len()), (2, 3, 2));

    let (restarted, owner) = settled();
    drop(owner);
    let mut owner = restarted.start();
    assert!(held(&restarted) == wanted);
    assert_eq!(events(&mut owner).last().map(String::as_str), Some("weightsApplied"));

    let (mut rebooted, owner) = settled();
    drop(owner);
    rebooted.reboot();
    let _owner = rebooted.start();
    assert!(held(&rebooted) == wanted);
}
