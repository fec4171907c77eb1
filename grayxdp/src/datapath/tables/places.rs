//! Which places of the maps are in use: taken for what is built, given back once no packet can meet it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    super::grace::{Grace, Pool},
    TablesError,
};

/// A map whose places are taken and given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Service records.
    Records,
    /// Detail records.
    Details,
    /// Slot tables.
    Slots,
    /// Bucket tables.
    Buckets,
    /// Slot states.
    States,
    /// Stamps.
    Stamps,
    /// Classes of segments.
    Classes,
    /// Numbers of sets of source prefixes: any number but 0.
    PrefixSets,
    /// Guards.
    Guards,
    /// Signals: old marks and samples name a place for a while after it went.
    Signals,
}

impl Kind {
    /// All of them.
    const ALL: [Self; 10] = [
        Self::Records,
        Self::Details,
        Self::Slots,
        Self::Buckets,
        Self::States,
        Self::Stamps,
        Self::Classes,
        Self::PrefixSets,
        Self::Guards,
        Self::Signals,
    ];

    /// Whether it stays where it is when maps are made larger.
    pub(super) const fn lasts(self) -> bool {
        match self {
            Self::Stamps | Self::Guards | Self::Signals => true,
            Self::Records
            | Self::Details
            | Self::Slots
            | Self::Buckets
            | Self::States
            | Self::Classes
            | Self::PrefixSets => false,
        }
    }

    /// What there is no room for.
    const fn label(self) -> &'static str {
        match self {
            Self::Records => "another service",
            Self::Details => "another unsettled service",
            Self::Slots => "another slot table",
            Self::Buckets => "more buckets",
            Self::States => "more unsettled slots",
            Self::Stamps => "more stamps",
            Self::Classes => "more segments",
            Self::PrefixSets => "more source prefixes",
            Self::Guards => "another guard",
            Self::Signals => "more signals",
        }
    }

    /// Whether 0 stands for none there.
    const fn has_no_zero(self) -> bool {
        match self {
            Self::Details | Self::States | Self::Stamps | Self::PrefixSets | Self::Guards => true,
            Self::Records | Self::Slots | Self::Buckets | Self::Classes | Self::Signals => false,
        }
    }
}

/// Places of all maps.
pub(super) type Places = BTreeSet<(Kind, u32)>;

/// Adds the `count` places from `first` on.
pub(super) fn add_run(places: &mut Places, kind: Kind, first: u32, count: u32) {
    places.extend((first..first + count).map(|place| (kind, place)));
}

/// Sets of prefixes that can be told apart; a number comes again late.
pub(super) const PREFIX_SETS: u32 = 1 << 12;

/// The free places of all maps.
pub(super) struct Pools {
    pools: BTreeMap<Kind, Pool>,
    cooling: Vec<Cooling>,
    grace: Grace,
}

/// A place that old marks and samples still name.
struct Cooling {
    place: u32,
    length: Duration,
    until: Option<Duration>,
}

const EVERY: &str = "there is a pool of every kind";

impl Pools {
    /// All places of maps of these lengths but those in use.
    pub(super) fn new(len: impl Fn(Kind) -> u32, in_use: &Places) -> std::io::Result<Self> {
        let pool = |kind: Kind| {
            let taken = |place| in_use.contains(&(kind, place)) || place == 0 && kind.has_no_zero();
            (kind, Pool::new(len(kind), taken))
        };
        let mut grace = Grace::new()?;
        grace.begin();
        Ok(Self { pools: Kind::ALL.into_iter().map(pool).collect(), cooling: Vec::new(), grace })
    }

    /// Takes `count` places that follow one another, and notes them in `fresh`.
    pub(super) fn take(&mut self, kind: Kind, count: u32, fresh: &mut Places) -> Result<u32, TablesError> {
        let pool = self.pools.get_mut(&kind).expect(EVERY);
        let first = pool.take_run(count, &self.grace).ok_or(TablesError::Full(kind.label()))?;
        add_run(fresh, kind, first, count);
        Ok(first)
    }

    /// Gives back places that no reader has seen, or that none can see any more.
    pub(super) fn give_back<'a>(&mut self, places: impl IntoIterator<Item = &'a (Kind, u32)>) {
        for (kind, place) in places {
            self.pools.get_mut(kind).expect(EVERY).give_back(*place);
        }
    }

    /// Gives back places that readers may still see until a grace period is over. Those of signals cool down instead, for
    /// `cooling` from the next [`Pools::pass_time`] on; sets of prefixes are given back by whoever empties them.
    pub(super) fn retire<'a>(
        &mut self,
        ticket: u64,
        places: impl IntoIterator<Item = &'a (Kind, u32)>,
        cooling: Duration,
    ) {
        for &(kind, place) in places {
            match kind {
                Kind::Signals => self.cooling.push(Cooling { place, length: cooling, until: None }),
                Kind::PrefixSets => {}
                Kind::Records
                | Kind::Details
                | Kind::Slots
                | Kind::Buckets
                | Kind::States
                | Kind::Stamps
                | Kind::Classes
                | Kind::Guards => self.pools.get_mut(&kind).expect(EVERY).retire(ticket, place),
            }
        }
    }

    /// Gives back places of signals that have cooled down at a monotonic time.
    pub(super) fn pass_time(&mut self, now: Duration) {
        self.cooling.iter_mut().for_each(|cooling| {
            cooling.until.get_or_insert(now + cooling.length);
        });
        let cold: Vec<_> =
            self.cooling.extract_if(.., |cooling| cooling.until.is_some_and(|until| until <= now)).collect();
        self.give_back(&cold.iter().map(|cooling| (Kind::Signals, cooling.place)).collect::<Vec<_>>());
    }

    /// The grace periods.
    pub(super) const fn grace(&self) -> &Grace {
        &self.grace
    }

    /// The last grace period that was begun.
    pub(super) const fn last_grace(&self) -> u64 {
        self.grace.begun()
    }

    /// Begins a grace period.
    pub(super) fn begin_grace(&mut self) -> u64 {
        self.grace.begin()
    }
}
