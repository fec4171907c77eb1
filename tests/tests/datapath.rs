//! The data path on the real kernel, without traffic: publishing, adopting, growing, explaining.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use aya::programs::{TestRun as _, TestRunOptions};
use grayxdp::{
    datapath::{Capacity, ClockSource, Datapath, Settings},
    model::{
        config::{Affinity, Protocol},
        kernel::{
            BackendId, Kernel, Question, Reason, ServiceId, Split, VersionId, Wanted, WantedBackend, WantedBuckets,
            WantedService, WantedVersion,
        },
    },
};
use grayxdp_common::{
    ABI_VERSION, SLOTS,
    directory::{DirectorySet, EndpointKey},
    hash::{Flow, FlowHash, HashKey},
};

use grayxdp_tests::host;

const KEY: HashKey = HashKey([11, 22, 33, 44]);

/// A pin folder of a test's own, removed in the end.
struct PinDir(PathBuf);

impl PinDir {
    fn new(name: &str) -> Self {
        Self(format!("/sys/fs/bpf/grayxdp-test-{}-{name}", std::process::id()).into())
    }

    fn open(&self, wanted: &Wanted) -> Datapath {
        let mut datapath = self.try_open(wanted, KEY).expect("the data path opens");
        datapath.attach().expect("no interface is named");
        datapath
    }

    fn try_open(&self, wanted: &Wanted, hash_key: HashKey) -> Result<Datapath, String> {
        let capacity = Capacity::of(wanted).with_room();
        let settings = Settings {
            pin_dir: self.0.clone(),
            interfaces: Vec::new(),
            hash_key,
            capacity,
            clock: ClockSource::Monotonic,
        };
        Datapath::open(settings).map_err(|error| error.to_string())
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        let removed = Datapath::remove(&self.0).map(|()| std::fs::remove_dir(&self.0));
        if !std::thread::panicking() {
            removed.expect("pins can be removed").expect("the pin folder is empty");
        }
    }
}

fn version(id: u16, backends: &[u16]) -> WantedVersion {
    let address = |n: u16| Ipv4Addr::new(10, 99, (n >> 8) as u8, n as u8);
    let backends: Vec<_> = backends.iter().map(|&n| WantedBackend::up(BackendId(n), address(n), 8_080)).collect();
    let slots: Vec<_> = (0..SLOTS).map(|slot| backends[slot % backends.len()].id).collect();
    WantedVersion::settled(VersionId(id), ((id + 1) % 2) as u8, backends, Arc::from(slots))
}

fn service(id: u16, threshold: u16, versions: Vec<WantedVersion>) -> WantedService {
    WantedService {
        id: ServiceId(id),
        vip: Ipv4Addr::new(192, 0, (id >> 8) as u8, id as u8).into(),
        protocol: Protocol::Tcp,
        affinity: Affinity::Flow,
        versions,
        buckets: WantedBuckets::Split(Split { offset: 1_000, threshold }),
        epoch: 7,
        rollout: 3,
        ..WantedService::default()
    }
}

fn two_versions(threshold: u16) -> Wanted {
    let services = vec![service(1, threshold, vec![version(1, &[1, 2, 3]), version(2, &[4, 5])])];
    Wanted { services, direct_access: Vec::new() }
}

/// The backend that the rules give a client, computed without the kernel.
fn reference(wanted: &Wanted, client: SocketAddrV4) -> (u16, BackendId) {
    let service = &wanted.services[0];
    let raw = |address: Ipv4Addr| u32::from_ne_bytes(address.octets());
    let hash = FlowHash::of(
        &Flow {
            source: raw(*client.ip()),
            destination: raw(host::ipv4(service.vip)),
            source_port: client.port().to_be(),
            destination_port: service.ports[0].to_be(),
            protocol: 6,
        },
        &KEY,
    );
    let version = &service.versions[service.split().expect("a split").version_of(hash.bucket())];
    (hash.bucket(), version.slots.current[usize::from(hash.slot())])
}

fn clients(count: u32) -> impl Iterator<Item = SocketAddrV4> {
    (0..count).map(|n| {
        let mixed = n.wrapping_mul(0x9e37_79b1);
        SocketAddrV4::new(Ipv4Addr::from_bits(0x0b00_0000 | (mixed >> 8)), 1_024 + (mixed & 0x7fff) as u16)
    })
}

#[test]
fn the_program_chooses_as_the_rules_say_and_a_new_weight_takes_effect_at_once() {
    let pins = PinDir::new("choice");
    let mut datapath = pins.open(&two_versions(0));
    for threshold in [0, 1, 819, 8_192, 16_384, 4_096] {
        let wanted = two_versions(threshold);
        datapath.publish(&wanted).expect("tables are written");
        let vip = SocketAddrV4::new(host::ipv4(wanted.services[0].vip), 80);
        for client in clients(500) {
            let way = datapath
                .explain(client.into(), vip.into(), Protocol::Tcp, Question::First { dscp: 0 })
                .expect("the program runs");
            let found = (way.explanation.bucket, BackendId(way.explanation.backend));
            assert_eq!(found, reference(&wanted, client), "{client} at {threshold}");
        }
    }
    let counters = datapath.counters().expect("counters are read");
    assert!(counters.reasons.is_empty(), "explaining counts nothing: {counters:?}");
}

#[test]
fn tables_are_adopted_by_the_next_daemon_and_another_key_is_refused() {
    let pins = PinDir::new("adopt");
    let wanted = two_versions(819);
    let mut first = pins.open(&wanted);
    first.publish(&wanted).expect("tables are written");
    let published = first.published().expect("tables are read");
    assert_eq!((published[0].split(), published[0].epoch, published[0].rollout), (wanted.services[0].split(), 7, 3));
    drop(first);
    let error = pins.try_open(&wanted, HashKey([1; 4])).err().expect("another key is refused");
    assert!(error.contains("another hash key"), "{error}");
    let second = pins.open(&wanted);
    assert_eq!(second.published().expect("tables are read"), published);
}

#[test]
fn a_hundred_changes_in_a_row_all_arrive_and_leave_no_place_behind() {
    let pins = PinDir::new("many");
    let mut datapath = pins.open(&two_versions(0));
    for change in 0..100_u16 {
        let mut wanted = two_versions(change * 100);
        let backends: Vec<u16> = (4..6 + change % 3).collect();
        wanted.services[0].versions[1] = version(2, &backends);
        wanted.services[0].epoch = u64::from(change);
        datapath.publish(&wanted).expect("tables are written");
        let published = datapath.published().expect("tables are read");
        assert_eq!(
            (published[0].epoch, published[0].split().expect("a split").threshold),
            (u64::from(change), change * 100)
        );
    }
}

#[test]
fn a_weight_change_of_one_service_is_followed_and_the_others_stay() {
    let pins = PinDir::new("weights");
    let mut wanted = two_versions(0);
    wanted.services.push(service(2, 819, vec![version(3, &[6]), version(4, &[7, 8])]));
    let mut datapath = pins.open(&wanted);
    for threshold in [0, 8_192, 0, 16_384, 100] {
        wanted.services[0].buckets = WantedBuckets::Split(Split { offset: 1_000, threshold });
        wanted.services[0].epoch += 1;
        datapath.publish(&wanted).expect("tables are written");
        let published = datapath.published().expect("tables are read");
        let found: Vec<_> = published.iter().map(|service| (service.split(), service.epoch)).collect();
        let expected: Vec<_> = wanted.services.iter().map(|service| (service.split(), service.epoch)).collect();
        assert_eq!(found, expected);
        let vip = SocketAddrV4::new(host::ipv4(wanted.services[0].vip), 80);
        for client in clients(50) {
            let way = datapath
                .explain(client.into(), vip.into(), Protocol::Tcp, Question::First { dscp: 0 })
                .expect("the program runs");
            assert_eq!(BackendId(way.explanation.backend), reference(&wanted, client).1, "{client} at {threshold}");
        }
    }
}

#[test]
fn more_new_slot_tables_than_are_spare_are_written_again_and_again() {
    let pins = PinDir::new("spare");
    let pair = |id: u16, other: u16| vec![version(id * 2, &[id, other]), version(id * 2 + 1, &[id + 100, other])];
    let all = |other: u16| Wanted {
        services: (1..12)
            .map(|id| service(id, 100, pair(id, other)))
            .chain([service(12, 100, vec![version(24, &[12, other])])])
            .collect(),
        direct_access: Vec::new(),
    };
    let mut datapath = pins.open(&all(50));
    for round in 0..40 {
        datapath.publish(&all(50 + round % 2)).expect("tables are written");
    }
    let vip = SocketAddrV4::new(Ipv4Addr::new(192, 0, 0, 12), 80);
    for client in clients(50) {
        let way = datapath
            .explain(client.into(), vip.into(), Protocol::Tcp, Question::First { dscp: 0 })
            .expect("the program runs");
        assert!([12, 51].contains(&way.explanation.backend), "{:?}", way.explanation);
    }
}

#[test]
fn tables_grow_when_a_reload_needs_more_and_shrink_to_what_is_configured() {
    let pins = PinDir::new("grow");
    let mut datapath = pins.open(&two_versions(0));
    let many = |count: u16| Wanted {
        services: (1..=count)
            .map(|id| service(id, 100, vec![version(id * 2, &[id * 2]), version(id * 2 + 1, &[id * 2 + 1])]))
            .collect(),
        direct_access: Vec::new(),
    };
    for count in [1, 100, 300, 2] {
        datapath.publish(&many(count)).expect("tables are written");
        let published = datapath.published().expect("tables are read");
        assert_eq!(published.len(), usize::from(count));
        let last = Ipv4Addr::new(192, 0, (count >> 8) as u8, count as u8);
        let vip = SocketAddrV4::new(last, 80);
        let way = datapath.explain(
            SocketAddrV4::new(Ipv4Addr::new(9, 9, 9, 9), 999).into(),
            vip.into(),
            Protocol::Tcp,
            Question::First { dscp: 0 },
        );
        assert_eq!(way.expect("the program runs").explanation.service, count);
    }
}

#[test]
fn a_pin_of_another_layout_is_refused_and_left_alone() {
    let pins = PinDir::new("layout");
    drop(pins.open(&two_versions(0)));
    let folder = std::fs::read_dir(pins.0.join(format!("abi-{ABI_VERSION}")))
        .expect("pins")
        .next()
        .expect("a folder")
        .expect("readable")
        .path();
    let (control, reasons) = (folder.join("CONTROL"), folder.join("REASONS"));
    std::fs::remove_file(&control).expect("removable");
    std::fs::rename(&reasons, &control).expect("bpffs renames");
    let error = pins.try_open(&two_versions(0), KEY).err().expect("a wrong map is refused");
    assert!(error.contains("CONTROL") && error.contains("not of this layout"), "{error}");
    assert!(control.exists(), "nothing was removed");
}

/// What the program said, as the `log` crate brings it.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Listener;

impl log::Log for Listener {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        SAID.lock().expect("no holder panics").push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
fn a_fault_of_the_tables_drops_is_counted_and_is_said_a_few_times() {
    log::set_logger(&Listener).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let pins = PinDir::new("fault");
    let wanted = two_versions(0);
    let mut datapath = pins.open(&wanted);
    datapath.publish(&wanted).expect("tables are written");
    let pin = aya::maps::MapData::from_pin(datapath.map_folder().join("DIRECTORY")).unwrap();
    let mut directory: aya::maps::Array<_, DirectorySet> = aya::maps::Map::Array(pin).try_into().unwrap();
    let vip = u32::from_ne_bytes(host::ipv4(wanted.services[0].vip).octets());
    let key = EndpointKey::service(vip, 80_u16.to_be(), 6).0;
    for index in 0..directory.len() {
        let mut set: DirectorySet = directory.get(&index, 0).unwrap();
        if let Some(way) = set.keys.iter().position(|seated| *seated == key) {
            set.values[way] = 1 << 30;
            directory.set(index, set, 0).unwrap();
        }
    }
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([9, 9, 9, 9], vip.to_ne_bytes(), 64);
    let mut frame = Vec::new();
    builder.tcp(1_000, 80, 1, 1_000).syn().write(&mut frame, &[]).unwrap();
    for _ in 0..100 {
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        let verdict = datapath.program().unwrap().test_run(options).unwrap().return_value;
        assert_eq!(verdict, 1, "dropped");
    }
    let counters = datapath.counters().expect("counters are read");
    assert_eq!(counters.reasons[&(ServiceId::NONE, Reason::Fault)], 100);
    let said = SAID.lock().unwrap();
    let about: Vec<_> = said.iter().filter(|line| line.contains("name what is not there")).collect();
    // Powers of two up to 100, on at most a few CPUs.
    assert!((7..=20).contains(&about.len()), "{about:?}");
    drop(datapath);
}
