//! Taking what the program wrote about cells. A stamp is taken and cleared by one exchange, so none is lost.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use grayxdp_common::cells::{Stamp, Stamps};

use super::{
    Memory, Tables, TablesError,
    live::Live,
    places::Kind,
    segments::{indices, note},
};
use crate::model::kernel::{CellStamps, ServiceId, ServiceStamps, VersionId};

/// Stamps in a word.
const IN_WORD: usize = size_of::<u64>() / size_of::<Stamp>();

impl Memory {
    /// Takes one run's stamps.
    fn take_stamps(&self, index: u32) -> Result<CellStamps, TablesError> {
        let window = self.stamps.window(index, 1)?;
        let mut stamps = CellStamps::default();
        for (number, word) in window.words(index).iter().enumerate() {
            if word.load(Ordering::Relaxed) != 0 {
                enter(&mut stamps, number * IN_WORD, word.swap(0, Ordering::AcqRel));
            }
        }
        Ok(stamps)
    }

    /// Moves one run's stamps to another.
    fn move_stamps(&self, from: u32, to: u32) -> Result<(), TablesError> {
        let (from_window, to_window) = (self.stamps.window(from, 1)?, self.stamps.window(to, 1)?);
        carry(from_window.words(from), to_window.words(to));
        Ok(())
    }
}

/// Takes the stamps of some words and adds them to others.
fn carry(from: &[AtomicU64], to: &[AtomicU64]) {
    for (from, to) in from.iter().zip(to) {
        match from.swap(0, Ordering::AcqRel) {
            0 => {}
            stamps => drop(to.fetch_or(stamps, Ordering::AcqRel)),
        }
    }
}

/// Enters the stamps of a word whose first is that of cell `first`.
fn enter(stamps: &mut CellStamps, first: usize, word: u64) {
    let size = size_of::<Stamp>();
    for (offset, stamp) in word.to_ne_bytes().chunks_exact(size).enumerate() {
        let cell = (first + offset) as u16;
        let fields = [&mut stamps.seen, &mut stamps.deferred, &mut stamps.refused];
        fields.into_iter().zip(stamp).filter(|(_, byte)| **byte != 0).for_each(|(cells, _)| cells.push(cell));
    }
}

impl Tables {
    /// Takes the stamps of all services that have any.
    pub(in crate::datapath) fn take_stamps(&mut self) -> Result<BTreeMap<ServiceId, ServiceStamps>, TablesError> {
        self.empty_sets()?;
        let mut all = BTreeMap::new();
        for (id, live) in &self.live {
            let mut stamps = take_cells(&self.memory, live)?;
            stamps.prefixes = self.prefix_stamps.remove(id).unwrap_or_default();
            let source = self.sources.get(id).and_then(|service| service.segments.as_ref());
            if let (Some(detail), Some(segments)) = (&live.detail, source)
                && detail.prefixes != 0
            {
                self.memory.take_prefix_stamps(detail.prefixes, &segments.prefixes, &mut stamps.prefixes)?;
            }
            if live.detail.is_some() {
                all.insert(*id, stamps);
            }
        }
        Ok(all)
    }

    /// Takes over the stamps of buckets whose runs moved because the number of segments changed, once nobody writes to the
    /// old ones.
    pub(super) fn carry_stamps(&mut self, old: &BTreeMap<ServiceId, Live>) -> Result<(), TablesError> {
        let run = |live: &Live| Some((live.detail?.bucket_stamps, live.segments())).filter(|(first, _)| *first != 0);
        let moved: Vec<_> = self
            .live
            .iter()
            .filter_map(|(id, live)| Some((run(self.before(old, *id)?)?, run(live)?)))
            .filter(|(from, to)| from.0 != to.0)
            .collect();
        if moved.is_empty() {
            return Ok(());
        }
        self.pools.grace().wait();
        for ((from, from_len), (to, to_len)) in moved {
            (0..from_len.min(to_len)).try_for_each(|segment| self.memory.move_stamps(from + segment, to + segment))?;
        }
        Ok(())
    }

    /// Adds the stamps that came to smaller maps while these took their place.
    pub(in crate::datapath) fn add_stamps_of(&self, smaller: &Self) -> Result<(), TablesError> {
        for index in 1..smaller.memory.stamps.len().min(self.memory.stamps.len()) {
            let from = smaller.memory.stamps.window(index, 1)?;
            let to = self.memory.stamps.window(index, 1)?;
            carry(from.words(index), to.words(index));
        }
        Ok(())
    }

    /// Empties the sets of prefixes that no packet reads any more, and keeps their last stamps for the next taking.
    pub(super) fn empty_sets(&mut self) -> Result<(), TablesError> {
        let ended = self.pools.grace().ended();
        for leaving in self.leaving_sets.extract_if(.., |leaving| leaving.ticket <= ended) {
            let stamped = self.memory.empty_set(&leaving)?;
            self.pools.give_back(&[(Kind::PrefixSets, leaving.set)]);
            let source = self.sources.get(&leaving.service).and_then(|service| service.segments.as_ref());
            let Some(segments) = source.filter(|_| !stamped.is_empty()) else { continue };
            let indices = indices(&segments.prefixes);
            let stamps = self.prefix_stamps.entry(leaving.service).or_default();
            for (network, value) in stamped {
                if let Some(index) = indices.get(&network) {
                    note(stamps, *index, &value);
                }
            }
        }
        Ok(())
    }
}

fn take_cells(memory: &Memory, live: &Live) -> Result<ServiceStamps, TablesError> {
    let mut stamps = ServiceStamps::default();
    let Some(detail) = &live.detail else { return Ok(stamps) };
    if detail.bucket_stamps != 0 {
        let runs = detail.bucket_stamps..detail.bucket_stamps + live.segments();
        stamps.segments = runs.map(|index| memory.take_stamps(index)).collect::<Result<_, _>>()?;
    }
    for version in detail.versions.iter().filter(|version| version.version != 0 && version.stamps != 0) {
        stamps.versions.insert(VersionId(version.version), memory.take_stamps(u32::from(version.stamps))?);
    }
    Ok(stamps)
}

const _: () = assert!(size_of::<Stamps>().is_multiple_of(size_of::<u64>()));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamps_of_a_word_are_those_of_its_two_cells() {
        let mut stamps = CellStamps::default();
        enter(&mut stamps, 16, u64::from_ne_bytes([1, 0, 0, 0, 0, 1, 0, 0]));
        enter(&mut stamps, 300, u64::from_ne_bytes([0, 0, 0, 0, 1, 1, 1, 0]));
        let expected = CellStamps { seen: vec![16, 301], deferred: vec![17, 301], refused: vec![301] };
        assert_eq!(stamps, expected);
    }
}
