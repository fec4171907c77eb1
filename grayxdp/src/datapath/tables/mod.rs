//! The tables of the split: built beside the live ones, switched to by one write, read back.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use aya::maps::{Array, MapData, MapError};
use grayxdp_common::{
    cells::{BucketTable, DetailRecord, SegmentClass, SlotStates, Stamps},
    directory::{DirectorySet, Entry, Place},
    guard::Guard,
    hash::HashKey,
    ipv6::Ends6,
    records::{BackendRecord, Control, NextHop, ServiceRecord, SlotTable, Target},
    signals::Signals,
    translations::Lives,
};

mod backends;
mod check;
mod entries;
mod guards;
mod live;
mod measures;
mod places;
mod pools;
mod segments;
mod staging;
mod stamps;
mod switch;

use self::{
    backends::EpochChange,
    entries::{Entries, Virtual, read_backends, read_directory},
    live::read_live,
    places::{Kind, Places, Pools},
    segments::LeavingSet,
    staging::Stage,
};
pub(super) use self::{
    check::check,
    entries::{address6, raw, raw6},
    live::Live,
    measures::Measured,
    pools::PoolMaps,
    segments::PrefixMaps,
};
use super::mapped::{Mappable, Mapped};
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
    pub(super) prefixes: PrefixMaps,
    pub(super) ends: Mapped<Ends6>,
    pub(super) targets: Mapped<Target>,
    pub(super) pools: PoolMaps,
    /// The key of flows and of IPv6 endpoints.
    pub(super) hash_key: HashKey,
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
    backends: BTreeMap<BackendId, IpAddr>,
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
    hops: HashMap<IpAddr, NextHop>,
    by_kernel: BTreeMap<IpAddr, u32>,
    /// Backends that are reached through a router.
    behind_routers: BTreeSet<IpAddr>,
    /// What links take, by their index.
    mtus: BTreeMap<u32, u32>,
    local: BTreeSet<IpAddr>,
    /// Addresses of pools in the directory.
    pooled: BTreeSet<IpAddr>,
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
        let backends = read_backends(&memory, &entries);
        let hop = |id: &BackendId| {
            let record = memory.backends.read(u32::from(id.0));
            let is_tunnel = record.flags & BackendRecord::FLAG_TUNNEL != 0;
            if is_tunnel { memory.targets.read(u32::from(id.0)).next_hop } else { record.next_hop }
        };
        let hops = backends.iter().map(|(id, address)| (*address, hop(id))).collect();
        let regions = memory.directory.len() >> region_log2;
        let region = (place != Place::default()).then(|| place.base() >> region_log2);
        let mut in_use: Places = live.values().flat_map(Live::places).collect();
        memory.sweep_sets(&in_use)?;
        let pooled = Self::pooled_in(&memory, &live)?;
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
            by_kernel: BTreeMap::new(),
            behind_routers: BTreeSet::new(),
            mtus: BTreeMap::new(),
            local: BTreeSet::new(),
            pooled,
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
        if let Some(before) = before.filter(|_| self.is_held(service)) {
            staged.live.insert(service.id, before);
            return Ok(());
        }
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

    /// Whether the live tables were made of the very same.
    fn is_held(&self, service: &WantedService) -> bool {
        self.sources.get(&service.id).is_some_and(|source| **source == *service)
    }

    /// Frees what was built for a switch that does not come.
    fn give_back(&mut self, fresh: &Places) -> Result<(), TablesError> {
        for &(_, set) in fresh.iter().filter(|(kind, _)| *kind == Kind::PrefixSets) {
            self.memory.empty_set(&LeavingSet { ticket: 0, service: ServiceId::NONE, set, prefixes: None })?;
        }
        self.pools.give_back(fresh);
        Ok(())
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

    /// How long flows of services live that know each of theirs.
    pub(super) fn lives(&self) -> BTreeMap<ServiceId, Lives> {
        let pools = &self.memory.pools.pools;
        let ids = self.live.keys().filter(|id| u32::from(id.0) < pools.len());
        ids.map(|id| (*id, pools.read(u32::from(id.0)).lives())).collect()
    }

    /// Addresses of the live backends.
    pub(super) fn backend_addresses(&self) -> BTreeSet<IpAddr> {
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
        let Some(address) = self.backends.get(&backend) else { return false };
        let is_tunnel = self.has(backend, BackendRecord::FLAG_TUNNEL);
        let may_be_routed = is_tunnel || !self.has(backend, BackendRecord::FLAG_ONE_WAY);
        self.hop(*address, may_be_routed).is_known() || (may_be_routed && self.by_kernel.contains_key(address))
    }

    /// Interfaces by which only the kernel reaches backends.
    pub(super) fn interfaces_of_kernel(&self) -> BTreeSet<u32> {
        self.by_kernel.values().copied().collect()
    }

    /// Tells the tables which addresses this host has; virtual ones among them are left to it but for their services.
    pub(super) fn set_local_addresses(&mut self, local: BTreeSet<IpAddr>) {
        self.local = local;
        let mut entries = self.entries.clone();
        let known = self.virtual_addresses();
        for (key, value) in &mut entries {
            if let Some(address) = known.address(*key) {
                let is_local = self.local.contains(&address);
                *value = (*value & !Entry::LOCAL_ADDRESS) | if is_local { Entry::LOCAL_ADDRESS } else { 0 };
            }
        }
        let (live, backends) = (self.live.clone(), self.backends.clone());
        if let Err(error) = self.exchange(entries, live, backends, &[]) {
            tracing::warn!(%error, "tables that nothing uses are not emptied");
        }
    }

    fn virtual_addresses(&self) -> Virtual {
        Virtual::of(&self.entries, &self.live, &self.pooled, &self.memory.hash_key)
    }

    /// Virtual addresses that are announced to the link.
    pub(super) fn announced(&self) -> Vec<IpAddr> {
        let announced = self.entries.iter().filter(|(_, value)| Entry(**value).has(Entry::ANNOUNCE));
        let known = self.virtual_addresses();
        announced.filter_map(|(key, _)| known.address(*key)).collect()
    }

    /// The control block, for those parts of it that have nothing to do with services.
    pub(super) const fn control(&self) -> &Mapped<Control> {
        &self.memory.control
    }
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
