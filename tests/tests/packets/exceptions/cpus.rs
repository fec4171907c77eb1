//! Two CPUs at once, on packets of the same flow.

use std::{
    sync::{Barrier, Mutex},
    time::Duration,
};

use aya::programs::Xdp;
use grayxdp::model::kernel::{Kernel as _, SweptService};
use grayxdp_tests::{
    bench::{case::verdict, harness},
    host,
    packet::{Flags, Packet},
    size::Size,
};

use super::stage::{
    MOVING, NEW, OLD, PINNING, Places, SERVICE, Stage, backend, client, service, vip, with, with_places,
};

/// Runs a frame and says to whom it went.
fn run(program: &Xdp, frame: &[u8]) -> [u8; 4] {
    let mut output = vec![0; frame.len() + 64];
    let (said, _) = harness::test_run(program, frame, host::NEAR, &mut output, 1).expect("the kernel runs the packet");
    assert_eq!(said, verdict::TX);
    output[30..34].try_into().expect("an address")
}

/// Rounds of packets that two CPUs handle at the same time; `round` says which, after it did what comes before them.
fn race(stage: &mut Stage<'_>, rounds: u32, round: impl Fn(&Xdp, u32) -> [(Vec<u8>, u16); 2] + Sync) {
    let program: &Xdp = stage.subject.datapath.program().expect("the program is loaded");
    let (start, end) = (Barrier::new(2), Barrier::new(2));
    let (next, wrong) = (Mutex::new(None), Mutex::new(None));
    std::thread::scope(|scope| {
        for cpu in 0..2 {
            let (round, start, end, next, wrong) = (&round, &start, &end, &next, &wrong);
            scope.spawn(move || {
                harness::pin_thread(cpu).expect("a test of two CPUs has two");
                for number in 0..rounds {
                    if cpu == 0 {
                        *next.lock().expect("no holder panics") = Some(round(program, number));
                    }
                    start.wait();
                    let (frame, to) = next.lock().expect("no holder panics").clone().expect("it was set")[cpu].clone();
                    let went = run(program, &frame);
                    if went != backend(to).ip().octets() {
                        *wrong.lock().expect("no holder panics") = Some((number, cpu, went));
                    }
                    end.wait();
                    // Both end here: one that waited for the other would wait for ever.
                    if wrong.lock().expect("no holder panics").is_some() {
                        break;
                    }
                }
            });
        }
    });
    assert_eq!(wrong.into_inner().expect("no holder panics"), None, "round, CPU and the way of its packet");
}

fn swept(stage: &mut Stage<'_>) -> SweptService {
    let now = stage.now();
    let mut last = None;
    for _ in 0..1_000 {
        let observed = stage.subject.datapath.observe(now).expect("the table can be swept");
        last = observed.sweep.or(last);
        if last.is_some() {
            break;
        }
    }
    last.expect("the sweep ends").services.remove(&SERVICE).unwrap_or_default()
}

/// The number of a flow's client, a few thousand of them.
fn flow(round: u32) -> u16 {
    round as u16
}

#[test]
fn two_first_packets_at_once_complete_a_handshake_once_and_both_go_the_right_way() {
    let rounds = Size::of_this_run().times(3_000, 8_000);
    with(service(MOVING), |stage| {
        race(stage, rounds, |program, round| {
            let from = client(flow(round));
            let to_client = Packet::tcp_with(backend(NEW), from, Flags::SYN_ACK, 200, 101).bytes();
            run(program, &Packet::tcp_with(from, vip(), Flags::SYN, 100, 0).bytes());
            run(program, &to_client);
            let ack = Packet::tcp_with(from, vip(), Flags::ACK, 101, 201);
            [(ack.bytes(), NEW), (ack.with_payload(b"question").bytes(), NEW)]
        });
        let found = swept(stage);
        assert_eq!((found.established, found.half_open), (u64::from(rounds), 0));
    });
}

#[test]
fn a_flow_that_is_pinned_on_two_cpus_at_once_stays_where_it_is() {
    let rounds = Size::of_this_run().times(3_000, 8_000);
    with(service(PINNING), |stage| {
        race(stage, rounds, |_, round| {
            let data = Packet::tcp_with(client(flow(round)), vip(), Flags::ACK, 101, 201).with_payload(b"question");
            [(data.bytes(), OLD), (data.bytes(), OLD)]
        });
        race(stage, rounds, |program, round| {
            let from = client(flow(round));
            run(program, &Packet::tcp_with(backend(OLD), from, Flags::ACK, 201, 109).bytes());
            let data = Packet::tcp_with(from, vip(), Flags::ACK, 109, 201).with_payload(b"question");
            [(data.bytes(), OLD), (Packet::tcp_with(from, vip(), Flags::SYN, 0xdead_0000, 0).bytes(), NEW)]
        });
        race(stage, rounds, |_, round| {
            let data = Packet::tcp_with(client(flow(round)), vip(), Flags::ACK, 117, 201);
            [(data.bytes(), OLD), (data.bytes(), OLD)]
        });
    });
}

#[test]
fn a_syn_repeated_on_two_cpus_at_once_goes_one_way() {
    let rounds = Size::of_this_run().times(3_000, 8_000);
    with(service(MOVING), |stage| {
        race(stage, rounds, |_, round| {
            let syn = Packet::tcp_with(client(flow(round)), vip(), Flags::SYN, 100, 0).bytes();
            [(syn.clone(), NEW), (syn, NEW)]
        });
    });
}

/// Eight places for sixteen flows, eight on each CPU: each takes the place that the other is about to take.
#[test]
fn flows_that_open_at_once_in_a_full_table_stay_where_their_syns_went() {
    let rounds = Size::of_this_run().times(300, 3_000) as u16;
    with_places(Places::Eight, service(MOVING), |stage| {
        for round in 0..rounds {
            let program: &Xdp = stage.subject.datapath.program().expect("the program is loaded");
            let start = Barrier::new(2);
            std::thread::scope(|scope| {
                for cpu in 0..2 {
                    let start = &start;
                    scope.spawn(move || {
                        harness::pin_thread(cpu).expect("a test of two CPUs has two");
                        start.wait();
                        (0..8).for_each(|flow| open(program, 100 + 16 * round + 8 * cpu as u16 + flow));
                    });
                }
            });
            assert!(swept(stage).established <= 8);
            for seconds in [5, 2 * 3_600] {
                stage.wait(Duration::from_secs(seconds));
                swept(stage);
            }
            let found = swept(stage);
            assert_eq!((found.established, found.half_open), (0, 0), "round {round}: all are over");
        }
        let counts = stage.exceptions();
        assert!(counts.choice_deferred > 0 && counts.completed >= u64::from(rounds) * 6, "{counts:?}");
    });
}

/// A flow from its SYN on. It is whose backend got the first SYN, be it by a place in the table or for want of one.
fn open(program: &Xdp, number: u16) {
    let from = client(number);
    let isn = u32::from(number) << 8;
    let tcp = |flags, sequence, ack| run(program, &Packet::tcp_with(from, vip(), flags, sequence, ack).bytes());
    let to = tcp(Flags::SYN, isn, 0);
    let owner = if to == backend(NEW).ip().octets() { NEW } else { OLD };
    let again = tcp(Flags::SYN, isn, 0);
    assert!(again == to || owner == OLD, "flow {number}: the SYN again");
    run(program, &Packet::tcp_with(backend(owner), from, Flags::SYN_ACK, 200, isn + 1).bytes());
    for _ in 0..3 {
        assert_eq!(tcp(Flags::ACK, isn + 1, 201), backend(owner).ip().octets(), "flow {number} is {owner}'s");
    }
}
