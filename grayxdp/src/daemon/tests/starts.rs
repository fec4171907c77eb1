//! Starting, restarting, rebooting.

use super::*;

#[test]
fn the_first_start_publishes_the_files_weights_and_then_attaches() {
    let host = Host::new();
    let mut owner = host.start();
    assert!(host.kernel.memory().attached);
    let status = status(&mut owner);
    assert_eq!((status.services[0].versions[0].buckets, status.services[0].versions[1].buckets), (BUCKETS, 0));
    assert_eq!((status.services[0].stable.clone(), status.warnings), (name("v1"), vec![]));
}

#[test]
fn a_restart_finds_weights_and_epochs_as_they_were() {
    let host = Host::new();
    let mut owner = host.start();
    done(ask(&mut owner, set_weights(&[("v1", 75), ("v2", 25)], ChangeOptions::default())));
    let before = host.kernel.memory().published.clone();
    drop(owner);
    let mut owner = host.start();
    assert_eq!(host.kernel.memory().published, before);
    assert_eq!(status(&mut owner).services[0].versions[1].weight.to_string(), "25");
}

#[test]
fn a_reboot_restores_the_weights_that_were_applied_last() {
    let mut host = Host::new();
    let mut owner = host.start();
    done(ask(&mut owner, set_weights(&[("v1", 75), ("v2", 25)], ChangeOptions::default())));
    let before = host.kernel.memory().published.clone();
    drop(owner);
    host.reboot();
    let _owner = host.start();
    assert_eq!(host.kernel.memory().published, before);
}

#[test]
fn a_file_that_differs_from_what_is_applied_is_shown_as_drift() {
    let host = Host::new();
    let mut owner = host.start();
    assert_eq!(status(&mut owner).services[0].drift, None);
    done(ask(&mut owner, set_weights(&[("v1", 75), ("v2", 25)], ChangeOptions::default())));
    let drift = status(&mut owner).services[0].drift.clone().expect("drift");
    assert!(drift.starts_with("the file has v1=100 v2=0, applied are v1=75 v2=25;"), "{drift}");

    // A version that joins a settled service has no weight, whether the record names it or not.
    let weights = |owner: &mut Owner, weights| done(ask(owner, set_weights(weights, ChangeOptions::default())));
    weights(&mut owner, &[("v1", 100)]);
    host.configure(
        &CONFIG
            .replace("weights: {v1: 100, v2: 0}", "weights: {v1: 100}")
            .replace("  - {name: v2,", "  - {name: v3, backends: [{address: 10.0.7.1}]}\n  - {name: v2,"),
    );
    done(ask(
        &mut owner,
        Request::Reload { diff: false, reset_weights: Vec::new(), options: ChangeOptions::default() },
    ));
    weights(&mut owner, &[("v1", 90), ("v2", 10)]);
    weights(&mut owner, &[("v1", 100)]);
    assert_eq!(status(&mut owner).services[0].drift, None);
}

#[test]
fn a_second_daemon_is_refused_in_one_line() {
    let host = Host::new();
    let _first = host.start();
    let error = host.try_start().err().expect("a refusal").to_string();
    assert!(error.contains("another grayxdp daemon"), "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn a_restart_resumes_a_rollout_and_a_reboot_pauses_it() {
    let mut host = Host::new();
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.seconds(&mut owner, 3);
    let before = host.kernel.memory().published.clone();
    drop(owner);
    let mut owner = host.start();
    assert_eq!(
        (state(&mut owner), host.kernel.memory().published.clone()),
        (RolloutState::Progressing, before.clone())
    );
    drop(owner);
    host.reboot();
    let mut owner = host.start();
    assert_eq!((state(&mut owner), host.kernel.memory().published.clone()), (RolloutState::Paused, before));
    done(ask(&mut owner, change("recsys-v2", RolloutAction::Resume)));
    host.seconds(&mut owner, 60);
    assert_eq!(state(&mut owner), RolloutState::Promoted);
}

#[test]
fn weights_that_reached_the_kernel_but_not_the_journal_are_found_applied() {
    let host = Host::new();
    let mut owner = host.start();
    let (service, before) = owner.known(&name("recsys")).expect("a service");
    let weights = [(name("v1"), Weight::ZERO), (name("v2"), Weight::FULL)];
    let next = super::super::held::next(&before, &service, weights.into(), &BTreeMap::new(), None);
    owner.journal.begin_intent(&name("recsys"), &next).expect("an intent");
    owner.publish(&name("recsys"), next).expect("published");
    drop(owner);
    let mut owner = host.start();
    assert_eq!(host.candidate_buckets(), BUCKETS);
    assert!(events(&mut owner).contains(&"weightsApplied".to_owned()));
}

#[test]
fn a_configuration_without_the_candidate_fails_its_rollout_and_serves_the_rest() {
    let host = Host::new();
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.seconds(&mut owner, 3);
    drop(owner);
    host.configure(&CONFIG.replace("  - {name: v2, backends: [{address: 10.0.2.1}]}\n", "").replace(", v2: 0", ""));
    let mut owner = host.start();
    assert_eq!(state(&mut owner), RolloutState::Failed);
    assert_eq!(status(&mut owner).services[0].versions.len(), 1);
}
