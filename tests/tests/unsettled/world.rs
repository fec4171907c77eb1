//! A data path of a test's own, wanted services, and packets.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use aya::programs::{TestRun as _, TestRunOptions};
use etherparse::PacketBuilder;
use grayxdp::{
    datapath::{Capacity, ClockSource, Datapath, Settings},
    model::kernel::{
        BackendId, Bucket, Kernel as _, Observed, ServiceId, SlotState, VersionId, Wanted, WantedBackend,
        WantedBuckets, WantedService, WantedVersion,
    },
};
use grayxdp_common::{
    BUCKETS, SLOTS,
    hash::{Flow, FlowHash, HashKey},
};

pub(crate) const KEY: HashKey = HashKey([55, 66, 77, 88]);
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// Monotonic time at which tests begin: nothing that was never written looks fresh.
pub(crate) const START: Duration = Duration::from_secs(10_000);

/// A data path with a pin folder of its own, which is removed in the end.
pub(crate) struct World {
    pub(crate) datapath: Option<Datapath>,
    pub(crate) now: Duration,
    pin_dir: PathBuf,
}

impl World {
    pub(crate) fn new(name: &str, wanted: &Wanted) -> Self {
        let pin_dir = format!("/sys/fs/bpf/grayxdp-test-{}-{name}", std::process::id()).into();
        let mut world = Self { datapath: None, now: START, pin_dir };
        world.restart(wanted);
        world
    }

    /// Closes the data path and opens it again, as a daemon that is restarted; publishes.
    pub(crate) fn restart(&mut self, wanted: &Wanted) {
        self.reopen(wanted);
        self.publish(wanted);
    }

    /// The same without publishing.
    pub(crate) fn reopen(&mut self, wanted: &Wanted) {
        self.datapath = None;
        let settings = Settings {
            pin_dir: self.pin_dir.clone(),
            interfaces: Vec::new(),
            hash_key: KEY,
            capacity: Capacity::of(wanted).with_exceptions(1_000).with_room(),
            clock: ClockSource::Manual,
        };
        let mut datapath = Datapath::open(settings).expect("the data path opens");
        datapath.attach().expect("no interface is named");
        self.datapath = Some(datapath);
        self.advance(Duration::ZERO);
    }

    pub(crate) fn kernel(&mut self) -> &mut Datapath {
        self.datapath.as_mut().expect("it is open")
    }

    pub(crate) fn publish(&mut self, wanted: &Wanted) {
        self.kernel().publish(wanted).expect("tables are written");
        self.advance(Duration::ZERO);
    }

    pub(crate) fn advance(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        self.kernel().set_clock(now).expect("the clock is set");
    }

    pub(crate) fn observe(&mut self) -> Observed {
        let now = self.now;
        self.kernel().observe(now).expect("it is observed")
    }

    /// Gives the program a packet and returns its verdict.
    pub(crate) fn run(&mut self, frame: &[u8]) -> u32 {
        let mut out = vec![0; frame.len() + 64];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        let program = self.kernel().program().expect("the program is there");
        program.test_run(options).expect("the program runs").return_value
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.datapath = None;
        let removed = Datapath::remove(&self.pin_dir).map(|()| std::fs::remove_dir(&self.pin_dir));
        if !std::thread::panicking() {
            removed.expect("pins can be removed").expect("the pin folder is empty");
        }
    }
}

pub(crate) fn address(backend: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, (backend >> 8) as u8, backend as u8)
}

pub(crate) fn slots(backends: &[u16]) -> Arc<[BackendId]> {
    (0..SLOTS).map(|slot| BackendId(backends[slot % backends.len()])).collect()
}

pub(crate) fn version(place: u8, backends: &[u16]) -> WantedVersion {
    let wanted = backends.iter().map(|&id| WantedBackend::up(BackendId(id), address(id), 8_080)).collect();
    WantedVersion::settled(VersionId(u16::from(place) + 1), place, wanted, slots(backends))
}

pub(crate) fn cells(bucket: Bucket) -> WantedBuckets {
    WantedBuckets::Cells(vec![vec![bucket; usize::from(BUCKETS)].into()])
}

/// New flows go to `current`, flows in progress to `home`, of the versions 0 (backend 1) and 1 (backend 2).
pub(crate) fn moving(current: u8, home: u8) -> WantedService {
    WantedService {
        id: ServiceId(1),
        vip: VIP.into(),
        versions: vec![version(0, &[1]), version(1, &[2])],
        buckets: cells(Bucket::new(current, home, true, false)),
        ..WantedService::default()
    }
}

pub(crate) fn only(service: WantedService) -> Wanted {
    Wanted { services: vec![service], direct_access: Vec::new() }
}

pub(crate) fn states(bits: u8) -> Arc<[SlotState]> {
    vec![SlotState(bits); SLOTS].into()
}

pub(crate) const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 7), 40_000);

pub(crate) fn hash(client: SocketAddrV4) -> FlowHash {
    let raw = |address: Ipv4Addr| u32::from_ne_bytes(address.octets());
    let (source, destination) = (raw(*client.ip()), raw(VIP));
    let (source_port, destination_port) = (client.port().to_be(), 80_u16.to_be());
    FlowHash::of(&Flow { source, destination, source_port, destination_port, protocol: 6 }, &KEY)
}

/// What a TCP segment says.
#[derive(Clone, Copy)]
pub(crate) enum Says {
    Syn(u32),
    SynAck(u32, u32),
    Ack(u32, u32),
    Rst(u32),
}

pub(crate) fn to_vip(client: SocketAddrV4, says: Says) -> Vec<u8> {
    segment(client, SocketAddrV4::new(VIP, 80), says)
}

pub(crate) fn from_backend(backend: u16, client: SocketAddrV4, says: Says) -> Vec<u8> {
    segment(SocketAddrV4::new(address(backend), 8_080), client, says)
}

fn segment(from: SocketAddrV4, to: SocketAddrV4, says: Says) -> Vec<u8> {
    let ip = || PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from.ip().octets(), to.ip().octets(), 64);
    let tcp = |sequence| ip().tcp(from.port(), to.port(), sequence, 64_240);
    let built = match says {
        Says::Syn(sequence) => tcp(sequence).syn(),
        Says::SynAck(sequence, acknowledged) => tcp(sequence).syn().ack(acknowledged),
        Says::Ack(sequence, acknowledged) => tcp(sequence).ack(acknowledged),
        Says::Rst(sequence) => tcp(sequence).rst(),
    };
    let mut frame = Vec::new();
    built.write(&mut frame, &[]).expect("a vector takes all bytes");
    frame
}
