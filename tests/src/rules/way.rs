//! The program's part: default and choice of a packet by segment, bucket and slot, and what it stamps.

use super::{
    Backend, Existing, Instance, Place, Rule, Tuple, World,
    cell::{Cell, Stamp},
};

/// The way of a flow without an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Default {
    pub(super) prefix: Option<usize>,
    pub(super) segment: usize,
    pub(super) version: Place,
    pub(super) backend: Backend,
    pub(super) settled: bool,
    pub(super) looks: bool,
    pub(super) pins: bool,
    /// The guard has turned off the version of new flows.
    pub(super) turned: bool,
}

/// Whether a cell's packets look into the table.
fn looks<T: Copy + PartialEq>(cell: &Cell<T>) -> bool {
    cell.looks || !cell.is_settled()
}

impl World {
    /// Whether a backend is down, or its version turned off or ended.
    #[must_use]
    pub fn takes_no_new_flow(&self, backend: Backend) -> bool {
        let ends = |version: Place| match self.versions[version].existing {
            Existing::Reset => true,
            Existing::Stay | Existing::Move => false,
        };
        let is_off = |version: Place| self.is_turned_off(version) || ends(version);
        self.is_down(backend) || self.member(backend).is_some_and(|member| is_off(member.version))
    }

    /// The choice for a new flow; 0: there is none.
    pub(super) fn choice(&self, tuple: Tuple, marked: bool) -> Backend {
        let class = tuple.prefix.map_or(0, |prefix| self.prefixes[prefix].current);
        let segment = self.segment(class, tuple.port, marked);
        if let Some(instance) = self.instance
            && instance.segment == segment
            && self.is_open(instance)
        {
            return instance.backend;
        }
        let version = self.effective(self.buckets[segment][tuple.bucket].current);
        let version = self.versions[version].failover.unwrap_or(version);
        self.slots[version][tuple.slot].current
    }

    /// Whether a canary instance takes new flows.
    fn is_open(&self, instance: Instance) -> bool {
        if self.left == Some(Rule::GuardTurnsInstance) {
            return !self.is_down(instance.backend);
        }
        !self.is_off() && !self.takes_no_new_flow(instance.backend)
    }

    /// The default of a packet; `opens`: it is a SYN, whose DSCP counts for the choice.
    pub(super) fn default_of(&self, tuple: Tuple, marked: bool, opens: bool) -> Default {
        // Where segments agree only what may open a flow asks for its own.
        let first = &self.buckets[0][tuple.bucket];
        let first_slot = &self.slots[first.current][tuple.slot];
        let quick = !looks(first) && !looks(first_slot) && !self.is_turned_off(first.current) && first_slot.home != 0;
        let differs = self.differs[tuple.bucket] || opens || (self.udp && !quick);
        let prefix = tuple.prefix.filter(|_| differs);
        let source = prefix.map(|prefix| &self.prefixes[prefix]);
        let by_mark = marked && self.left == Some(Rule::DefaultIgnoresDscp);
        let of_class = |class: usize, marked| if differs { self.segment(class, tuple.port, marked) } else { 0 };
        let segment = of_class(source.map_or(0, |cell| cell.home), by_mark);
        let bucket = &self.buckets[segment][tuple.bucket];
        let slot = &self.slots[bucket.home][tuple.slot];
        let new = &self.buckets[of_class(source.map_or(0, |cell| cell.current), marked && opens)][tuple.bucket];
        let new_slot = &self.slots[self.effective(new.current)][tuple.slot];
        let unsettled = [source.is_some_and(|cell| !cell.is_settled()), !self.rests(bucket), !slot.is_settled()];
        let pins = [source.is_some_and(|cell| cell.pins), bucket.pins, slot.pins];
        let turned = self.left != Some(Rule::TripUnsettles) && self.is_turned_off(new.current);
        let looks = [source.is_some_and(looks), looks(bucket), looks(slot), looks(new), looks(new_slot), turned];
        Default {
            prefix,
            segment,
            version: bucket.home,
            backend: slot.home,
            settled: !unsettled.contains(&true),
            looks: looks.contains(&true) || unsettled.contains(&true),
            pins: (0..3).any(|cell| pins[cell] && unsettled[cell]),
            turned: self.is_turned_off(new.current),
        }
    }

    /// Whether a bucket's flows in progress and its new ones go to the same version, with the guard's word.
    fn rests(&self, bucket: &Cell<Place>) -> bool {
        if self.left == Some(Rule::TripUnsettles) {
            return bucket.is_settled();
        }
        self.effective(bucket.current) == bucket.home
    }

    /// Stamps each cell of the default that is not settled.
    pub(super) fn stamp(&mut self, tuple: Tuple, home: &Default, write: impl Fn(&mut Stamp)) {
        let left = self.left;
        if let Some(prefix) = home.prefix.map(|prefix| &mut self.prefixes[prefix])
            && !prefix.is_settled()
            && left != Some(Rule::StampOfPrefix)
        {
            write(&mut prefix.stamp);
        }
        let rests = self.rests(&self.buckets[home.segment][tuple.bucket]);
        if !rests && left != Some(Rule::StampOfBucket) {
            write(&mut self.buckets[home.segment][tuple.bucket].stamp);
        }
        let slot = &mut self.slots[home.version][tuple.slot];
        if !slot.is_settled() && left != Some(Rule::StampOfSlot) {
            write(&mut slot.stamp);
        }
    }

    /// A 5-tuple's cells and entries, for people.
    #[must_use]
    pub fn describe(&self, tuple: Tuple) -> String {
        let home = self.default_of(tuple, false, false);
        format!(
            "{tuple:?}\n  default {home:?}\n  half-open {:?}, held {:?}\n  bucket {:?}\n  slot {:?}\n  prefix {:?}, guard {:?}",
            self.table.half_open.get(&tuple.number),
            self.table.held.get(&tuple.number),
            self.buckets[home.segment][tuple.bucket],
            self.slots[home.version][tuple.slot],
            tuple.prefix.map(|prefix| &self.prefixes[prefix]),
            self.guard,
        )
    }
}
