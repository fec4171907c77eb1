//! What is published is what the kernel holds, whatever daemon asks.

use std::{net::SocketAddrV4, sync::Arc};

use aya::maps::{Map, MapData};
use grayxdp::model::{
    config::Protocol,
    kernel::{
        BackendState, Bucket, Explanation, Kernel as _, Question, ServiceId, SlotState, Split, Wanted, WantedBuckets,
        WantedPrefix, WantedSegments, WantedService, WantedSlots,
    },
};
use grayxdp_common::{
    BUCKETS,
    cells::{PORTS, PrefixKey, PrefixValue},
};

use crate::world::{CLIENT, VIP, World, address, cells, moving, only, slots, states, version};

fn explain(world: &mut World, port: u16, question: Question) -> Explanation {
    let vip = SocketAddrV4::new(VIP, port);
    let way = world.kernel().explain(CLIENT.into(), vip.into(), Protocol::Tcp, question).expect("the program runs");
    way.explanation
}

const FIRST: Question = Question::First { dscp: 0 };

/// Three versions, one of them with slots of which all have two backends.
fn rich() -> Wanted {
    let mut service =
        WantedService { versions: vec![version(0, &[1]), version(2, &[2]), version(5, &[3, 4])], ..moving(2, 0) };
    service.versions[2].slots =
        WantedSlots { current: slots(&[3]), home: slots(&[4]), states: Some(states(SlotState::UNSETTLED)) };
    let buckets = (0..BUCKETS).map(|bucket| Bucket::new([0, 2, 5][usize::from(bucket) % 3], 0, false, false)).collect();
    service.buckets = WantedBuckets::Cells(vec![buckets]);
    service.epoch = 9;
    service.rollout = 4;
    only(service)
}

#[test]
fn what_is_published_is_read_back_by_this_daemon_and_by_the_next() {
    let wanted = rich();
    let service = &wanted.services[0];
    let mut world = World::new("readback", &wanted);
    for _ in 0..2 {
        let published = world.kernel().published().expect("tables are read");
        assert_eq!(published[0].buckets, service.buckets);
        assert_eq!((published[0].epoch, published[0].rollout), (9, 4));
        let places: Vec<_> = published[0].versions.iter().map(|version| version.0).collect();
        assert_eq!(places, [1, 0, 3, 0, 0, 6, 0, 0]);
        let held = world.kernel().held_slots().expect("tables are read");
        assert_eq!(held.len(), 1);
        assert_eq!((held[0].version, &held[0].slots), (service.versions[2].id, &service.versions[2].slots));
        world.reopen(&wanted);
    }
}

#[test]
fn a_hundred_changes_of_buckets_and_slots_leave_no_place_behind() {
    let mut world = World::new("places", &rich());
    for change in 0..100_u8 {
        let mut wanted = rich();
        let service = &mut wanted.services[0];
        service.epoch = 10 + u64::from(change);
        service.buckets = match change % 4 {
            0 => cells(Bucket::new(change % 2, 5, false, false)),
            1 => cells(Bucket::new(5, change % 2, true, false)),
            2 => cells(Bucket::new(5, 5, false, false)),
            _ => WantedBuckets::Split(Split { offset: 0, threshold: 3 }),
        };
        if change % 2 == 0 {
            service.versions[2].slots.states = Some(states(SlotState::UNSETTLED | SlotState::PINS));
        } else {
            service.versions[2].slots = WantedSlots::settled(slots(&[3, 4]));
        }
        world.publish(&wanted);
        let published = world.kernel().published().expect("tables are read");
        assert_eq!((published[0].epoch, &published[0].buckets), (10 + u64::from(change), &wanted.services[0].buckets));
    }
}

#[test]
fn arithmetic_for_what_is_not_settled_is_refused_and_nothing_changes() {
    let mut world = World::new("refused", &only(moving(1, 0)));
    let before = world.kernel().published().expect("tables are read");
    let mut wanted = only(WantedService { buckets: WantedBuckets::Split(Split::default()), ..moving(0, 0) });
    wanted.services[0].versions[0].slots.states = Some(states(SlotState::LOOKS));
    let error = world.kernel().publish(&wanted).expect_err("it cannot be said").to_string();
    assert!(error.contains("service 1") && error.contains("buckets one by one"), "{error}");
    assert_eq!(world.kernel().published().expect("tables are read"), before);
}

#[test]
fn ports_are_told_apart_and_backends_that_keep_them_answer_from_all() {
    let mut wanted = segmented(&[]);
    let service = &mut wanted.services[0];
    service.ports = vec![80, 443];
    service.versions.iter_mut().flat_map(|version| &mut version.backends).for_each(|backend| backend.port = 0);
    // The second port's flows are the second segment's.
    let classes = (0..PORTS * 128).map(|index| u8::from(index / 128 == 1)).collect();
    service.segments = Some(WantedSegments { prefixes: Arc::from([]), classes: Arc::from([classes]), by_dscp: false });
    let mut world = World::new("ports", &wanted);
    for (port, backend) in [(80, 1), (443, 2)] {
        assert_eq!(explain(&mut world, port, FIRST).backend, backend);
        let way = world.kernel().explain(
            SocketAddrV4::new(address(backend), port).into(),
            CLIENT.into(),
            Protocol::Tcp,
            FIRST,
        );
        assert_eq!(way.expect("the program runs").explanation.backend, backend, "the reply from port {port}");
    }
}

#[test]
fn a_backend_that_goes_down_says_so_in_its_record_and_a_draining_one_does_not() {
    use grayxdp_common::records::BackendRecord;
    let mut world = World::new("down", &only(moving(1, 0)));
    let mut flags = |state: BackendState| {
        let mut wanted = only(moving(1, 0));
        wanted.services[0].versions[0].backends[0].state = state;
        world.publish(&wanted);
        let pin = MapData::from_pin(world.kernel().map_folder().join("BACKENDS")).expect("pinned");
        let records: aya::maps::Array<_, BackendRecord> = Map::Array(pin).try_into().expect("an array");
        records.get(&1, 0).expect("a record").flags
    };
    let watched = BackendRecord::FLAG_WATCHED;
    assert_eq!(flags(BackendState::Up), watched);
    assert_eq!(flags(BackendState::Draining), watched);
    assert_eq!(flags(BackendState::Down { resets: false }), watched | BackendRecord::FLAG_DOWN);
    let both = BackendRecord::FLAG_DOWN | BackendRecord::FLAG_RESETS;
    assert_eq!(flags(BackendState::Down { resets: true }), watched | both);
    assert_eq!(flags(BackendState::Up), watched);
}

/// Two segments: the default one is version 0's, the other one, by source prefix, version 1's.
fn segmented(prefixes: &[(&str, u8, u16)]) -> Wanted {
    let buckets = |place: u8| vec![Bucket::new(place, place, false, true); usize::from(BUCKETS)].into();
    let prefixes: Arc<[_]> = prefixes
        .iter()
        .map(|&(address, length, class)| WantedPrefix {
            address: address.parse().expect("an address"),
            length,
            current: class,
            home: class,
            state: SlotState(0),
        })
        .collect();
    let classes = Arc::from([vec![0; PORTS * 128], vec![1; PORTS * 128]]);
    only(WantedService {
        buckets: WantedBuckets::Cells(vec![buckets(0), buckets(1)]),
        segments: Some(WantedSegments { prefixes, classes, by_dscp: false }),
        ..moving(0, 0)
    })
}

fn prefixes_in(world: &mut World) -> usize {
    let pin = MapData::from_pin(world.kernel().map_folder().join("PREFIXES")).expect("pinned");
    let trie: aya::maps::LpmTrie<_, PrefixKey, PrefixValue> = Map::LpmTrie(pin).try_into().expect("a trie");
    trie.keys().count()
}

#[test]
fn a_changed_set_of_prefixes_takes_effect_at_once_and_the_old_one_is_removed() {
    let mut world = World::new("prefixes", &segmented(&[("198.51.100.0", 24, 1), ("203.0.113.0", 24, 1)]));
    assert_eq!(explain(&mut world, 80, FIRST).backend, 2);
    world.publish(&segmented(&[("198.51.0.0", 16, 1), ("198.51.100.0", 24, 0), ("10.0.0.0", 8, 1)]));
    assert_eq!(explain(&mut world, 80, FIRST).backend, 1, "the longer prefix decides");
    let same = segmented(&[("198.51.0.0", 16, 1), ("198.51.100.0", 24, 0), ("10.0.0.0", 8, 1)]);
    world.restart(&same);
    assert_eq!(explain(&mut world, 80, FIRST).backend, 1, "the next daemon's tables say the same");
    for _ in 0..100 {
        world.observe();
        if prefixes_in(&mut world) == 3 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{} prefixes are left of the sets that went", prefixes_in(&mut world) - 3);
}

#[test]
fn services_that_come_and_go_keep_their_numbers_and_their_tables() {
    let mut world = World::new("both", &only(moving(1, 0)));
    let mut wanted = only(moving(1, 0));
    let mut other = WantedService { id: ServiceId(7), vip: address(99).into(), ..moving(0, 0) };
    other.versions = vec![version(0, &[11]), version(1, &[12])];
    other.versions.iter_mut().for_each(|version| version.id.0 += 10);
    other.buckets = WantedBuckets::Split(Split { offset: 0, threshold: BUCKETS });
    wanted.services.push(other);
    world.publish(&wanted);
    assert_eq!(explain(&mut world, 80, FIRST).backend, 2);
    let vip = SocketAddrV4::new(address(99), 80);
    let way = world.kernel().explain(CLIENT.into(), vip.into(), Protocol::Tcp, FIRST).expect("the program runs");
    assert_eq!(way.explanation.backend, 12);
    wanted.services.remove(0);
    world.publish(&wanted);
    assert_eq!(world.kernel().published().expect("tables are read").len(), 1);
}
