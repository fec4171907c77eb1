//! Places of the signals, and making them ready for an epoch.

use std::{mem::offset_of, sync::atomic::Ordering};

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

    /// Begins an epoch: what belongs to an older one counts no more, then all counts are zero.
    fn begin(&self, epoch: u64) {
        for index in self.indices() {
            self.window.store(index, offset_of!(Signals, epoch), epoch);
            let counts = self.window.words(index).iter().skip(1);
            counts.filter(|word| word.load(Ordering::Relaxed) != 0).for_each(|word| word.store(0, Ordering::Release));
        }
    }
}

/// The signals of a service as they are to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::datapath) struct Measured {
    /// First place.
    pub(in crate::datapath) base: u32,
    /// Its versions by place.
    pub(in crate::datapath) versions: Vec<VersionId>,
    /// Its segments.
    pub(in crate::datapath) segments: u32,
    /// The present epoch.
    pub(in crate::datapath) epoch: u64,
}

impl Memory {
    /// Maps the signals of a place, in epochs of a parity.
    pub(in crate::datapath) fn signals_at(&self, place: u32, parity: u32) -> Result<PlaceMemory, TablesError> {
        let first = (place * 2 + (parity & 1)) * self.cpus;
        Ok(PlaceMemory { window: self.signals.window(first, self.cpus)?, first, cpus: self.cpus })
    }

    /// How many places there are for signals.
    pub(in crate::datapath) fn signal_places(&self) -> u32 {
        self.signals.len() / 2 / self.cpus
    }
}

impl Tables {
    /// Before the switch: signals of a new epoch, and of versions that are new at their place, begin at zero.
    pub(super) fn prepare_signals(&self, new: &Live) -> Result<(), TablesError> {
        let old = self.before(&self.live, new.record.service);
        let epoch = new.record.epoch;
        let change = EpochChange::between(old, new);
        let old_versions = old.map(Live::versions).unwrap_or_default();
        let (base, _) = new.signals();
        let segments = new.segments();
        for (place, version) in (0..).zip(new.versions()).filter(|(_, version)| *version != VersionId::NONE) {
            let is_new = old_versions.get(place as usize) != Some(&version);
            let epochs: &[u64] = match change {
                EpochChange::Other => &[epoch.wrapping_sub(1), epoch],
                EpochChange::None | EpochChange::Next if is_new => &[epoch.wrapping_sub(1), epoch],
                EpochChange::Next => &[epoch],
                EpochChange::None => &[],
            };
            for place in base + place * segments..base + (place + 1) * segments {
                for epoch in epochs {
                    self.memory.signals_at(place, (epoch & 1) as u32)?.begin(*epoch);
                }
            }
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

    /// Signals of one service or of all, where they are, and which epochs they are of.
    pub(in crate::datapath) fn measured(&self, of: Option<ServiceId>) -> Vec<Measured> {
        let measured = |live: &Live| Measured {
            base: live.signals().0,
            versions: live.versions(),
            segments: live.segments(),
            epoch: live.record.epoch,
        };
        let is_meant = |id: &ServiceId| of.is_none_or(|of| of == *id);
        self.live.iter().filter(|(id, _)| is_meant(id)).map(|(_, live)| measured(live)).collect()
    }

    /// The memory of the tables, for those who read signals.
    pub(in crate::datapath) const fn memory(&self) -> &Memory {
        &self.memory
    }
}
