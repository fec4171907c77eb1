//! ICMP errors about replies, and pieces of segments, of flows with and without entries: they go where the flow goes.

use std::net::Ipv4Addr;

use etherparse::{Icmpv4Type, icmpv4::TimeExceededCode};
use grayxdp_tests::packet::{Flags, Packet, Transport};

use super::stage::{MOVING, NEW, OLD, SETTLED, Stage, Went, client, service, vip, with};

/// An error about what the service sent a client.
fn about(number: u16, flags: Flags, sequence: u32) -> Packet {
    let reply = Packet::tcp_with(vip(), client(number), flags, sequence, 0);
    let message = Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit);
    Packet::icmp_about(Ipv4Addr::new(203, 0, 113, 7), message, &reply, 28)
}

fn error(stage: &mut Stage<'_>, number: u16, sequence: u32) -> Went {
    stage.send(&about(number, Flags::ACK, sequence))
}

#[test]
fn an_error_goes_by_the_flows_entry_and_else_by_the_default() {
    with(service(SETTLED), |stage| {
        stage.connect(1, 100, 900, OLD);
        stage.publish(service(MOVING));
        stage.connect(2, 200, 800, NEW);
        let before = stage.exceptions();
        assert_eq!(error(stage, 1, 5_000), Went::To(OLD), "no entry: by home");
        assert_eq!(error(stage, 2, 5_000), Went::To(NEW), "by the entry");
        assert_eq!(stage.exceptions(), before, "nothing was made, completed or resolved by an entry");
    });
}

#[test]
fn an_error_about_a_syn_ack_goes_to_the_backend_that_sent_it_and_completes_nothing() {
    with(service(MOVING), |stage| {
        assert_eq!(stage.syn(1, 100), Went::To(NEW));
        assert_eq!(error(stage, 1, 900), Went::To(OLD), "no answer was seen: it is about an older flow of the 5-tuple");
        stage.answer(NEW, 1, Flags::SYN_ACK, 900, 101);
        let before = stage.exceptions();
        assert_eq!(stage.send(&about(1, Flags::SYN_ACK, 900)), Went::To(NEW));
        assert_eq!(error(stage, 1, 899), Went::To(OLD), "not of this handshake");
        assert_eq!(stage.exceptions(), before);
        assert_eq!(stage.ack(1, 101, 901), Went::To(NEW), "the handshake goes on");
        assert_eq!(stage.exceptions().completed, before.completed + 1);
    });
}

/// A client's data in two pieces.
fn pieces(number: u16, sequence: u32, acknowledged: u32) -> [Packet; 2] {
    let segment = Packet::tcp_with(client(number), vip(), Flags::ACK, sequence, acknowledged);
    let first = Packet { identification: number, more_fragments: true, ..segment }.with_payload(&[1; 12]);
    let last = Packet {
        more_fragments: false,
        fragment_offset: 4,
        transport: Transport::Other(6),
        payload: vec![2; 9],
        ..first.clone()
    };
    [first, last]
}

#[test]
fn pieces_of_a_segment_go_where_its_flow_goes() {
    with(service(SETTLED), |stage| {
        stage.connect(1, 100, 900, OLD);
        stage.publish(service(MOVING));
        stage.connect(2, 200, 800, NEW);
        for (number, acknowledged, backend) in [(1, 901, OLD), (2, 801, NEW)] {
            for piece in pieces(number, u32::from(number) * 100 + 1, acknowledged) {
                assert_eq!(stage.send(&piece), Went::To(backend));
            }
        }
    });
}

#[test]
fn pieces_of_the_segment_that_completes_a_handshake_go_together() {
    with(service(MOVING), |stage| {
        assert_eq!(stage.syn(1, 100), Went::To(NEW));
        stage.answer(NEW, 1, Flags::SYN_ACK, 900, 101);
        for piece in pieces(1, 101, 901) {
            assert_eq!(stage.send(&piece), Went::To(NEW));
        }
        assert_eq!(stage.exceptions().completed, 1);
    });
}
