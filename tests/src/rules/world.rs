//! One service: its cells, backends and segments as the daemon last published them, its guard, and the exception table.

use super::{
    Millis, Rule,
    cell::{Cell, Waits},
    table::Table,
};
use crate::random::Random;

/// A backend's number; 0 is none.
pub type Backend = u16;

/// A version's place.
pub type Place = usize;

/// A 5-tuple, as far as the rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Tells it from others.
    pub number: usize,
    /// Its bucket.
    pub bucket: usize,
    /// Its slot.
    pub slot: usize,
    /// The source prefix that its source lies in.
    pub prefix: Option<usize>,
    /// Class of its destination port.
    pub port: usize,
}

/// Whether a backend takes flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// New ones too.
    Up,
    /// Those in progress only.
    Draining,
    /// None; `resets`: packets of flows in progress are answered with RST, else they still go there.
    Down {
        /// `onDown: reset`.
        resets: bool,
    },
}

/// A backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its version.
    pub version: Place,
    /// Whether it takes flows.
    pub health: Health,
    /// Whether the file still names it.
    pub configured: bool,
    /// Nothing refers to it, and it is gone.
    pub retired: bool,
}

/// What happens to the flows in progress of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// They go on.
    Stay,
    /// Their next packet is answered with RST.
    Reset,
    /// UDP: they are chosen for anew.
    Move,
}

/// A version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Who takes its new flows while its pool is empty.
    pub failover: Option<Place>,
    /// What happens to its flows in progress.
    pub existing: Existing,
}

/// Fuse and lease of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Place of the candidate.
    pub candidate: Place,
    /// Place of the stable version.
    pub stable: Place,
    /// The fuse tripped.
    pub tripped: bool,
    /// When the lease runs out.
    pub lease_until: Option<Millis>,
    /// The lease was found expired by a SYN.
    pub expired: bool,
}

/// A canary instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Who alone gets the new flows.
    pub backend: Backend,
    /// The segment of those flows.
    pub segment: usize,
}

/// How a world begins.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Whether flows are UDP.
    pub udp: bool,
    /// How many backends each version has.
    pub backends: Vec<usize>,
    /// Segments by class, port class and whether the packet carries the DSCP that counts.
    pub classes: Vec<[[usize; 2]; 2]>,
    /// Class of each source prefix.
    pub prefixes: Vec<usize>,
    /// Buckets and slots.
    pub cells: (usize, usize),
    /// How long the daemon waits.
    pub waits: Waits,
    /// `closingTimeout`.
    pub closing_ms: Millis,
    /// Whether an empty pool's new flows go to another version.
    pub failover: bool,
    /// Places in the table.
    pub capacity: usize,
    /// How often there is no place for an entry although the table has room.
    pub refusals: f64,
}

/// What the program counts about the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Half-open entries made.
    pub half_open: u64,
    /// Half-open entries completed.
    pub completed: u64,
    /// Pins made.
    pub pinned: u64,
    /// SYNs that found no place.
    pub deferred: u64,
    /// Pins that found no place.
    pub refused: u64,
}

/// Whether entries find places.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) capacity: usize,
    pub(super) refusals: f64,
    pub(super) random: Random,
    /// What the real program says about the next entry.
    pub(super) word: Option<bool>,
}

/// One service.
#[derive(Clone, Debug)]
pub struct World {
    /// The rule that is left out.
    pub left: Option<Rule>,
    /// Monotonic time.
    pub now: Millis,
    /// Whether flows are UDP.
    pub udp: bool,
    /// Buckets of each segment.
    pub buckets: Vec<Vec<Cell<Place>>>,
    /// Slots of each version.
    pub slots: Vec<Vec<Cell<Backend>>>,
    /// Source prefixes and their classes.
    pub prefixes: Vec<Cell<usize>>,
    /// As [`Setup::classes`].
    pub classes: Vec<[[usize; 2]; 2]>,
    /// For each bucket whether segments disagree about it.
    pub differs: Vec<bool>,
    /// Backends; number `n` is at `n - 1`.
    pub members: Vec<Member>,
    /// Versions by place.
    pub versions: Vec<Version>,
    /// Fuse and lease.
    pub guard: Option<Guard>,
    /// The canary instance.
    pub instance: Option<Instance>,
    /// All 5-tuples by their number.
    pub tuples: Vec<Tuple>,
    /// The exception table.
    pub table: Table,
    /// How long the daemon waits.
    pub waits: Waits,
    /// Whether what the program reads has changed since somebody last set this to false.
    pub dirty: bool,
    /// How often cells came to rest by idling, by pinning, by learning.
    pub settled: [u64; 3],
    /// What the program counts.
    pub counts: Counts,
    pub(super) closing_ms: Millis,
    pub(super) fails_over: bool,
    pub(super) places: Places,
    pub(super) sweep: Sweep,
    pub(super) seed: u64,
}

/// A sweep in progress: which quarter of the table comes next, and what was found so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Sweep {
    pub(super) part: usize,
    pub(super) began: Millis,
    pub(super) buckets: Vec<bool>,
    pub(super) slots: Vec<bool>,
    pub(super) any_half_open: bool,
}

impl World {
    /// A world in which the first version owns all.
    #[must_use]
    pub fn new(setup: &Setup, seed: u64, left: Option<Rule>, now: Millis) -> Self {
        let segments = 1 + setup.classes.iter().flatten().flatten().max().copied().unwrap_or(0);
        let (buckets, slots) = setup.cells;
        let members = setup.backends.iter().enumerate().flat_map(|(version, count)| {
            let member = Member { version, health: Health::Up, configured: true, retired: false };
            std::iter::repeat_n(member, *count)
        });
        let mut world = Self {
            left,
            now,
            udp: setup.udp,
            buckets: vec![vec![Cell::new(0); buckets]; segments],
            slots: vec![vec![Cell::new(0); slots]; setup.backends.len()],
            prefixes: setup.prefixes.iter().map(|class| Cell::new(*class)).collect(),
            classes: setup.classes.clone(),
            differs: vec![false; buckets],
            members: members.collect(),
            versions: vec![Version { failover: None, existing: Existing::Stay }; setup.backends.len()],
            guard: None,
            instance: None,
            tuples: Vec::new(),
            table: Table::default(),
            waits: setup.waits,
            dirty: true,
            settled: [0; 3],
            counts: Counts::default(),
            closing_ms: setup.closing_ms,
            fails_over: setup.failover,
            places: Places {
                capacity: setup.capacity,
                refusals: setup.refusals,
                random: Random(seed ^ 0x5eed),
                word: None,
            },
            sweep: Sweep::default(),
            seed,
        };
        for version in 0..world.slots.len() {
            for slot in 0..slots {
                world.slots[version][slot] = Cell::new(world.slot_owner(version, slot));
            }
        }
        world.publish();
        world
    }

    /// Which backend a slot goes to; stands in for Maglev. 0: the pool is empty.
    pub(super) fn slot_owner(&self, version: Place, slot: usize) -> Backend {
        let up = |member: &Member| member.version == version && member.configured && member.health == Health::Up;
        let numbers = (1..).zip(&self.members).filter(|(_, member)| up(member)).map(|(number, _)| number);
        let score = |backend: &Backend| {
            Random(self.seed ^ (u64::from(*backend) << 32) ^ ((version as u64) << 16) ^ slot as u64).next()
        };
        numbers.max_by_key(score).unwrap_or(0)
    }

    /// A backend by its number.
    #[must_use]
    pub fn member(&self, backend: Backend) -> Option<&Member> {
        usize::from(backend).checked_sub(1).and_then(|index| self.members.get(index))
    }

    /// Whether a backend may get no new flow.
    #[must_use]
    pub fn is_down(&self, backend: Backend) -> bool {
        self.member(backend).is_none_or(|member| match member.health {
            Health::Up | Health::Draining => member.retired,
            Health::Down { .. } => true,
        })
    }

    /// Whether the guard has turned the candidate off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.guard.is_some_and(|guard| guard.tripped || guard.expired)
    }

    /// Whether a version is turned off by the guard.
    #[must_use]
    pub fn is_turned_off(&self, version: Place) -> bool {
        self.is_off() && self.guard.is_some_and(|guard| guard.candidate == version)
    }

    /// The version that takes the new flows of a version's buckets.
    #[must_use]
    pub fn effective(&self, version: Place) -> Place {
        match self.guard {
            Some(guard) if self.is_turned_off(version) && self.left != Some(Rule::GuardTurnsNewFlows) => guard.stable,
            Some(_) | None => version,
        }
    }

    /// Whether the table is one that fills.
    #[must_use]
    pub fn has_small_table(&self) -> bool {
        self.places.capacity < 1_000 && !self.udp
    }

    /// The 5-tuple of a number.
    pub(super) fn tuple(&self, number: usize) -> Tuple {
        self.tuples[number]
    }

    /// The segment of a class, a port class and a DSCP.
    pub(super) fn segment(&self, class: usize, port: usize, marked: bool) -> usize {
        self.classes[class][port][usize::from(marked)]
    }

    /// Says whether the next entry finds a place, because the real program knows.
    pub fn tell_place(&mut self, word: Option<bool>) {
        self.places.word = word;
    }
}
