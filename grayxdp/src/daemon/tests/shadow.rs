//! Shadow releases: what the kernel is asked for, where copies go, and what outlives what.

use std::sync::Arc;

use tokio::sync::watch;

use super::*;
use crate::{
    model::kernel::{COPY_ALL, Content, Copied, CopiesAsked, Copy, CopySink, Explanation},
    providers::{ShadowTargets, shadow_queue},
};

const CONFIG: &str = "
services:
- name: recsys
  vip: 192.0.2.10
  port: 53
  protocol: udp
  healthCheck: {type: tcp, port: 80}
  versions:
  - {name: v1, backends: [{address: 10.0.1.1}]}
  - {name: v2, backends: [{address: 10.0.2.1, port: 5353}, {address: 10.0.2.2}]}
- name: search
  vip: 192.0.2.11
  port: 53
  protocol: udp
  versions:
  - {name: old, backends: [{address: 10.0.3.1}]}
  - {name: new, backends: [{address: 10.0.4.1}]}
";

fn shadow(rollout: &str, service: &str, candidate: &str, sample: f64) -> Plan {
    let json = serde_json::json!({
        "apiVersion": "grayxdp.io/v1", "kind": "Rollout", "metadata": {"name": rollout},
        "spec": {
            "service": service, "candidate": candidate, "strategy": {"shadow": {"sample": sample, "duration": "1h"}},
            "analysis": {"interval": "2s", "metrics": [
                {"name": "errors", "provider": {"kernel": {"signal": "connectFailureRatio"}}, "thresholdRange": {"max": 0.02}},
            ]},
        },
    });
    serde_json::from_value(json).expect("a plan")
}

/// A daemon, and the way of copies to those who send them.
fn start(
    host: &Host,
) -> (Owner, watch::Receiver<ShadowTargets>, tokio::sync::mpsc::Receiver<crate::providers::Datagram>) {
    let mut owner = host.start();
    let (targets, watched) = watch::channel(ShadowTargets::default());
    let (sink, datagrams) = shadow_queue(watched.clone());
    owner.begin_shadows(targets, sink);
    (owner, watched, datagrams)
}

fn asked(host: &Host) -> Vec<CopiesAsked> {
    let memory = host.kernel.memory();
    memory.copied.as_ref().map(|(asked, _)| asked.values().copied().collect()).unwrap_or_default()
}

fn sink(host: &Host) -> CopySink {
    Arc::clone(&host.kernel.memory().copied.as_ref().expect("copies are asked for").1.0)
}

fn copy(owner: &Owner, service: &str, version: &str) -> Copied {
    let (service, version) = (name(service), name(version));
    let ids = &owner.layout.ids;
    let explanation = Explanation {
        service: ids.service(&service).expect("a number").0,
        version: ids.version(&service, &version).expect("a number").0,
        ..Explanation::default()
    };
    let client = "10.64.0.1:4000".parse().expect("an address");
    Copied::Packet(Box::new(Copy { client, port: 53, explanation, content: Content::Datagram(b"what".to_vec()) }))
}

#[test]
fn two_shadows_are_copied_at_once_and_each_ends_by_itself() {
    let host = Host::new();
    host.configure(CONFIG);
    let (mut owner, targets, mut datagrams) = start(&host);
    assert_eq!(asked(&host), []);
    start_rollout(&mut owner, shadow("recsys-v2", "recsys", "v2", 10.0)).expect("a shadow");
    start_rollout(&mut owner, shadow("search-new", "search", "new", 100.0)).expect("another");
    host.seconds(&mut owner, 2);
    let rates: Vec<_> = asked(&host).iter().map(|asked| (asked.whole, asked.first)).collect();
    assert_eq!(rates, [(COPY_ALL / 10, 0), (COPY_ALL, 0)]);
    let backends = |targets: &ShadowTargets| targets.values().map(|target| target.backends.len()).collect::<Vec<_>>();
    assert_eq!(backends(&targets.borrow()), [2, 1]);
    assert_eq!(host.candidate_buckets(), 0);

    let copied = |owner: &mut Owner, name: &str| rollout(owner, name).shadow.expect("counts").copied;
    sink(&host)(copy(&owner, "recsys", "v1"));
    sink(&host)(copy(&owner, "recsys", "v2"));
    host.second(&mut owner);
    assert_eq!((copied(&mut owner, "recsys-v2"), copied(&mut owner, "search-new")), (1, 0));
    assert!(datagrams.try_recv().is_ok() && datagrams.try_recv().is_err(), "what went to the candidate is not copied");

    done(ask(&mut owner, change("recsys-v2", RolloutAction::Abort)));
    host.second(&mut owner);
    assert_eq!(
        (state(&mut owner), asked(&host).len(), backends(&targets.borrow())),
        (RolloutState::RolledBack, 1, vec![1])
    );
    assert_eq!(copied(&mut owner, "recsys-v2"), 1, "what was counted stays known");
    done(ask(&mut owner, change("search-new", RolloutAction::Abort)));
    host.second(&mut owner);
    assert!(asked(&host).is_empty() && targets.borrow().is_empty());
}

#[test]
fn a_restarted_daemon_goes_on_copying_and_counts_on() {
    let host = Host::new();
    host.configure(CONFIG);
    let (mut owner, ..) = start(&host);
    start_rollout(&mut owner, shadow("recsys-v2", "recsys", "v2", 10.0)).expect("a shadow");
    host.seconds(&mut owner, 2);
    sink(&host)(copy(&owner, "recsys", "v1"));
    host.seconds(&mut owner, 10);
    drop(owner);
    host.kernel.memory().copied = None;
    let (mut owner, ..) = start(&host);
    assert_eq!((state(&mut owner), asked(&host).len()), (RolloutState::Progressing, 1));
    sink(&host)(copy(&owner, "recsys", "v1"));
    host.second(&mut owner);
    assert_eq!(rollout(&mut owner, "recsys-v2").shadow.map(|counts| counts.copied), Some(2));
}

#[test]
fn a_kernel_that_does_not_copy_is_told_of_and_asked_again() {
    let host = Host::new();
    host.configure(CONFIG);
    let (mut owner, ..) = start(&host);
    start_rollout(&mut owner, shadow("recsys-v2", "recsys", "v2", 10.0)).expect("a shadow");
    host.kernel.memory().broken = true;
    host.seconds(&mut owner, 3);
    let warned = |owner: &mut Owner| status(owner).warnings.iter().any(|line| line.contains("nothing is copied"));
    assert!(warned(&mut owner));
    assert_eq!(asked(&host), []);
    host.kernel.memory().broken = false;
    host.seconds(&mut owner, 2);
    assert!(!warned(&mut owner));
    assert_eq!(asked(&host).len(), 1);
}

#[test]
fn a_reload_that_takes_the_service_of_a_shadow_away_needs_force_and_ends_the_copies() {
    let host = Host::new();
    host.configure(CONFIG);
    let (mut owner, targets, _datagrams) = start(&host);
    start_rollout(&mut owner, shadow("search-new", "search", "new", 50.0)).expect("a shadow");
    host.seconds(&mut owner, 2);
    assert_eq!(asked(&host).len(), 1);
    host.configure(&CONFIG[..CONFIG.find("- name: search").expect("it is there")]);
    let reload = |force| Request::Reload {
        diff: false,
        reset_weights: Vec::new(),
        options: ChangeOptions { force, ..ChangeOptions::default() },
    };
    assert!(refused(ask(&mut owner, reload(false))).message.contains("search-new"));
    host.second(&mut owner);
    assert_eq!(asked(&host).len(), 1);
    done(ask(&mut owner, reload(true)));
    host.second(&mut owner);
    assert!(asked(&host).is_empty() && targets.borrow().is_empty());
}
