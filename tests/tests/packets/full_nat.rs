//! The flow table of `full-nat` under pressure: two CPUs at once, floods, sweeps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddrV4,
    sync::Barrier,
    time::Duration,
};

use aya::programs::Xdp;
use grayxdp::{
    datapath::Capacity,
    model::{
        config::{Forwarding, Protocol},
        kernel::{Kernel as _, Reason, TranslationSweep, Wanted, WantedService},
    },
};
use grayxdp_tests::{
    bench::{case::verdict, harness},
    host,
    packet::{Flags, Packet},
    subject::Subject,
};

use crate::world::{NAMES, WEB, backend, endpoint, service, vip};

/// Log₂ of the places: 1,024, of which a quarter may be half-open.
const PLACES_LOG2: u32 = 10;
const HALF_OPEN: usize = 256;
/// More than a half-open flow lives, and a little more than an open one.
const LAPSE: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(3_605);

struct Stage {
    subject: Subject,
    now: Duration,
}

impl Stage {
    fn new(protocol: Protocol) -> Self {
        let id = if protocol == Protocol::Tcp { WEB } else { NAMES };
        let pool = ["10.9.7.1", "10.9.7.2"].map(|address| address.parse().expect("an address"));
        let service = WantedService {
            forwarding: Forwarding::FullNat,
            source_pool: pool.to_vec(),
            ..service(id, protocol, true)
        };
        let wanted = Wanted { services: vec![service], ..Wanted::default() };
        let capacity = Capacity { translations_log2: PLACES_LOG2, ..Capacity::of(&wanted).with_room() };
        let subject =
            Subject::open_timeless(&wanted, capacity).expect("tests of the kernel need one that takes the program");
        let mut stage = Self { subject, now: Duration::ZERO };
        stage.wait(Duration::from_secs(7_200));
        stage
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.subject.set_clock(self.now).expect("the clock can be set");
    }

    fn swept(&mut self) -> TranslationSweep {
        let observed = self.subject.datapath.observe(self.now).expect("the table can be swept");
        observed.translations.expect("one slice is all of a small table")
    }

    fn program(&mut self) -> &Xdp {
        self.subject.datapath.program().expect("the program is loaded")
    }

    fn dropped(&self, reason: Reason) -> u64 {
        self.subject.counters().expect("counters can be read").reasons.get(&(WEB, reason)).copied().unwrap_or(0)
    }
}

/// Runs a case on a host that knows the backends.
fn with(protocol: Protocol, case: impl FnOnce(Stage) + Send) {
    let neighbours = [WEB, NAMES].map(|id| host::neighbour(host::NEAR, *backend(id).ip()));
    let host = host::host(&neighbours).expect("tests of the kernel need root and `ip`");
    host.run(|| case(Stage::new(protocol)));
}

/// Counts of a sweep: half-open, open.
fn counts(sweep: &TranslationSweep) -> (usize, usize) {
    let sum =
        |of: fn(&grayxdp::model::kernel::SweptService) -> u64| sweep.services.values().map(of).sum::<u64>() as usize;
    (sum(|swept| swept.half_open), sum(|swept| swept.established))
}

/// Runs a client's packet: the endpoint that its backend sees, if it goes there.
fn run(program: &Xdp, packet: &Packet) -> Option<SocketAddrV4> {
    let frame = packet.bytes();
    let mut output = vec![0; frame.len() + 64];
    let (said, _) = harness::test_run(program, &frame, host::NEAR, &mut output, 1).expect("the kernel runs the packet");
    if said == verdict::DROP {
        return None;
    }
    assert_eq!(said, verdict::TX);
    let source: [u8; 4] = output[26..30].try_into().expect("an address");
    Some(SocketAddrV4::new(source.into(), u16::from_be_bytes([output[34], output[35]])))
}

fn client(number: u32) -> SocketAddrV4 {
    let [_, b, c, d] = number.to_be_bytes();
    endpoint([10, 64 + b, c, d], 40_000)
}

/// Opens a connection: the endpoint of the pool, if there was one.
fn connect(program: &Xdp, from: SocketAddrV4) -> Option<SocketAddrV4> {
    let seen = run(program, &Packet::tcp_with(from, vip(WEB), Flags::SYN, 100, 0))?;
    let answer = Packet::tcp_with(backend(WEB), seen, Flags::SYN_ACK, 200, 101);
    assert!(run(program, &answer).is_some(), "{seen} answers");
    assert_eq!(run(program, &Packet::tcp_with(from, vip(WEB), Flags::ACK, 101, 201)), Some(seen));
    Some(seen)
}

#[test]
fn two_cpus_never_give_two_live_flows_one_endpoint() {
    with(Protocol::Tcp, |mut stage| {
        for round in 0..12 {
            let program: &Xdp = stage.program();
            let start = Barrier::new(2);
            let given: Vec<BTreeMap<SocketAddrV4, SocketAddrV4>> = std::thread::scope(|scope| {
                let one = |cpu: usize| {
                    let start = &start;
                    move || {
                        harness::pin_thread(cpu).expect("a test of two CPUs has two");
                        start.wait();
                        let flows = (0..700).map(|flow| client(10_000 * round + 2 * flow + cpu as u32));
                        flows.filter_map(|from| Some((from, connect(program, from)?))).collect()
                    }
                };
                let threads = [scope.spawn(one(0)), scope.spawn(one(1))];
                threads.map(|thread| thread.join().expect("no packet goes astray")).into()
            });
            let ends: BTreeSet<_> = given.iter().flat_map(BTreeMap::values).collect();
            let flows: usize = given.iter().map(BTreeMap::len).sum();
            assert_eq!(ends.len(), flows, "round {round}: an endpoint stands for one flow");
            assert!(flows > 900, "round {round}: {flows} of 1,024 places are taken");
            for (from, seen) in given.iter().flatten() {
                let packet = Packet::tcp_with(*from, vip(WEB), Flags::ACK, 101, 201);
                assert_eq!(run(program, &packet), Some(*seen), "round {round}: {from}");
            }
            assert_eq!(counts(&stage.swept()), (0, flows), "round {round}");
            // All lapse. In every other round nothing sweeps them, so that both CPUs take lapsed places.
            stage.wait(IDLE);
            if round % 2 == 0 {
                assert_eq!(stage.swept().expired, flows as u64);
                assert_eq!(counts(&stage.swept()), (0, 0));
            }
        }
        assert!(stage.dropped(Reason::NoSourcePort) > 0, "1,400 flows do not fit");
    });
}

#[test]
fn a_flow_of_udp_that_begins_on_two_cpus_at_once_is_one_flow_for_those_who_come_later() {
    with(Protocol::Udp, |mut stage| {
        for round in 0..200 {
            let program: &Xdp = stage.program();
            let start = Barrier::new(2);
            let ask = Packet::udp(client(round), vip(NAMES)).with_payload(b"question");
            std::thread::scope(|scope| {
                for cpu in 0..2 {
                    let (start, ask) = (&start, &ask);
                    scope.spawn(move || {
                        harness::pin_thread(cpu).expect("a test of two CPUs has two");
                        start.wait();
                        assert!(run(program, ask).is_some());
                    });
                }
            });
            let seen = run(program, &ask).expect("it goes on");
            assert_eq!(run(program, &ask), Some(seen));
            let answer = Packet::udp(backend(NAMES), seen).with_payload(b"answer");
            assert_eq!(run(program, &answer), Some(vip(NAMES)), "the client is told by the service");
            if round % 50 == 49 {
                stage.wait(Duration::from_secs(125));
            }
        }
    });
}

#[test]
fn a_flood_of_syns_fills_a_quarter_of_the_table_and_harms_no_connection() {
    with(Protocol::Tcp, |mut stage| {
        let friends: Vec<_> =
            (0..300).map(|number| (client(number), connect(stage.program(), client(number)))).collect();
        assert!(friends.iter().all(|(_, seen)| seen.is_some()));
        let flood = |stage: &mut Stage, first: u32| {
            let program = stage.program();
            let syns =
                (first..first + 20_000).map(|number| Packet::tcp_with(client(number), vip(WEB), Flags::SYN, number, 0));
            syns.filter(|syn| run(program, syn).is_some()).count()
        };
        for wave in 0..3 {
            let passed = flood(&mut stage, 100_000 * (wave + 1));
            assert!((HALF_OPEN * 9 / 10..=HALF_OPEN).contains(&passed), "wave {wave}: {passed} SYNs");
            let (half_open, open) = counts(&stage.swept());
            assert!(half_open == passed && open == friends.len(), "wave {wave}: {half_open} and {open}");
            for (from, seen) in &friends {
                assert_eq!(run(stage.program(), &Packet::tcp_with(*from, vip(WEB), Flags::ACK, 101, 201)), *seen);
            }
            stage.wait(LAPSE);
        }
        assert!(stage.dropped(Reason::HalfOpenFull) > 50_000);
        assert!(connect(stage.program(), client(9_000)).is_some(), "when the flood is over new ones get through");
    });
}
