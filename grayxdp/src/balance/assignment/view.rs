//! What the data path is to see of a service's cells.

use std::{collections::BTreeMap, sync::Arc};

use grayxdp_common::BUCKETS;

use super::{Assignment, pool::Pool};
use crate::{
    balance::{CellState, Ownership},
    model::{
        config::OnEmptyPool,
        kernel::{Bucket, ExistingFlows, SlotState, WantedBuckets, WantedSegments, WantedSlots, WantedVersion},
    },
};

/// What decides beside the cells.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// Who owns the buckets of the default segment.
    pub buckets: &'a Ownership,
    /// The virtual ports.
    pub ports: &'a [u16],
    /// Whether something needs buckets one by one, settled or not: a guard, a canary instance.
    pub one_by_one: bool,
    /// What happens to flows in progress, by place.
    pub existing: BTreeMap<u8, ExistingFlows>,
    /// What happens where no backend is left.
    pub on_empty: OnEmptyPool,
    /// Places to which flows of an empty pool go, the best first.
    pub takers: Vec<u8>,
}

impl Assignment {
    /// Versions, buckets, segments.
    #[must_use]
    pub fn wanted(&self, view: &View<'_>) -> (Vec<WantedVersion>, WantedBuckets, Option<WantedSegments>) {
        let versions: Vec<WantedVersion> =
            self.pools.iter().map(|(place, pool)| self.version(*place, pool, view)).collect();
        let segments = self.sources.wanted(view.ports);
        let plain = |version: &WantedVersion| {
            version.place < 2
                && version.slots.states.is_none()
                && version.existing == ExistingFlows::Stay
                && version.failover.is_none()
        };
        let simple = !view.one_by_one
            && self.segments.len() == 1
            && segments.is_none()
            && self.segments[0].is_quiet()
            && self.pools.values().all(|pool| !pool.is_empty() || pool.left.is_some())
            && versions.iter().all(plain);
        match view.buckets.split().filter(|_| simple && view.buckets.owners() == self.segments[0].current()) {
            Some(split) => (versions, WantedBuckets::Split(split), None),
            None => (versions, WantedBuckets::Cells(self.tables()), segments),
        }
    }

    fn version(&self, place: u8, pool: &Pool, view: &View<'_>) -> WantedVersion {
        let has_backends = |other: &u8| *other != place && self.pools.get(other).is_some_and(|pool| !pool.is_empty());
        let failover = match view.on_empty {
            OnEmptyPool::Failover if pool.is_empty() && pool.left.is_none() => {
                view.takers.iter().copied().find(has_backends)
            }
            OnEmptyPool::Failover | OnEmptyPool::Drop => None,
        };
        WantedVersion {
            id: pool.id,
            place,
            backends: pool.members.iter().map(super::pool::Member::wanted).collect(),
            slots: slots(pool),
            existing: view.existing.get(&place).copied().unwrap_or_default(),
            failover,
        }
    }

    /// The buckets of every segment. Where all agree about owners, all have the flags that any has.
    fn tables(&self) -> Vec<Arc<[Bucket]>> {
        let agreement = self.agreement();
        let agree = |bucket: usize| agreement.as_ref().is_none_or(|agreed| agreed[bucket]);
        let flag = |state: CellState| if state.unsettled { state.pins } else { state.looks };
        let any = |bucket: usize| self.segments.iter().any(|cells| flag(cells.state(bucket)));
        let quiet = self.segments.iter().all(crate::balance::Cells::is_quiet);
        let table = |cells: &crate::balance::Cells<u8>| -> Arc<[Bucket]> {
            let bucket = |bucket: usize| {
                let agrees = agree(bucket);
                let flagged = !quiet && if agrees { any(bucket) } else { flag(cells.state(bucket)) };
                Bucket::new(cells.current()[bucket], cells.home()[bucket], flagged, !agrees)
            };
            (0..usize::from(BUCKETS)).map(bucket).collect()
        };
        self.segments.iter().map(table).collect()
    }
}

fn slots(pool: &Pool) -> WantedSlots {
    if pool.slots.is_quiet() {
        return WantedSlots::settled(Arc::clone(pool.slots.current()));
    }
    let state = |slot: usize| {
        let CellState { unsettled, looks, pins } = pool.slots.state(slot);
        let bits = [(unsettled, SlotState::UNSETTLED), (looks, SlotState::LOOKS), (pins, SlotState::PINS)];
        SlotState(bits.iter().filter(|(is, _)| *is).map(|(_, bit)| bit).sum())
    };
    WantedSlots {
        current: Arc::clone(pool.slots.current()),
        home: Arc::clone(pool.slots.home()),
        states: Some((0..pool.slots.current().len()).map(state).collect()),
    }
}
