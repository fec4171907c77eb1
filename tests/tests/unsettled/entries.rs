//! Stamps and the exception table: what the program writes, the daemon takes, reports and removes.

use std::time::Duration;

use grayxdp::model::kernel::{
    BackendId, Bucket, Kernel as _, ServiceId, Split, SweptService, Wanted, WantedBuckets, WantedService,
};

use crate::world::{CLIENT, Says, World, address, cells, from_backend, hash, moving, only, to_vip, version};

const SERVICE: ServiceId = ServiceId(1);

/// Opens a connection whose SYN goes to backend 2 although flows in progress go to backend 1.
fn connect(world: &mut World) {
    world.run(&to_vip(CLIENT, Says::Syn(1_000)));
    world.run(&from_backend(2, CLIENT, Says::SynAck(5_000, 1_001)));
    world.run(&to_vip(CLIENT, Says::Ack(1_001, 5_001)));
}

/// What a sweep finds that begins now.
fn swept(world: &mut World) -> SweptService {
    let sweep = world.observe().sweep.expect("a small table is swept at once");
    sweep.services.get(&SERVICE).cloned().unwrap_or_default()
}

#[test]
fn a_cell_is_stamped_when_a_packet_is_resolved_by_home_and_the_stamp_is_taken_once() {
    let mut world = World::new("stamps", &only(moving(1, 0)));
    world.run(&to_vip(CLIENT, Says::Ack(7, 7)));
    let stamps = world.observe().stamps.remove(&SERVICE).expect("the service is unsettled");
    assert_eq!(stamps.segments.len(), 1);
    assert_eq!(stamps.segments[0].seen, [hash(CLIENT).bucket()]);
    let stamps = world.observe().stamps.remove(&SERVICE).expect("the service is unsettled");
    assert!(stamps.segments[0].seen.is_empty());
}

#[test]
fn stamps_survive_changes_of_weights_and_a_restart() {
    let mut world = World::new("kept", &only(moving(1, 0)));
    world.run(&to_vip(CLIENT, Says::Ack(7, 7)));
    let next = only(WantedService { epoch: 2, buckets: cells(Bucket::new(1, 0, false, false)), ..moving(1, 0) });
    world.publish(&next);
    world.restart(&next);
    let stamps = world.observe().stamps.remove(&SERVICE).expect("the service is unsettled");
    assert_eq!(stamps.segments[0].seen, [hash(CLIENT).bucket()]);
}

#[test]
fn a_half_open_entry_is_reported_until_it_lapses() {
    let mut world = World::new("half-open", &only(moving(1, 0)));
    world.run(&to_vip(CLIENT, Says::Syn(1_000)));
    let found = swept(&mut world);
    assert_eq!((found.half_open, found.established, found.slots.len()), (1, 0, 0));
    assert!(found.buckets.contains(&hash(CLIENT).bucket()));
    assert_eq!(found.backends[&BackendId(2)], 1);
    world.advance(Duration::from_secs(5));
    assert_eq!(swept(&mut world), SweptService::default());
    assert_eq!(
        swept(&mut world),
        SweptService::default(),
        "it was removed, and does not look fresh half a minute later"
    );
}

#[test]
fn an_established_entry_stays_until_its_flow_was_silent_or_closed_for_too_long() {
    for (says, life) in [(None, 3_600), (Some(Says::Rst(1_001)), 60)] {
        let mut world = World::new(&format!("life-{life}"), &only(moving(1, 0)));
        connect(&mut world);
        if let Some(says) = says {
            world.run(&to_vip(CLIENT, says));
        }
        let found = swept(&mut world);
        assert_eq!((found.half_open, found.established), (0, 1));
        assert!(found.slots.contains(&hash(CLIENT).slot()));
        world.advance(Duration::from_secs(life - 1));
        assert_eq!(swept(&mut world).established, 1);
        world.advance(Duration::from_secs(3));
        let sweep = world.observe().sweep.expect("a sweep");
        assert_eq!((sweep.expired, sweep.needless, sweep.services.len()), (1, 0, 0));
    }
}

#[test]
fn an_entry_that_equals_the_default_is_removed_once_all_is_settled() {
    let mut world = World::new("needless", &only(moving(1, 0)));
    connect(&mut world);
    // The other way round: home is what the entry says, but the bucket is not settled.
    world.publish(&only(WantedService { epoch: 2, ..moving(0, 1) }));
    assert_eq!(swept(&mut world).established, 1);
    world.publish(&only(WantedService { epoch: 3, ..moving(1, 1) }));
    let sweep = world.observe().sweep.expect("a sweep");
    assert_eq!((sweep.expired, sweep.needless, sweep.services.len()), (0, 1, 0));
}

#[test]
fn sweeping_rests_while_no_service_can_make_entries_and_there_are_none() {
    let split = || only(WantedService { buckets: WantedBuckets::Split(Split::default()), ..moving(0, 0) });
    let mut world = World::new("rest", &split());
    // One sweep for what an earlier daemon may have left, one that finds nothing, one for the bits of full sets.
    for _ in 0..3 {
        assert!(world.observe().sweep.is_some());
    }
    assert!(world.observe().sweep.is_none());
    world.publish(&only(WantedService { epoch: 2, ..moving(1, 0) }));
    world.run(&to_vip(CLIENT, Says::Syn(1_000)));
    world.publish(&only(WantedService { epoch: 3, ..split().services.remove(0) }));
    assert_eq!(swept(&mut world).half_open, 1);
}

/// The same service, and so many others that all maps must be larger.
fn crowd(count: u16) -> Wanted {
    let mut wanted = only(moving(1, 0));
    for id in 2..=count {
        let mut other = WantedService { id: ServiceId(id), vip: address(10_000 + id).into(), ..moving(1, 0) };
        other.versions = vec![version(0, &[id * 2]), version(1, &[id * 2 + 1])];
        (0..).zip(&mut other.versions).for_each(|(place, version)| version.id.0 = id * 2 + place);
        wanted.services.push(other);
    }
    wanted
}

#[test]
fn entries_stamps_and_counters_outlive_larger_tables() {
    let mut world = World::new("larger", &only(moving(1, 0)));
    connect(&mut world);
    world.run(&to_vip(std::net::SocketAddrV4::new(*CLIENT.ip(), 50_000), Says::Ack(7, 7)));
    let before = world.kernel().counters().expect("counters are read");
    let folder = world.kernel().map_folder().to_owned();
    world.publish(&crowd(60));
    assert_ne!(world.kernel().map_folder(), folder, "the maps are others");
    let after = world.kernel().counters().expect("counters are read");
    assert_eq!(after.backends[&BackendId(2)], before.backends[&BackendId(2)]);
    assert_eq!(after.exceptions[&SERVICE].completed, 1);
    let observed = world.observe();
    assert_eq!(observed.stamps[&SERVICE].segments[0].seen.len(), 1);
    assert_eq!(observed.sweep.expect("a sweep").services[&SERVICE].established, 1);
    world.run(&to_vip(CLIENT, Says::Ack(1_001, 5_001)));
    let after = world.kernel().counters().expect("counters are read");
    assert!(after.exceptions[&SERVICE].by_entry > before.exceptions[&SERVICE].by_entry, "the entry is found");
}
