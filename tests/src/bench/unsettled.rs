//! Cases of what is not settled: entries, half-open entries and marks, segments, a running rollout.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use aya::{
    Pod,
    maps::{Array, Map, MapData},
};
use grayxdp::model::{
    config::Protocol,
    kernel::{
        Bucket, SlotState, WantedBuckets, WantedFuse, WantedGuard, WantedPrefix, WantedSegments, WantedService,
        cells::{PORTS, SegmentClass},
    },
};
use grayxdp_common::{
    BUCKETS,
    exceptions::{EntryState, ExceptionKey, ExceptionSet, Head, Tail, WAYS, tick},
    hash::{Flow, FlowHash},
    maps,
    signals::Mark,
};

use crate::{
    bench::{
        case::{Baseline, Case, verdict},
        cases::CLIENT,
        frames::{Client, Flows, feed},
        harness::{Feed, Harness},
        worlds::{self, Direction, World},
    },
    packet::{Flags, Packet},
    subject::KEY,
};

/// SYNs, and the tables that they meet.
struct Size {
    path: &'static str,
    mark: f64,
    service: fn() -> WantedService,
    /// Log₂ of the sets of exceptions.
    sets_log2: u32,
    /// Log₂ of the places for marks.
    marks_log2: u32,
    /// What the exception table holds before each round.
    table: fn(u32) -> Table,
    /// Packets in a round.
    runs: u32,
}

/// As the daemon makes them, half full at most.
const FOR_65_536: Size =
    Size { path: "", mark: 3.0, service: unsettled, sets_log2: 15, marks_log2: 17, table: Table::empty, runs: 65_536 };
const FOR_A_MILLION: Size = Size { mark: 7.0, sets_log2: 19, marks_log2: 20, runs: 1_000_000, ..FOR_65_536 };

const SIZES: [Size; 8] = [
    Size { path: "SYN, unsettled, tables for 65,536 flows", service: unmeasured, ..FOR_65_536 },
    Size { path: "SYN, measured, tables for 65,536 flows", service: measured, ..FOR_65_536 },
    Size { path: "SYN, unsettled and measured, tables for 65,536 flows", ..FOR_65_536 },
    Size { path: "SYN, unsettled, tables for 1,000,000 flows", service: unmeasured, ..FOR_A_MILLION },
    Size { path: "SYN, measured, tables for 1,000,000 flows", service: measured, ..FOR_A_MILLION },
    Size { path: "SYN, unsettled and measured, tables for 1,000,000 flows", ..FOR_A_MILLION },
    Size {
        path: "SYN that makes an entry, table full of 65,536 lapsed ones",
        mark: 4.5,
        sets_log2: 14,
        marks_log2: 16,
        table: Table::full_of_lapsed,
        runs: 32_768,
        ..FOR_65_536
    },
    Size {
        path: "SYN that makes an entry, table full of 1,048,576 lapsed ones",
        mark: 10.0,
        sets_log2: 18,
        table: Table::full_of_lapsed,
        runs: 500_000,
        ..FOR_A_MILLION
    },
];

/// The cases and their marks.
///
/// # Errors
/// If a host cannot be made or the kernel refuses the program.
pub fn cases(harness: &mut Harness) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for size in &SIZES {
        let world = World::of_size(harness, vec![(size.service)()], |capacity| grayxdp::datapath::Capacity {
            exception_sets_log2: size.sets_log2,
            marks_log2: size.marks_log2,
            ..capacity
        })?;
        let folder = world.map_folder();
        cases.push(syn(&world, size.path, size.runs, size.mark, reset(&folder, size)));
        if size.path == "SYN, unsettled and measured, tables for 1,000,000 flows" {
            for (flows, mark) in [(Flows::ONE, 1.3), (Flows::MILLION, 8.5)] {
                cases.push(with_entries(&world, flows, mark, size.sets_log2));
            }
        }
    }
    let path = "established, settled bucket, while a rollout runs";
    cases.push(established(&World::of_size(harness, vec![rollout()], small)?, path, 1.0));
    let path = "established, a bucket in which segments differ";
    cases.push(established(&World::of_size(harness, vec![segments(1, true)], small)?, path, 4.0));
    let world = World::of_size(harness, vec![segments(1_000, false)], small)?;
    let mut prefixes = syn(&world, "SYN of a new flow, settled, 1,000 source prefixes", 0, 5.0, Box::new(|| Ok(())));
    (prefixes.runs, prefixes.prepare) = (None, None);
    cases.push(prefixes);
    Ok(cases)
}

fn small(capacity: grayxdp::datapath::Capacity) -> grayxdp::datapath::Capacity {
    grayxdp::datapath::Capacity { exception_sets_log2: 14, ..capacity }
}

/// All buckets at home in the first version, and current in the second; every handshake is measured.
pub(super) fn unsettled() -> WantedService {
    let buckets = vec![Bucket::new(1, 0, false, false); usize::from(BUCKETS)];
    WantedService {
        buckets: WantedBuckets::Cells(vec![buckets.into()]),
        measures: true,
        ..worlds::service(0, 0, Protocol::Tcp)
    }
}

/// The same without measuring.
fn unmeasured() -> WantedService {
    WantedService { measures: false, ..unsettled() }
}

/// Settled; every handshake is measured.
fn measured() -> WantedService {
    WantedService { measures: true, ..worlds::service(0, 0, Protocol::Tcp) }
}

/// A settled tenth for the candidate, fuse armed.
fn rollout() -> WantedService {
    let owner = |bucket| u8::from(worlds::TENTH.version_of(bucket) == 1);
    let buckets: Vec<_> = (0..BUCKETS).map(|bucket| Bucket::new(owner(bucket), owner(bucket), false, false)).collect();
    let fuse = WantedFuse { limit: 20, ratio: 0.5, window: Duration::from_secs(1) };
    WantedService {
        buckets: WantedBuckets::Cells(vec![buckets.into()]),
        guard: Some(WantedGuard {
            attempt: 1,
            candidate: 1,
            stable: 0,
            fuse: Some(fuse),
            lease: None,
            no_stable: false,
        }),
        measures: true,
        rollout: 1,
        ..worlds::service(0, 0, Protocol::Tcp)
    }
}

/// Source prefixes that hold the clients, and a segment for all of them with another version if they `differ`.
pub(super) fn segments(prefixes: u32, differ: bool) -> WantedService {
    let bucket = |owner| vec![Bucket::new(owner, owner, false, differ); usize::from(BUCKETS)];
    let length = if prefixes == 1 { 10 } else { 24 };
    let prefix = |n: u32| WantedPrefix {
        address: std::net::Ipv4Addr::from(u32::from(*CLIENT.ip()) + n * 256).into(),
        length,
        current: 1,
        home: 1,
        state: SlotState(0),
    };
    let class = |segment: u8| -> Vec<u8> {
        let mut class = vec![segment; PORTS * 128];
        class[SegmentClass::index(0, 0)] = segment;
        class
    };
    WantedService {
        buckets: WantedBuckets::Cells(vec![bucket(0).into(), bucket(u8::from(differ)).into()]),
        segments: Some(WantedSegments {
            prefixes: (0..prefixes).map(prefix).collect::<Vec<_>>().into(),
            classes: Arc::from(vec![class(0), class(1)]),
            by_dscp: false,
        }),
        ..worlds::service(0, 0, Protocol::Tcp)
    }
}

pub(super) fn case(world: &World, path: &'static str, flags: Flags, flows: Flows, mark: f64) -> Case {
    let service = worlds::virtual_endpoint(0);
    Case {
        path,
        host: world.host.clone(),
        slot: world.slot,
        feed: feed(&Packet::tcp(CLIENT, service, flags), Client::Source, flows, &[service]),
        baseline: Baseline::Tcp,
        mark: Some(mark),
        verdict: verdict::TX,
        expected: world.to_any_backend(),
        runs: None,
        prepare: None,
        counter: Some(world.counter(Direction::Forward)),
    }
}

fn established(world: &World, path: &'static str, mark: f64) -> Case {
    case(world, path, Flags::ACK, Flows::ONE, mark)
}

type Prepare = Box<dyn Fn() -> Result<()> + Sync>;

fn syn(world: &World, path: &'static str, runs: u32, mark: f64, prepare: Prepare) -> Case {
    let case = case(world, path, Flags::SYN, Flows::NEW, mark);
    Case { runs: Some(runs), prepare: Some(prepare), ..case }
}

/// Flows that have entries, for a backend of the second version.
pub(super) fn with_entries(world: &World, flows: Flows, mark: f64, sets_log2: u32) -> Case {
    let case = case(world, "established with an exception entry", Flags::ACK, flows, mark);
    let table = Table::of_flows(&case.feed, sets_log2);
    let folder = world.map_folder();
    let prepare: Prepare = Box::new(move || write_all(&folder, maps::EXCEPTIONS, &table.0));
    Case { prepare: Some(prepare), ..case }
}

/// Writes the exception table, made anew each time because entries age, and empties the marks.
fn reset(folder: &Path, size: &Size) -> Prepare {
    let folder: PathBuf = folder.to_owned();
    let (table, sets_log2, marks_log2) = (size.table, size.sets_log2, size.marks_log2);
    Box::new(move || {
        write_all(&folder, maps::EXCEPTIONS, &table(sets_log2).0)?;
        write_all(&folder, maps::MARKS, &vec![Mark::default(); 1 << marks_log2])
    })
}

fn write_all<T: Pod>(folder: &Path, name: &str, values: &[T]) -> Result<()> {
    let mut map: Array<MapData, T> = Map::Array(MapData::from_pin(folder.join(name))?).try_into()?;
    for (index, value) in (0..).zip(values) {
        map.set(index, *value, 0)?;
    }
    Ok(())
}

/// What the exception table is to hold.
struct Table(Vec<ExceptionSet>);

impl Table {
    fn empty(sets_log2: u32) -> Self {
        Self(vec![ExceptionSet::default(); 1 << sets_log2])
    }

    /// Half-open entries of no flow, sixteen ticks old.
    fn full_of_lapsed(sets_log2: u32) -> Self {
        let now = tick(monotonic_ns());
        let entry = |n: u64| [Head::new(n, 1, EntryState::HalfOpen, now.wrapping_sub(16)).0, n];
        let set = |set: u64| ExceptionSet([0, 1, 2, 3].map(|way| entry((set * WAYS as u64 + way) & ((1 << 26) - 1))));
        Self((0..1_u64 << sets_log2).map(set).collect())
    }

    /// An established entry of each flow of a feed, for the first backend of the second version.
    fn of_flows(feed: &Feed, sets_log2: u32) -> Self {
        let mut table = Self::empty(sets_log2);
        let endpoint = worlds::virtual_endpoint(0);
        let raw = |address: &std::net::Ipv4Addr| u32::from_ne_bytes(address.octets());
        let now = tick(monotonic_ns());
        for number in 0..feed.setup.flows {
            let (address, port) = feed.client_of(number);
            let flow = Flow {
                source: raw(&address),
                destination: raw(endpoint.ip()),
                source_port: port.to_be(),
                destination_port: endpoint.port().to_be(),
                protocol: 6,
            };
            let hash = FlowHash::of(&flow, &KEY);
            let key = ExceptionKey::of(hash, hash.bucket());
            let head = Head::new(key.identity, worlds::SECOND_VERSION_BACKEND, EntryState::Established, 0);
            table.insert(&key, [head.0, Tail::new(hash.slot(), now, 0).0]);
        }
        table
    }

    /// Puts an entry into the emptier of its two sets, as the program does.
    fn insert(&mut self, key: &ExceptionKey, entry: [u64; 2]) {
        let mask = self.0.len() - 1;
        let (first, second) = (key.first as usize & mask, key.second as usize & mask);
        let free = |set: &ExceptionSet| set.0.iter().filter(|entry| Head(entry[0]).state() == EntryState::Free).count();
        let is_second = free(&self.0[second]) > free(&self.0[first]);
        if is_second {
            self.0[first].0[0][0] |= Head::OVERFLOW;
        }
        let set = &mut self.0[if is_second { second } else { first }];
        let place = set.0.iter_mut().find(|entry| Head(entry[0]).state() == EntryState::Free);
        if let Some(place) = place {
            *place = [Head(entry[0]).with_overflow_of(Head(place[0])).0, entry[1]];
        }
    }
}

/// Monotonic time.
fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure lives until the call returns; this clock always exists.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(result, 0, "there is a monotonic clock");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
