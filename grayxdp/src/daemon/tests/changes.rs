//! Weights, reloads, explain, detach.

use super::*;

fn reload(options: ChangeOptions) -> Request {
    Request::Reload { diff: false, reset_weights: Vec::new(), options }
}

fn force() -> ChangeOptions {
    ChangeOptions { force: true, ..ChangeOptions::default() }
}

#[test]
fn weights_that_are_wrong_change_nothing_and_say_what_is_wrong() {
    let host = Host::new();
    let mut owner = host.start();
    let cases: [(&[(&str, u16)], &str); 2] = [
        (&[("v1", 70), ("v2", 20)], "the weights of recsys sum to 90, not to 100"),
        (&[("v1", 70), ("v3", 30)], "there is no version of recsys `v3`; did you mean"),
    ];
    for (weights, message) in cases {
        let error = refused(ask(&mut owner, set_weights(weights, ChangeOptions::default())));
        assert!(error.message.starts_with(message), "{error}");
    }
    let request = Request::RolloutGet { name: name("recsy") };
    assert_eq!(refused(ask(&mut owner, request)).message, "there is no rollout `recsy`; there is none yet");
    assert_eq!(host.kernel.memory().publishes, 1);
}

#[test]
fn a_dry_run_and_another_epoch_change_nothing() {
    let host = Host::new();
    let mut owner = host.start();
    let options = ChangeOptions { dry_run: true, ..ChangeOptions::default() };
    let dry = done(ask(&mut owner, set_weights(&[("v2", 100)], options)));
    assert_eq!(dry, Done { changes: vec!["recsys: v1=100 v2=0 → v1=0 v2=100".to_owned()], dry_run: true });
    let options = ChangeOptions { if_epoch: Some(9), ..ChangeOptions::default() };
    let error = refused(ask(&mut owner, set_weights(&[("v2", 100)], options)));
    assert_eq!(error.message, "service recsys is at epoch 1, not 9: somebody changed it; look again");
    assert_eq!((host.candidate_buckets(), host.kernel.memory().publishes), (0, 1));
}

#[test]
fn a_kernel_that_does_not_take_weights_leaves_everything_as_it_was() {
    let host = Host::new();
    let mut owner = host.start();
    host.kernel.memory().broken = true;
    let error = refused(ask(&mut owner, set_weights(&[("v2", 100)], ChangeOptions::default())));
    assert_eq!(error.message, "nothing was changed: no memory for the tables; free some");
    assert_eq!(status(&mut owner).services[0].epoch, 1);
    host.kernel.memory().broken = false;
    done(ask(&mut owner, set_weights(&[("v2", 100)], ChangeOptions::default())));
    assert_eq!(host.candidate_buckets(), BUCKETS);
}

#[test]
fn weights_are_not_set_while_the_journal_cannot_hold_them() {
    let host = Host::new();
    let mut owner = host.start();
    host.break_journal(true);
    let error = refused(ask(&mut owner, set_weights(&[("v2", 100)], ChangeOptions::default())));
    assert!(error.message.starts_with("nothing was changed: "), "{error}");
    assert_eq!(host.candidate_buckets(), 0);
}

#[test]
fn weights_in_a_rollout_are_refused_and_forced_ones_freeze_it() {
    let host = Host::new();
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.seconds(&mut owner, 3);
    let error = refused(ask(&mut owner, set_weights(&[("v1", 20), ("v2", 80)], ChangeOptions::default())));
    assert!(error.message.contains("`grayxdp rollout abort recsys-v2` first"), "{error}");
    done(ask(&mut owner, set_weights(&[("v1", 20), ("v2", 80)], force())));
    host.seconds(&mut owner, 30);
    assert_eq!((state(&mut owner), host.candidate_buckets()), (RolloutState::Frozen, 13_107));
    assert_eq!(rollout(&mut owner, "recsys-v2").message, "uid 1000 (ann) set v2 to 80 % during the rollout");
}

#[test]
fn a_reload_applies_the_file_and_keeps_the_applied_weights() {
    let host = Host::new();
    let mut owner = host.start();
    done(ask(&mut owner, set_weights(&[("v1", 75), ("v2", 25)], ChangeOptions::default())));
    let buckets = host.kernel.memory().published[0].buckets.clone();
    host.configure(&CONFIG.replace("[{address: 10.0.2.1}]", "[{address: 10.0.2.1}, {address: 10.0.2.2}]"));
    let changes = done(ask(&mut owner, reload(ChangeOptions::default()))).changes;
    assert_eq!(changes, ["service recsys: backend 10.0.2.2:80 of v2 added, weight 1"]);
    let memory = host.kernel.memory();
    assert_eq!((&memory.published[0].buckets, memory.wanted.services[0].versions[1].backends.len()), (&buckets, 2));
}

#[test]
fn a_wrong_file_or_a_kernel_that_fails_leaves_the_old_configuration() {
    let host = Host::new();
    let mut owner = host.start();
    host.configure(&CONFIG.replace("vip: 192.0.2.11", "vip: 192.0.2.10"));
    assert!(ask(&mut owner, reload(ChangeOptions::default())).is_err());
    host.configure(&CONFIG.replace("name: search", "name: find"));
    host.kernel.memory().broken = true;
    assert!(ask(&mut owner, reload(ChangeOptions::default())).is_err());
    host.kernel.memory().broken = false;
    assert_eq!(status(&mut owner).services[1].name, name("search"));
    done(ask(&mut owner, reload(ChangeOptions::default())));
    assert_eq!(status(&mut owner).services[1].name, name("find"));
}

#[test]
fn weights_of_the_file_are_taken_only_when_asked_for() {
    let host = Host::new();
    let mut owner = host.start();
    done(ask(&mut owner, set_weights(&[("v1", 75), ("v2", 25)], ChangeOptions::default())));
    let reset = vec![name("recsys")];
    let request = Request::Reload { diff: false, reset_weights: reset, options: ChangeOptions::default() };
    let changes = done(ask(&mut owner, request)).changes;
    assert_eq!(changes, ["service recsys: weights v1=75 v2=25 → v1=100 v2=0"]);
    assert_eq!((host.candidate_buckets(), status(&mut owner).services[0].drift.clone()), (0, None));
}

#[test]
fn a_reload_that_takes_a_rollouts_version_away_is_refused_and_forced_aborts_first() {
    let host = Host::new();
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.seconds(&mut owner, 3);
    host.configure(&CONFIG.replace("name: v2,", "name: v3,").replace("v2: 0", "v3: 0"));
    let error = refused(ask(&mut owner, reload(ChangeOptions::default())));
    assert!(error.message.starts_with("nothing was changed: version v2 of recsys is removed while rollout"), "{error}");
    assert_eq!(state(&mut owner), RolloutState::Progressing);
    done(ask(&mut owner, reload(force())));
    assert_eq!((state(&mut owner), host.candidate_buckets()), (RolloutState::RolledBack, 0));
    assert_eq!(status(&mut owner).services[0].versions[1].name, name("v3"));
}

#[test]
fn explain_names_what_the_program_saw() {
    let host = Host::new();
    let mut owner = host.start();
    let (source, destination) = ("198.51.100.7:4711".parse(), "192.0.2.10:80".parse());
    let request = Request::Explain {
        source: source.expect("an address"),
        destination: destination.expect("an address"),
        protocol: Protocol::Tcp,
        dscp: 0,
        later: false,
        at: None,
    };
    let Ok(Response::Explained(way)) = ask(&mut owner, request) else { panic!("not explained") };
    assert_eq!((way.fate.as_str(), way.service, way.version), ("forwarded", Some(name("recsys")), Some(name("v2"))));
    assert_eq!((way.bucket, way.slot, way.backend), (Some(77), Some(5), "10.0.2.1:80".parse().ok()));
    let later = way.later.expect("a later packet");
    assert_eq!((later.home, later.choice), (Some("v2/10.0.2.1:80".to_owned()), None));
    assert_eq!(later.turns, ["flows in progress without an entry go by home"]);
    assert_eq!((way.choice, way.home), (Some("v2/10.0.2.1:80".to_owned()), None));
}

#[test]
fn observed_and_live_shares_come_from_the_counters() {
    let host = Host::new();
    let mut owner = host.start();
    done(ask(&mut owner, set_weights(&[("v1", 75), ("v2", 25)], ChangeOptions::default())));
    host.seconds(&mut owner, 12);
    let status = status(&mut owner);
    let v2 = &status.services[0].versions[1];
    assert_eq!((v2.observed, v2.live, v2.flows_per_second), (Some(0.25), Some(0.25), 250.0));
    let view = owner.metrics().expect("metrics");
    assert_eq!((view.services[0].versions[1].buckets, view.services[0].bucket_moves), (4_096, 4_096));
    assert_eq!(view.services[0].versions[1].totals.syns, 12 * 250);
}

#[test]
fn detach_waits_for_rollouts_unless_forced() {
    let host = Host::new();
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.second(&mut owner);
    assert!(ask(&mut owner, Request::Detach { options: ChangeOptions::default() }).is_err());
    done(ask(&mut owner, Request::Detach { options: force() }));
    assert!(host.kernel.memory().detached && owner.detached);
}

#[test]
fn a_reload_waits_for_no_fifo_and_reads_no_device() {
    let host = Host::new();
    let mut owner = host.start();
    let path = host.config_path();
    let publishes = host.kernel.memory().publishes;
    std::fs::remove_file(&path).expect("it was there");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("coreutils");
    assert!(made.success());
    let error = refused(ask(&mut owner, reload(ChangeOptions::default())));
    assert!(error.message.ends_with("grayxdp.yaml: cannot be read: it is no regular file; name one"), "{error}");
    std::fs::remove_file(&path).expect("it was there");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
    assert!(refused(ask(&mut owner, reload(ChangeOptions::default()))).message.contains("no regular file"));
    assert_eq!(host.kernel.memory().publishes, publishes);
}

#[test]
fn an_interface_that_lost_the_program_gets_it_again() {
    let host = Host::new();
    let mut owner = host.start();
    host.kernel.memory().attached = false;
    let warnings = status(&mut owner).warnings;
    assert!(warnings.iter().any(|warning| warning.starts_with("nothing is served on lo")), "{warnings:?}");
    host.second(&mut owner);
    assert!(host.kernel.memory().attached);
    assert_eq!(status(&mut owner).warnings, Vec::<String>::new());
    let kinds = events(&mut owner);
    assert!(kinds.ends_with(&["interfaceLost".to_owned(), "interfaceMended".to_owned()]), "{kinds:?}");
}
