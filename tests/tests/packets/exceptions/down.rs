//! Backends that are down, flows that are ended, pools that are empty.

use etherparse::{Ipv4Header, TcpSlice};
use grayxdp::model::kernel::{BackendState, ExistingFlows, Reason, SlotState, WantedService};
use grayxdp_tests::packet::{Flags, Packet};

use super::stage::{BACK, MOVING, NEW, OLD, OLD_TOO, SETTLED, Went, client, service, version, vip, with};

/// The first backend is down; the other one of its version has its slots.
fn down(resets: bool) -> WantedService {
    let mut service = service(SETTLED);
    service.versions[0] = version(0, OLD_TOO, OLD, SlotState::UNSETTLED | SlotState::LOOKS);
    service.versions[0].backends[0].state = BackendState::Down { resets };
    service
}

/// Flags and numbers of a RST that a frame holds, whose checksums must be right and whose ends are turned round.
fn reset_in(frame: &[u8], asked: &Packet) -> (bool, u32, u32) {
    let (ip, rest) = Ipv4Header::from_slice(&frame[14..]).expect("an IPv4 packet");
    let tcp = TcpSlice::from_slice(&rest[..usize::from(ip.total_len) - 20]).expect("a TCP packet");
    assert_eq!((ip.source, ip.destination), (asked.destination.ip().octets(), asked.source.ip().octets()));
    assert_eq!((tcp.source_port(), tcp.destination_port()), (asked.destination.port(), asked.source.port()));
    assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
    assert_eq!(tcp.calc_checksum_ipv4(ip.source, ip.destination).expect("the packet is short"), tcp.checksum());
    assert_eq!(frame[..6], asked.macs.0, "back to the sender");
    assert!(tcp.rst() && !tcp.syn() && !tcp.fin() && tcp.payload().is_empty());
    (tcp.ack(), tcp.sequence_number(), tcp.acknowledgment_number())
}

#[test]
fn the_client_of_a_backend_that_is_down_gets_a_reset_with_its_own_numbers() {
    with(down(true), |stage| {
        let to = |flags| Packet::tcp_with(client(1), vip(), flags, 1_000, 2_000);
        // RFC 9293, section 3.10.7.1: <SEQ=SEG.ACK><CTL=RST>, or <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>.
        let no_ack = Flags { ack: false, ..Flags::FIN_ACK };
        let cases = [
            ("acknowledgement", to(Flags::ACK), (false, 2_000, 0)),
            ("data", to(Flags::ACK).with_payload(&[1; 99]), (false, 2_000, 0)),
            ("padded", to(Flags::ACK).padded(), (false, 2_000, 0)),
            ("FIN without acknowledgement", to(no_ack).with_payload(b"bye"), (true, 0, 1_004)),
        ];
        for (name, packet, expected) in cases {
            let (went, output) = stage.send_for(&packet);
            assert_eq!(went, Went::Answered(Reason::BackendDown), "{name}");
            assert_eq!(reset_in(&output, &packet), expected, "{name}");
        }
        assert_eq!(stage.rst(1, 1_000), Went::Dropped(Reason::BackendDownDropped), "a RST is not answered");
        assert_eq!(stage.syn(2, 1_000), Went::To(OLD_TOO), "new flows go to who is up");
    });
}

#[test]
fn flows_of_a_backend_that_is_down_go_on_where_it_keeps_them() {
    with(down(false), |stage| {
        assert_eq!(stage.data(1, 1_000, 2_000), Went::To(OLD));
        assert_eq!(stage.syn(2, 1_000), Went::To(OLD_TOO));
    });
}

#[test]
fn a_repeated_syn_leaves_a_backend_that_went_down() {
    with(service(MOVING), |stage| {
        assert_eq!(stage.syn(1, 100), Went::To(NEW));
        let mut gone = service(MOVING);
        gone.versions[1] = version(1, 4, NEW, SlotState::UNSETTLED | SlotState::LOOKS);
        gone.versions[1].backends[0].state = BackendState::Down { resets: true };
        stage.publish(gone);
        assert_eq!(stage.syn(1, 100), Went::To(4), "chosen anew");
        stage.answer(4, 1, Flags::SYN_ACK, 200, 101);
        assert_eq!(stage.ack(1, 101, 201), Went::To(4));
    });
}

#[test]
fn flows_of_a_release_that_ends_them_get_a_reset_and_new_ones_do_not() {
    with(service(MOVING), |stage| {
        stage.connect(1, 100, 200, NEW);
        let mut ended = service(BACK);
        ended.versions[1].existing = ExistingFlows::Reset;
        stage.publish(ended);
        let packet = Packet::tcp_with(client(1), vip(), Flags::ACK, 101, 201).with_payload(b"question");
        let (went, output) = stage.send_for(&packet);
        assert_eq!(went, Went::Answered(Reason::FlowReset));
        assert_eq!(reset_in(&output, &packet), (false, 201, 0));
        assert_eq!(stage.rst(1, 101), Went::Dropped(Reason::FlowResetDropped));
        assert_eq!(stage.syn(2, 100), Went::To(OLD));
        assert_eq!(stage.data(3, 100, 200), Went::To(OLD), "flows of the other version go on");
    });
}

#[test]
fn flows_end_on_a_backend_that_is_down_and_kept_too() {
    with(service(MOVING), |stage| {
        stage.connect(1, 100, 200, NEW);
        let mut ended = service(BACK);
        ended.versions[1].existing = ExistingFlows::Reset;
        ended.versions[1].backends[0].state = BackendState::Down { resets: false };
        stage.publish(ended);
        assert_eq!(stage.data(1, 101, 201), Went::Answered(Reason::FlowReset));
    });
}

#[test]
fn an_empty_pool_fails_over_or_drops_and_flows_stay_where_they_began() {
    let empty = |failover| {
        let mut service = service(MOVING);
        service.versions[1] = version(1, 0, 0, SlotState::LOOKS);
        service.versions[1].failover = failover;
        service.buckets = super::stage::buckets(&[grayxdp::model::kernel::Bucket::new(1, 1, false, false)]);
        service
    };
    with(empty(None), |stage| {
        assert_eq!(stage.syn(1, 100), Went::Dropped(Reason::NoBackend));
        stage.publish(empty(Some(0)));
        stage.connect(2, 100, 200, OLD);
        assert!(stage.exceptions().failovers >= 1, "it is counted");
        let mut filled = service(MOVING);
        filled.buckets = empty(None).buckets;
        filled.versions[1] = version(1, NEW, 0, SlotState::UNSETTLED | SlotState::LOOKS);
        stage.publish(filled);
        assert_eq!(stage.data(2, 101, 201), Went::To(OLD), "the flow has an entry");
        assert_eq!(stage.syn(3, 100), Went::To(NEW), "the pool has a backend again");
    });
}
