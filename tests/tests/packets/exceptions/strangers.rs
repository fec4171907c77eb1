//! Somebody who guesses a 5-tuple but no numbers, and 5-tuples that are used again.

use std::time::Duration;

use grayxdp_tests::packet::Flags;

use super::stage::{BACK, MOVING, NEW, OLD, PINNING, Went, service, with};

#[test]
fn a_blind_reset_detaches_nobody() {
    with(service(MOVING), |stage| {
        stage.connect(1, 100, 200, NEW);
        assert_eq!(stage.rst(1, 0xdead_beef), Went::To(NEW), "it goes to the flow's backend, which knows the numbers");
        assert_eq!(stage.data(1, 101, 201), Went::To(NEW));
        stage.answer(NEW, 1, Flags::RST, 0xdead_beef, 0);
        assert_eq!(stage.ack(1, 109, 201), Went::To(NEW));
    });
}

#[test]
fn a_blind_syn_does_not_detach_a_pinned_flow() {
    with(service(PINNING), |stage| {
        assert_eq!(stage.data(1, 101, 201), Went::To(OLD), "a flow of before the change is pinned");
        stage.answer(OLD, 1, Flags::ACK, 201, 109);
        assert_eq!(stage.exceptions().pinned, 1);
        assert_eq!(stage.syn(1, 0xdead_beef), Went::To(NEW), "a SYN is a new flow's, for all that is known");
        assert_eq!(stage.data(1, 109, 201), Went::To(OLD), "the flow itself stays");
        stage.answer(NEW, 1, Flags::SYN_ACK, 77, 0xdead_bef0);
        assert_eq!(stage.data(1, 117, 201), Went::To(OLD), "… also once the other backend answered");
        stage.wait(Duration::from_secs(5));
        assert_eq!(stage.data(1, 125, 201), Went::To(OLD));
        assert_eq!(stage.exceptions().completed, 0);
    });
}

#[test]
fn a_blind_acknowledgement_completes_nothing() {
    with(service(MOVING), |stage| {
        stage.syn(1, 100);
        stage.answer(NEW, 1, Flags::SYN_ACK, 200, 101);
        assert_eq!(stage.ack(1, 0xdead_beef, 0xfeed_f00d), Went::To(OLD), "no numbers that fit: by default");
        assert_eq!(stage.ack(1, 101, 201), Went::To(NEW), "the client's own completes it still");
    });
}

#[test]
fn a_pinned_5_tuple_that_is_used_again_is_the_new_flows_once_that_is_complete() {
    with(service(PINNING), |stage| {
        stage.data(1, 101, 201);
        stage.answer(OLD, 1, Flags::ACK, 201, 109);
        assert_eq!(stage.syn(1, 70_000), Went::To(NEW));
        assert_eq!(stage.data(1, 109, 201), Went::To(OLD), "until then both stand side by side");
        stage.answer(NEW, 1, Flags::SYN_ACK, 900, 70_001);
        assert_eq!(stage.ack(1, 70_001, 901), Went::To(NEW));
        assert_eq!(stage.ack(1, 109, 201), Went::To(NEW), "the old flow is over");
    });
}

#[test]
fn a_syn_of_a_5_tuple_with_an_entry_gets_one_of_its_own_even_to_the_default() {
    with(service(MOVING), |stage| {
        stage.connect(1, 100, 200, NEW);
        stage.publish(service(BACK));
        assert_eq!(stage.syn(1, 70_000), Went::To(OLD), "the choice is the default now");
        assert_eq!(stage.data(1, 101, 201), Went::To(NEW), "the flow with the entry goes on");
        stage.answer(OLD, 1, Flags::SYN_ACK, 900, 70_001);
        assert_eq!(stage.ack(1, 70_001, 901), Went::To(OLD), "complete: the entry goes, all is settled");
        assert_eq!(stage.data(1, 70_001, 901), Went::To(OLD));
    });
}
