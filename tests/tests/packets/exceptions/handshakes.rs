//! Handshakes of clients that go elsewhere than the default: what completes them.

use std::time::Duration;

use grayxdp_tests::packet::{Flags, Packet};

use super::stage::{BACK, MOVING, NEW, OLD, Places, SETTLED, Went, client, service, vip, with, with_places};

const ISN: u32 = 0xffff_f000;
const NUMBER: u32 = 0xffff_ff00;

/// The numbers of a packet so many bytes behind SYN and SYN-ACK.
fn behind(sent: u32, received: u32) -> (u32, u32) {
    (ISN.wrapping_add(1 + sent), NUMBER.wrapping_add(1 + received))
}

#[test]
fn the_first_packet_to_come_completes_the_handshake_be_it_late_or_out_of_order() {
    with(service(MOVING), |stage| {
        assert_eq!(stage.syn(1, ISN), Went::To(NEW), "a new flow goes by current");
        stage.answer(NEW, 1, Flags::SYN_ACK, NUMBER, ISN.wrapping_add(1));
        let (sequence, ack) = behind(2_920, 0);
        assert_eq!(stage.data(1, sequence, ack), Went::To(NEW), "the third segment overtook all: numbers wrap");
        let (sequence, ack) = behind(0, 0);
        assert_eq!(stage.ack(1, sequence, ack), Went::To(NEW), "the bare acknowledgement comes second");
        assert_eq!(stage.data(1, sequence, ack), Went::To(NEW), "the first segment");
        assert_eq!(stage.data(1, sequence, ack), Went::To(NEW), "… and again");
        assert_eq!(stage.exceptions().completed, 1);
        stage.wait(Duration::from_secs(600));
        assert_eq!(stage.ack(1, 5, 5), Went::To(NEW), "an entry asks for no numbers");
    });
}

#[test]
fn a_lost_first_packet_is_no_matter_for_as_long_as_the_half_open_entry_lives() {
    with(service(MOVING), |stage| {
        stage.syn(1, ISN);
        stage.answer(NEW, 1, Flags::SYN_ACK, NUMBER, ISN.wrapping_add(1));
        stage.wait(Duration::from_secs(3));
        let (sequence, ack) = behind(1_460, 0);
        assert_eq!(stage.data(1, sequence, ack), Went::To(NEW), "3 s after the SYN");
        stage.syn(2, ISN);
        stage.answer(NEW, 2, Flags::SYN_ACK, NUMBER, ISN.wrapping_add(1));
        stage.wait(Duration::from_secs(4));
        assert_eq!(stage.data(2, sequence, ack), Went::To(OLD), "4 s after it the entry lapsed: by default");
    });
}

#[test]
fn data_of_tcp_fast_open_counts_into_the_window() {
    with(service(MOVING), |stage| {
        let opening = |number| Packet::tcp_with(client(number), vip(), Flags::SYN, ISN, 0).with_payload(&[7; 1_000]);
        for (number, sent, expected) in [(1, 1_000, NEW), (2, 131_071, NEW), (3, 131_072, OLD)] {
            assert_eq!(stage.send(&opening(number)), Went::To(NEW), "a SYN with data is a SYN");
            stage.answer(NEW, number, Flags::SYN_ACK, NUMBER, ISN.wrapping_add(1_001));
            let (sequence, ack) = behind(sent, 0);
            assert_eq!(stage.ack(number, sequence, ack), Went::To(expected), "{sent} bytes behind the SYN");
        }
    });
}

#[test]
fn only_numbers_that_fit_complete_a_handshake() {
    with(service(MOVING), |stage| {
        stage.syn(1, ISN);
        let fitting = behind(0, 0);
        assert_eq!(stage.ack(1, fitting.0, fitting.1), Went::To(OLD), "no SYN-ACK was seen yet");
        stage.answer(NEW, 1, Flags::SYN_ACK, NUMBER, ISN.wrapping_add(1));
        let wrong = [
            ("the SYN's own number", ISN, fitting.1),
            ("before the SYN", ISN.wrapping_sub(9), fitting.1),
            ("nothing acknowledged", fitting.0, NUMBER),
            ("more acknowledged than a window", fitting.0, NUMBER.wrapping_add(65_537)),
            ("guessed", 0x1234_5678, 0x9abc_def0),
        ];
        for (name, sequence, ack) in wrong {
            assert_eq!(stage.ack(1, sequence, ack), Went::To(OLD), "{name}: by default");
        }
        assert_eq!(stage.rst(1, fitting.0), Went::To(OLD), "a RST completes nothing");
        assert_eq!(stage.exceptions().completed, 0);
        assert_eq!(stage.ack(1, fitting.0, NUMBER.wrapping_add(65_536)), Went::To(NEW), "the last that fits");
    });
}

#[test]
fn a_repeated_syn_goes_where_the_first_one_went_across_a_weight_change() {
    with(service(MOVING), |stage| {
        assert_eq!(stage.syn(1, ISN), Went::To(NEW));
        stage.publish(service(BACK));
        assert_eq!(stage.syn(2, ISN), Went::To(OLD), "the weight went back");
        stage.wait(Duration::from_secs(1));
        assert_eq!(stage.syn(1, ISN), Went::To(NEW), "the same number: as before");
        stage.wait(Duration::from_secs(3));
        assert_eq!(stage.syn(1, ISN), Went::To(NEW), "the repeat refreshed the entry");
        assert_eq!(stage.syn(1, ISN.wrapping_add(5)), Went::To(OLD), "another number is another flow");
    });
}

#[test]
fn an_acknowledgement_of_another_backends_syn_ack_goes_by_default() {
    with(service(SETTLED), |stage| {
        assert_eq!(stage.syn(1, ISN), Went::To(OLD), "no entry is needed");
        stage.publish(service(MOVING));
        assert_eq!(stage.syn(1, ISN), Went::To(NEW), "its repeat finds no entry of the first");
        stage.answer(OLD, 1, Flags::SYN_ACK, 0x0100_0000, ISN.wrapping_add(1));
        stage.answer(NEW, 1, Flags::SYN_ACK, NUMBER, ISN.wrapping_add(1));
        stage.answer(OLD, 1, Flags::SYN_ACK, 0x0100_0000, ISN.wrapping_add(1));
        let sequence = ISN.wrapping_add(1);
        assert_eq!(stage.ack(1, sequence, 0x0100_0001), Went::To(OLD), "the client took the first one's answer");
        assert_eq!(stage.data(1, sequence, 0x0100_0001), Went::To(OLD));
        assert_eq!(stage.exceptions().completed, 0);
    });
}

#[test]
fn a_syn_ack_of_an_earlier_handshake_is_not_taken_for_the_presents() {
    with(service(MOVING), |stage| {
        let (first, second) = (ISN, ISN.wrapping_add(0x0100_0000));
        stage.syn(1, first);
        stage.syn(1, second);
        stage.answer(NEW, 1, Flags::SYN_ACK, NUMBER, second.wrapping_add(1));
        stage.answer(NEW, 1, Flags::SYN_ACK, 0x0500_0000, first.wrapping_add(1));
        assert_eq!(stage.ack(1, second.wrapping_add(1), NUMBER.wrapping_add(1)), Went::To(NEW));
    });
}

#[test]
fn a_syn_ack_whose_number_is_zero_is_remembered() {
    with(service(MOVING), |stage| stage.connect(1, ISN, 0, NEW));
}

/// The time of a half-open entry is told modulo 32 ticks of half a second.
#[test]
fn a_lapsed_half_open_entry_that_nobody_swept_does_not_come_back() {
    with_places(Places::Eight, service(MOVING), |stage| {
        for other in 10..14 {
            stage.syn(other, 7);
        }
        assert_eq!(stage.syn(1, ISN), Went::To(NEW), "behind others' entries");
        stage.wait(Duration::from_millis(16_700));
        let second = ISN.wrapping_add(0x0100_0000);
        assert_eq!(stage.syn(1, second), Went::To(NEW), "the 5-tuple is used again");
        stage.wait(Duration::from_secs(1));
        stage.answer(NEW, 1, Flags::SYN_ACK, NUMBER, second.wrapping_add(1));
        assert_eq!(stage.ack(1, second.wrapping_add(1), NUMBER.wrapping_add(1)), Went::To(NEW));
    });
}

#[test]
fn a_repeated_syn_takes_no_second_place() {
    with(service(MOVING), |stage| {
        for _ in 0..4 {
            assert_eq!(stage.syn(1, ISN), Went::To(NEW));
            stage.wait(Duration::from_secs(1));
        }
        assert_eq!(stage.exceptions().half_open, 1);
    });
}
