//! Building a service's tables beside the live ones. What is the same as before stays where it is.

use std::{net::IpAddr, sync::Arc};

use grayxdp_common::{
    BUCKETS, SLOT_TABLE_LEN, SLOTS,
    cells::{BucketTable, DetailRecord, SlotStates, VersionDetail},
    exceptions::TICK_SHIFT,
    ipv6::Address6,
    records::{ServiceRecord, SlotTable, TableRef},
};

use super::{
    Memory, TablesError,
    entries::raw6,
    live::{self, Live, Placed, version_of},
    places::{Kind, Places, Pools},
};
use crate::model::{
    config::Affinity,
    kernel::{
        BackendId, Bucket, LeaseEnd, SlotState, Split, VersionId, WantedBuckets, WantedGuard, WantedService,
        WantedVersion, same,
    },
};

/// Slot tables that lie in the maps, and what they were made of.
type Known = Vec<(Arc<[BackendId]>, Placed)>;

/// What a service's tables are built with.
pub(super) struct Stage<'a> {
    pub(super) memory: &'a mut Memory,
    pub(super) pools: &'a mut Pools,
    /// Places taken so far.
    pub(super) fresh: &'a mut Places,
    /// What lies in these maps for the service now.
    pub(super) before: Option<Live>,
    /// The same, or what lay in the smaller maps that these replace: stamps, guards and signals stay where they are.
    pub(super) stable: Option<Live>,
    /// What it was made of, as far as this process made it.
    pub(super) sources: Option<Arc<WantedService>>,
}

impl Stage<'_> {
    /// Builds records and all that they name.
    pub(super) fn service(mut self, service: &WantedService) -> Result<Live, TablesError> {
        let mut record = ServiceRecord {
            service: service.id,
            flags: match service.affinity {
                Affinity::Flow => 0,
                Affinity::Client => ServiceRecord::FLAG_CLIENT_AFFINITY,
            },
            epoch: service.epoch,
            rollout: service.rollout,
            sample_rate: service.sample_rate,
            horizon_ticks: u32::try_from(service.flow_horizon.as_nanos() >> TICK_SHIFT).unwrap_or(u32::MAX),
            signals: self.signals(service)?,
            address6: match service.vip {
                IpAddr::V4(_) => Address6::default(),
                IpAddr::V6(address) => raw6(address),
            },
            ..ServiceRecord::EMPTY
        };
        let detail = match &service.buckets {
            WantedBuckets::Split(split) => {
                self.split(service, *split, &mut record)?;
                None
            }
            WantedBuckets::Cells(cells) => Some(self.detail(service, cells)?),
        };
        self.records(record, detail)
    }

    /// Gives the records their places: the old ones where nothing changed.
    fn records(&mut self, mut record: ServiceRecord, detail: Option<DetailRecord>) -> Result<Live, TablesError> {
        if let Some(before) = self.before {
            record.detail = before.record.detail;
            if before.record == record && before.detail == detail {
                return Ok(before);
            }
        }
        record.detail = match &detail {
            Some(detail) if self.before.is_some_and(|before| before.detail.as_ref() == Some(detail)) => record.detail,
            Some(detail) => {
                let index = self.pools.take(Kind::Details, 1, self.fresh)?;
                self.memory.details.write(index, detail);
                index
            }
            None => 0,
        };
        let index = self.pools.take(Kind::Records, 1, self.fresh)?;
        self.memory.services.write(index, &record);
        Ok(Live { index, record, detail })
    }

    /// What a service without a detail needs.
    fn split(&mut self, service: &WantedService, split: Split, record: &mut ServiceRecord) -> Result<(), TablesError> {
        record.split = split;
        let mut tables = [None; 2];
        for (place, table) in tables.iter_mut().enumerate() {
            if let Some(version) = service.versions.iter().find(|version| usize::from(version.place) == place) {
                record.versions[place] = version.id;
                let mut known = self.known_tables(version.id)?;
                *table = Some(self.slot_table(&version.slots.current, &mut known)?);
            }
        }
        // Where there is one version it owns all buckets, whatever the split says.
        let only = tables[0].or(tables[1]).unwrap_or(Placed { table: TableRef(0), first_backend: 0 });
        let tables = tables.map(|table| table.unwrap_or(only));
        record.tables = tables.map(|placed| placed.table);
        record.first_backends = tables.map(|placed| placed.first_backend);
        Ok(())
    }

    fn detail(&mut self, service: &WantedService, cells: &[Arc<[Bucket]>]) -> Result<DetailRecord, TablesError> {
        let versions_len = service.versions.iter().map(|version| version.place + 1).max().unwrap_or(0);
        let mut detail = DetailRecord {
            flags: flags_of(service),
            segments: cells.len() as u8,
            versions_len,
            instance: service.instance.map_or(0, |instance| instance.backend.0),
            instance_segment: service.instance.map_or(0, |instance| instance.segment),
            candidate: service.guard.map_or(0, |guard| guard.candidate),
            stable: service.guard.map_or(0, |guard| guard.stable),
            buckets: self.buckets(cells)?,
            bucket_stamps: self.bucket_stamps(service, cells)?,
            ..DetailRecord::default()
        };
        for version in &service.versions {
            detail.versions[usize::from(version.place)] = self.version(version)?;
        }
        if let Some(segments) = &service.segments {
            detail.classes = self.classes(segments)?;
            detail.classes_len = segments.classes.len() as u32;
            detail.prefixes = self.prefixes(segments, service.vip.is_ipv4())?;
        }
        if let Some(guard) = &service.guard {
            detail.guard = self.guard(service.rollout, guard)?;
        }
        Ok(detail)
    }

    fn version(&mut self, version: &WantedVersion) -> Result<VersionDetail, TablesError> {
        let mut known = self.known_tables(version.id)?;
        let current = self.slot_table(&version.slots.current, &mut known)?;
        let home = self.slot_table(&version.slots.home, &mut known)?;
        let (states, stamps) = match &version.slots.states {
            Some(states) => (self.states(version.id, states)?, self.slot_stamps(version.id)?),
            None => (0, 0),
        };
        let takes_over = version.failover.map_or(0, |place| VersionDetail::FLAG_FAILOVER | u16::from(place));
        Ok(VersionDetail {
            current: current.table,
            home: home.table,
            first_current: current.first_backend,
            first_home: home.first_backend,
            states,
            stamps,
            version: version.id.0,
            flags: takes_over,
        })
    }

    /// The slot tables that a version has already, and what they were made of.
    fn known_tables(&self, version: VersionId) -> Result<Known, TablesError> {
        let tables = self.before.map_or_else(Vec::new, |before| before.tables_of(version));
        let source = self.sources.iter().flat_map(|service| &service.versions).find(|known| known.id == version);
        let slots = source.map(|version| [&version.slots.current, &version.slots.home]);
        tables
            .into_iter()
            .enumerate()
            .map(|(index, placed)| {
                let source = slots.map(|slots| Arc::clone(slots[index]));
                Ok((source.map_or_else(|| live::slots(self.memory, placed.table), Ok)?, placed))
            })
            .collect()
    }

    /// The table of some slots: a known one, or a new one that is known from now on.
    fn slot_table(&mut self, slots: &Arc<[BackendId]>, known: &mut Known) -> Result<Placed, TablesError> {
        if let Some((_, placed)) = known.iter().find(|(source, _)| same(source, slots)) {
            return Ok(*placed);
        }
        let ids: Vec<u16> = slots.iter().take(SLOTS).map(|id| id.0).collect();
        let (table, is_narrow) = SlotTable::new(&ids);
        let index = self.pools.take(Kind::Slots, 1, self.fresh)?;
        self.memory.slots.set(index, table, 0)?;
        let index = u16::try_from(index).map_err(|_| TablesError::Full("so many slot tables"))?;
        let placed = Placed { table: TableRef::new(index, is_narrow), first_backend: table.first_backend() };
        known.push((Arc::clone(slots), placed));
        Ok(placed)
    }

    fn states(&mut self, version: VersionId, states: &Arc<[SlotState]>) -> Result<u16, TablesError> {
        let detail = self.before.and_then(|before| before.detail);
        if let Some((_, held)) = detail.as_ref().and_then(|detail| version_of(detail, version))
            && held.states != 0
        {
            let source = self.sources.iter().flat_map(|service| &service.versions).find(|known| known.id == version);
            let source = match source.and_then(|version| version.slots.states.clone()) {
                Some(source) => source,
                None => live::states(self.memory, u32::from(held.states))?,
            };
            if same(&source, states) {
                return Ok(held.states);
            }
        }
        let mut bytes = [0; SLOT_TABLE_LEN];
        bytes.iter_mut().zip(states.iter()).for_each(|(byte, state)| *byte = state.0);
        let index = self.pools.take(Kind::States, 1, self.fresh)?;
        self.memory.states.set(index, SlotStates(bytes), 0)?;
        u16::try_from(index).map_err(|_| TablesError::Full("so many unsettled slots"))
    }

    fn buckets(&mut self, cells: &[Arc<[Bucket]>]) -> Result<u32, TablesError> {
        if let Some(before) = self.before
            && let Some(detail) = before.detail
            && before.segments() == cells.len() as u32
            && self.are_same_buckets(&detail, cells)?
        {
            return Ok(detail.buckets);
        }
        let first = self.pools.take(Kind::Buckets, cells.len() as u32, self.fresh)?;
        for (index, buckets) in (first..).zip(cells) {
            let mut bytes = [0; BUCKETS as usize];
            bytes.iter_mut().zip(buckets.iter()).for_each(|(byte, bucket)| *byte = bucket.0);
            self.memory.buckets.set(index, BucketTable(bytes), 0)?;
        }
        Ok(first)
    }

    fn are_same_buckets(&self, detail: &DetailRecord, cells: &[Arc<[Bucket]>]) -> Result<bool, TablesError> {
        let sources = match self.sources.as_ref().map(|service| &service.buckets) {
            Some(WantedBuckets::Cells(sources)) => Some(sources),
            Some(WantedBuckets::Split(_)) | None => None,
        };
        for (segment, buckets) in (0..).zip(cells) {
            let source = match sources.and_then(|sources| sources.get(segment as usize)) {
                Some(source) => Arc::clone(source),
                None => live::buckets(self.memory, detail.buckets + segment)?,
            };
            if !same(&source, buckets) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Stamps of the buckets: those that there are as long as segments stay, else new ones. None where no bucket can be
    /// unsettled before the next change.
    fn bucket_stamps(&mut self, service: &WantedService, cells: &[Arc<[Bucket]>]) -> Result<u32, TablesError> {
        let is_settled = |buckets: &Arc<[Bucket]>| buckets.iter().all(|bucket| bucket.is_settled());
        if service.guard.is_none() && cells.iter().all(is_settled) {
            return Ok(0);
        }
        let kept = self.stable.filter(|stable| stable.segments() == cells.len() as u32).and_then(|live| live.detail);
        match kept.map(|detail| detail.bucket_stamps).filter(|stamps| *stamps != 0) {
            Some(stamps) => Ok(stamps),
            None => self.new_stamps(cells.len() as u32),
        }
    }

    fn slot_stamps(&mut self, version: VersionId) -> Result<u16, TablesError> {
        let detail = self.stable.and_then(|stable| stable.detail);
        let kept = detail.as_ref().and_then(|detail| version_of(detail, version)).map(|(_, held)| held.stamps);
        if let Some(stamps) = kept.filter(|stamps| *stamps != 0) {
            return Ok(stamps);
        }
        u16::try_from(self.new_stamps(1)?).map_err(|_| TablesError::Full("so many stamps"))
    }

    fn new_stamps(&mut self, count: u32) -> Result<u32, TablesError> {
        let first = self.pools.take(Kind::Stamps, count, self.fresh)?;
        for index in first..first + count {
            self.memory.stamps.window(index, 1)?.clear(index);
        }
        Ok(first)
    }

    /// Places of the signals: those that there are as long as segments stay and no version is added, else new ones.
    fn signals(&mut self, service: &WantedService) -> Result<u16, TablesError> {
        let segments = match &service.buckets {
            WantedBuckets::Split(_) => 1,
            WantedBuckets::Cells(cells) => cells.len() as u32,
        };
        let versions = service.versions.iter().map(|version| u32::from(version.place) + 1).max().unwrap_or(0);
        let versions = match &service.buckets {
            WantedBuckets::Split(_) => versions.min(2),
            WantedBuckets::Cells(_) => versions,
        };
        let kept = self.stable.filter(|stable| stable.segments() == segments).map(|stable| stable.signals());
        if let Some((base, len)) = kept
            && len >= versions * segments
        {
            return Ok(base as u16);
        }
        let base = self.pools.take(Kind::Signals, versions * segments, self.fresh)?;
        u16::try_from(base).map_err(|_| TablesError::Full("so many signals"))
    }

    /// The guard of the rollout's attempt if there is one, else a new one.
    fn guard(&mut self, rollout: u64, wanted: &WantedGuard) -> Result<u32, TablesError> {
        let held = self.stable.and_then(|stable| stable.detail).map(|detail| detail.guard);
        if let Some(index) = held.filter(|index| *index != 0)
            && self.memory.guard(index)?.belongs_to(rollout, wanted.attempt)
        {
            return Ok(index);
        }
        let index = self.pools.take(Kind::Guards, 1, self.fresh)?;
        self.memory.guard(index)?.begin(rollout, wanted);
        Ok(index)
    }
}

fn flags_of(service: &WantedService) -> u32 {
    let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
    flag(service.guard.is_some_and(|guard| guard.no_stable), DetailRecord::FLAG_NO_STABLE)
        | flag(
            service.guard.is_some_and(|guard| guard.lease == Some(LeaseEnd::Stable)),
            DetailRecord::FLAG_LEASE_STABLE,
        )
        | flag(service.quic, DetailRecord::FLAG_QUIC)
        | flag(service.segments.as_ref().is_some_and(|segments| segments.by_dscp), DetailRecord::FLAG_DSCP)
        | flag(service.measures, DetailRecord::FLAG_MEASURES)
        | flag(!service.forwarding.sees_answers(), DetailRecord::FLAG_ONE_WAY)
}
