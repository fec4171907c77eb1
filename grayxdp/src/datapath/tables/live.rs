//! What lies in the maps for one service: its records, the places that they name, and reading them back.

use std::{collections::BTreeMap, sync::Arc};

use grayxdp_common::{
    BUCKETS, SLOTS,
    cells::{BucketTable, DetailRecord, SEGMENTS, SlotStates, VersionDetail},
    directory::Entry,
    records::{ServiceRecord, SlotTable, TableRef},
};

use super::{
    Memory, TablesError,
    entries::{Entries, is_address, is_backend},
    places::{Kind, Places, add_run},
};
use crate::model::kernel::{
    BackendId, Bucket, HeldSlots, Published, ServiceId, SlotState, VersionId, WantedBuckets, WantedSlots,
};

/// A slot table in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) table: TableRef,
    pub(super) first_backend: u16,
}

/// A service's records, and where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::datapath) struct Live {
    /// Index of the service record.
    pub(super) index: u32,
    /// The service record.
    pub(in crate::datapath) record: ServiceRecord,
    /// The detail record, at `record.detail`.
    pub(in crate::datapath) detail: Option<DetailRecord>,
}

impl Live {
    /// Current and home table of a version.
    pub(super) fn tables_of(&self, version: VersionId) -> Vec<Placed> {
        let placed = |table, first_backend| Placed { table, first_backend };
        match &self.detail {
            Some(detail) => version_of(detail, version).map_or_else(Vec::new, |(_, version)| {
                vec![placed(version.current, version.first_current), placed(version.home, version.first_home)]
            }),
            None => {
                let index = self.record.versions.iter().position(|id| *id == version);
                let of = |index: usize| placed(self.record.tables[index], self.record.first_backends[index]);
                index.map(of).into_iter().collect()
            }
        }
    }

    /// Ids of its versions by place.
    pub(in crate::datapath) fn versions(&self) -> Vec<VersionId> {
        match &self.detail {
            Some(detail) => detail.versions.iter().map(|version| VersionId(version.version)).collect(),
            None => self.record.versions.to_vec(),
        }
    }

    /// Segments, at least 1.
    pub(in crate::datapath) fn segments(&self) -> u32 {
        self.detail.map_or(1, |detail| u32::from(detail.segments).clamp(1, SEGMENTS as u32))
    }

    /// First place of its signals, and how many there are.
    pub(in crate::datapath) fn signals(&self) -> (u32, u32) {
        let versions = self.versions().iter().rposition(|id| *id != VersionId::NONE).map_or(0, |last| last as u32 + 1);
        (u32::from(self.record.signals), versions * self.segments())
    }

    /// Places of what stays where it is when tables are exchanged, and when maps are.
    pub(super) fn lasting_places(&self) -> Places {
        self.places().into_iter().filter(|(kind, _)| kind.lasts()).collect()
    }

    /// Places of all maps that the records name.
    pub(super) fn places(&self) -> Places {
        let mut places = Places::from([(Kind::Records, self.index)]);
        let (signals, signals_len) = self.signals();
        add_run(&mut places, Kind::Signals, signals, signals_len);
        match &self.detail {
            None => places.extend(self.record.tables.map(|table| (Kind::Slots, table.index()))),
            Some(detail) => {
                places.insert((Kind::Details, self.record.detail));
                add_detail(&mut places, detail, self.segments());
            }
        }
        places
    }
}

fn add_detail(places: &mut Places, detail: &DetailRecord, segments: u32) {
    add_run(places, Kind::Buckets, detail.buckets, segments);
    if detail.bucket_stamps != 0 {
        add_run(places, Kind::Stamps, detail.bucket_stamps, segments);
    }
    add_run(places, Kind::Classes, detail.classes, detail.classes_len);
    let some = |kind, place: u32| (place != 0).then_some((kind, place));
    places.extend(some(Kind::PrefixSets, detail.prefixes));
    places.extend(some(Kind::Guards, detail.guard));
    for version in detail.versions.iter().filter(|version| version.version != 0) {
        places.extend([version.current, version.home].map(|table| (Kind::Slots, table.index())));
        places.extend(some(Kind::States, u32::from(version.states)));
        places.extend(some(Kind::Stamps, u32::from(version.stamps)));
    }
}

/// Place and detail of a version.
pub(super) fn version_of(detail: &DetailRecord, version: VersionId) -> Option<(usize, &VersionDetail)> {
    let found = detail.versions.iter().enumerate().find(|(_, detail)| detail.version == version.0);
    found.filter(|_| version != VersionId::NONE)
}

/// What a directory leads to.
pub(super) fn read_live(memory: &Memory, entries: &Entries) -> BTreeMap<ServiceId, Live> {
    let of_services = entries.iter().filter(|(key, _)| !is_backend(**key) && !is_address(**key));
    let indices = of_services.map(|(_, value)| Entry(*value).record()).filter(|index| *index < memory.services.len());
    let live = indices.map(|index| {
        let record = memory.services.read(index);
        let has_detail = record.detail != 0 && record.detail < memory.details.len();
        Live { index, record, detail: has_detail.then(|| memory.details.read(record.detail)) }
    });
    live.map(|live| (live.record.service, live)).collect()
}

/// What a service was published as.
pub(super) fn published(memory: &Memory, live: &Live) -> Result<Published, TablesError> {
    let buckets = match &live.detail {
        None => WantedBuckets::Split(live.record.split),
        Some(detail) => {
            let tables = detail.buckets..detail.buckets + live.segments();
            WantedBuckets::Cells(tables.map(|table| buckets(memory, table)).collect::<Result<_, _>>()?)
        }
    };
    let Live { record, .. } = live;
    Ok(Published {
        id: record.service,
        versions: live.versions(),
        buckets,
        epoch: record.epoch,
        rollout: record.rollout,
    })
}

/// The slots of a service's versions that are not settled.
pub(super) fn held_slots(memory: &Memory, live: &Live) -> Result<Vec<HeldSlots>, TablesError> {
    let versions = live.detail.iter().flat_map(|detail| &detail.versions);
    let unsettled = versions.filter(|version| version.version != 0 && version.states != 0);
    unsettled
        .map(|version| {
            let slots = WantedSlots {
                current: slots(memory, version.current)?,
                home: slots(memory, version.home)?,
                states: Some(states(memory, u32::from(version.states))?),
            };
            Ok(HeldSlots { version: VersionId(version.version), slots })
        })
        .collect()
}

/// The buckets in a table.
pub(super) fn buckets(memory: &Memory, index: u32) -> Result<Arc<[Bucket]>, TablesError> {
    let BucketTable(bytes) = memory.buckets.get(&index, 0)?;
    Ok(bytes[..usize::from(BUCKETS)].iter().map(|byte| Bucket(*byte)).collect())
}

/// The states in a table.
pub(super) fn states(memory: &Memory, index: u32) -> Result<Arc<[SlotState]>, TablesError> {
    let SlotStates(bytes) = memory.states.get(&index, 0)?;
    Ok(bytes[..SLOTS].iter().map(|byte| SlotState(*byte)).collect())
}

/// The backends in a slot table.
pub(super) fn slots(memory: &Memory, table: TableRef) -> Result<Arc<[BackendId]>, TablesError> {
    let slots: SlotTable = memory.slots.get(&table.index(), 0)?;
    Ok((0..SLOTS as u16).map(|slot| BackendId(slots.backend(slot, table.is_narrow(), 0))).collect())
}
