//! UDP and QUIC.

use grayxdp::model::{
    config::Protocol,
    kernel::{BackendState, Bucket, ExistingFlows, Kernel as _, SlotState, WantedService},
};
use grayxdp_tests::packet::Packet;

use super::stage::{
    BACK, MOVING, NEW, OLD, OLD_TOO, PINNING, Places, SERVICE, Stage, Went, backend, client, service, version, vip,
    with, with_places,
};

fn udp(bucket: Bucket) -> WantedService {
    WantedService { protocol: Protocol::Udp, ..service(bucket) }
}

fn quic(bucket: Bucket) -> WantedService {
    WantedService { quic: true, ..udp(bucket) }
}

fn ask(stage: &mut Stage<'_>, number: u16, payload: &[u8]) -> Went {
    stage.send(&Packet::udp(client(number), vip()).with_payload(payload))
}

fn reply(stage: &mut Stage<'_>, from: u16, number: u16) {
    stage.answer_with(&Packet::udp(backend(from), client(number)).with_payload(b"answer"));
}

/// New flows too: nothing tells them from others. After the window `home` is `current`.
#[test]
fn inside_the_learning_window_all_go_by_home_and_are_pinned() {
    with(udp(PINNING), |stage| {
        for number in 1..=2 {
            assert_eq!(ask(stage, number, b"question"), Went::To(OLD));
            reply(stage, OLD, number);
        }
        assert_eq!(stage.exceptions().pinned, 2);
        stage.publish(udp(Bucket::new(1, 1, true, false)));
        assert_eq!(ask(stage, 1, b"question"), Went::To(OLD), "pinned");
        assert_eq!(ask(stage, 3, b"question"), Went::To(NEW), "the window is over");
    });
}

/// Datagrams of strangers must not push out what is known, nor fill the table.
#[test]
fn pins_of_datagrams_fill_half_of_a_set_and_leave_answered_flows_alone() {
    with_places(Places::Eight, udp(PINNING), |stage| {
        for number in 1..=2 {
            ask(stage, number, b"question");
            reply(stage, OLD, number);
        }
        for number in 100..400 {
            assert_eq!(ask(stage, number, b"question"), Went::To(OLD), "all go by home");
        }
        let now = stage.now();
        let mut places = None;
        for _ in 0..8 {
            let observed = stage.subject.datapath.observe(now).expect("the table can be swept");
            places = observed.sweep.or(places);
        }
        let swept = places.expect("a small table is swept at once").services.remove(&SERVICE).expect("it has entries");
        assert!(swept.pins <= 4, "{} pins in two sets of four", swept.pins);
        assert_eq!(swept.established, 2);
        stage.publish(udp(Bucket::new(1, 1, true, false)));
        assert_eq!((ask(stage, 1, b""), ask(stage, 2, b"")), (Went::To(OLD), Went::To(OLD)));
    });
}

#[test]
fn flows_of_a_release_that_moves_them_are_chosen_for_anew() {
    with(udp(PINNING), |stage| {
        ask(stage, 1, b"question");
        reply(stage, OLD, 1);
        let mut moved = udp(Bucket::new(1, 1, true, false));
        moved.versions[0].existing = ExistingFlows::Move;
        stage.publish(moved);
        assert_eq!(ask(stage, 1, b"question"), Went::To(NEW));
    });
}

#[test]
fn flows_of_a_backend_that_is_down_move_because_nothing_can_tell_them_so() {
    with(udp(PINNING), |stage| {
        ask(stage, 1, b"question");
        reply(stage, OLD, 1);
        let mut down = udp(BACK);
        down.versions[0] = version(0, OLD_TOO, OLD_TOO, SlotState::LOOKS);
        down.versions[0].backends[0].state = BackendState::Down { resets: true };
        stage.publish(down);
        assert_eq!(ask(stage, 1, b"question"), Went::To(OLD_TOO));
    });
}

/// First bytes of QUIC packets (RFC 9000, section 17; version 2: RFC 9369, section 3.2).
const INITIAL: &[u8] = &[0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0];
const INITIAL_2: &[u8] = &[0xd3, 0x6b, 0x33, 0x43, 0xcf, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0];
const HANDSHAKE: &[u8] = &[0xe3, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0];
const SHORT: &[u8] = &[0x43, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

#[test]
fn an_initial_of_quic_opens_a_flow_and_a_short_header_belongs_to_one() {
    with(quic(MOVING), |stage| {
        for (number, initial) in [(1, INITIAL), (2, INITIAL_2)] {
            assert_eq!(ask(stage, number, initial), Went::To(NEW), "a new flow");
            assert_eq!(ask(stage, number, SHORT), Went::To(OLD), "nothing completes before the backend answered");
            reply(stage, NEW, number);
            assert_eq!(ask(stage, number, HANDSHAKE), Went::To(NEW));
            assert_eq!(ask(stage, number, SHORT), Went::To(NEW));
            assert_eq!(ask(stage, number, initial), Went::To(NEW), "a repeated Initial goes with the flow");
        }
        assert_eq!(ask(stage, 3, SHORT), Went::To(OLD), "a flow of before the change");
        assert_eq!(ask(stage, 4, HANDSHAKE), Went::To(OLD));
    });
}
