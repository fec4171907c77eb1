//! Places of the signals, and making them ready for an epoch.

use grayxdp_common::signals::Signals;

use super::{EpochChange, Memory, Tables, TablesError, live::Live};
use crate::{
    datapath::mapped::Mapped,
    model::kernel::{ServiceId, VersionId, WantedService},
};

/// The signals of one place and parity, CPU by CPU.
pub(in crate::datapath) struct PlaceMemory {
    window: Mapped<Signals>,
    first: u32,
    cpus: u32,
}

impl PlaceMemory {
    /// The index of each CPU's signals in the window.
    pub(in crate::datapath) fn indices(&self) -> std::ops::Range<u32> {
        self.first..self.first + self.cpus
    }

    /// The memory.
    pub(in crate::datapath) const fn window(&self) -> &Mapped<Signals> {
        &self.window
    }

    fn clear(&self) {
        self.indices().for_each(|index| self.window.clear(index));
    }
}

/// The signals of a service as they are to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::datapath) struct Measured {
    /// The service.
    pub(in crate::datapath) service: ServiceId,
    /// First place.
    pub(in crate::datapath) base: u32,
    /// Its versions by place.
    pub(in crate::datapath) versions: Vec<VersionId>,
    /// Its segments.
    pub(in crate::datapath) segments: u32,
    /// The present epoch.
    pub(in crate::datapath) epoch: u64,
    /// Whether those of the epoch before still count.
    pub(in crate::datapath) has_previous: bool,
}

impl Memory {
    /// Maps the signals of a place, in epochs of a parity.
    pub(in crate::datapath) fn signals_at(&self, place: u32, parity: u32) -> Result<PlaceMemory, TablesError> {
        let first = (place * 2 + (parity & 1)) * self.cpus;
        Ok(PlaceMemory { window: self.signals.window(first, self.cpus)?, first, cpus: self.cpus })
    }

    fn clear_signals(&self, place: u32, parities: &[u64]) -> Result<(), TablesError> {
        parities.iter().try_for_each(|parity| self.signals_at(place, (parity & 1) as u32).map(|place| place.clear()))
    }
}

impl Tables {
    /// How many places there are for signals.
    pub(super) fn signal_places(&self) -> u32 {
        self.memory.signals.len() / 2 / self.memory.cpus
    }

    /// Before the switch: signals of a new epoch, and of versions that are new at their place, begin at zero.
    pub(super) fn prepare_signals(&self, new: &Live) -> Result<(), TablesError> {
        let old = self.before(&self.live, new.record.service);
        let epoch = new.record.epoch;
        let change = EpochChange::between(old, new);
        let old_versions = old.map(Live::versions).unwrap_or_default();
        let (base, _) = new.signals();
        let segments = new.segments();
        for (place, version) in (0..).zip(new.versions()).filter(|(_, version)| *version != VersionId::NONE) {
            let parities: &[u64] = match change {
                EpochChange::Other => &[0, 1],
                EpochChange::None | EpochChange::Next if old_versions.get(place as usize) != Some(&version) => &[0, 1],
                EpochChange::Next => &[epoch],
                EpochChange::None => &[],
            };
            let places = base + place * segments..base + (place + 1) * segments;
            places.into_iter().try_for_each(|place| self.memory.clear_signals(place, parities))?;
        }
        Ok(())
    }

    /// Before the switch: a guard that stays gets what is wanted of it now.
    pub(super) fn update_guard(&self, service: &WantedService, live: &Live) -> Result<(), TablesError> {
        let index = live.detail.map_or(0, |detail| detail.guard);
        match &service.guard {
            Some(guard) if index != 0 => self.memory.guard(index).map(|memory| memory.update(guard)),
            Some(_) | None => Ok(()),
        }
    }

    /// All services' signals, where they are, and which epochs they are of.
    pub(in crate::datapath) fn measured(&self) -> Vec<Measured> {
        let measured = |(id, live): (&ServiceId, &Live)| Measured {
            service: *id,
            base: live.signals().0,
            versions: live.versions(),
            segments: live.segments(),
            epoch: live.record.epoch,
            has_previous: self.counts_previous(*id),
        };
        self.live.iter().map(measured).collect()
    }

    /// The memory of the tables, for those who read signals.
    pub(in crate::datapath) const fn memory(&self) -> &Memory {
        &self.memory
    }
}
