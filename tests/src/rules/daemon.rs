//! The daemon's part: changes, settling, sweeping, and what of it the program is shown.

use super::{
    Backend, Existing, Guard, Health, Instance, Member, Millis, Place, Rule, Tuple, World,
    cell::{Cell, Settled, Stamp},
    world::Sweep,
};

/// Parts in which the table is swept, one a second.
const SWEEP_PARTS: usize = 4;

impl World {
    /// Gives buckets of a segment to versions; `owner` says to whom, or nothing.
    pub fn reweigh(&mut self, segment: usize, owner: impl Fn(usize) -> Option<Place>) {
        let (now, waits, left) = (self.now, self.waits, self.left);
        for (index, bucket) in self.buckets[segment].iter_mut().enumerate() {
            if let Some(owner) = owner(index) {
                bucket.give(owner, now, &waits, left);
            }
        }
        self.publish();
    }

    /// A backend joins a version.
    pub fn join(&mut self, version: Place) {
        self.members.push(Member { version, health: Health::Up, configured: true, retired: false });
        self.refill(version);
    }

    /// A backend is removed from the file: it drains until nothing refers to it.
    pub fn leave(&mut self, backend: Backend) {
        let at_once = self.left == Some(Rule::RemovedBackendDrains);
        let member = &mut self.members[usize::from(backend) - 1];
        member.configured = false;
        member.retired = at_once;
        let version = member.version;
        if self.instance.is_some_and(|instance| instance.backend == backend) {
            self.instance = None;
        }
        self.refill(version);
    }

    /// A backend's health changes, or it drains or takes flows again.
    pub fn set_health(&mut self, backend: Backend, health: Health) {
        let member = &mut self.members[usize::from(backend) - 1];
        member.health = health;
        let version = member.version;
        if self.left != Some(Rule::DownBackendLeavesSlots) {
            self.refill(version);
        }
    }

    /// Gives a version's slots to who is left.
    fn refill(&mut self, version: Place) {
        let (now, waits, left) = (self.now, self.waits, self.left);
        for slot in 0..self.slots[version].len() {
            let owner = self.slot_owner(version, slot);
            let gone = self.udp && self.is_down(self.slots[version][slot].home);
            let cell = &mut self.slots[version][slot];
            if gone {
                cell.give_at_once(owner, now);
            } else {
                cell.give(owner, now, &waits, left);
            }
        }
        self.publish();
    }

    /// A source prefix comes into another class.
    pub fn move_prefix(&mut self, prefix: usize, class: usize) {
        let (now, waits, left) = (self.now, self.waits, self.left);
        self.prefixes[prefix].give(class, now, &waits, left);
        self.publish();
    }

    /// A canary instance begins or ends.
    pub fn set_instance(&mut self, instance: Option<Instance>) {
        self.instance = instance;
        self.publish();
    }

    /// What happens to the flows in progress of a version.
    pub fn set_existing(&mut self, version: Place, existing: Existing) {
        self.versions[version].existing = existing;
        self.publish();
    }

    /// Arms a guard, or takes it away.
    pub fn set_guard(&mut self, guard: Option<Guard>) {
        self.guard = guard;
        self.publish();
    }

    /// The fuse trips: the program's doing, at once. Not while the stable version has no backend.
    pub fn trip(&mut self) {
        let has_stable =
            |version: Place| (0..self.slots[version].len()).any(|slot| self.slots[version][slot].current != 0);
        if let Some(mut guard) = self.guard.filter(|guard| has_stable(guard.stable)) {
            guard.tripped = true;
            self.guard = Some(guard);
        }
    }

    /// A latched guard is found by the daemon: stable gets the candidate's buckets.
    pub fn abort(&mut self) {
        let Some(guard) = self.guard else { return };
        let (now, waits, left, udp) = (self.now, self.waits, self.left, self.udp);
        let is_its =
            |bucket: &&mut Cell<Place>| bucket.current == guard.candidate || (udp && bucket.home == guard.candidate);
        for bucket in self.buckets.iter_mut().flatten().filter(is_its) {
            if udp {
                bucket.give_at_once(guard.stable, now);
            } else {
                bucket.give(guard.stable, now, &waits, left);
            }
        }
        self.publish();
    }

    /// Clears the latches and lets a lease run.
    pub fn clear_latches(&mut self, lease_until: Option<Millis>) {
        if let Some(guard) = &mut self.guard {
            (guard.tripped, guard.expired, guard.lease_until) = (false, false, lease_until);
        }
        let (now, guard) = (self.now, self.guard);
        for bucket in self.buckets.iter_mut().flatten() {
            let is_its = guard.is_some_and(|guard| bucket.current == guard.candidate);
            if is_its && !bucket.is_settled() && self.left != Some(Rule::ClearedLatchBeginsWaiting) {
                bucket.meet(now);
            }
        }
        self.publish();
    }

    /// A daemon begins that was away: what it may have missed counts as seen now.
    pub fn restart(&mut self) {
        let now = self.now;
        self.sweep = Sweep::default();
        for cell in self.buckets.iter_mut().flatten() {
            cell.meet(now);
        }
        for cell in self.slots.iter_mut().flatten() {
            cell.meet(now);
        }
        self.prefixes.iter_mut().for_each(|cell| cell.meet(now));
        self.publish();
    }

    /// Once a second: stamps, settling, pinning, a part of a sweep.
    pub fn tick(&mut self) {
        let late = self.left == Some(Rule::StampsTakenBeforeSettling);
        if !late {
            self.take_stamps();
        }
        self.settle();
        if late {
            self.take_stamps();
        }
        self.begin_pinning();
        self.sweep();
        self.retire();
        self.publish();
    }

    /// Takes what the program wrote. Where segments agree it writes for all of them on the first.
    fn take_stamps(&mut self) {
        let (now, waits) = (self.now, self.waits);
        for bucket in 0..self.differs.len() {
            let shared = std::mem::take(&mut self.buckets[0][bucket].stamp);
            self.buckets[0][bucket].take(shared, now, &waits);
            for segment in 1..self.buckets.len() {
                let cell = &mut self.buckets[segment][bucket];
                let own = std::mem::take(&mut cell.stamp);
                cell.take(own, now, &waits);
                if self.left != Some(Rule::StampsOfFirstSegmentCountForAll) {
                    cell.take(shared, now, &waits);
                }
            }
        }
        for cell in self.slots.iter_mut().flatten() {
            let stamp: Stamp = std::mem::take(&mut cell.stamp);
            cell.take(stamp, now, &waits);
        }
        for cell in &mut self.prefixes {
            let stamp = std::mem::take(&mut cell.stamp);
            cell.take(stamp, now, &waits);
        }
    }

    fn settle(&mut self) {
        let (now, waits, left) = (self.now, self.waits, self.left);
        let mut count = [0; 3];
        let mut note = |how: Option<Settled>| match how {
            Some(Settled::Idle) => count[0] += 1,
            Some(Settled::Pinned) => count[1] += 1,
            Some(Settled::Learned) => count[2] += 1,
            None => {}
        };
        let off = self.guard.filter(|_| self.is_off() && left != Some(Rule::TurnedOffVersionSettlesNot));
        let rests = |cell: &&mut Cell<Place>| off.is_none_or(|guard| cell.current != guard.candidate);
        self.buckets.iter_mut().flatten().filter(rests).for_each(|cell| note(cell.settle(now, &waits, left)));
        self.slots.iter_mut().flatten().for_each(|cell| note(cell.settle(now, &waits, left)));
        self.prefixes.iter_mut().for_each(|cell| note(cell.settle(now, &waits, left)));
        (0..3).for_each(|how| self.settled[how] += count[how]);
    }

    fn begin_pinning(&mut self) {
        let (now, waits, used) = (self.now, self.waits, self.table.len());
        let (at_once, suspended) = (used * 4 > self.places.capacity, used * 4 > self.places.capacity * 3);
        let cells = self.buckets.iter_mut().flatten();
        cells.for_each(|cell| cell.begin_pinning(now, &waits, at_once, suspended));
        let cells = self.slots.iter_mut().flatten();
        cells.for_each(|cell| cell.begin_pinning(now, &waits, at_once, suspended));
        self.prefixes.iter_mut().for_each(|cell| cell.begin_pinning(now, &waits, at_once, suspended));
    }

    /// A part of the table: what is over or needless goes, of the rest cells are noted.
    fn sweep(&mut self) {
        if self.sweep.part == 0 {
            let (buckets, slots) = (self.differs.len(), self.slots[0].len());
            self.sweep =
                Sweep { began: self.now, buckets: vec![false; buckets], slots: vec![false; slots], ..Sweep::default() };
        }
        self.sweep_entries(self.sweep.part);
        self.sweep.part += 1;
        if self.sweep.part == SWEEP_PARTS {
            self.end_sweep();
            self.sweep.part = 0;
        }
    }

    fn sweep_entries(&mut self, part: usize) {
        let now = self.now;
        let tuples = |number: &usize| number % SWEEP_PARTS == part;
        self.table.half_open.retain(|number, half| !tuples(number) || !half.is_lapsed(now));
        let numbers: Vec<usize> = self.table.held.keys().copied().filter(|number| tuples(number)).collect();
        for number in numbers {
            let tuple = self.tuple(number);
            if self.may_go(tuple) {
                self.table.held.remove(&number);
            } else {
                self.sweep.buckets[tuple.bucket] = true;
                self.sweep.slots[tuple.slot] = true;
            }
        }
        let half_open: Vec<usize> = self.table.half_open.keys().copied().filter(|number| tuples(number)).collect();
        for number in half_open {
            let tuple = self.tuple(number);
            self.sweep.buckets[tuple.bucket] = true;
            self.sweep.any_half_open = true;
        }
    }

    /// Whether an entry's flow is over, or goes the same way without it.
    fn may_go(&self, tuple: Tuple) -> bool {
        let held = self.table.held[&tuple.number];
        let age_ms = (Millis::from(super::table::tick(self.now) - held.tick) << 29) / 1_000_000;
        let idle =
            if self.left == Some(Rule::EntryLivesIdleTimeout) { self.waits.idle_ms / 2 } else { self.waits.idle_ms };
        let over = age_ms > idle + 537 || (held.is_closing() && age_ms > self.closing_ms);
        over || held.is_lapsed(self.now) || self.is_needless(tuple, held.backend)
    }

    /// Whether every segment's default, settled, is the same backend.
    fn is_needless(&self, tuple: Tuple, backend: Backend) -> bool {
        let all = if self.left == Some(Rule::NeedlessInAllSegments) { 1 } else { self.buckets.len() };
        let by_any = self.left == Some(Rule::NeedlessOnlyWhereSettled);
        self.buckets[..all].iter().all(|buckets| {
            let bucket = &buckets[tuple.bucket];
            let slot = &self.slots[bucket.home][tuple.slot];
            let is_settled = bucket.is_settled() && slot.is_settled() && !self.is_turned_off(bucket.home);
            slot.home == backend && (is_settled || by_any)
        })
    }

    fn end_sweep(&mut self) {
        let (sweep, left) = (self.sweep.clone(), self.left);
        for buckets in &mut self.buckets {
            for (bucket, found) in buckets.iter_mut().zip(&sweep.buckets) {
                bucket.swept(sweep.began, *found, left);
            }
        }
        for slots in &mut self.slots {
            for (slot, found) in slots.iter_mut().zip(&sweep.slots) {
                slot.swept(sweep.began, *found || sweep.any_half_open, left);
            }
        }
        let differing = self.differs.iter().zip(&sweep.buckets).any(|(differs, found)| *differs && *found);
        self.prefixes.iter_mut().for_each(|prefix| prefix.swept(sweep.began, differing, left));
    }

    /// A backend that the file names no more goes once nothing refers to it.
    fn retire(&mut self) {
        for index in 0..self.members.len() {
            let backend = (index + 1) as Backend;
            let named = |cell: &Cell<Backend>| cell.home == backend || cell.current == backend;
            if !self.members[index].configured
                && !self.members[index].retired
                && !self.slots.iter().flatten().any(named)
                && !self.table.names(backend)
            {
                self.members[index].retired = true;
            }
        }
    }

    /// Shows the program what the daemon has decided.
    pub(super) fn publish(&mut self) {
        self.choose_failovers();
        self.look_for_good();
        for bucket in 0..self.differs.len() {
            let byte = |cell: &Cell<Place>| (cell.current, cell.home, cell.flag());
            let first = byte(&self.buckets[0][bucket]);
            self.differs[bucket] = self.buckets.iter().any(|buckets| byte(&buckets[bucket]) != first);
        }
        self.dirty = true;
    }

    /// Which version stands in for one without backends: the first that has some. Never the candidate of a guard, which may
    /// turn it off at any time.
    fn choose_failovers(&mut self) {
        let is_empty = |version: Place| self.slots[version].iter().all(|slot| slot.current == 0);
        let empty: Vec<bool> = (0..self.versions.len()).map(is_empty).collect();
        let stays = |version: &Place| match self.versions[*version].existing {
            Existing::Stay => self.guard.is_none_or(|guard| guard.candidate != *version),
            Existing::Reset | Existing::Move => false,
        };
        let next = (0..empty.len()).filter(stays).find(|version| !empty[*version]);
        for (version, is_empty) in empty.iter().enumerate() {
            self.versions[version].failover = next.filter(|_| *is_empty && self.fails_over);
        }
    }

    /// Where something else than the cell itself sends new flows elsewhere than the default, the cell looks for good.
    fn look_for_good(&mut self) {
        let now = self.now;
        if self.left != Some(Rule::FailoverLooksForGood) {
            for (slots, version) in self.slots.iter_mut().zip(&self.versions) {
                if version.failover.is_some() {
                    slots.iter_mut().for_each(|slot| slot.look(now));
                }
            }
        }
        let by_dscp = self.classes.iter().flatten().any(|segments| segments[0] != segments[1]);
        let by_dscp = by_dscp && self.left != Some(Rule::DscpSegmentLooksForGood);
        let by_instance = self.instance.is_some() && self.left != Some(Rule::InstanceLooksForGood);
        for bucket in 0..self.differs.len() {
            let owners = |segment: usize| (self.buckets[segment][bucket].current, self.buckets[segment][bucket].home);
            let differs = (1..self.buckets.len()).any(|segment| owners(segment) != owners(0));
            let turned = (0..self.buckets.len()).any(|segment| self.is_turned_off(owners(segment).0));
            let by_guard = turned && self.left != Some(Rule::TurnedOffVersionLooks);
            if by_instance || (by_dscp && differs) || by_guard {
                self.buckets.iter_mut().for_each(|buckets| buckets[bucket].look(now));
            }
        }
    }
}
