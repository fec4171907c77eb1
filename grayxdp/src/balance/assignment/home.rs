//! Where flows without an entry go, in the form of the journal: what is not the same as where new flows go.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use grayxdp_common::SLOTS;
use serde::{Deserialize, Serialize};

use super::{
    Assignment, Target,
    pool::{Member, Pool, slot_backend},
};
use crate::{
    balance::{
        CellState, Cells, HomeSource, Moment, Ownership, Sources,
        assignment::rules,
        ids::BackendKey,
        maglev::{SlotBackend, slot_table},
        ownership::{of_runs, runs},
    },
    model::{
        Name,
        kernel::{BackendId, BackendState, Bucket, HeldSlots, SlotState, WantedBuckets},
    },
};

/// Where flows without an entry go. The default is: where new flows go, with all backends of the file up.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Home {
    /// Owners of buckets by the number of the segment, as runs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub buckets: BTreeMap<u8, String>,
    /// Source prefixes that are unsettled or not in the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<HomeSource>,
    /// Pools by version.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<Name, HomePool>,
}

/// Slots of a version, and backends that leave.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HomePool {
    /// What the slots are built of: address and weight, by number.
    pub backends: BTreeMap<u16, (SocketAddr, u16)>,
    /// Slots that differ from that, as `slot:backend` joined by commas.
    pub differ: String,
    /// Backends on their way out that new flows do not get any more: address by number.
    pub leaving: BTreeMap<u16, SocketAddr>,
}

impl Home {
    /// Whether all flows go where new flows go.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.buckets.is_empty() && self.sources.is_empty() && self.pools.values().all(|pool| pool.differ.is_empty())
    }
}

impl Assignment {
    /// For the journal. To be written before the kernel gets it.
    #[must_use]
    pub fn home(&self, target: &Target<'_>) -> Home {
        let unsettled = (0..).zip(&self.segments).filter(|(_, cells)| !cells.is_settled());
        Home {
            buckets: unsettled.map(|(number, cells)| (number, runs(cells.home()))).collect(),
            sources: self.sources.homes(),
            pools: self.pools.values().filter_map(|pool| Some((pool.name.clone(), pool.home(target)?))).collect(),
        }
    }

    /// Of a journal, after a reboot: without any entries, so what differs was seen just now and what agrees is settled.
    #[must_use]
    pub fn restored(target: &Target<'_>, home: &Home, now: Moment) -> Self {
        let mut assignment = Self {
            segments: vec![Cells::settled(Arc::clone(target.buckets.owners()))],
            pools: BTreeMap::new(),
            sources: Sources::restored(&rules(&target.segments), &home.sources, now),
            agreed: None,
        };
        assignment.change(target, now);
        for (number, text) in &home.buckets {
            let number = usize::from(*number);
            let Some(owners) = of_runs(text).filter(|_| number == 0 || assignment.sources.names(number as u8)) else {
                continue;
            };
            while assignment.segments.len() <= number {
                assignment.segments.push(assignment.segments[0].clone());
            }
            let current = Arc::clone(assignment.segments[number].current());
            assignment.segments[number] = Cells::restored(current, owners, now);
        }
        for (place, pool) in &mut assignment.pools {
            let name = target.places.iter().find(|(_, known)| *known == place).map(|(name, _)| name);
            if let Some(home) = name.and_then(|name| home.pools.get(name)) {
                pool.restore(target, home, now);
            }
        }
        assignment.agreed = assignment.agreement();
        assignment
    }

    /// Takes over what the kernel holds, which is newer than the journal or the same. All times are now.
    pub fn adopt(&mut self, buckets: &WantedBuckets, held: &[HeldSlots], now: Moment) {
        let tables: Vec<Cells<u8>> = match buckets {
            WantedBuckets::Split(split) => vec![Cells::settled(Arc::clone(Ownership::of_split(*split).owners()))],
            WantedBuckets::Cells(tables) => tables.iter().map(|table| adopted(table, now)).collect(),
        };
        for (number, cells) in tables.into_iter().enumerate().take(self.segments.len()) {
            self.segments[number] = cells;
        }
        for pool in self.pools.values_mut() {
            if let Some(HeldSlots { version: _, slots }) = held.iter().find(|held| held.version == pool.id) {
                let bits = |slot: usize| slots.states.as_ref().map(|states| states[slot]).unwrap_or_default();
                let state = |slot: usize| CellState {
                    unsettled: bits(slot).has(SlotState::UNSETTLED),
                    looks: bits(slot).has(SlotState::LOOKS),
                    pins: bits(slot).has(SlotState::PINS),
                };
                let owners = |owners: &Arc<[BackendId]>| Arc::<[BackendId]>::from(&owners[..SLOTS.min(owners.len())]);
                pool.slots = Cells::adopted(owners(&slots.current), owners(&slots.home), state, now);
                // Whatever they were built of: the next change builds them anew.
                pool.eligible.clear();
            }
        }
        self.agreed = None;
    }
}

fn adopted(table: &[Bucket], now: Moment) -> Cells<u8> {
    let owners = |of: fn(Bucket) -> u8| table.iter().map(|bucket| of(*bucket)).collect::<Arc<[u8]>>();
    let state = |bucket: usize| {
        let bucket = table[bucket];
        CellState { unsettled: !bucket.is_settled(), looks: bucket.looks(), pins: bucket.pins() }
    };
    Cells::adopted(owners(Bucket::current), owners(Bucket::home), state, now)
}

impl Pool {
    /// None where it is what the file says.
    fn home(&self, target: &Target<'_>) -> Option<HomePool> {
        let file = target.service.version(&self.name).filter(|_| self.slots.is_settled() && !self.is_leaving());
        if let Some(version) = file {
            let keys = BackendKey::of(target.service, version);
            let weights = version.backends.iter().map(|backend| backend.weight);
            let all = keys.zip(weights).filter_map(|(key, weight)| slot_backend(target, &key, weight));
            if all.eq(self.eligible.iter().copied()) {
                return None;
            }
        }
        let slots = self.slots.current().iter().zip(self.slots.home().iter()).enumerate();
        let differ = slots.filter(|(_, (current, home))| current != home);
        let differ: Vec<String> = differ.map(|(slot, (_, home))| format!("{slot}:{}", home.0)).collect();
        let entry = |backend: &SlotBackend| (backend.id.0, SocketAddr::new(backend.address, backend.port));
        let leaving = self.members.iter().filter(|member| member.left.is_some());
        Some(HomePool {
            backends: self.eligible.iter().map(|backend| (backend.id.0, (entry(backend).1, backend.weight))).collect(),
            differ: differ.join(","),
            leaving: leaving.map(|member| entry(&member.backend)).collect(),
        })
    }

    fn restore(&mut self, target: &Target<'_>, home: &HomePool, now: Moment) {
        let backend = |(id, (address, weight)): (&u16, &(SocketAddr, u16))| SlotBackend {
            id: BackendId(*id),
            address: address.ip(),
            port: address.port(),
            weight: *weight,
        };
        let backends: Vec<SlotBackend> = home.backends.iter().map(backend).collect();
        let mut owners = slot_table(&backends).to_vec();
        for pair in home.differ.split(',') {
            let parsed = pair.split_once(':').map(|(slot, id)| (slot.parse::<usize>(), id.parse::<u16>()));
            if let Some((Ok(slot), Ok(id))) = parsed
                && slot < SLOTS
            {
                owners[slot] = BackendId(id);
            }
        }
        let leaving = home.leaving.iter().map(|(id, address)| (id, (*address, 0)));
        let was = home.backends.iter().map(|(id, known)| (id, *known));
        for (id, known) in leaving.chain(was) {
            if self.members.iter().all(|member| member.backend.id.0 != *id) {
                let state = BackendState::Draining;
                self.members.push(Member { backend: backend((id, &known)), state, left: Some(now) });
            }
        }
        if self.slots.current().is_empty() || target.service.version(&self.name).is_none() {
            self.slots = Cells::settled(owners.clone().into());
            self.eligible = backends;
        }
        self.slots = Cells::restored(Arc::clone(self.slots.current()), owners.into(), now);
    }
}
