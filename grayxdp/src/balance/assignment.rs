//! All cells of one service: the buckets of its segments, the slots of its versions, its source prefixes; and what leaves.
//!
//! It is built from what a service is to be ([`Target`]) and from what it was before. A change moves `current` only; `home`
//! follows by the rules in [`crate::balance::cells`]. A version or backend that the file does not have any more stays until
//! nothing refers to it.

mod home;
mod looks;
mod pool;
#[cfg(test)]
mod tests;
mod view;

use std::{collections::BTreeMap, sync::Arc};

use grayxdp_common::BUCKETS;

use crate::{
    balance::{
        Cells, Moment, Ownership, Policy, Rule, Settled, Sources, Span, Turn,
        ids::{BackendKey, IdTable},
    },
    model::{
        Name,
        config::{Match, Service},
        kernel::{BackendId, BackendState, ServiceStamps, SweptService, VersionId},
    },
};

pub use home::{Home, HomePool};
pub use looks::Looks;
use pool::Pool;
pub use view::View;

/// What a service is to be.
pub struct Target<'a> {
    /// What the file says.
    pub service: &'a Service,
    /// Numbers of all that is in the file or leaves.
    pub ids: &'a IdTable,
    /// Places of versions, those that leave included.
    pub places: &'a BTreeMap<Name, u8>,
    /// Who owns the buckets of the default segment.
    pub buckets: &'a Ownership,
    /// The other segments, those before which others come first.
    pub segments: Vec<SegmentTarget<'a>>,
    /// How backends are.
    pub state: &'a dyn Fn(&BackendKey) -> BackendState,
}

/// What a segment is to be.
#[derive(Clone, Copy, Debug)]
pub struct SegmentTarget<'a> {
    /// Its number, from 1.
    pub number: u8,
    /// What belongs to it; none where it leaves.
    pub r#match: Option<&'a Match>,
    /// Who owns its buckets.
    pub buckets: &'a Ownership,
}

/// The cells of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Buckets by segment number; what is between two numbers in use is as the default segment.
    segments: Vec<Cells<u8>>,
    /// Versions by place.
    pools: BTreeMap<u8, Pool>,
    sources: Sources,
    /// Of a bucket: whether all segments agreed about it at some time since stamps were last taken. Then stamps of the
    /// default segment's are of all. None: they always did.
    agreed: Option<Arc<[bool]>>,
}

/// What left for good.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Gone {
    /// Places of versions.
    pub places: Vec<u8>,
    /// Backends.
    pub backends: Vec<BackendId>,
}

impl Assignment {
    /// A service that nobody has used yet.
    #[must_use]
    pub fn new(target: &Target<'_>, now: Moment) -> Self {
        let mut assignment = Self {
            segments: vec![Cells::settled(Arc::clone(target.buckets.owners()))],
            pools: BTreeMap::new(),
            sources: Sources::settled(&rules(&target.segments)),
            agreed: None,
        };
        assignment.change(target, now);
        assignment
    }

    /// Rule 1: what is new applies to new flows. Says how many buckets of all segments changed their owner.
    pub fn change(&mut self, target: &Target<'_>, now: Moment) -> usize {
        self.change_pools(target, now);
        let mut moved = self.segments[0].give(target.buckets.owners(), now);
        for SegmentTarget { number, r#match: _, buckets } in &target.segments {
            let number = usize::from(*number);
            while self.segments.len() <= number {
                self.segments.push(Cells::settled(Arc::clone(buckets.owners())));
            }
            // What nothing named so far begins settled: flows come to it by their source prefixes, which settle.
            if !self.sources.names(number as u8) {
                self.segments[number] = Cells::settled(Arc::clone(buckets.owners()));
            }
            moved += self.segments[number].give(buckets.owners(), now);
        }
        self.turn_sources(now, |sources| sources.change(&rules(&target.segments), now));
        self.note_agreement();
        moved
    }

    /// Lets source prefixes lead elsewhere, and drops tables of segments that nothing can lead to any more.
    ///
    /// Entries of their flows are found by buckets alone (rule 6). So where a prefix came to be settled, or a segment goes, a
    /// bucket looks in all segments if it did in any or if they disagreed about it.
    fn turn_sources<T>(&mut self, now: Moment, turn: impl FnOnce(&mut Sources) -> T) -> T {
        let is_named = |sources: &Sources, number: usize| number == 0 || sources.names(number as u8);
        let before: Vec<usize> = (0..self.segments.len()).filter(|number| is_named(&self.sources, *number)).collect();
        let turned = turn(&mut self.sources);
        let goes = before.iter().any(|number| !is_named(&self.sources, *number));
        if self.sources.looks() || goes {
            self.look_alike(&before, now);
            self.sources.calm();
        }
        let last = (0..self.segments.len()).rev().find(|number| is_named(&self.sources, *number)).unwrap_or(0);
        let unused: Vec<usize> = (0..=last).filter(|number| !is_named(&self.sources, *number)).collect();
        self.segments.truncate(last + 1);
        unused.into_iter().for_each(|number| self.segments[number] = self.segments[0].clone());
        turned
    }

    /// Lets buckets look in all segments that look in one of these, or about which these disagree.
    fn look_alike(&mut self, segments: &[usize], now: Moment) {
        let owners = |cells: &Cells<u8>, bucket: usize| (cells.current()[bucket], cells.home()[bucket]);
        let first = &self.segments[0];
        let looks = |bucket: usize| {
            let cells = || segments.iter().map(|number| &self.segments[*number]);
            cells().any(|cells| cells.state(bucket).looks || owners(cells, bucket) != owners(first, bucket))
        };
        let looks: Vec<bool> = (0..usize::from(BUCKETS)).map(looks).collect();
        self.segments.iter_mut().for_each(|cells| cells.look(|bucket| looks[bucket], now));
    }

    fn change_pools(&mut self, target: &Target<'_>, now: Moment) {
        for (name, place) in target.places {
            let Some(id) = target.ids.version(&target.service.name, name) else { continue };
            let pool = self.pools.entry(*place).or_insert_with(|| Pool::empty(id, name.clone()));
            if pool.id != id {
                *pool = Pool::empty(id, name.clone());
            }
            match target.service.version(name) {
                Some(version) => pool.change(target, version, now),
                None => pool.leave(now),
            }
        }
        self.pools.retain(|place, _| target.places.values().any(|known| known == place));
    }

    /// Rule 4: takes what the program noted.
    pub fn take(&mut self, stamps: &ServiceStamps, now: Moment) {
        for (number, noted) in stamps.segments.iter().enumerate() {
            if let Some(cells) = self.segments.get_mut(number) {
                cells.take(noted, now);
            }
        }
        if let Some(noted) = stamps.segments.first().filter(|_| self.segments.len() > 1) {
            let shared =
                |index: &&u16| self.agreed.as_ref().is_none_or(|agreed| agreed[usize::from(**index) % agreed.len()]);
            let of = |noted: &[u16]| noted.iter().filter(shared).copied().collect::<Vec<_>>();
            let noted = crate::model::kernel::CellStamps {
                seen: of(&noted.seen),
                deferred: of(&noted.deferred),
                refused: of(&noted.refused),
            };
            self.segments.iter_mut().skip(1).for_each(|cells| cells.take(&noted, now));
        }
        self.agreed = self.agreement();
        for pool in self.pools.values_mut() {
            if let Some(noted) = stamps.versions.get(&pool.id) {
                pool.slots.take(noted, now);
            }
        }
        self.sources.take(&stamps.prefixes, now);
    }

    /// Rule 5. What it says must be in the kernel at once. `turned_off`: place of a candidate that a fuse or a lease turned off.
    pub fn settle(&mut self, now: Moment, policy: &Policy, turned_off: Option<u8>) -> Turn {
        let mut turn = Turn::default();
        let mut add = |part: Turn| {
            turn.settled += part.settled;
            turn.pins += part.pins;
        };
        self.segments.iter_mut().for_each(|cells| add(cells.settle_but(turned_off, now, policy)));
        self.pools.values_mut().for_each(|pool| add(pool.slots.settle(now, policy)));
        add(self.turn_sources(now, |sources| sources.settle(now, policy)));
        if turn.settled.sum() > 0 {
            self.note_agreement();
        }
        turn
    }

    /// UDP, a trip or an abort: everything settles at once.
    pub fn settle_at_once(&mut self, now: Moment) -> Settled {
        let mut settled = Settled::default();
        self.segments.iter_mut().for_each(|cells| settled += cells.settle_at_once(now));
        self.pools.values_mut().for_each(|pool| settled += pool.slots.settle_at_once(now));
        settled += self.turn_sources(now, |sources| sources.settle_at_once(now));
        self.note_agreement();
        settled
    }

    /// Whether a sweep that began then could end any look or anything that leaves.
    #[must_use]
    pub fn awaits_sweep(&self, began: Moment) -> bool {
        self.segments.iter().any(|cells| cells.awaits_sweep(began))
            || self.pools.values().any(|pool| pool.slots.awaits_sweep(began) || pool.is_leaving())
    }

    /// Rule 6: ends looks for which a sweep that began then found nothing. Says how many.
    pub fn swept(&mut self, began: Moment, found: &SweptService) -> usize {
        let marks = |indexes: &std::collections::BTreeSet<u16>| {
            let mut marks = vec![false; usize::from(BUCKETS)];
            indexes.iter().for_each(|index| marks[usize::from(*index) % usize::from(BUCKETS)] = true);
            marks
        };
        let (buckets, slots) = (marks(&found.buckets), marks(&found.slots));
        let ended = self.segments.iter_mut().map(|cells| cells.swept(began, |index| buckets[index]));
        let mut ended: usize = ended.sum();
        if found.half_open == 0 {
            ended += self.pools.values_mut().map(|pool| pool.slots.swept(began, |index| slots[index])).sum::<usize>();
        }
        ended
    }

    /// Lets go what nothing refers to any more, by a sweep that began at `began`, or what was given its time.
    pub fn let_go(&mut self, now: Moment, sweep: Option<(Moment, &SweptService)>, timeout: Span) -> Gone {
        let mut gone = Gone::default();
        let empty: Vec<u8> = self
            .pools
            .iter_mut()
            .filter_map(|(place, pool)| {
                let owns = self.segments.iter().any(|cells| cells.names(|owner| owner == *place));
                gone.backends.extend(pool.let_go(owns, now, sweep, timeout));
                let over = pool.left.is_some_and(|left| now.is_past(left, timeout));
                (pool.left.is_some() && (over || pool.members.is_empty())).then_some(*place)
            })
            .collect();
        for place in empty {
            let over = self.pools[&place].left.is_some_and(|left| now.is_past(left, timeout));
            if over {
                self.segments.iter_mut().for_each(|cells| cells.evict(|owner| owner == place, now));
            }
            if !self.segments.iter().any(|cells| cells.names(|owner| owner == place)) {
                gone.backends.extend(self.pools[&place].members.iter().map(|member| member.backend.id));
                gone.places.push(place);
                self.pools.remove(&place);
            }
        }
        gone
    }

    /// Gives versions other places: that at `places[n]` becomes `n`.
    pub fn renumber(&mut self, places: &[u8]) {
        let new = |old: u8| places.iter().position(|place| *place == old).map_or(old, |new| new as u8);
        self.segments.iter_mut().for_each(|cells| *cells = cells.renamed(new));
        self.pools = std::mem::take(&mut self.pools).into_iter().map(|(place, pool)| (new(place), pool)).collect();
    }

    /// What was asked for at `asked` is in the kernel now.
    pub fn took_effect(&mut self, asked: Moment, now: Moment) {
        self.segments.iter_mut().for_each(|cells| cells.took_effect(asked, now));
        self.pools.values_mut().for_each(|pool| pool.slots.took_effect(asked, now));
        self.sources.took_effect(asked, now);
    }

    /// Whether `home` is `current` everywhere: then buckets may be dealt anew.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.segments.iter().all(Cells::is_settled)
            && self.pools.values().all(|pool| pool.slots.is_settled())
            && self.sources.is_settled()
    }

    /// Whether nothing looks either and nothing leaves: a tick has nothing to do.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.segments.iter().all(Cells::is_quiet)
            && self.pools.values().all(|pool| pool.slots.is_quiet() && !pool.is_leaving())
            && self.sources.is_settled()
    }

    /// Unsettled buckets of all segments, slots of all versions, and source prefixes.
    #[must_use]
    pub fn unsettled(&self) -> [usize; 3] {
        let buckets = self.segments.iter().map(Cells::unsettled).sum();
        let slots = self.pools.values().map(|pool| pool.slots.unsettled()).sum();
        [buckets, slots, self.sources.unsettled()]
    }

    /// Whether anything leads to a segment.
    #[must_use]
    pub fn names_segment(&self, number: u8) -> bool {
        self.sources.names(number)
    }

    /// The version at a place.
    #[must_use]
    pub fn version_at(&self, place: u8) -> Option<VersionId> {
        self.pools.get(&place).map(|pool| pool.id)
    }

    /// Whether a version has no backend that takes new flows.
    #[must_use]
    pub fn is_empty_pool(&self, place: u8) -> bool {
        self.pools.get(&place).is_none_or(Pool::is_empty)
    }

    /// All backends, those that leave included.
    pub fn backends(&self) -> impl Iterator<Item = BackendId> {
        self.pools.values().flat_map(|pool| pool.members.iter().map(|member| member.backend.id))
    }

    /// Whether new flows, or flows without an entry, may go to a backend.
    #[must_use]
    pub fn names_backend(&self, backend: BackendId) -> bool {
        self.pools.values().any(|pool| pool.slots.names(|owner| owner == backend))
    }

    /// Slots of new flows that each backend of a version has.
    #[must_use]
    pub fn slot_counts(&self, place: u8) -> BTreeMap<BackendId, u16> {
        let slots = self.pools.get(&place).map(|pool| pool.slots.current().iter());
        slots.into_iter().flatten().fold(BTreeMap::new(), |mut counts, id| {
            *counts.entry(*id).or_default() += 1;
            counts
        })
    }

    /// Whether all segments agree about each bucket: owner of new flows and of others. None: there is one segment.
    fn agreement(&self) -> Option<Arc<[bool]>> {
        let (first, others) = self.segments.split_first().expect("there is a default segment");
        if others.is_empty() {
            return None;
        }
        let agree = |bucket: usize| {
            others.iter().all(|cells| {
                (cells.current()[bucket], cells.home()[bucket]) == (first.current()[bucket], first.home()[bucket])
            })
        };
        Some((0..usize::from(BUCKETS)).map(agree).collect())
    }

    fn note_agreement(&mut self) {
        self.agreed = match (self.agreed.take(), self.agreement()) {
            (Some(before), Some(now)) => Some(before.iter().zip(now.iter()).map(|(a, b)| *a || *b).collect()),
            (None, _) | (_, None) => None,
        };
    }
}

fn rules<'a>(segments: &[SegmentTarget<'a>]) -> Vec<Rule<'a>> {
    let rule = |(order, segment): (usize, &SegmentTarget<'a>)| {
        Some(Rule { r#match: segment.r#match?, order, number: segment.number })
    };
    segments.iter().enumerate().filter_map(rule).collect()
}
