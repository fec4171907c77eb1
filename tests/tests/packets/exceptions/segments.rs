//! Segments by source and DSCP, and canary instances.

use std::{net::Ipv4Addr, time::Duration};

use grayxdp::model::kernel::{
    BackendId, Bucket, Kernel as _, LeaseEnd, SlotState, WantedGuard, WantedInstance, WantedPrefix, WantedSegments,
    WantedService,
};
use grayxdp_common::cells::{PORTS, SegmentClass};
use grayxdp_tests::packet::{Flags, Packet};

use super::stage::{NEW, NEW_TOO, OLD, SERVICE, Stage, Went, buckets, client, service, vip, with};

const EXPEDITED: u8 = 46;

/// Two segments: of the second are some sources, or packets with a DSCP.
fn segmented(of_segments: [Bucket; 2], by_dscp: bool, prefix: Option<(u16, u16)>) -> WantedService {
    let class = |number: u8| {
        let mut segments = vec![number; PORTS * 128];
        if by_dscp {
            segments[SegmentClass::index(0, EXPEDITED)] = 1;
        }
        segments
    };
    let prefixes = prefix.map(|(current, home)| WantedPrefix {
        address: Ipv4Addr::new(10, 64, 1, 0).into(),
        length: 24,
        current,
        home,
        state: SlotState(if current == home { 0 } else { SlotState::UNSETTLED | SlotState::LOOKS }),
    });
    let segments =
        WantedSegments { prefixes: prefixes.into_iter().collect(), classes: [class(0), class(1)].into(), by_dscp };
    WantedService { segments: Some(segments), buckets: buckets(&of_segments), ..service(of_segments[0]) }
}

/// A client of the prefix.
const INSIDE: u16 = 0x0101;
/// One of no prefix.
const OUTSIDE: u16 = 0x0201;

fn marked(stage: &mut Stage<'_>, number: u16, flags: Flags, sequence: u32, ack: u32) -> Went {
    stage.send(&Packet::tcp_with(client(number), vip(), flags, sequence, ack).with_dscp(EXPEDITED))
}

#[test]
fn a_source_prefix_has_weights_of_its_own() {
    let of_segments = [Bucket::new(0, 0, false, true), Bucket::new(1, 1, false, true)];
    with(segmented(of_segments, false, Some((1, 1))), |stage| {
        stage.connect(INSIDE, 100, 200, NEW);
        stage.connect(OUTSIDE, 100, 200, OLD);
        assert_eq!(stage.data(INSIDE, 101, 201), Went::To(NEW));
        assert_eq!(stage.exceptions().half_open, 0, "all is settled");
    });
}

#[test]
fn a_source_prefix_that_comes_into_another_segment_takes_new_flows_along_only() {
    let of_segments = [Bucket::new(0, 0, false, true), Bucket::new(1, 1, false, true)];
    with(segmented(of_segments, false, Some((1, 0))), |stage| {
        assert_eq!(stage.data(INSIDE, 7, 7), Went::To(OLD), "a flow in progress");
        let now = stage.now();
        let observed = stage.subject.datapath.observe(now).expect("stamps can be read");
        assert_eq!(observed.stamps[&SERVICE].prefixes.seen, [0], "the prefix was met");
        stage.connect(INSIDE + 1, 100, 200, NEW);
        assert_eq!(stage.data(INSIDE + 1, 101, 201), Went::To(NEW), "by its entry");
    });
}

/// Only the first packet's DSCP counts, and only for where it goes: its flow keeps an entry for life.
#[test]
fn the_dscp_counts_on_the_syn_only() {
    let of_segments = [Bucket::new(0, 0, true, true), Bucket::new(1, 1, true, true)];
    with(segmented(of_segments, true, None), |stage| {
        assert_eq!(marked(stage, 1, Flags::SYN, 100, 0), Went::To(NEW));
        stage.answer(NEW, 1, Flags::SYN_ACK, 200, 101);
        assert_eq!(stage.ack(1, 101, 201), Went::To(NEW), "without it");
        assert_eq!(stage.syn(2, 100), Went::To(OLD));
        assert_eq!(marked(stage, 2, Flags::ACK, 101, 201), Went::To(OLD), "with it");
        let bleached = Packet::tcp_with(client(3), vip(), Flags::SYN, 100, 0).with_dscp(EXPEDITED ^ 1);
        assert_eq!(stage.send(&bleached), Went::To(OLD), "another one");
    });
}

fn with_instance(of_segments: [Bucket; 2], prefix: (u16, u16)) -> WantedService {
    let instance = WantedInstance { backend: BackendId(NEW_TOO), segment: 1 };
    WantedService { instance: Some(instance), ..segmented(of_segments, false, Some(prefix)) }
}

#[test]
fn a_canary_instance_alone_gets_the_new_flows_of_its_segment() {
    let looking = [Bucket::new(0, 0, true, true); 2];
    with(with_instance(looking, (1, 0)), |stage| {
        assert_eq!(stage.data(INSIDE, 7, 7), Went::To(OLD), "a flow in progress");
        stage.connect(INSIDE + 1, 100, 200, NEW_TOO);
        stage.connect(OUTSIDE, 100, 200, OLD);
        stage.publish(segmented(looking, false, Some((0, 0))));
        assert_eq!(stage.data(INSIDE + 1, 101, 201), Went::To(NEW_TOO), "its flows stay when it ends");
        assert_eq!(stage.syn(INSIDE + 2, 100), Went::To(OLD));
    });
}

#[test]
fn a_canary_instance_gets_no_new_flow_once_the_lease_ran_out() {
    let looking = [Bucket::new(0, 0, true, true); 2];
    let guard = WantedGuard {
        attempt: 1,
        candidate: 1,
        stable: 0,
        fuse: None,
        lease: Some(LeaseEnd::Stable),
        no_stable: false,
    };
    let service = WantedService { guard: Some(guard), rollout: 7, ..with_instance(looking, (1, 1)) };
    with(service, |stage| {
        let until = stage.now() + Duration::from_secs(10);
        stage.subject.datapath.renew_lease(SERVICE, until);
        stage.connect(INSIDE, 100, 200, NEW_TOO);
        stage.wait(Duration::from_secs(11));
        assert_eq!(stage.syn(INSIDE + 1, 100), Went::To(OLD));
        assert_eq!(stage.data(INSIDE, 101, 201), Went::To(NEW_TOO));
    });
}
