//! Fuse and lease: from the write on that latches, every new flow goes to stable, and flows in progress go on.

use std::time::Duration;

use grayxdp::model::kernel::{
    Bucket, GuardStatus, Kernel as _, Latch, LeaseEnd, WantedFuse, WantedGuard, WantedService,
};
use grayxdp_tests::packet::Flags;

use super::stage::{MOVING, NEW, OLD, SERVICE, Stage, Went, service, with};

const LIMIT: u32 = 3;

/// The second version is the candidate.
fn guarded(bucket: Bucket, no_stable: bool) -> WantedService {
    let fuse = WantedFuse { limit: LIMIT, ratio: 0.5, window: Duration::from_secs(10) };
    let guard =
        WantedGuard { attempt: 1, candidate: 1, stable: 0, fuse: Some(fuse), lease: Some(LeaseEnd::Stable), no_stable };
    WantedService { guard: Some(guard), rollout: 7, measures: true, ..service(bucket) }
}

fn status(stage: &Stage<'_>) -> GuardStatus {
    stage.subject.datapath.guards()[0]
}

/// A new flow that the candidate refuses.
fn refused(stage: &mut Stage<'_>, number: u16) {
    assert_eq!(stage.syn(number, 100), Went::To(NEW));
    stage.answer(NEW, number, Flags::RST_ACK, 0, 101);
}

fn long_lease(stage: &mut Stage<'_>) {
    let until = stage.now() + Duration::from_secs(3_600);
    stage.subject.datapath.renew_lease(SERVICE, until);
}

#[test]
fn the_fuse_turns_the_next_syn_to_stable_and_lets_flows_go_on() {
    with(guarded(MOVING, false), |stage| {
        long_lease(stage);
        stage.connect(1, 100, 200, NEW);
        for number in 10..10 + LIMIT as u16 {
            refused(stage, number);
        }
        assert_eq!((status(stage).tripped, status(stage).failures), (None, u64::from(LIMIT)), "the limit is let pass");
        refused(stage, 20);
        assert_eq!(status(stage).tripped, Some(stage.now()));
        assert_eq!(stage.syn(30, 100), Went::To(OLD), "the very next one");
        assert_eq!(stage.data(1, 101, 201), Went::To(NEW), "a flow of the candidate");
        stage.publish(guarded(MOVING, false));
        assert_eq!(stage.syn(31, 100), Went::To(OLD), "publishing clears no latch");
    });
}

/// At 100 % the default is the candidate: flows to stable are the exceptions now.
#[test]
fn the_fuse_of_a_fully_promoted_version_breaks_no_connection() {
    with(guarded(Bucket::new(1, 1, false, false), false), |stage| {
        long_lease(stage);
        stage.connect(1, 100, 200, NEW);
        for number in 10..=10 + LIMIT as u16 {
            refused(stage, number);
        }
        stage.connect(2, 100, 200, OLD);
        assert_eq!(stage.data(2, 101, 201), Went::To(OLD));
        assert_eq!(stage.data(1, 101, 201), Went::To(NEW), "by default");
    });
}

#[test]
fn failures_outside_the_window_or_too_few_of_the_attempts_trip_nothing() {
    with(guarded(MOVING, false), |stage| {
        long_lease(stage);
        for number in 10..30 {
            refused(stage, number);
            stage.wait(Duration::from_secs(4));
        }
        assert_eq!(status(stage).tripped, None, "never four within ten seconds");
        stage.wait(Duration::from_secs(60));
        for number in 100..200 {
            stage.connect(number, 100, 200, NEW);
        }
        for number in 10..20 {
            refused(stage, number);
        }
        assert_eq!(status(stage).tripped, None, "ten of 110 are no half");
    });
}

#[test]
fn a_syn_repeated_before_any_answer_is_a_failure_and_one_after_it_is_none() {
    with(guarded(MOVING, false), |stage| {
        long_lease(stage);
        stage.syn(1, 100);
        stage.answer(NEW, 1, Flags::SYN_ACK, 200, 101);
        stage.wait(Duration::from_secs(1));
        stage.syn(1, 100);
        assert_eq!(status(stage).failures, 0, "answered: the client did not hear it");
        stage.syn(2, 100);
        stage.wait(Duration::from_secs(1));
        stage.syn(2, 100);
        assert_eq!(status(stage).failures, 1);
    });
}

#[test]
fn a_lease_that_ran_out_turns_the_next_syn_until_it_is_cleared() {
    with(guarded(MOVING, false), |stage| {
        let until = stage.now() + Duration::from_secs(30);
        stage.subject.datapath.renew_lease(SERVICE, until);
        stage.connect(1, 100, 200, NEW);
        stage.wait(Duration::from_secs(29));
        assert_eq!(stage.syn(2, 100), Went::To(NEW));
        stage.wait(Duration::from_secs(2));
        assert_eq!(stage.syn(3, 100), Went::To(OLD));
        assert!(status(stage).expired.is_some());
        assert_eq!(stage.data(1, 101, 201), Went::To(NEW), "flows go on");
        long_lease(stage);
        assert_eq!(stage.syn(4, 100), Went::To(OLD), "a renewal clears no latch");
        stage.subject.datapath.clear_latch(SERVICE, Latch::LeaseExpired);
        assert_eq!(stage.syn(5, 100), Went::To(NEW));
    });
}

#[test]
fn nothing_is_turned_while_stable_has_no_backend_but_it_is_told() {
    with(guarded(MOVING, true), |stage| {
        long_lease(stage);
        for number in 10..20 {
            refused(stage, number);
        }
        assert_eq!((status(stage).tripped, status(stage).alarm), (None, true));
        assert_eq!(stage.syn(30, 100), Went::To(NEW));
    });
}
