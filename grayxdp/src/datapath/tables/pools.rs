//! Pools of `full-nat`: which addresses stand for clients, and in the directory also those that flows in progress still have.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use grayxdp_common::{
    exceptions::TICK_SHIFT,
    ipv6::Address6,
    translations::{Head, POOL_ADDRESSES, Pool, Translation, TranslationState, Whose},
};

use super::{
    Memory, Tables, TablesError,
    entries::{address6, raw, raw6},
    live::Live,
};
use crate::{
    datapath::mapped::{Mappable, Mapped},
    model::{
        config::Forwarding,
        kernel::{ServiceId, Wanted, WantedService},
    },
};

/// Entries of the flow table in a window: 1 MiB.
const WINDOW: u32 = 1 << 14;

/// Addresses that stand for clients, by service.
pub(super) type Pooled = BTreeMap<ServiceId, BTreeSet<IpAddr>>;

/// The maps of pools and their flows.
pub(in crate::datapath) struct PoolMaps {
    pub(super) pools: Mapped<Pool>,
    pub(super) translations: Mappable<Translation>,
}

impl PoolMaps {
    pub(in crate::datapath) const fn new(pools: Mapped<Pool>, translations: Mappable<Translation>) -> Self {
        Self { pools, translations }
    }

    /// Addresses that flows have, live or about to be forgotten, or that new ones may get.
    pub(super) fn in_use(&self) -> Result<Pooled, TablesError> {
        let mut pooled = Pooled::new();
        let len = self.translations.len();
        let mut first = 0;
        while first < len && len > 1 {
            let count = WINDOW.min(len - first);
            let window = self.translations.window(first, count)?;
            for index in first..first + count {
                if Head(window.at(index, 0).load(std::sync::atomic::Ordering::Acquire)).state()
                    != TranslationState::Free
                {
                    let Translation { pool, whose, .. } = window.read(index);
                    let whose = Whose(whose);
                    let addresses = pooled.entry(ServiceId(whose.service())).or_default();
                    addresses.insert(address(pool, whose.is_ipv6()));
                }
            }
            first += count;
        }
        Ok(pooled)
    }

    /// The addresses that new flows of a service get.
    fn listed(&self, id: ServiceId, is_ipv4: bool) -> BTreeSet<IpAddr> {
        if u32::from(id.0) >= self.pools.len() {
            return BTreeSet::new();
        }
        let pool = self.pools.read(u32::from(id.0));
        let list = &pool.lists[Pool::list(pool.selected)];
        let count = POOL_ADDRESSES.min(Pool::addresses(pool.selected) as usize);
        list[..count].iter().map(|raw| address(*raw, !is_ipv4)).collect()
    }
}

fn address(raw: Address6, is_ipv6: bool) -> IpAddr {
    if is_ipv6 { IpAddr::V6(address6(raw)) } else { IpAddr::V4((raw.0[0] as u32).to_ne_bytes().into()) }
}

/// An address of a pool as the program has it.
fn raw_of(address: IpAddr) -> Address6 {
    match address {
        IpAddr::V4(address) => Address6([u64::from(raw(address)), 0]),
        IpAddr::V6(address) => raw6(address),
    }
}

impl Tables {
    /// The addresses that belong into the directory: of the pools that are wanted, of those that there are, and of flows in progress.
    pub(super) fn pooled(&self, wanted: &Wanted) -> Result<Pooled, TablesError> {
        let services = wanted.services.iter().filter(|service| service.forwarding == Forwarding::FullNat);
        let services: Vec<_> = services.collect();
        if services.is_empty() {
            return Ok(Pooled::new());
        }
        let mut in_use = self.memory.pools.in_use()?;
        let own = services.into_iter().map(|service| {
            let mut addresses = in_use.remove(&service.id).unwrap_or_default();
            if self.live.contains_key(&service.id) {
                addresses.extend(self.memory.pools.listed(service.id, service.vip.is_ipv4()));
            }
            addresses.retain(|address| address.is_ipv4() == service.vip.is_ipv4());
            addresses.extend(service.source_pool.iter().copied());
            (service.id, addresses)
        });
        Ok(own.collect())
    }

    /// The same of what the maps held when they were taken over.
    pub(super) fn pooled_in(
        memory: &Memory,
        live: &BTreeMap<ServiceId, Live>,
    ) -> Result<BTreeSet<IpAddr>, TablesError> {
        let mut all: BTreeSet<IpAddr> = memory.pools.in_use()?.into_values().flatten().collect();
        for (id, live) in live {
            all.extend(memory.pools.listed(*id, live.record.address6 == Address6::default()));
        }
        Ok(all)
    }

    /// Writes the pool of a service: aside, and switched to by one word.
    pub(super) fn write_pool(&self, service: &WantedService) {
        let (pools, index) = (&self.memory.pools.pools, u32::from(service.id.0));
        if index >= pools.len() {
            return;
        }
        let now = pools.read(index);
        let mut next = now;
        let ticks = |time: Duration| u32::try_from((time.as_nanos() >> TICK_SHIFT) + 1).unwrap_or(u32::MAX);
        (next.idle_ticks, next.closing_ticks) = (ticks(service.idle_timeout), ticks(service.closing_timeout));
        let wanted: Vec<_> = service.source_pool.iter().take(POOL_ADDRESSES).map(|address| raw_of(*address)).collect();
        let list = Pool::list(now.selected);
        let is_same = Pool::addresses(now.selected) as usize == wanted.len() && now.lists[list].starts_with(&wanted);
        if !is_same {
            let other = 1 - list;
            next.lists[other][..wanted.len()].copy_from_slice(&wanted);
            // The list that nobody reads, before the word that selects it.
            pools.write(index, &Pool { selected: now.selected, ..next });
            next.selected = Pool::selection(other, wanted.len());
        }
        if next != pools.read(index) {
            pools.write(index, &next);
        }
    }

    /// Takes the pool from a service that is gone: its flows lapse.
    pub(super) fn empty_pool(&self, id: ServiceId) {
        let (pools, index) = (&self.memory.pools.pools, u32::from(id.0));
        if index < pools.len() && pools.read(index) != Pool::NONE {
            pools.write(index, &Pool::NONE);
        }
    }
}
