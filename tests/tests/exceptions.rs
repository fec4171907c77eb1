//! The exception scheme on the wire, without a daemon: the test itself changes the kernel's tables under connections that
//! live, as the daemon does when a bucket moves, pins and settles.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{sync::Arc, thread, time::Duration};

use grayxdp::{
    datapath::{Capacity, ClockSource, Datapath, Settings},
    lab::{HttpServer, Lab, LastingFlows, LastingTraffic, Traffic},
    model::{
        config::{AttachMode, Interface, Protocol},
        kernel::{
            BackendId, Bucket, Counters, Kernel as _, ServiceId, SweptService, VersionId, Wanted, WantedBackend,
            WantedBuckets, WantedService, WantedVersion,
        },
    },
};
use grayxdp_common::{BUCKETS, SLOTS};
use grayxdp_tests::{flood::Flood, size::Size, subject::KEY};

const SERVICE: ServiceId = ServiceId(1);
const PORT: u16 = 8_080;
/// The longest that a connection is silent.
const PAUSE: Duration = Duration::from_secs(1);

/// The kernel's side and the connections over it.
struct World {
    lab: Lab,
    datapath: Datapath,
    epoch: u64,
    _servers: Vec<HttpServer>,
}

impl World {
    /// With room for so many exceptions.
    fn new(exceptions: u32) -> Self {
        let lab = Lab::builder().backends(2).build().unwrap();
        lab.ping().unwrap();
        let servers = ["v1", "v2"].iter().enumerate().map(|(index, version)| {
            let address = std::net::SocketAddrV4::new(lab.backend_address(index), PORT);
            HttpServer::start(lab.backend(index), version, address).unwrap()
        });
        let servers = servers.collect();
        let wanted = wanted(&lab, 1, |_| Bucket::new(0, 0, false, false));
        let interface = |name: String| Interface { name, mode: AttachMode::Native };
        let settings = Settings {
            pin_dir: "/sys/fs/bpf/grayxdp".into(),
            interfaces: lab.interfaces().into_iter().map(interface).collect(),
            hash_key: KEY,
            capacity: Capacity::of(&wanted).with_room().with_exceptions(exceptions),
            clock: ClockSource::Monotonic,
        };
        let datapath = lab.balancer().run(|| {
            let mut datapath = Datapath::open(settings).unwrap();
            datapath.publish(&wanted).unwrap();
            datapath.attach().unwrap();
            datapath
        });
        Self { lab, datapath, epoch: 1, _servers: servers }
    }

    /// Gives the kernel other buckets.
    fn publish(&mut self, bucket: impl Fn(u16) -> Bucket) {
        self.epoch += 1;
        let wanted = wanted(&self.lab, self.epoch, bucket);
        let datapath = &mut self.datapath;
        self.lab.balancer().run(|| datapath.publish(&wanted).unwrap());
    }

    fn target(&self) -> std::net::SocketAddrV4 {
        std::net::SocketAddrV4::new(self.lab.vip(), 80)
    }

    fn lasting(&self) -> LastingFlows {
        let traffic = LastingTraffic {
            silent_one_in: 3,
            silence: PAUSE,
            longest_pause: PAUSE / 2,
            ..LastingTraffic::new(Protocol::Tcp, self.target(), self.lab.sources())
        };
        traffic.start(self.lab.client()).unwrap()
    }

    fn counters(&self) -> Counters {
        self.datapath.counters().unwrap()
    }

    /// What the next whole sweep of the exception table finds.
    fn sweep(&mut self) -> SweptService {
        for _ in 0..600 {
            let now = monotonic();
            let observed = self.lab.balancer().run(|| self.datapath.observe(now).unwrap());
            if let Some(sweep) = observed.sweep {
                return sweep.services.get(&SERVICE).cloned().unwrap_or_default();
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("no sweep ends");
    }
}

fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure lives through the call; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn wanted(lab: &Lab, epoch: u64, bucket: impl Fn(u16) -> Bucket) -> Wanted {
    let version = |number: u16| {
        let address = lab.backend_address(usize::from(number) - 1);
        let backend = WantedBackend::up(BackendId(number), address, PORT);
        let slots = Arc::from(vec![backend.id; SLOTS]);
        WantedVersion::settled(VersionId(number), number as u8 - 1, vec![backend], slots)
    };
    let buckets: Arc<[Bucket]> = (0..BUCKETS).map(bucket).collect();
    let service = WantedService {
        id: SERVICE,
        vip: lab.vip().into(),
        versions: (1..=2).map(version).collect(),
        buckets: WantedBuckets::Cells(vec![buckets]),
        epoch,
        idle_timeout: Duration::from_secs(10),
        closing_timeout: Duration::from_secs(2),
        ..WantedService::default()
    };
    Wanted { services: vec![service], direct_access: Vec::new() }
}

/// Half of the buckets: those that move.
fn moves(bucket: u16) -> bool {
    bucket < BUCKETS / 2
}

fn begin(flows: &LastingFlows, step: &str, count: u64) {
    let before = flows.living().len() as u64 + flows.tally().all().harmed();
    flows.begin(step, count);
    for _ in 0..300 {
        if flows.living().len() as u64 + flows.tally().all().harmed() >= before + count {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{:?}", flows.tally());
}

/// Half of the buckets move to `v2`, pin, settle, and move back.
fn there_and_back(world: &mut World, flows: &LastingFlows, count: u64) {
    for (there, back) in [(1, 0), (0, 1)] {
        world.publish(|bucket| {
            Bucket::new(if moves(bucket) { there } else { 0 }, if moves(bucket) { back } else { 0 }, false, false)
        });
        begin(flows, &format!("to place {there}: unsettled"), count);
        thread::sleep(PAUSE * 2);
        world.publish(|bucket| match moves(bucket) {
            true => Bucket::new(there, back, true, false),
            false => Bucket::new(0, 0, false, false),
        });
        begin(flows, &format!("to place {there}: pinning"), count);
        thread::sleep(PAUSE * 3);
        let swept = world.sweep();
        println!(
            "to place {there}, pinned: {} established, {} pins, {} half-open",
            swept.established, swept.pins, swept.half_open
        );
        world.publish(|bucket| match moves(bucket) {
            true => Bucket::new(there, there, true, false),
            false => Bucket::new(0, 0, false, false),
        });
        begin(flows, &format!("to place {there}: settled"), count);
        thread::sleep(PAUSE * 2);
        let swept = world.sweep();
        println!(
            "to place {there}, settled: {} established, {} pins, {} half-open",
            swept.established, swept.pins, swept.half_open
        );
    }
}

#[test]
fn connections_live_on_while_their_buckets_move_pin_and_settle() {
    let mut world = World::new(1 << 20);
    let flows = world.lasting();
    let count = Size::of_this_run().pick(60, 400);
    begin(&flows, "before", count * 2);
    let short =
        Traffic { clients: 4, pause: Duration::from_millis(20), ..Traffic::new(world.target(), world.lab.sources()) };
    let short = short.start(world.lab.client()).unwrap();
    there_and_back(&mut world, &flows, count);
    let short = short.stop();
    let tally = flows.finish();
    println!("{:?}\n{:?}", tally.all(), world.counters().exceptions);
    assert_eq!((tally.all().harmed(), tally.all().ended), (0, count * 8), "{tally:#?}");
    assert_eq!(short.failed(), 0, "{short:?}");
    thread::sleep(Duration::from_secs(4));
    let _ = world.sweep();
    let swept = world.sweep();
    assert_eq!((swept.established, swept.pins, swept.half_open), (0, 0, 0), "{swept:?}");
}

#[test]
fn connections_live_on_when_a_flood_fills_the_table() {
    let mut world = World::new(1 << 16);
    let flows = world.lasting();
    let count = Size::of_this_run().pick(60, 400);
    begin(&flows, "before", count * 2);
    let target = world.target();
    let short = Traffic { clients: 4, pause: Duration::from_millis(20), ..Traffic::new(target, world.lab.sources()) };
    let short = short.start(world.lab.client()).unwrap();
    let flood = Flood::start(&mut world.lab, 2, target, 0.5).unwrap();
    for round in 0..2 {
        // Nothing settles under a flood: what finds no place for a pin would move.
        world.publish(|bucket| Bucket::new(u8::from(moves(bucket)), 0, false, false));
        begin(&flows, &format!("there, {round}"), count);
        thread::sleep(PAUSE * 2);
        world.publish(|bucket| Bucket::new(0, 0, moves(bucket), false));
        begin(&flows, &format!("back, {round}"), count);
        thread::sleep(PAUSE * 2);
    }
    let sent = flood.stop().unwrap();
    let short = short.stop();
    let tally = flows.finish();
    let counters = world.counters().exceptions.get(&SERVICE).copied().unwrap();
    println!("{:.2} Mpps, {:.2} forwarded; {:?}\n{counters:?}", sent.mpps(), sent.forwarded_mpps(), tally.all());
    assert_eq!((tally.all().harmed(), tally.all().ended), (0, count * 6), "{tally:#?}");
    assert_eq!(short.failed(), 0, "{short:?}");
    assert!(counters.choice_deferred > 0, "the flood fills the table: {counters:?}");
}
