//! Pins, stamps, and a table without room.

use std::time::Duration;

use grayxdp::model::kernel::{BackendState, Kernel as _, Reason, SlotState};
use grayxdp_tests::packet::Flags;

use super::stage::{
    BACK, MOVING, NEW, NEW_TOO, OLD, OLD_TOO, PINNING, Places, SERVICE, Stage, Went, service, version, with,
    with_places,
};

/// How often anything was stamped since the last look: buckets, slots of the first version; seen, deferred, refused.
fn stamps(stage: &mut Stage<'_>) -> [usize; 6] {
    let now = stage.now();
    let observed = stage.subject.datapath.observe(now).expect("stamps can be read");
    let stamps = observed.stamps.get(&SERVICE).cloned().unwrap_or_default();
    let buckets = stamps.segments.first().cloned().unwrap_or_default();
    let slots = stamps.versions.values().next().cloned().unwrap_or_default();
    [
        buckets.seen.len(),
        buckets.deferred.len(),
        buckets.refused.len(),
        slots.seen.len(),
        slots.deferred.len(),
        slots.refused.len(),
    ]
}

#[test]
fn a_pin_lapses_after_a_minute_unless_the_backend_answers() {
    with(service(PINNING), |stage| {
        for number in 1..=3 {
            assert_eq!(stage.data(number, 101, 201), Went::To(OLD));
        }
        stage.answer(OLD, 1, Flags::ACK, 201, 109);
        stage.answer(OLD, 2, Flags::RST, 201, 0);
        stage.wait(Duration::from_secs(62));
        stage.publish(service(MOVING));
        // `home` follows, as the daemon says after `idleTimeout`.
        stage.publish(service(grayxdp::model::kernel::Bucket::new(1, 1, true, false)));
        assert_eq!(stage.data(1, 109, 201), Went::To(OLD), "answered: its entry is established");
        assert_eq!(stage.data(2, 109, 201), Went::To(NEW), "a RST is no answer");
        assert_eq!(stage.data(3, 109, 201), Went::To(NEW), "nothing came back");
    });
}

#[test]
fn neither_a_syn_nor_a_reset_is_pinned() {
    with(service(PINNING), |stage| {
        assert_eq!(stage.rst(1, 101), Went::To(OLD));
        assert_eq!(stage.syn(2, 101), Went::To(NEW));
        assert_eq!(stage.exceptions().pinned, 0);
    });
}

#[test]
fn a_packet_by_home_stamps_each_of_bucket_and_slot_that_is_not_settled_and_one_by_an_entry_none() {
    let mut both = service(MOVING);
    both.versions[0] = version(0, OLD_TOO, OLD, SlotState::UNSETTLED | SlotState::LOOKS);
    let mut slots_only = service(BACK);
    slots_only.versions[0] = both.versions[0].clone();
    with(service(MOVING), |stage| {
        stage.data(1, 101, 201);
        assert_eq!(stamps(stage), [1, 0, 0, 0, 0, 0], "the bucket");
        assert_eq!(stamps(stage), [0; 6], "taken");
        stage.publish(both);
        assert_eq!(stage.data(1, 101, 201), Went::To(OLD));
        assert_eq!(stamps(stage), [1, 0, 0, 1, 0, 0], "both");
        stage.connect(2, 100, 200, NEW);
        assert_eq!(stamps(stage), [0; 6], "a new flow, and its entry's packet");
        stage.publish(slots_only);
        assert_eq!(stage.data(1, 101, 201), Went::To(OLD));
        assert_eq!(stamps(stage), [0, 0, 0, 1, 0, 0], "the slot");
    });
}

#[test]
fn a_syn_without_a_place_goes_where_its_later_packets_will_go() {
    with_places(Places::Eight, service(MOVING), |stage| {
        stage.fill();
        stamps(stage);
        let before = stage.exceptions().choice_deferred;
        assert_eq!(stage.syn(1, 100), Went::To(OLD), "by default");
        assert_eq!(stage.exceptions().choice_deferred, before + 1);
        let [seen, deferred, ..] = stamps(stage);
        assert_eq!((seen, deferred), (1, 1), "nothing may settle here now");
        stage.answer(OLD, 1, Flags::SYN_ACK, 200, 101);
        assert_eq!(stage.ack(1, 101, 201), Went::To(OLD), "and so does its acknowledgement");
    });
}

#[test]
fn a_syn_without_a_place_goes_by_the_entry_of_its_5_tuple_if_it_has_one() {
    with_places(Places::Eight, service(MOVING), |stage| {
        stage.connect(1, 100, 200, NEW);
        stage.publish(service(BACK));
        stage.publish(service(MOVING));
        stage.fill();
        let mut other = service(MOVING);
        other.versions[1] = version(1, NEW_TOO, NEW, SlotState::UNSETTLED | SlotState::LOOKS);
        stage.publish(other);
        assert_eq!(stage.syn(1, 70_000), Went::To(NEW), "not by default, not by choice");
        stage.answer(NEW, 1, Flags::SYN_ACK, 900, 70_001);
        assert_eq!(stage.ack(1, 70_001, 901), Went::To(NEW));
    });
}

#[test]
fn a_deferred_syn_is_dropped_where_the_default_is_down() {
    with_places(Places::Eight, service(MOVING), |stage| {
        stage.fill();
        let mut down = service(MOVING);
        down.versions[0] = version(0, OLD_TOO, OLD, SlotState::UNSETTLED | SlotState::LOOKS);
        down.versions[0].backends[0].state = BackendState::Down { resets: false };
        stage.publish(down);
        assert_eq!(stage.syn(1, 100), Went::Dropped(Reason::DeferredNowhere), "the client says it again");
        assert_eq!(stage.data(2, 100, 200), Went::To(OLD), "a flow in progress stays there (`onDown: keep`)");
    });
}

#[test]
fn a_refused_pin_is_counted_and_stamped_and_the_packet_goes_by_home_all_the_same() {
    with_places(Places::Eight, service(PINNING), |stage| {
        stage.fill();
        stamps(stage);
        assert_eq!(stage.data(1, 101, 201), Went::To(OLD));
        assert_eq!(stage.exceptions().pins_refused, 1);
        let [_, _, refused, ..] = stamps(stage);
        assert_eq!(refused, 1);
    });
}

#[test]
fn lapsed_half_open_entries_make_room_and_live_entries_never() {
    with_places(Places::Eight, service(MOVING), |stage| {
        stage.connect(1, 100, 200, NEW);
        stage.fill();
        assert_eq!(stage.syn(2, 100), Went::To(OLD), "full");
        stage.wait(Duration::from_secs(5));
        assert_eq!(stage.syn(2, 300), Went::To(NEW), "the others lapsed");
        stage.fill();
        assert_eq!(stage.data(1, 101, 201), Went::To(NEW), "whoever came, the flow kept its place");
    });
}
