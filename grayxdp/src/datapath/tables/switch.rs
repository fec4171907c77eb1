//! Switching from the live tables to those built beside them, and retiring what only the old ones name.
//!
//! The order: backends are told what they must know before; the directory changes by one write; backends are told what has
//! changed; a grace period begins, and what nothing names is free when it is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::offset_of,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use grayxdp_common::{
    directory::{DirectorySet, Place, WAYS},
    ipv6::{Control6, Prefix6},
    records::{Control, Prefix},
};

use super::{
    Staged, Tables, TablesError,
    backends::EpochChange,
    entries::{Entries, Keys, Virtual, raw, raw6, wanted_entries},
    live::Live,
    places::{Kind, Places},
    segments::LeavingSet,
};
use crate::{
    datapath::directory,
    model::{
        config::Forwarding,
        kernel::{BackendId, ServiceId, Wanted, WantedService},
    },
};

/// How much longer than a sampled flow a place of signals may be named.
const AFTER_HORIZON: Duration = Duration::from_secs(75);

impl Tables {
    /// Switches to the staged services and leaves the others as they are.
    pub(super) fn switch_partly(&mut self, staged: &mut Staged, wanted: &Wanted) -> Result<(), TablesError> {
        let done = std::mem::take(staged);
        // A service that got one table and not another begins again.
        let named: Places = done.live.values().flat_map(Live::places).collect();
        self.give_back(&done.fresh.difference(&named).copied().collect())?;
        let mut live = self.live.clone();
        live.extend(done.live.iter().map(|(id, place)| (*id, *place)));
        let kept: Vec<_> = wanted.services.iter().filter(|service| live.contains_key(&service.id)).cloned().collect();
        let pooled = self.pooled(wanted)?;
        let kept = Wanted { services: kept, ..Wanted::default() };
        let mut entries = wanted_entries(&kept, &self.local, self.keys(), &pooled, |id| live[&id].index);
        self.pooled.extend(pooled.into_values().flatten());
        // Endpoints of services that are not staged yet stay as they were.
        for (key, value) in &self.entries {
            entries.entry(*key).or_insert(*value);
        }
        let mut backends = self.backends.clone();
        let ready: Vec<_> = wanted.services.iter().filter(|service| done.live.contains_key(&service.id)).collect();
        backends.extend(addresses(&ready));
        staged.live = done.live;
        self.exchange(entries, live, backends, &ready)
    }

    pub(super) fn switch(&mut self, staged: Staged, wanted: &Wanted) -> Result<(), TablesError> {
        let pooled = self.pooled(wanted)?;
        let entries = wanted_entries(wanted, &self.local, self.keys(), &pooled, |id| staged.live[&id].index);
        self.pooled = pooled.into_values().flatten().collect();
        let services: Vec<_> = wanted.services.iter().collect();
        self.write_tunnels(wanted);
        let backends = addresses(&services);
        self.exchange(entries, staged.live, backends, &services)?;
        self.sources.retain(|id, _| self.live.contains_key(id));
        Ok(())
    }

    /// Makes these entries the live ones, then retires what only the old ones named. `services`: those that are published.
    pub(super) fn exchange(
        &mut self,
        entries: Entries,
        live: BTreeMap<ServiceId, Live>,
        backends: BTreeMap<BackendId, IpAddr>,
        services: &[&WantedService],
    ) -> Result<(), TablesError> {
        let services: Vec<_> = services.iter().copied().filter(|service| !self.is_held(service)).collect();
        for service in &services {
            self.prepare_backends(service, &live[&service.id]);
            self.prepare_signals(&live[&service.id])?;
            self.update_guard(service, &live[&service.id])?;
            if !self.live.contains_key(&service.id) {
                self.write_pool(service);
            }
        }
        let old_region = if entries == self.entries && self.region.is_some() || self.exchange_one(&entries) {
            None
        } else {
            self.exchange_directory(&entries, &Virtual::of(&entries, &live, &self.pooled, &self.memory.hash_key))
        };
        self.entries = entries;
        let old_backends = std::mem::replace(&mut self.backends, backends);
        let old = std::mem::replace(&mut self.live, live);
        self.had_details |= self.has_details();
        for service in &services {
            let change = EpochChange::between(self.before(&old, service.id), &self.live[&service.id]);
            self.settle_backends(service, &self.live[&service.id], change);
            // The directory knows old addresses as well as new ones.
            self.write_pool(service);
        }
        old.keys().filter(|id| !self.live.contains_key(id)).for_each(|id| self.empty_pool(*id));
        let ticket = self.retire(old_region, &old, &services);
        let ended = self.pools.grace().ended();
        self.leaving.retain(|_, ticket| *ticket > ended);
        let gone = old_backends.into_keys().filter(|id| !self.backends.contains_key(id));
        self.leaving.extend(gone.map(|id| (id, ticket)));
        self.carry_stamps(&old)?;
        for service in services {
            self.sources.insert(service.id, Arc::new(service.clone()));
        }
        self.empty_sets()
    }

    /// Tells the data path which outer sources are its tunnels': before packets have them, and as long as a service has tunnels.
    fn write_tunnels(&self, wanted: &Wanted) {
        let is_tunnel = |service: &&WantedService| service.forwarding == Forwarding::Ipip;
        let backends = wanted.services.iter().filter(is_tunnel).flat_map(|service| {
            let backends = service.versions.iter().flat_map(|version| &version.backends);
            backends.map(|backend| service.tunnel.source(backend.address))
        });
        let (mut prefix, mut prefix6) = (Prefix::default(), Prefix6::default());
        for source in backends {
            match source.address {
                IpAddr::V4(address) => {
                    let mask = u32::MAX.checked_shl(32 - u32::from(source.length)).unwrap_or(0);
                    prefix = Prefix { address: raw(address), mask: mask.to_be() };
                }
                IpAddr::V6(address) => {
                    let mask = u128::MAX.checked_shl(128 - u32::from(source.length)).unwrap_or(0);
                    prefix6 = Prefix6 { address: raw6(address), mask: raw6(Ipv6Addr::from_bits(mask)) };
                }
            }
        }
        let control = &self.memory.control;
        let at6 = offset_of!(Control, ipv6) + offset_of!(Control6, tunnels);
        let words = prefix6.address.0.into_iter().chain(prefix6.mask.0);
        (0..).step_by(size_of::<u64>()).zip(words).for_each(|(at, word)| control.store(0, at6 + at, word));
        let ([a, b, c, d], [e, f, g, h]) = (prefix.address.to_ne_bytes(), prefix.mask.to_ne_bytes());
        control.store(0, offset_of!(Control, tunnels), u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    }

    /// What a service was before a switch, here or in the maps that these replace.
    pub(super) fn before<'a>(&'a self, old: &'a BTreeMap<ServiceId, Live>, id: ServiceId) -> Option<&'a Live> {
        old.get(&id).or_else(|| self.inherited.get(&id))
    }

    /// Writes a new directory, makes it the live one, and says where the old one lies.
    fn exchange_directory(&mut self, entries: &Entries, addresses: &Virtual) -> Option<u32> {
        let region = loop {
            match self.regions.take(self.pools.grace()) {
                Some(region) => break region,
                None => self.pools.grace().wait(),
            }
        };
        let list: Vec<_> = entries.iter().map(|(key, value)| (*key, *value)).collect();
        let (place, sets) = directory::build(&list, region << self.region_log2, self.region_log2)
            .expect("`check_room` seated these keys; seats depend on keys alone");
        for (index, set) in sets.iter().enumerate() {
            self.memory.directory.write(place.base() + index as u32, set);
        }
        self.go_live(place, addresses);
        self.region.replace(region)
    }

    /// Where a single value differs, as after a change of one service's weights, writes it into the live directory.
    fn exchange_one(&self, entries: &Entries) -> bool {
        if self.region.is_none() || !entries.keys().eq(self.entries.keys()) {
            return false;
        }
        let mut changed = entries.iter().zip(self.entries.values()).filter(|((_, value), old)| value != old);
        let (Some(((key, value), _)), None) = (changed.next(), changed.next()) else { return false };
        let index = self.memory.control.read(0).directory.set_of(*key);
        let set = self.memory.directory.read(index);
        let Some(way) = (0..WAYS).find(|&way| set.keys[way] == key.0) else { return false };
        self.memory.directory.store(index, offset_of!(DirectorySet, values) + way * size_of::<u64>(), *value);
        true
    }

    /// The one write that switches. The filter holds old and new addresses while packets may meet either directory.
    fn go_live(&self, place: Place, addresses: &Virtual) {
        let (filter, filter6) = addresses.filters();
        let (at, at6) = (offset_of!(Control, addresses), offset_of!(Control, ipv6) + offset_of!(Control6, addresses));
        let before = self.memory.control.read(0);
        self.memory.control.store(0, at, before.addresses.0 | filter.0);
        self.memory.control.store(0, at6, before.ipv6.addresses.0 | filter6.0);
        self.memory.control.store(0, offset_of!(Control, directory), place.0);
        self.memory.control.store(0, at, filter.0);
        self.memory.control.store(0, at6, filter6.0);
    }

    /// Keys of endpoints.
    pub(super) const fn keys(&self) -> Keys<'_> {
        Keys(&self.memory.hash_key)
    }

    /// Retires what only the old records name.
    fn retire(&mut self, region: Option<u32>, old: &BTreeMap<ServiceId, Live>, services: &[&WantedService]) -> u64 {
        let changed = |(id, live): &(&ServiceId, &Live)| self.live.get(id) != Some(live);
        let mut gone: Places = old.iter().filter(changed).flat_map(|(_, live)| live.places()).collect();
        let inherited = self.inherited.iter().filter(|(id, _)| services.iter().any(|service| service.id == **id));
        gone.extend(inherited.flat_map(|(_, live)| live.lasting_places()));
        let ids: BTreeSet<_> = old.keys().chain(self.inherited.keys()).collect();
        let named: Places = ids.into_iter().filter_map(|id| self.live.get(id)).flat_map(Live::places).collect();
        gone.retain(|place| !named.contains(place));
        if region.is_none() && gone.is_empty() {
            return self.pools.last_grace();
        }
        let ticket = self.pools.begin_grace();
        if let Some(region) = region {
            self.regions.retire(ticket, region);
        }
        for (service, live) in old {
            let set = live.detail.map_or(0, |detail| detail.prefixes);
            if gone.contains(&(Kind::PrefixSets, set)) {
                let segments = self.sources.get(service).and_then(|source| source.segments.as_ref());
                let prefixes = segments.map(|segments| Arc::clone(&segments.prefixes));
                self.leaving_sets.push(LeavingSet { ticket, service: *service, set, prefixes });
            }
        }
        let cooling = self.cooling();
        self.pools.retire(ticket, &gone, cooling);
        ticket
    }

    /// Gives back what only the smaller maps named that these replace.
    pub(super) fn end_inheritance(&mut self) {
        let gone: Places = std::mem::take(&mut self.inherited)
            .iter()
            .filter(|(id, _)| !self.live.contains_key(id))
            .flat_map(|(_, live)| live.lasting_places())
            .collect();
        if !gone.is_empty() {
            let ticket = self.pools.begin_grace();
            self.pools.retire(ticket, &gone, self.cooling());
        }
    }

    /// How long old marks and samples may name a place of signals.
    fn cooling(&self) -> Duration {
        self.sources.values().map(|service| service.flow_horizon).max().unwrap_or_default() + AFTER_HORIZON
    }
}

fn addresses(services: &[&WantedService]) -> BTreeMap<BackendId, IpAddr> {
    let versions = services.iter().flat_map(|service| &service.versions);
    versions.flat_map(|version| &version.backends).map(|backend| (backend.id, backend.address)).collect()
}
