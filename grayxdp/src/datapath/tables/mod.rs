//! The tables of the split: built beside the live ones, switched to by one write, read back.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem::offset_of,
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use aya::maps::{Array, LpmTrie, MapData, MapError};
use grayxdp_common::{
    cells::{BucketTable, DetailRecord, PrefixKey, PrefixValue, SegmentClass, SlotStates, Stamps},
    directory::{DirectorySet, Entry, Place, WAYS},
    guard::Guard,
    records::{AddressFilter, BackendRecord, Control, NextHop, ServiceRecord, SlotTable},
    signals::Signals,
};

mod backends;
mod check;
mod entries;
mod guards;
mod live;
mod measures;
mod places;
mod segments;
mod staging;
mod stamps;

use self::{
    backends::EpochChange,
    entries::{Entries, address_filter, read_backends, read_directory, virtual_address, wanted_entries},
    live::read_live,
    places::{Kind, Places, Pools},
    segments::LeavingSet,
    staging::Stage,
};
pub(super) use self::{check::check, entries::raw, live::Live, measures::Measured};
use super::{
    directory,
    mapped::{Mappable, Mapped},
};
use crate::model::kernel::{BackendId, CellStamps, HeldSlots, Published, ServiceId, Wanted, WantedService};

/// The maps of one set of tables. What is large and written only while no packet can meet it is not kept mapped.
pub(super) struct Memory {
    pub(super) control: Mapped<Control>,
    pub(super) directory: Mapped<DirectorySet>,
    pub(super) services: Mapped<ServiceRecord>,
    pub(super) details: Mapped<DetailRecord>,
    pub(super) backends: Mapped<BackendRecord>,
    pub(super) slots: Array<MapData, SlotTable>,
    pub(super) buckets: Array<MapData, BucketTable>,
    pub(super) states: Array<MapData, SlotStates>,
    pub(super) classes: Array<MapData, SegmentClass>,
    pub(super) prefixes: LpmTrie<MapData, PrefixKey, PrefixValue>,
    pub(super) stamps: Mappable<Stamps>,
    pub(super) guards: Mappable<Guard>,
    pub(super) signals: Mappable<Signals>,
    /// CPUs that the signals have room for.
    pub(super) cpus: u32,
}

/// The tables, and which of their places are in use.
pub(super) struct Tables {
    memory: Memory,
    region_log2: u8,
    entries: Entries,
    /// Records of each service.
    live: BTreeMap<ServiceId, Live>,
    /// What the smaller maps held that these replace, until everything was published here: stamps, guards and signals are
    /// still where it says.
    inherited: BTreeMap<ServiceId, Live>,
    /// Live backends.
    backends: BTreeMap<BackendId, Ipv4Addr>,
    /// Backends that went, and the grace period that lets their ids come again.
    leaving: BTreeMap<BackendId, u64>,
    /// What the live records were made of, as far as this process made them.
    sources: BTreeMap<ServiceId, Arc<WantedService>>,
    /// Sets of prefixes that are to be emptied.
    leaving_sets: Vec<LeavingSet>,
    /// Stamps of prefixes that were taken from such sets.
    prefix_stamps: BTreeMap<ServiceId, CellStamps<u32>>,
    /// Whether a service could make exceptions since that was last asked.
    had_details: bool,
    pools: Pools,
    regions: super::grace::Pool,
    region: Option<u32>,
    hops: HashMap<Ipv4Addr, NextHop>,
    local: BTreeSet<Ipv4Addr>,
}

/// What did not fit; nothing was changed by the attempt.
#[derive(Debug, thiserror::Error)]
pub(super) enum TablesError {
    /// More than the maps have room for.
    #[error("the kernel's tables have no room for {0}")]
    Full(&'static str),
    /// What no maps could hold.
    #[error("the data path cannot hold what it was given: {0}; this is a fault of the daemon")]
    Wrong(String),
    /// A table could not be read or written.
    #[error("the kernel refuses access to a table: {0}")]
    Refused(#[from] MapError),
    /// Counters could not be cleared.
    #[error("{0}")]
    Counters(String),
    /// A part of a map could not be mapped, or a thread not be started.
    #[error("the kernel refuses memory: {0}")]
    Memory(#[from] std::io::Error),
}

/// What one switch changes.
#[derive(Default)]
struct Staged {
    live: BTreeMap<ServiceId, Live>,
    fresh: Places,
}

/// How much longer than a sampled flow a place of signals may be named.
const AFTER_HORIZON: Duration = Duration::from_secs(75);

impl Tables {
    /// Takes over what the maps hold; all empty for new maps. `inherited`: what the maps held that these replace.
    pub(super) fn adopt(
        mut memory: Memory,
        region_log2: u8,
        inherited: BTreeMap<ServiceId, Live>,
    ) -> Result<Self, TablesError> {
        let place = memory.control.read(0).directory;
        let entries = read_directory(&memory.directory, place);
        let live = read_live(&memory, &entries);
        let backends = read_backends(&memory.backends, &entries);
        let hop = |id: &BackendId| memory.backends.read(u32::from(id.0)).next_hop;
        let hops = backends.iter().map(|(id, address)| (*address, hop(id))).collect();
        let regions = memory.directory.len() >> region_log2;
        let region = (place != Place::default()).then(|| place.base() >> region_log2);
        let mut in_use: Places = live.values().flat_map(Live::places).collect();
        memory.sweep_sets(&in_use)?;
        in_use.extend(inherited.values().flat_map(Live::lasting_places));
        Ok(Self {
            regions: super::grace::Pool::new(regions, |index| Some(index) == region),
            pools: Pools::new(|kind| memory.len_of(kind), &in_use)?,
            region_log2,
            entries,
            had_details: true,
            live,
            inherited,
            backends,
            leaving: BTreeMap::new(),
            sources: BTreeMap::new(),
            leaving_sets: Vec::new(),
            prefix_stamps: BTreeMap::new(),
            region,
            memory,
            hops,
            local: BTreeSet::new(),
        })
    }

    /// Makes the tables hold what is wanted. Where it says that they are too small some services may have been switched.
    pub(super) fn publish(&mut self, wanted: &Wanted) -> Result<(), TablesError> {
        check(wanted)?;
        self.check_room(wanted)?;
        let mut staged = Staged::default();
        let all = self.stage_all(wanted, &mut staged);
        match all {
            Ok(()) => self.switch(staged, wanted)?,
            Err(_) => self.give_back(&staged.fresh)?,
        }
        self.end_inheritance();
        all
    }

    /// Gives back what only the smaller maps named that these replace.
    fn end_inheritance(&mut self) {
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

    fn stage_all(&mut self, wanted: &Wanted, staged: &mut Staged) -> Result<(), TablesError> {
        for service in &wanted.services {
            match self.stage(service, staged) {
                Ok(()) => {}
                Err(TablesError::Full(_)) => {
                    // All spare places are taken: switch to what stands so far, and go on when readers have left the old.
                    self.switch_partly(staged, wanted)?;
                    self.pools.grace().wait();
                    self.empty_sets()?;
                    self.stage(service, staged)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Builds a service's tables aside.
    fn stage(&mut self, service: &WantedService, staged: &mut Staged) -> Result<(), TablesError> {
        let before = self.live.get(&service.id).copied();
        let stage = Stage {
            memory: &mut self.memory,
            pools: &mut self.pools,
            fresh: &mut staged.fresh,
            before,
            stable: before.or_else(|| self.inherited.get(&service.id).copied()),
            sources: self.sources.get(&service.id).cloned(),
        };
        let live = stage.service(service)?;
        staged.live.insert(service.id, live);
        Ok(())
    }

    /// Frees what was built for a switch that does not come.
    fn give_back(&mut self, fresh: &Places) -> Result<(), TablesError> {
        for &(_, set) in fresh.iter().filter(|(kind, _)| *kind == Kind::PrefixSets) {
            self.memory.empty_set(&LeavingSet { ticket: 0, service: ServiceId::NONE, set, prefixes: None })?;
        }
        self.pools.give_back(fresh);
        Ok(())
    }

    /// Switches to the staged services and leaves the others as they are.
    fn switch_partly(&mut self, staged: &mut Staged, wanted: &Wanted) -> Result<(), TablesError> {
        let done = std::mem::take(staged);
        // A service that got one table and not another begins again.
        let named: Places = done.live.values().flat_map(Live::places).collect();
        self.give_back(&done.fresh.difference(&named).copied().collect())?;
        let mut live = self.live.clone();
        live.extend(done.live.iter().map(|(id, place)| (*id, *place)));
        let kept: Vec<_> = wanted.services.iter().filter(|service| live.contains_key(&service.id)).cloned().collect();
        let mut entries =
            wanted_entries(&Wanted { services: kept, ..Wanted::default() }, &self.local, |id| live[&id].index);
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

    fn switch(&mut self, staged: Staged, wanted: &Wanted) -> Result<(), TablesError> {
        let entries = wanted_entries(wanted, &self.local, |id| staged.live[&id].index);
        let services: Vec<_> = wanted.services.iter().collect();
        let backends = addresses(&services);
        self.exchange(entries, staged.live, backends, &services)?;
        self.sources.retain(|id, _| self.live.contains_key(id));
        Ok(())
    }

    /// Makes these entries the live ones, then retires what only the old ones named. `services`: those that are published.
    fn exchange(
        &mut self,
        entries: Entries,
        live: BTreeMap<ServiceId, Live>,
        backends: BTreeMap<BackendId, Ipv4Addr>,
        services: &[&WantedService],
    ) -> Result<(), TablesError> {
        for service in services {
            self.prepare_backends(service, &live[&service.id]);
            self.prepare_signals(&live[&service.id])?;
            self.update_guard(service, &live[&service.id])?;
        }
        let old_region = if entries == self.entries && self.region.is_some() || self.exchange_one(&entries) {
            None
        } else {
            self.exchange_directory(&entries)
        };
        self.entries = entries;
        let old_backends = std::mem::replace(&mut self.backends, backends);
        let old = std::mem::replace(&mut self.live, live);
        self.had_details |= self.has_details();
        for service in services {
            let change = EpochChange::between(self.before(&old, service.id), &self.live[&service.id]);
            self.settle_backends(service, &self.live[&service.id], change);
        }
        let ticket = self.retire(old_region, &old, services);
        let ended = self.pools.grace().ended();
        self.leaving.retain(|_, ticket| *ticket > ended);
        let gone = old_backends.into_keys().filter(|id| !self.backends.contains_key(id));
        self.leaving.extend(gone.map(|id| (id, ticket)));
        self.carry_stamps(&old)?;
        for service in services {
            self.sources.insert(service.id, Arc::new((*service).clone()));
        }
        self.empty_sets()
    }

    /// What a service was before a switch, here or in the maps that these replace.
    fn before<'a>(&'a self, old: &'a BTreeMap<ServiceId, Live>, id: ServiceId) -> Option<&'a Live> {
        old.get(&id).or_else(|| self.inherited.get(&id))
    }

    /// Writes a new directory, makes it the live one, and says where the old one lies.
    fn exchange_directory(&mut self, entries: &Entries) -> Option<u32> {
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
        self.go_live(place, address_filter(entries));
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
    fn go_live(&self, place: Place, addresses: AddressFilter) {
        let filter = offset_of!(Control, addresses);
        let both = self.memory.control.read(0).addresses.0 | addresses.0;
        self.memory.control.store(0, filter, both);
        self.memory.control.store(0, offset_of!(Control, directory), place.0);
        self.memory.control.store(0, filter, addresses.0);
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

    /// What the live directory leads to.
    pub(super) fn published(&self) -> Result<Vec<Published>, TablesError> {
        self.live.values().map(|live| live::published(&self.memory, live)).collect()
    }

    /// The slots of all versions that are not settled.
    pub(super) fn held_slots(&self) -> Result<Vec<HeldSlots>, TablesError> {
        let held: Result<Vec<_>, _> = self.live.values().map(|live| live::held_slots(&self.memory, live)).collect();
        Ok(held?.into_iter().flatten().collect())
    }

    /// Lets a monotonic time be.
    pub(super) fn pass_time(&mut self, now: Duration) {
        self.pools.pass_time(now);
    }

    /// Waits until no packet can read what these tables named before.
    pub(super) fn wait_for_readers(&mut self) {
        self.pools.begin_grace();
        self.pools.grace().wait();
    }

    fn has_details(&self) -> bool {
        self.live.values().any(|live| live.detail.is_some())
    }

    /// Whether a service can make exceptions, or could since this was last asked.
    pub(super) fn take_had_details(&mut self) -> bool {
        let has_details = self.has_details();
        std::mem::replace(&mut self.had_details, has_details) || has_details
    }

    /// Records of the live services.
    pub(super) const fn live(&self) -> &BTreeMap<ServiceId, Live> {
        &self.live
    }

    /// What the live services were made of, as far as this process made them.
    pub(super) const fn sources(&self) -> &BTreeMap<ServiceId, Arc<WantedService>> {
        &self.sources
    }

    /// Addresses of the live backends.
    pub(super) fn backend_addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.backends.values().copied().collect()
    }

    /// Live backends' ids.
    pub(super) fn backend_ids(&self) -> impl Iterator<Item = BackendId> + '_ {
        self.backends.keys().copied()
    }

    /// Ids of the live services, and 0 for what belongs to none.
    pub(super) fn service_ids(&self) -> impl Iterator<Item = ServiceId> + '_ {
        std::iter::once(ServiceId::NONE).chain(self.live.keys().copied())
    }

    /// Whether a backend has a next hop.
    pub(super) fn is_resolved(&self, backend: BackendId) -> bool {
        self.backends.get(&backend).is_some_and(|address| self.hops.get(address).is_some_and(NextHop::is_known))
    }

    /// Tells the tables which addresses this host has; virtual ones among them are left to it but for their services.
    pub(super) fn set_local_addresses(&mut self, local: BTreeSet<Ipv4Addr>) {
        self.local = local;
        let mut entries = self.entries.clone();
        for (key, value) in &mut entries {
            if let Some(address) = virtual_address(*key) {
                let is_local = self.local.contains(&address);
                *value = (*value & !Entry::LOCAL_ADDRESS) | if is_local { Entry::LOCAL_ADDRESS } else { 0 };
            }
        }
        let (live, backends) = (self.live.clone(), self.backends.clone());
        if let Err(error) = self.exchange(entries, live, backends, &[]) {
            tracing::warn!(%error, "tables that nothing uses are not emptied");
        }
    }

    /// Virtual addresses whose ARP requests are answered.
    pub(super) fn announced(&self) -> Vec<Ipv4Addr> {
        let announced = self.entries.iter().filter(|(_, value)| Entry(**value).has(Entry::ANNOUNCE));
        announced.filter_map(|(key, _)| virtual_address(*key)).collect()
    }

    /// The control block, for those parts of it that have nothing to do with services.
    pub(super) const fn control(&self) -> &Mapped<Control> {
        &self.memory.control
    }
}

fn addresses(services: &[&WantedService]) -> BTreeMap<BackendId, Ipv4Addr> {
    let versions = services.iter().flat_map(|service| &service.versions);
    versions.flat_map(|version| &version.backends).map(|backend| (backend.id, backend.address)).collect()
}

impl Memory {
    /// Places of a kind.
    fn len_of(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Records => self.services.len(),
            Kind::Details => self.details.len(),
            Kind::Slots => self.slots.len(),
            Kind::Buckets => self.buckets.len(),
            Kind::States => self.states.len(),
            Kind::Stamps => self.stamps.len(),
            Kind::Classes => self.classes.len(),
            Kind::PrefixSets => places::PREFIX_SETS,
            Kind::Guards => self.guards.len(),
            Kind::Signals => self.signal_places(),
        }
    }
}
