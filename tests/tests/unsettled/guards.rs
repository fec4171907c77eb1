//! Fuse and lease, as the daemon sets and reads them.

use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use grayxdp::model::kernel::{Kernel as _, Latch, LeaseEnd, ServiceId, Wanted, WantedFuse, WantedGuard, WantedService};
use grayxdp_common::guard::Guard;

use crate::world::{World, moving, only};

const SERVICE: ServiceId = ServiceId(1);

fn guarded(attempt: u64, limit: u32) -> Wanted {
    let fuse = WantedFuse { limit, ratio: 0.5, window: Duration::from_secs(10) };
    let guard = WantedGuard {
        attempt,
        candidate: 1,
        stable: 0,
        fuse: Some(fuse),
        lease: Some(LeaseEnd::Stable),
        no_stable: false,
    };
    only(WantedService { guard: Some(guard), rollout: 3, ..moving(1, 0) })
}

fn map(world: &mut World) -> Array<MapData, Guard> {
    let pin = MapData::from_pin(world.kernel().map_folder().join("GUARDS")).expect("pinned");
    Map::Array(pin).try_into().expect("an array")
}

#[test]
fn a_guard_is_that_of_an_attempt_and_changes_of_tables_leave_it_alone() {
    let mut world = World::new("guard", &guarded(1, 20));
    let until = Duration::from_secs(12_345);
    world.kernel().renew_lease(SERVICE, until);
    let mut guards = map(&mut world);
    let mut guard = guards.get(&1, 0).expect("a guard");
    assert_eq!((guard.limit, guard.ratio, guard.window_ns), (20, 32_768, 10_000_000_000));
    guard.latches = Guard::TRIPPED | Guard::LEASE_EXPIRED;
    guard.tripped_ns = 5;
    guards.set(1, guard, 0).expect("written");
    world.publish(&guarded(1, 30));
    world.restart(&guarded(1, 30));
    let status = world.kernel().guards()[0];
    assert_eq!((status.service, status.rollout, status.attempt), (SERVICE, 3, 1));
    assert_eq!((status.tripped, status.lease_until), (Some(Duration::from_nanos(5)), Some(until)));
    assert!(status.expired.is_some());
    assert_eq!(map(&mut world).get(&1, 0).expect("a guard").limit, 30);
    world.kernel().clear_latch(SERVICE, Latch::LeaseExpired);
    assert_eq!(world.kernel().guards()[0].expired, None);
    assert!(world.kernel().guards()[0].tripped.is_some());
    world.kernel().clear_latch(SERVICE, Latch::Tripped);
    assert_eq!(world.kernel().guards()[0].tripped, None);
    world.publish(&guarded(2, 30));
    let status = world.kernel().guards()[0];
    assert_eq!((status.attempt, status.lease_until, status.failures), (2, None, 0));
    world.publish(&only(WantedService { epoch: 2, ..moving(1, 0) }));
    assert!(world.kernel().guards().is_empty());
}

#[test]
fn many_attempts_one_after_the_other_leave_no_guard_behind() {
    let mut world = World::new("attempts", &guarded(1, 20));
    for attempt in 2..100 {
        world.publish(&guarded(attempt, 20));
        assert_eq!(world.kernel().guards()[0].attempt, attempt);
    }
}
