//! A service with two versions of two backends, all slots of a version with its first one; clients, packets, time.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use grayxdp::{
    datapath::Capacity,
    model::{
        config::Protocol,
        kernel::{
            BackendId, Bucket, Counters, Kernel as _, Reason, ServiceId, SlotState, VersionId, Wanted, WantedBackend,
            WantedBuckets, WantedService, WantedSlots, WantedVersion,
        },
    },
};
use grayxdp_common::{BUCKETS, SLOTS, signals::ExceptionCounters};
use grayxdp_tests::{
    bench::case::verdict,
    host,
    packet::{Flags, Packet},
    subject::Subject,
};

/// The service.
pub(super) const SERVICE: ServiceId = ServiceId(1);
/// First and second backend of the first version.
pub(super) const OLD: u16 = 1;
/// Another one of the first version.
pub(super) const OLD_TOO: u16 = 2;
/// First backend of the second version.
pub(super) const NEW: u16 = 3;
/// Another one of the second version.
pub(super) const NEW_TOO: u16 = 4;
const BACKENDS: u16 = 4;

/// Settled at the first version, and nobody looks.
pub(super) const SETTLED: Bucket = Bucket::new(0, 0, false, false);
/// New flows go to the second version.
pub(super) const MOVING: Bucket = Bucket::new(1, 0, false, false);
/// … and flows resolved by home are pinned.
pub(super) const PINNING: Bucket = Bucket::new(1, 0, true, false);
/// The weight went back.
pub(super) const BACK: Bucket = Bucket::new(0, 0, true, false);

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    /// To a backend.
    To(u16),
    /// Back to the sender, as the program's own answer.
    Answered(Reason),
    /// Nowhere.
    Dropped(Reason),
}

/// A backend's end.
pub(super) fn backend(backend: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 9, 3, backend as u8), 8_080)
}

/// The virtual end.
pub(super) fn vip() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 10), 80)
}

/// A client.
pub(super) fn client(number: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 64, (number >> 8) as u8, number as u8), 40_000)
}

/// A version whose slots are all of one backend, now and at home.
pub(super) fn version(place: u8, current: u16, home: u16, bits: u8) -> WantedVersion {
    let slots = |id: u16| Arc::from(vec![BackendId(id); SLOTS]);
    let now: Arc<[BackendId]> = slots(current);
    let own = |id: &u16| (id - 1) / 2 == u16::from(place);
    let backends = (1..=BACKENDS).filter(own).map(|id| {
        let end = backend(id);
        WantedBackend::up(BackendId(id), *end.ip(), end.port())
    });
    let mut version =
        WantedVersion::settled(VersionId(u16::from(place) + 1), place, backends.collect(), Arc::clone(&now));
    if bits != 0 {
        let home = if home == current { Arc::clone(&now) } else { slots(home) };
        version.slots = WantedSlots { current: now, home, states: Some(vec![SlotState(bits); SLOTS].into()) };
    }
    version
}

/// Every bucket alike, in each of some segments.
pub(super) fn buckets(of_segments: &[Bucket]) -> WantedBuckets {
    WantedBuckets::Cells(of_segments.iter().map(|bucket| Arc::from(vec![*bucket; usize::from(BUCKETS)])).collect())
}

/// The service with every bucket alike.
pub(super) fn service(bucket: Bucket) -> WantedService {
    WantedService {
        id: SERVICE,
        vip: (*vip().ip()).into(),
        ports: vec![vip().port()],
        protocol: Protocol::Tcp,
        versions: vec![version(0, OLD, OLD, 0), version(1, NEW, NEW, 0)],
        buckets: buckets(&[bucket]),
        ..WantedService::default()
    }
}

/// How many places the table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Places {
    /// Enough.
    Many,
    /// Eight.
    Eight,
}

/// The program with a service, at a time of the test's own.
pub(super) struct Stage<'a> {
    pub(super) subject: &'a mut Subject,
    now: Duration,
    epoch: u64,
}

/// Runs a case.
pub(super) fn with(service: WantedService, case: impl FnOnce(&mut Stage<'_>) + Send) {
    with_places(Places::Many, service, case);
}

/// Runs a case with a table of a size.
pub(super) fn with_places(places: Places, service: WantedService, case: impl FnOnce(&mut Stage<'_>) + Send) {
    let neighbours: Vec<String> =
        (1..=BACKENDS).map(|number| host::neighbour(host::NEAR, *backend(number).ip())).collect();
    let host = host::host(&neighbours).expect("tests of the kernel need root and `ip`");
    let wanted = Wanted { services: vec![service], direct_access: Vec::new() };
    let exception_sets_log2 = match places {
        Places::Many => 14,
        Places::Eight => 1,
    };
    let capacity = Capacity { exception_sets_log2, ..Capacity::of(&wanted).with_room() };
    host.run(|| {
        let mut subject = Subject::open_timeless(&wanted, capacity).expect("the kernel takes the program");
        let mut stage = Stage { subject: &mut subject, now: Duration::from_secs(1_000), epoch: 1 };
        stage.wait(Duration::ZERO);
        case(&mut stage);
    });
}

impl Stage<'_> {
    /// Lets time pass.
    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.subject.set_clock(self.now).expect("the clock can be set");
    }

    /// The time.
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// Changes the tables.
    pub(super) fn publish(&mut self, service: WantedService) {
        self.epoch += 1;
        let service = WantedService { epoch: self.epoch, ..service };
        let wanted = Wanted { services: vec![service], direct_access: Vec::new() };
        self.subject.datapath.publish(&wanted).expect("tables are written");
    }

    /// Sends a packet.
    pub(super) fn send(&mut self, packet: &Packet) -> Went {
        self.send_for(packet).0
    }

    /// Sends a packet and gives what became of it.
    pub(super) fn send_for(&mut self, packet: &Packet) -> (Went, Vec<u8>) {
        let before = self.counters();
        let (said, output) = self.subject.run(&packet.bytes(), host::NEAR).expect("the kernel runs the packet");
        let reasons = self.counters().reasons;
        let reason = || {
            let changed = reasons.iter().find(|(key, count)| before.reasons.get(key) != Some(*count));
            changed.map(|((_, reason), _)| *reason).expect("what is not forwarded has a reason")
        };
        let went = match said {
            verdict::DROP => Went::Dropped(reason()),
            verdict::TX if output[30..34] == packet.source.ip().octets() => Went::Answered(reason()),
            verdict::TX => {
                Went::To((1..=BACKENDS).find(|it| output[30..34] == backend(*it).ip().octets()).unwrap_or(0))
            }
            other => panic!("the program said {other} to {packet:?}"),
        };
        (went, output)
    }

    fn tcp(&mut self, number: u16, flags: Flags, sequence: u32, acknowledged: u32, payload: &[u8]) -> Went {
        let packet = Packet::tcp_with(client(number), vip(), flags, sequence, acknowledged);
        self.send(&packet.with_payload(payload))
    }

    /// A client's SYN.
    pub(super) fn syn(&mut self, client: u16, isn: u32) -> Went {
        self.tcp(client, Flags::SYN, isn, 0, &[])
    }

    /// A client's acknowledgement.
    pub(super) fn ack(&mut self, client: u16, sequence: u32, acknowledged: u32) -> Went {
        self.tcp(client, Flags::ACK, sequence, acknowledged, &[])
    }

    /// A client's data.
    pub(super) fn data(&mut self, client: u16, sequence: u32, acknowledged: u32) -> Went {
        self.tcp(client, Flags::ACK, sequence, acknowledged, b"question")
    }

    /// A client's RST.
    pub(super) fn rst(&mut self, client: u16, sequence: u32) -> Went {
        self.tcp(client, Flags::RST, sequence, 0, &[])
    }

    /// A backend's TCP packet on its way to a client; it must go there.
    pub(super) fn answer(&mut self, from: u16, to: u16, flags: Flags, sequence: u32, acknowledged: u32) {
        self.answer_with(&Packet::tcp_with(backend(from), client(to), flags, sequence, acknowledged));
    }

    /// A backend's packet on its way to a client; it must go there from the virtual end.
    pub(super) fn answer_with(&mut self, packet: &Packet) {
        let (said, output) = self.subject.run(&packet.bytes(), host::NEAR).expect("the kernel runs the packet");
        assert_eq!((said, &output[26..30]), (verdict::TX, &vip().ip().octets()[..]), "{packet:?}");
    }

    /// A whole handshake, which goes to a backend with these first numbers.
    pub(super) fn connect(&mut self, client: u16, isn: u32, number: u32, backend: u16) {
        assert_eq!(self.syn(client, isn), Went::To(backend), "SYN");
        self.answer(backend, client, Flags::SYN_ACK, number, isn.wrapping_add(1));
        assert_eq!(self.ack(client, isn.wrapping_add(1), number.wrapping_add(1)), Went::To(backend), "ACK");
    }

    /// All counters.
    pub(super) fn counters(&self) -> Counters {
        self.subject.counters().expect("counters can be read")
    }

    /// What the exception table had to do.
    pub(super) fn exceptions(&self) -> ExceptionCounters {
        self.counters().exceptions.get(&SERVICE).copied().unwrap_or_default()
    }

    /// Fills the table with half-open entries of other clients until one finds no place.
    pub(super) fn fill(&mut self) {
        let refused = |stage: &Self| stage.exceptions().choice_deferred;
        let before = refused(self);
        let mut other = 1_000;
        while refused(self) < before + 20 {
            self.syn(other, 7);
            other += 1;
            assert!(other < 2_000, "a table of eight places fills");
        }
    }
}
