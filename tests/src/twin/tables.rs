//! What the daemon would publish of a world.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use grayxdp::model::{
    config::{Affinity, Protocol},
    kernel::{
        BackendId, BackendState, Bucket, ExistingFlows, LeaseEnd, SlotState, VersionId, Wanted, WantedBackend,
        WantedBuckets, WantedGuard, WantedInstance, WantedPrefix, WantedSegments, WantedService, WantedSlots,
        WantedVersion,
    },
};
use grayxdp_common::{
    BUCKETS, SLOTS,
    cells::{PORTS, SegmentClass},
};

use super::{SERVICE, frames};
use crate::rules::{Backend, Existing, Health, Place, World, cell::Cell};

/// The tables of a world.
pub(super) fn wanted(world: &World, attempt: u64, epoch: u64) -> Wanted {
    let service = WantedService {
        id: SERVICE,
        vip: frames::VIP.into(),
        ports: frames::PORTS.to_vec(),
        protocol: if world.udp { Protocol::Udp } else { Protocol::Tcp },
        affinity: Affinity::Flow,
        versions: (0..world.versions.len()).map(|place| version(world, place)).collect(),
        buckets: WantedBuckets::Cells((0..world.buckets.len()).map(|segment| buckets(world, segment)).collect()),
        segments: (world.classes.len() > 1).then(|| segments(world)),
        instance: world
            .instance
            .map(|instance| WantedInstance { backend: BackendId(instance.backend), segment: instance.segment as u8 }),
        guard: world.guard.map(|guard| WantedGuard {
            attempt,
            candidate: guard.candidate as u8,
            stable: guard.stable as u8,
            fuse: None,
            lease: Some(LeaseEnd::Stable),
            no_stable: false,
        }),
        epoch,
        rollout: 1,
        idle_timeout: Duration::from_millis(world.waits.idle_ms),
        ..WantedService::default()
    };
    Wanted { services: vec![service], direct_access: Vec::new() }
}

/// Tells what one world shows the program from what another does.
pub(super) fn digest(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    for cell in world.buckets.iter().flatten().chain(&world.prefixes) {
        (cell.current, cell.home, cell.looks, cell.pins).hash(&mut hasher);
    }
    for cell in world.slots.iter().flatten() {
        (cell.current, cell.home, cell.looks, cell.pins).hash(&mut hasher);
    }
    world.differs.hash(&mut hasher);
    let others = (&world.members, &world.versions, world.instance, world.guard.map(|guard| guard.candidate));
    format!("{others:?}").hash(&mut hasher);
    hasher.finish()
}

/// Tables as large as those of a world may become.
pub(super) fn largest(world: &World) -> Wanted {
    let mut wanted = wanted(world, 0, 1);
    for version in &mut wanted.services[0].versions {
        version.slots.home = version.slots.current.to_vec().into();
        version.slots.states = Some(vec![SlotState(0); SLOTS].into());
        version.backends.extend((1..=super::BACKENDS).map(|number| backend(world, number, Health::Up)));
    }
    wanted.services[0].guard = Some(WantedGuard {
        attempt: 0,
        candidate: 1,
        stable: 0,
        fuse: None,
        lease: Some(LeaseEnd::Stable),
        no_stable: false,
    });
    wanted
}

fn backend(world: &World, number: Backend, health: Health) -> WantedBackend {
    let state = match world.member(number).map_or(health, |member| member.health) {
        Health::Up => BackendState::Up,
        Health::Draining => BackendState::Draining,
        Health::Down { resets } => BackendState::Down { resets },
    };
    WantedBackend { id: BackendId(number), address: frames::backend(number).into(), port: 0, state }
}

fn version(world: &World, place: Place) -> WantedVersion {
    let numbers = (1..=world.members.len() as Backend)
        .filter(|number| world.member(*number).is_some_and(|member| member.version == place && !member.retired));
    WantedVersion {
        id: VersionId(place as u16 + 1),
        place: place as u8,
        backends: numbers.map(|number| backend(world, number, Health::Up)).collect(),
        slots: slots(&world.slots[place]),
        existing: match world.versions[place].existing {
            Existing::Stay => ExistingFlows::Stay,
            Existing::Reset => ExistingFlows::Reset,
            Existing::Move => ExistingFlows::Move,
        },
        failover: world.versions[place].failover.map(|place| place as u8),
    }
}

fn slots(cells: &[Cell<Backend>]) -> WantedSlots {
    let each = |of: &dyn Fn(&Cell<Backend>) -> BackendId| -> Arc<[BackendId]> {
        (0..SLOTS).map(|slot| of(&cells[slot % cells.len()])).collect()
    };
    let current = each(&|cell| BackendId(cell.current));
    if cells.iter().all(|cell| cell.is_settled() && !cell.looks) {
        return WantedSlots::settled(current);
    }
    let settled = cells.iter().all(Cell::is_settled);
    let home = if settled { Arc::clone(&current) } else { each(&|cell| BackendId(cell.home)) };
    let states = (0..SLOTS).map(|slot| state(&cells[slot % cells.len()])).collect();
    WantedSlots { current, home, states: Some(states) }
}

fn state<T: Copy + PartialEq>(cell: &Cell<T>) -> SlotState {
    let unsettled = if cell.is_settled() { 0 } else { SlotState::UNSETTLED | SlotState::LOOKS };
    let looks = if cell.looks { SlotState::LOOKS } else { 0 };
    let pins = if cell.pins { SlotState::PINS } else { 0 };
    SlotState(unsettled | looks | pins)
}

fn buckets(world: &World, segment: usize) -> Arc<[Bucket]> {
    let cells = &world.buckets[segment];
    (0..usize::from(BUCKETS))
        .map(|bucket| {
            let cell = &cells[bucket % cells.len()];
            let differs = world.differs[bucket % cells.len()];
            Bucket::new(cell.current as u8, cell.home as u8, cell.flag(), differs)
        })
        .collect()
}

fn segments(world: &World) -> WantedSegments {
    let prefixes = world.prefixes.iter().enumerate().map(|(number, cell)| WantedPrefix {
        address: frames::prefix(number).into(),
        length: 16,
        current: cell.current as u16,
        home: cell.home as u16,
        state: state(cell),
    });
    let class = |of_ports: &[[usize; 2]; 2]| {
        let mut numbers = vec![0; PORTS * 128];
        for (port, [plain, marked]) in of_ports.iter().enumerate() {
            for dscp in 0..128 {
                let segment = if dscp == frames::DSCP { marked } else { plain };
                numbers[SegmentClass::index(port as u8, dscp)] = *segment as u8;
            }
        }
        numbers
    };
    let by_dscp = world.classes.iter().flatten().any(|[plain, marked]| plain != marked);
    WantedSegments { prefixes: prefixes.collect(), classes: world.classes.iter().map(class).collect(), by_dscp }
}
