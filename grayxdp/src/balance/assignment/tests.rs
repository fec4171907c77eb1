//! What a change of anything does to defaults, and what comes back from the journal and from the kernel.

mod entries;
mod segments;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    balance::{Pressure, wanted::tests::config},
    model::{
        Weight,
        config::{Config, OnEmptyPool, Prefix},
        kernel::{Bucket, CellStamps, ExistingFlows, HeldSlots, SlotState, WantedBuckets, WantedVersion},
    },
};

fn at(second: u64) -> Moment {
    Moment::of(Duration::from_secs(second))
}

fn policy() -> Policy {
    let span = |seconds| Span::of(Duration::from_secs(seconds));
    Policy { idle: span(60), settle_after: span(20), pressure: Pressure::Low, learns: false }
}

/// A service with all that decides about it.
struct Case {
    config: Config,
    ids: IdTable,
    places: BTreeMap<Name, u8>,
    buckets: Ownership,
    segments: Vec<(u8, Option<Match>, Ownership)>,
    down: Vec<u8>,
}

impl Case {
    fn new(backends: u8, second: u16) -> Self {
        let config = config(&["a"], backends);
        let mut ids = IdTable::default();
        ids.assign(&config).expect("room");
        let names = ["v1", "v2"].map(|name| name.parse().expect("a name"));
        let places = names.into_iter().zip(0..).collect();
        let buckets = Ownership::first(&shares(second), 100);
        Self { config, ids, places, buckets, segments: Vec::new(), down: Vec::new() }
    }

    fn with<T>(&self, run: impl FnOnce(&Target<'_>) -> T) -> T {
        let state = |key: &BackendKey| match self.down.contains(&last_octet(key)) {
            true => BackendState::Down { resets: true },
            false => BackendState::Up,
        };
        let segment =
            |(number, of, buckets): &'_ (u8, Option<Match>, Ownership)| (*number, of.clone(), buckets.clone());
        let owned: Vec<_> = self.segments.iter().map(segment).collect();
        let segments = owned
            .iter()
            .map(|(number, of, buckets)| SegmentTarget { number: *number, r#match: of.as_ref(), buckets })
            .collect();
        run(&Target {
            service: &self.config.services[0],
            ids: &self.ids,
            places: &self.places,
            buckets: &self.buckets,
            segments,
            state: &state,
        })
    }

    fn weigh(&mut self, second: u16) {
        self.buckets = self.buckets.reweighted(&shares(second), None, 0);
    }

    fn wanted(
        &self,
        assignment: &Assignment,
    ) -> (Vec<WantedVersion>, WantedBuckets, Option<crate::model::kernel::WantedSegments>) {
        assignment.wanted(&View {
            buckets: &self.buckets,
            ports: &[80],
            one_by_one: false,
            existing: BTreeMap::new(),
            on_empty: OnEmptyPool::Failover,
            takers: vec![0, 1],
        })
    }
}

fn shares(second: u16) -> Vec<(u8, Weight)> {
    let second = Weight::from_hundredths(second).expect("a weight");
    vec![(0, second.complement()), (1, second)]
}

fn tables(buckets: &WantedBuckets) -> &[Arc<[Bucket]>] {
    match buckets {
        WantedBuckets::Cells(tables) => tables,
        WantedBuckets::Split(_) => panic!("a split"),
    }
}

fn asia(dscp: Vec<u8>) -> Match {
    let prefix = Prefix::try_from("203.0.113.0/24".to_owned()).expect("a prefix");
    Match { sources: if dscp.is_empty() { vec![prefix] } else { Vec::new() }, dscp, ports: Vec::new() }
}

/// Default and choice of buckets and slots.
fn resolved(assignment: &Assignment) -> Vec<(Vec<u8>, Vec<BackendId>)> {
    let tables = assignment.segments.iter().map(|cells| cells.home().to_vec());
    let slots = assignment.pools.values().flat_map(|pool| pool.slots.home().to_vec()).collect::<Vec<_>>();
    tables.map(|table| (table, slots.clone())).collect()
}

#[test]
fn a_settled_service_with_two_versions_is_a_split_and_a_change_makes_it_cells() {
    let mut case = Case::new(2, 1_000);
    let mut assignment = case.with(|target| Assignment::new(target, at(1_000)));
    let (versions, buckets, segments) = case.wanted(&assignment);
    assert_eq!((buckets, segments), (WantedBuckets::Split(case.buckets.split().expect("a split")), None));
    assert_eq!((versions[1].place, versions[1].backends.len(), versions[1].slots.states.is_none()), (1, 2, true));

    case.weigh(2_000);
    assert_eq!(case.with(|target| assignment.change(target, at(1_010))), 1_639);
    let (_, buckets, _) = case.wanted(&assignment);
    let moved = tables(&buckets)[0].iter().filter(|bucket| (bucket.current(), bucket.home()) == (1, 0)).count();
    assert_eq!((moved, assignment.unsettled()), (1_639, [1_639, 0, 0]));

    // Idle for a minute: settled, but it looks until a sweep that began four seconds later.
    assert_eq!(assignment.settle(at(1_071), &policy(), None).settled.idle, 1_639);
    assert!(tables(&case.wanted(&assignment).1)[0].iter().filter(|bucket| bucket.looks()).count() == 1_639);
    let found = SweptService { buckets: [100 + 1_700].into(), ..SweptService::default() };
    assert_eq!(assignment.swept(at(1_074), &found), 0);
    assert_eq!(assignment.swept(at(1_076), &found), 1_638);
    assert_eq!(assignment.swept(at(1_090), &SweptService::default()), 1);
    assert_eq!(case.wanted(&assignment).1, WantedBuckets::Split(case.buckets.split().expect("a split")));
}

#[test]
fn a_backend_that_is_down_loses_few_slots_of_others_and_gets_its_own_back() {
    let mut case = Case::new(5, 5_000);
    let mut assignment = case.with(|target| Assignment::new(target, at(1_000)));
    let before = assignment.pools[&0].slots.current().to_vec();
    case.down = vec![3];
    case.with(|target| assignment.change(target, at(1_010)));
    let (versions, ..) = case.wanted(&assignment);
    let slots = &versions[0].slots;
    let (mut own, mut others) = (0, 0);
    for (slot, old) in before.iter().enumerate() {
        assert_eq!(slots.home[slot], *old);
        assert_ne!(slots.current[slot], BackendId(3));
        if slots.current[slot] != *old {
            *(if *old == BackendId(3) { &mut own } else { &mut others }) += 1;
        }
    }
    assert_eq!(own, 3_276);
    assert!(others * 100 < before.len() * 3, "{others} of the others' slots moved");
    assert_eq!(versions[0].backends[2].state, BackendState::Down { resets: true });
    let state =
        slots.states.as_ref().expect("unsettled slots")[before.iter().position(|id| id.0 == 3).expect("it had some")];
    assert_eq!(state, SlotState(SlotState::UNSETTLED | SlotState::LOOKS));
    case.down.clear();
    case.with(|target| assignment.change(target, at(1_020)));
    assert_eq!((assignment.pools[&0].slots.current().to_vec(), assignment.unsettled()), (before, [0, 0, 0]));
}

#[test]
fn an_empty_pool_fails_over_and_settles_on_nobody() {
    let mut case = Case::new(1, 5_000);
    case.config.services[0].versions[1].backends[0].address = std::net::Ipv4Addr::new(10, 0, 2, 9).into();
    case.ids.assign(&case.config).expect("room");
    let mut assignment = case.with(|target| Assignment::new(target, at(1_000)));
    case.down = vec![9];
    case.with(|target| assignment.change(target, at(1_010)));
    assignment.settle(at(9_000), &policy(), None);
    let (versions, buckets, _) = case.wanted(&assignment);
    assert_eq!((versions[1].failover, versions[0].failover), (Some(0), None));
    assert!(versions[1].slots.current.iter().all(|id| *id == BackendId::NONE));
    assert!(versions[1].slots.home.iter().all(|id| *id != BackendId::NONE));
    assert_eq!(tables(&buckets).len(), 1);
    // A daemon that begins in this state knows where its backend's flows would be.
    let fresh = case.with(|target| Assignment::new(target, at(1_000)));
    assert_eq!(resolved(&fresh), resolved(&assignment));
}

#[test]
fn what_is_removed_stays_until_nothing_refers_to_it() {
    let mut case = Case::new(3, 0);
    let mut assignment = case.with(|target| Assignment::new(target, at(1_000)));
    let removed = case.ids.backend(
        &BackendKey::of(&case.config.services[0], &case.config.services[0].versions[0]).nth(2).expect("three"),
    );
    let removed = removed.expect("a number");
    case.config.services[0].versions[0].backends.pop();
    let v2 = case.config.services[0].versions.pop().expect("two");
    case.with(|target| assignment.change(target, at(1_010)));
    let (versions, ..) = case.wanted(&assignment);
    assert_eq!((versions[0].backends[2].id, versions[0].backends[2].state), (removed, BackendState::Draining));
    assert_eq!((versions[1].place, versions[1].backends[0].state), (1, BackendState::Draining));
    let timeout = Span::of(Duration::from_secs(600));
    let busy = SweptService { backends: [(removed, 1)].into(), ..SweptService::default() };
    // v2 has no bucket and no entry: it goes at once. The backend has slots at home, then an entry.
    let gone = assignment.let_go(at(1_020), Some((at(1_020), &busy)), timeout);
    assert_eq!((gone.places, gone.backends.len()), (vec![1], v2.backends.len()));
    assignment.settle(at(1_080), &policy(), None);
    assert_eq!(assignment.let_go(at(1_090), Some((at(1_090), &busy)), timeout), Gone::default());
    let idle = SweptService::default();
    assert_eq!(assignment.let_go(at(1_100), Some((at(1_100), &idle)), timeout).backends, [removed]);
    assert_eq!(case.wanted(&assignment).0[0].backends.len(), 2);
}

#[test]
fn a_backend_whose_time_is_over_goes_with_its_slots() {
    let mut case = Case::new(3, 0);
    let mut assignment = case.with(|target| Assignment::new(target, at(1_000)));
    case.config.services[0].versions[0].backends.pop();
    case.with(|target| assignment.change(target, at(1_010)));
    let timeout = Span::of(Duration::from_secs(30));
    assert_eq!(assignment.let_go(at(1_040), None, timeout), Gone::default());
    assert_eq!(assignment.let_go(at(1_041), None, timeout).backends, [BackendId(3)]);
    assert!(!assignment.pools[&0].slots.names(|owner| owner == BackendId(3)));
}

#[test]
fn udp_leaves_a_backend_that_is_down_at_once_and_tcp_does_not() {
    for (protocol, left) in [(crate::model::config::Protocol::Udp, true), (crate::model::config::Protocol::Tcp, false)]
    {
        for down in [vec![2], vec![1, 2, 3]] {
            let mut case = Case::new(3, 0);
            case.config.services[0].protocol = protocol;
            case.ids.assign(&case.config).expect("room");
            let mut assignment = case.with(|target| Assignment::new(target, at(1_000)));
            case.down = down.clone();
            case.with(|target| assignment.change(target, at(1_010)));
            let slots = &assignment.pools[&0].slots;
            let keys = BackendKey::of(&case.config.services[0], &case.config.services[0].versions[0]);
            let ids: Vec<BackendId> = keys.filter_map(|key| case.ids.backend(&key)).collect();
            let dead = |id: BackendId| down.iter().any(|last| ids[usize::from(*last) - 1] == id);
            assert_eq!(slots.home().iter().any(|id| dead(*id)), !left, "{protocol:?} {down:?}");
            assert_eq!(slots.home().contains(&BackendId::NONE), left && down.len() == 3, "{protocol:?} {down:?}");
            case.down.clear();
            case.with(|target| assignment.change(target, at(1_020)));
            assert_eq!(assignment.pools[&0].slots.current().iter().filter(|id| **id == BackendId::NONE).count(), 0);
        }
    }
}

#[test]
fn udp_settles_at_once_when_told_to() {
    let mut case = Case::new(1, 0);
    let mut assignment = case.with(|target| Assignment::new(target, at(1_000)));
    case.weigh(10_000);
    case.with(|target| assignment.change(target, at(1_010)));
    assert_eq!(assignment.settle_at_once(at(1_020)).window, 16_384);
    assert!(assignment.is_settled() && !assignment.is_quiet());
}

#[test]
fn other_places_move_nobody() {
    let mut case = Case::new(2, 1_000);
    case.places = ["v1", "v2"].into_iter().map(|name| name.parse().expect("a name")).zip([3, 5]).collect();
    case.buckets = Ownership::first(
        &shares(1_000).into_iter().map(|(place, weight)| (3 + 2 * place, weight)).collect::<Vec<_>>(),
        100,
    );
    let mut assignment = case.with(|target| Assignment::new(target, at(1_000)));
    assert!(matches!(case.wanted(&assignment).1, WantedBuckets::Cells(_)));
    assignment.renumber(&[3, 5]);
    case.buckets = case.buckets.renumbered(&[3, 5]);
    assert_eq!(
        case.wanted(&assignment).1,
        WantedBuckets::Split(grayxdp_common::records::Split { offset: 100, threshold: 1_638 })
    );
    assert_eq!(
        assignment.version_at(1),
        case.ids.version(&"a".parse().expect("a name"), &"v2".parse().expect("a name"))
    );
}

/// What an operator, or the network, does.
#[derive(Clone, Debug)]
enum Step {
    Weigh(u16),
    Down(Vec<u8>),
    Segment(Option<u16>),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u16..=10_000).prop_map(Step::Weigh),
        prop::collection::vec(1_u8..=3, 0..3).prop_map(Step::Down),
        prop::option::of(0_u16..=10_000).prop_map(Step::Segment),
        (1_u64..100).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_change_moves_no_default_and_journal_and_kernel_give_both_back(steps in prop::collection::vec(step(), 1..12)) {
        let mut case = Case::new(3, 1_000);
        let mut now = 1_000;
        let mut assignment = case.with(|target| Assignment::new(target, at(now)));
        for step in steps {
            now += 10;
            let before = resolved(&assignment);
            match step {
                Step::Weigh(second) => case.weigh(second),
                Step::Down(down) => case.down = down,
                Step::Segment(Some(second)) => {
                    case.segments = vec![(1, Some(asia(Vec::new())), Ownership::first(&shares(second), 9))];
                }
                Step::Segment(None) => case.segments.iter_mut().for_each(|segment| segment.1 = None),
                Step::Wait(seconds) => {
                    now += seconds;
                    assignment.settle(at(now), &policy(), None);
                    continue;
                }
            }
            case.with(|target| assignment.change(target, at(now)));
            for (old, new) in before.iter().zip(resolved(&assignment)) {
                prop_assert!(*old == new, "a default moved");
            }
            let home = case.with(|target| assignment.home(target));
            let text = serde_json::to_string(&home).expect("plain JSON");
            let home = serde_json::from_str(&text).expect("readable");
            let restored = case.with(|target| Assignment::restored(target, &home, at(now)));
            prop_assert!(resolved(&restored) == resolved(&assignment), "the journal has other defaults");
            let choice = |of: &Assignment| of.segments.iter().map(|cells| cells.current().to_vec()).collect::<Vec<_>>();
            prop_assert!(choice(&restored) == choice(&assignment), "the journal has other owners");
            let (versions, buckets, _) = case.wanted(&assignment);
            let held: Vec<HeldSlots> = versions
                .iter()
                .filter(|version| version.slots.states.is_some())
                .map(|version| HeldSlots { version: version.id, slots: version.slots.clone() })
                .collect();
            let mut adopted = restored;
            adopted.adopt(&buckets, &held, at(now));
            case.with(|target| adopted.change(target, at(now)));
            let again = case.wanted(&adopted);
            prop_assert!(again.1 == buckets, "the kernel's buckets are not taken over as they are");
            prop_assert!(again.0 == versions, "the kernel's slots are not taken over as they are");
            prop_assert!(versions.iter().all(|version| version.existing == ExistingFlows::Stay));
        }
    }
}

/// The last octet of a backend's IPv4 address.
fn last_octet(key: &BackendKey) -> u8 {
    match key.address.ip() {
        std::net::IpAddr::V4(address) => address.octets()[3],
        std::net::IpAddr::V6(address) => panic!("{address} is not of IPv4"),
    }
}
