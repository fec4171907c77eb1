//! Whole rollouts through the daemon.

use super::*;

#[test]
fn a_sound_candidate_is_promoted_and_is_the_stable_version_from_then_on() {
    let host = Host::new();
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.seconds(&mut owner, 40);
    assert_eq!((state(&mut owner), host.candidate_buckets()), (RolloutState::Promoted, BUCKETS));
    drop(owner);
    let mut owner = host.start();
    assert_eq!(status(&mut owner).services[0].stable, name("v2"));
    assert_eq!((state(&mut owner), host.candidate_buckets()), (RolloutState::Promoted, BUCKETS));
    let kinds = events(&mut owner);
    assert_eq!(kinds.iter().filter(|kind| *kind == "stepReached").count(), 3, "{kinds:?}");
    let error = refused(start_rollout(&mut owner, canary()));
    assert_eq!(error.message, "v2 is the stable version of recsys already");
}

#[test]
fn a_refusing_candidate_is_rolled_back_by_itself() {
    let mut host = Host::new();
    host.refusing = vec!["v2"];
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.seconds(&mut owner, 5);
    assert_eq!((state(&mut owner), host.candidate_buckets()), (RolloutState::RolledBack, 0));
    let found = rollout(&mut owner, "recsys-v2");
    assert_eq!(found.findings[0].sentence, "v2 refuses 100 % of 98 connections; limit 2 %");
    assert_eq!(host.kernel.memory().published[0].epoch, 3);
    start_rollout(&mut owner, canary()).expect("another try may begin");
}

#[test]
fn only_one_rollout_runs_on_a_service() {
    let host = Host::new();
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    let error = refused(start_rollout(&mut owner, canary()));
    assert_eq!(error.class, crate::model::api::ErrorClass::Conflict);
    assert!(error.message.starts_with("rollout recsys-v2 (pending) runs on service recsys;"), "{error}");
}

#[test]
fn a_rollout_begins_only_where_stable_has_everything() {
    let host = Host::new();
    let mut owner = host.start();
    done(ask(&mut owner, set_weights(&[("v1", 90), ("v2", 10)], ChangeOptions::default())));
    let error = refused(start_rollout(&mut owner, canary()));
    assert!(error.message.ends_with("`grayxdp weights set recsys v1=100`"), "{error}");
}

#[test]
fn a_kernel_that_fails_is_tried_until_it_works() {
    let host = Host::new();
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.kernel.memory().broken = true;
    host.seconds(&mut owner, 20);
    let pending = rollout(&mut owner, "recsys-v2");
    assert_eq!(pending.state, RolloutState::Pending);
    assert!(pending.message.contains("no memory for the tables"), "{}", pending.message);
    host.kernel.memory().broken = false;
    host.seconds(&mut owner, 80);
    assert_eq!(state(&mut owner), RolloutState::Promoted);
}

#[test]
fn without_a_journal_nothing_more_is_exposed_and_an_abort_works_at_once() {
    let host = Host::new();
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.seconds(&mut owner, 3);
    host.break_journal(true);
    host.seconds(&mut owner, 60);
    assert_eq!(host.candidate_buckets(), 819);
    let warnings = status(&mut owner).warnings;
    assert!(warnings[0].starts_with("the journal cannot be written, nothing more is exposed"), "{warnings:?}");

    done(ask(&mut owner, change("recsys-v2", RolloutAction::Abort)));
    assert_eq!((state(&mut owner), host.candidate_buckets()), (RolloutState::RolledBack, 0));
    // The journal still says 5 %: the next start adopts what the kernel holds.
    drop(owner);
    host.break_journal(false);
    let mut owner = host.start();
    assert_eq!((state(&mut owner), host.candidate_buckets()), (RolloutState::RolledBack, 0));
}

#[test]
fn weights_that_somebody_else_wrote_freeze_the_rollout() {
    let host = Host::new();
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.seconds(&mut owner, 3);
    {
        let mut memory = host.kernel.memory();
        let half = |bucket: u16| Bucket::new(u8::from(bucket < BUCKETS / 2), 0, false, false);
        memory.published[0].buckets = WantedBuckets::Cells(vec![(0..BUCKETS).map(half).collect()]);
        memory.published[0].epoch += 1;
    }
    host.second(&mut owner);
    let frozen = rollout(&mut owner, "recsys-v2");
    assert_eq!((frozen.state, frozen.weight.to_string()), (RolloutState::Frozen, "50".to_owned()));
    done(ask(&mut owner, change("recsys-v2", RolloutAction::Resume)));
    host.second(&mut owner);
    assert_eq!(host.candidate_buckets(), 819);
}

#[test]
fn a_dry_run_of_an_abort_says_what_it_would_do() {
    let host = Host::new();
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.seconds(&mut owner, 3);
    let options = ChangeOptions { dry_run: true, ..ChangeOptions::default() };
    let request = Request::RolloutChange { name: name("recsys-v2"), action: RolloutAction::Abort, options };
    let dry = done(ask(&mut owner, request));
    assert_eq!(dry, Done { changes: vec!["v2 0 %".to_owned(), "aborted at 5 %".to_owned()], dry_run: true });
    assert_eq!((state(&mut owner), host.candidate_buckets()), (RolloutState::Progressing, 819));
}

#[test]
fn an_action_that_does_not_fit_is_refused_in_one_line() {
    let host = Host::new();
    let mut owner = host.start();
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.seconds(&mut owner, 3);
    let error = refused(ask(&mut owner, change("recsys-v2", RolloutAction::Resume)));
    assert_eq!(error.message, "rollout recsys-v2 (progressing) is not paused");
    let error = refused(ask(&mut owner, change("recsys-v3", RolloutAction::Resume)));
    assert_eq!(error.message, "there is no rollout `recsys-v3`; did you mean `recsys-v2`?");
}

/// A daemon dies at its n-th write to the kernel; what the next one makes of it, and what the kernel held in between.
fn killed(refusing: bool, write: u32, moment: Moment) -> Option<(Host, Owner, u16)> {
    let mut host = Host::new();
    if refusing {
        host.refusing = vec!["v2"];
    }
    host.kernel.memory().dies_at = Some((write, moment));
    let run = std::panic::AssertUnwindSafe(|| {
        let mut owner = host.start();
        start_rollout(&mut owner, canary()).expect("a rollout");
        host.seconds(&mut owner, 40);
    });
    std::panic::catch_unwind(run).err()?;
    host.kernel.memory().dies_at = None;
    let between = host.candidate_buckets();
    let owner = host.start();
    Some((host, owner, between))
}

#[test]
fn a_daemon_that_dies_at_any_write_to_the_kernel_goes_on_where_it_was_and_exposes_no_more() {
    for (refusing, end) in [(false, RolloutState::Promoted), (true, RolloutState::RolledBack)] {
        for moment in [Moment::Before, Moment::After] {
            let mut kills = 0;
            // The first write is that of the start.
            while let Some((host, mut owner, between)) = killed(refusing, kills + 2, moment) {
                kills += 1;
                let what = format!("{end:?}, write {kills}, {moment:?}");
                assert!(host.candidate_buckets() <= between, "{what}");
                host.seconds(&mut owner, 60);
                assert_eq!(state(&mut owner), end, "{what}: {}", rollout(&mut owner, "recsys-v2").message);
            }
            // Three steps and what a promoted rollout no longer needs; a step and the rollback; and what settles.
            assert!(kills >= if refusing { 2 } else { 4 }, "{kills}");
        }
    }
}
