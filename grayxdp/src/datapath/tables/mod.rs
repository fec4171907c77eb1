//! The tables of the split: built beside the live ones, switched to by one write, read back.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem::offset_of,
    net::Ipv4Addr,
    sync::Arc,
};

use aya::maps::{Array, MapData, MapError};
use grayxdp_common::{
    SLOTS,
    directory::{DirectorySet, Entry, Place, WAYS},
    records::{AddressFilter, BackendRecord, Control, NextHop, ServiceRecord, SlotTable, TableRef},
};

mod entries;

pub(super) use self::entries::raw;
use self::entries::{
    Entries, address_filter, read_backends, read_directory, read_services, record_of, table_of, used_tables,
    virtual_address, wanted_entries,
};
use super::{
    directory,
    grace::{Grace, Pool},
    mapped::Mapped,
};
use crate::model::kernel::{
    BackendId, Published, ServiceId, VersionId, Wanted, WantedBuckets, WantedService, WantedVersion,
};

/// The maps of one set of tables. Slot tables are written while no packet can meet them and are too large to be kept mapped.
pub(super) struct Memory {
    pub(super) control: Mapped<Control>,
    pub(super) directory: Mapped<DirectorySet>,
    pub(super) services: Mapped<ServiceRecord>,
    pub(super) slots: Array<MapData, SlotTable>,
    pub(super) backends: Mapped<BackendRecord>,
}

/// The tables, and which of their places are in use.
pub(super) struct Tables {
    memory: Memory,
    region_log2: u8,
    entries: Entries,
    /// Record index and record of each service.
    live: BTreeMap<ServiceId, (u32, ServiceRecord)>,
    /// Live backends.
    backends: BTreeMap<BackendId, Ipv4Addr>,
    /// Backends that went, and the grace period that lets their ids come again.
    leaving: BTreeMap<BackendId, u64>,
    /// What the slot tables of the live versions were made of, as far as this process made them.
    sources: HashMap<VersionId, Arc<[BackendId]>>,
    regions: Pool,
    records: Pool,
    slot_tables: Pool,
    region: Option<u32>,
    grace: Grace,
    hops: HashMap<Ipv4Addr, NextHop>,
    local: BTreeSet<Ipv4Addr>,
}

/// What did not fit; nothing was changed by the attempt.
#[derive(Debug, thiserror::Error)]
pub(super) enum TablesError {
    /// More than the maps have room for.
    #[error("the kernel's tables have no room for {0}")]
    Full(&'static str),
    /// A slot table could not be read or written.
    #[error("the kernel refuses access to a slot table: {0}")]
    Refused(#[from] MapError),
}

/// A slot table in its place.
#[derive(Clone, Copy)]
struct Placed {
    table: TableRef,
    first_backend: u16,
}

/// What one switch changes.
#[derive(Default)]
struct Staged {
    live: BTreeMap<ServiceId, (u32, ServiceRecord)>,
    fresh_records: Vec<u32>,
    fresh_tables: Vec<u32>,
}

impl Tables {
    /// Takes over what the maps hold; all empty for new maps.
    pub(super) fn adopt(memory: Memory, region_log2: u8) -> std::io::Result<Self> {
        let place = memory.control.read(0).directory;
        let entries = read_directory(&memory.directory, place);
        let live = read_services(&memory.services, &entries);
        let backends = read_backends(&memory.backends, &entries);
        let hop = |id: &BackendId| memory.backends.read(u32::from(id.0)).next_hop;
        let hops = backends.iter().map(|(id, address)| (*address, hop(id))).collect();
        let regions = memory.directory.len() >> region_log2;
        let region = (place != Place::default()).then(|| place.base() >> region_log2);
        let tables: BTreeSet<u32> = live.values().flat_map(|(_, record)| used_tables(record)).collect();
        let records: BTreeSet<u32> = live.values().map(|(index, _)| *index).collect();
        let mut grace = Grace::new()?;
        grace.begin();
        Ok(Self {
            regions: Pool::new(regions, |index| Some(index) == region),
            records: Pool::new(memory.services.len(), |index| records.contains(&index)),
            slot_tables: Pool::new(memory.slots.len(), |index| tables.contains(&index)),
            region_log2,
            entries,
            live,
            backends,
            leaving: BTreeMap::new(),
            sources: HashMap::new(),
            region,
            grace,
            memory,
            hops,
            local: BTreeSet::new(),
        })
    }

    /// Makes the tables hold what is wanted.
    pub(super) fn publish(&mut self, wanted: &Wanted) -> Result<(), TablesError> {
        self.check_room(wanted)?;
        let mut staged = Staged::default();
        let all = self.stage_all(wanted, &mut staged);
        match all {
            Ok(()) => self.switch(staged, wanted),
            Err(_) => self.give_back(&staged),
        }
        all
    }

    fn stage_all(&mut self, wanted: &Wanted, staged: &mut Staged) -> Result<(), TablesError> {
        for service in &wanted.services {
            if !self.stage(service, staged)? {
                // All spare places are taken: switch to what stands so far, and go on when readers have left the old.
                self.switch_partly(staged, wanted);
                self.grace.wait();
                if !self.stage(service, staged)? {
                    return Err(TablesError::Full("another slot table"));
                }
            }
        }
        Ok(())
    }

    /// Frees what was built for a switch that does not come.
    fn give_back(&mut self, staged: &Staged) {
        staged.fresh_records.iter().for_each(|record| self.records.give_back(*record));
        staged.fresh_tables.iter().for_each(|table| self.slot_tables.give_back(*table));
    }

    /// Whether the maps have room for what is wanted.
    pub(super) fn has_room_for(&self, wanted: &Wanted) -> bool {
        self.check_room(wanted).is_ok()
    }

    fn check_room(&self, wanted: &Wanted) -> Result<(), TablesError> {
        let need = super::Capacity::of(wanted);
        if need.services * 2 >= self.memory.services.len() {
            return Err(TablesError::Full("so many services"));
        }
        if need.backends >= self.memory.backends.len() {
            return Err(TablesError::Full("so many backends"));
        }
        if need.versions >= self.memory.slots.len() {
            return Err(TablesError::Full("so many versions"));
        }
        let keys = wanted_entries(wanted, &self.local, |_| 0);
        let keys: Vec<_> = keys.into_iter().collect();
        directory::build(&keys, 0, self.region_log2).map(drop).ok_or(TablesError::Full("so many endpoints"))
    }

    /// Builds a service's tables aside; false where a pool is empty.
    fn stage(&mut self, service: &WantedService, staged: &mut Staged) -> Result<bool, TablesError> {
        let before = self.live.get(&service.id).copied();
        let mut tables = [Placed { table: TableRef(0), first_backend: 0 }; 2];
        for (index, version) in service.versions.iter().enumerate() {
            let old = before.as_ref().and_then(|(_, record)| table_of(record, version.id));
            match self.stage_slots(version, old, staged)? {
                Some(table) => tables[index] = table,
                None => return Ok(false),
            }
        }
        if service.versions.len() < 2 {
            tables[1] = tables[0];
        }
        let record = record_of(service, tables);
        for version in &service.versions {
            self.write_backends(service, version);
        }
        if let Some((index, old)) = before
            && old == record
        {
            staged.live.insert(service.id, (index, old));
            return Ok(true);
        }
        let Some(index) = self.records.take(&self.grace) else { return Ok(false) };
        self.memory.services.write(index, &record);
        staged.fresh_records.push(index);
        staged.live.insert(service.id, (index, record));
        Ok(true)
    }

    /// Builds a version's slot table aside, or takes the live one if it is the same; none where the pool is empty.
    fn stage_slots(
        &mut self,
        version: &WantedVersion,
        old: Option<Placed>,
        staged: &mut Staged,
    ) -> Result<Option<Placed>, TablesError> {
        if old.is_some()
            && self.sources.get(&version.id).is_some_and(|source| Arc::ptr_eq(source, &version.slots.current))
        {
            return Ok(old);
        }
        let ids: Vec<u16> = version.slots.current.iter().take(SLOTS).map(|id| id.0).collect();
        let (table, is_narrow) = SlotTable::new(&ids);
        if let Some(old) = old
            && old.table.is_narrow() == is_narrow
            && self.memory.slots.get(&old.table.index(), 0)? == table
        {
            return Ok(Some(old));
        }
        let Some(index) = self.slot_tables.take(&self.grace) else { return Ok(None) };
        staged.fresh_tables.push(index);
        self.memory.slots.set(index, table, 0)?;
        let first_backend = table.first_backend();
        let placed = |index| Placed { table: TableRef::new(index, is_narrow), first_backend };
        Ok(u16::try_from(index).ok().map(placed))
    }

    /// Writes the records of backends; a live one's identity never changes under its id, and the record of one that went
    /// is not written over while packets may still meet it.
    fn write_backends(&mut self, service: &WantedService, version: &WantedVersion) {
        if version.backends.iter().any(|backend| self.leaving.contains_key(&backend.id)) {
            self.grace.wait();
            self.leaving.clear();
        }
        let virtual_end = (raw(service.vip), service.ports.first().copied().unwrap_or(0).to_be());
        for backend in &version.backends {
            let end = (raw(backend.address), backend.port.to_be());
            let next_hop = self.hops.get(&backend.address).copied().unwrap_or(NextHop::UNKNOWN);
            let record = BackendRecord { next_hop, ..BackendRecord::new(service.id, version.id, virtual_end, end) };
            self.memory.backends.write(u32::from(backend.id.0), &record);
        }
    }

    /// Switches to the staged services and leaves the others as they are.
    fn switch_partly(&mut self, staged: &mut Staged, wanted: &Wanted) {
        self.sources.clear();
        let done = std::mem::take(staged);
        // A service that got a table for one version and none for the other begins again.
        let named: BTreeSet<u32> = done.live.values().flat_map(|(_, record)| used_tables(record)).collect();
        done.fresh_tables
            .iter()
            .filter(|table| !named.contains(table))
            .for_each(|&table| self.slot_tables.give_back(table));
        let mut live = self.live.clone();
        live.extend(done.live.iter().map(|(id, place)| (*id, *place)));
        staged.live = done.live;
        let kept: Vec<_> = wanted.services.iter().filter(|service| live.contains_key(&service.id)).cloned().collect();
        let mut entries =
            wanted_entries(&Wanted { services: kept, ..Wanted::default() }, &self.local, |id| live[&id].0);
        // Endpoints of services that are not staged yet stay as they were.
        for (key, value) in &self.entries {
            entries.entry(*key).or_insert(*value);
        }
        let backends = self.backends.clone();
        self.exchange(entries, live, backends);
    }

    fn switch(&mut self, staged: Staged, wanted: &Wanted) {
        let entries = wanted_entries(wanted, &self.local, |id| staged.live[&id].0);
        let versions = wanted.services.iter().flat_map(|service| &service.versions);
        let backends =
            versions.flat_map(|version| &version.backends).map(|backend| (backend.id, backend.address)).collect();
        self.exchange(entries, staged.live, backends);
        let versions = wanted.services.iter().flat_map(|service| &service.versions);
        self.sources = versions.map(|version| (version.id, Arc::clone(&version.slots.current))).collect();
    }

    /// Makes these entries the live ones, then retires what only the old ones named.
    fn exchange(
        &mut self,
        entries: Entries,
        live: BTreeMap<ServiceId, (u32, ServiceRecord)>,
        backends: BTreeMap<BackendId, Ipv4Addr>,
    ) {
        let old_backends = std::mem::replace(&mut self.backends, backends);
        if entries == self.entries && self.region.is_some() {
            self.live = live;
            return;
        }
        let old_region = if self.exchange_one(&entries) { None } else { self.exchange_directory(&entries) };
        let old = std::mem::replace(&mut self.live, live);
        self.entries = entries;
        let ticket = self.retire(old_region, &old);
        let ended = self.grace.ended();
        self.leaving.retain(|_, ticket| *ticket > ended);
        let gone = old_backends.into_keys().filter(|id| !self.backends.contains_key(id));
        self.leaving.extend(gone.map(|id| (id, ticket)));
    }

    /// Writes a new directory, makes it the live one, and says where the old one lies.
    fn exchange_directory(&mut self, entries: &Entries) -> Option<u32> {
        let region = loop {
            match self.regions.take(&self.grace) {
                Some(region) => break region,
                None => self.grace.wait(),
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

    fn retire(&mut self, region: Option<u32>, old: &BTreeMap<ServiceId, (u32, ServiceRecord)>) -> u64 {
        let ticket = self.grace.begin();
        if let Some(region) = region {
            self.regions.retire(ticket, region);
        }
        let records: BTreeSet<u32> = self.live.values().map(|(index, _)| *index).collect();
        let tables: BTreeSet<u32> = self.live.values().flat_map(|(_, record)| used_tables(record)).collect();
        let gone = old.values().filter(|(index, _)| !records.contains(index));
        let mut gone_tables = BTreeSet::new();
        for (index, record) in gone {
            self.records.retire(ticket, *index);
            gone_tables.extend(used_tables(record).into_iter().filter(|table| !tables.contains(table)));
        }
        for table in gone_tables {
            self.slot_tables.retire(ticket, table);
        }
        ticket
    }

    /// What the live directory leads to.
    pub(super) fn published(&self) -> Vec<Published> {
        let entries = read_directory(&self.memory.directory, self.memory.control.read(0).directory);
        let live = read_services(&self.memory.services, &entries);
        live.into_values()
            .map(|(_, record)| Published {
                id: record.service,
                versions: record.versions.to_vec(),
                buckets: WantedBuckets::Split(record.split),
                epoch: record.epoch,
                rollout: record.rollout,
            })
            .collect()
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

    /// Tells the tables where backends are reached now.
    pub(super) fn set_next_hops(&mut self, hops: HashMap<Ipv4Addr, NextHop>) {
        self.hops = hops;
        for (id, address) in &self.backends {
            let hop = self.hops.get(address).copied().unwrap_or(NextHop::UNKNOWN);
            self.write_next_hop(*id, &hop);
        }
    }

    fn write_next_hop(&self, id: BackendId, hop: &NextHop) {
        let (offset, words) = (offset_of!(BackendRecord, next_hop), hop.words());
        if self.memory.backends.read(u32::from(id.0)).next_hop != *hop {
            self.memory.backends.store(u32::from(id.0), offset, words[0]);
            self.memory.backends.store(u32::from(id.0), offset + 8, words[1]);
        }
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
        self.exchange(entries, live, backends);
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
