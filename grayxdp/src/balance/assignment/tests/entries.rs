//! Every flow with an entry is looked up for as long as its entry may differ from its default, whatever happens to segments,
//! weights and canary instances meanwhile.

use grayxdp_common::cells::{NO_DSCP, SegmentClass};

use super::*;
use crate::model::kernel::WantedSegments;

/// Whom an entry names that a canary instance made: no default ever does.
const OF_INSTANCE: u8 = 7;

/// Buckets that are watched: some that change their owner and some that do not.
const WATCHED: [u16; 8] = [9, 100, 101, 900, 1_700, 4_000, 9_000, 16_000];

#[derive(Clone, Debug)]
enum Step {
    Weigh(u16),
    Segment(Option<u16>),
    Instance(bool),
    TurnOff(bool),
    Flows,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u16..=10_000).prop_map(Step::Weigh),
        prop::option::of(0_u16..=10_000).prop_map(Step::Segment),
        any::<bool>().prop_map(Step::Instance),
        any::<bool>().prop_map(Step::TurnOff),
        Just(Step::Flows),
        Just(Step::Flows),
        (1_u64..100).prop_map(Step::Wait),
        (1_u64..10).prop_map(Step::Wait),
    ]
}

/// A flow with an entry.
#[derive(Clone, Copy, Debug)]
struct Flow {
    asian: bool,
    bucket: u16,
    owner: u8,
}

/// What the program reads.
struct Published {
    buckets: WantedBuckets,
    segments: Option<WantedSegments>,
}

impl Published {
    fn bucket(&self, segment: u8, bucket: u16) -> Bucket {
        match &self.buckets {
            WantedBuckets::Split(split) => {
                let place = split.version_of(bucket) as u8;
                Bucket::new(place, place, false, false)
            }
            WantedBuckets::Cells(tables) => tables[usize::from(segment)][usize::from(bucket)],
        }
    }

    /// Segments of a source now and at home, and whether its prefix looks.
    fn segments(&self, asian: bool) -> (u8, u8, bool) {
        let Some(segments) = &self.segments else { return (0, 0, false) };
        let of = |prefix: &crate::model::kernel::WantedPrefix| {
            let segment = |class: u16| segments.classes[usize::from(class)][SegmentClass::index(0, NO_DSCP)];
            (segment(prefix.current), segment(prefix.home), prefix.state != SlotState(0))
        };
        let prefix = segments.prefixes.iter().rev().find(|prefix| prefix.length == 0 || asian).expect("all sources");
        of(prefix)
    }

    /// Default of a flow, and whether its packets look into the exception table.
    fn resolve(&self, asian: bool, bucket: u16) -> (u8, bool) {
        let base = self.bucket(0, bucket);
        if !base.differs() {
            return (base.home(), base.looks());
        }
        let (current, home, looks) = self.segments(asian);
        let (current, home) = (self.bucket(current, bucket), self.bucket(home, bucket));
        (home.home(), looks || current.looks() || home.looks())
    }
}

struct World {
    case: Case,
    assignment: Assignment,
    looks: Looks,
    flows: Vec<Flow>,
    now: u64,
}

impl World {
    fn published(&self) -> Published {
        let (_, buckets, segments) = self.case.wanted(&self.assignment);
        Published { buckets, segments }
    }

    /// What opens now gets an entry where its choice is not its default.
    fn open(&mut self) {
        let published = self.published();
        for (asian, bucket) in [false, true].into_iter().flat_map(|asian| WATCHED.map(|bucket| (asian, bucket))) {
            let (segment, ..) = published.segments(asian);
            let choice = match (published.bucket(segment, bucket).current(), self.looks) {
                (_, Looks { instance: Some(number), .. }) if number == segment => OF_INSTANCE,
                (place, Looks { turned_off, .. }) if turned_off == Some(place) => 0,
                (place, _) => place,
            };
            let known = |flow: &&Flow| (flow.asian, flow.bucket, flow.owner) == (asian, bucket, choice);
            if published.resolve(asian, bucket).0 != choice && !self.flows.iter().any(|flow| known(&flow)) {
                self.flows.push(Flow { asian, bucket, owner: choice });
            }
        }
    }

    fn step(&mut self, step: Step) {
        self.now += 10;
        let number = |segment: &&(u8, Option<Match>, Ownership)| segment.1.is_some();
        match step {
            Step::Weigh(second) => {
                self.case.weigh(second);
                if self.looks.instance.is_some() {
                    self.case.segments[0].2 = self.case.buckets.clone();
                }
            }
            Step::Segment(weight) if self.looks.instance.is_none() => match weight {
                Some(second) => {
                    self.case.segments = vec![(1, Some(asia(Vec::new())), Ownership::first(&shares(second), 9))];
                }
                None => self.case.segments.iter_mut().for_each(|segment| segment.1 = None),
            },
            Step::Instance(true) if self.case.segments.iter().find(number).is_none() => {
                self.looks.instance = Some(1);
                self.case.segments = vec![(1, Some(asia(Vec::new())), self.case.buckets.clone())];
            }
            Step::Instance(false) if self.looks.instance.take().is_some() => self.case.segments[0].1 = None,
            Step::Instance(_) | Step::Segment(_) => {}
            Step::TurnOff(is_off) => self.looks.turned_off = is_off.then_some(1),
            Step::Flows => self.open(),
            Step::Wait(seconds) => {
                self.now += seconds;
                let buckets = self.flows.iter().map(|flow| flow.bucket).collect();
                let found = SweptService { buckets, ..SweptService::default() };
                let _settled = self.assignment.settle(at(self.now), &policy(), self.looks.turned_off);
                self.assignment.swept(at(self.now), &found);
            }
        }
        self.case.with(|target| self.assignment.change(target, at(self.now)));
        self.assignment.keep_looking(self.looks, at(self.now));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_entry_that_differs_from_the_default_is_looked_up(steps in prop::collection::vec(step(), 1..40)) {
        let case = Case::new(1, 1_000);
        let assignment = case.with(|target| Assignment::new(target, at(1_000)));
        let mut world = World { case, assignment, looks: Looks::default(), flows: Vec::new(), now: 1_000 };
        for step in steps {
            world.step(step.clone());
            let published = world.published();
            let looks = world.looks;
            for flow in &world.flows {
                let (default, looked) = published.resolve(flow.asian, flow.bucket);
                prop_assert!(default == flow.owner || looked, "{flow:?} goes to {default} after {step:?} with {looks:?}");
            }
        }
    }
}
