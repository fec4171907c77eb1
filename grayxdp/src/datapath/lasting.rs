//! What outlives larger tables: maps that stay the very same if they are large enough, else have their content copied.
//! Exceptions, marks and samples belong to flows, of which a reload changes none: those maps always stay.

use std::path::Path;

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use grayxdp_common::{
    cells::Stamps,
    counters::{BackendCounters, ReasonCounters},
    guard::Guard,
    maps,
    signals::{ExceptionCounters, Signals},
};

use super::{Capacity, mappable, opened, unreadable_map};
use crate::model::kernel::KernelError;

/// Maps that outlive larger tables.
const LASTING: [&str; 13] = [
    maps::EXCEPTIONS,
    maps::MARKS,
    maps::FLOWS,
    maps::EVENTS,
    maps::STAMPS,
    maps::GUARDS,
    maps::SIGNALS,
    maps::COUNTERS,
    maps::REASONS,
    maps::EXCEPTION_COUNTERS,
    maps::TRANSLATIONS,
    maps::SEATS,
    maps::PERMITS,
];

/// Those of them whose size does not follow the configuration.
const OF_FLOWS: [&str; 4] = [maps::EXCEPTIONS, maps::MARKS, maps::FLOWS, maps::EVENTS];

/// The flow table of `full-nat`: as long as no service has that mode there is one entry, which nobody meets.
const OF_TRANSLATIONS: [&str; 3] = [maps::TRANSLATIONS, maps::SEATS, maps::PERMITS];

/// Pins the maps of one folder in another as far as they are large enough, and returns the names of the others.
pub(super) fn keep(from: &Path, to: &Path, need: Capacity) -> Result<Vec<&'static str>, KernelError> {
    let mut too_small = Vec::new();
    for (name, entries) in need.entries().into_iter().filter(|(name, _)| LASTING.contains(name)) {
        let data = opened(from, name)?;
        let held = data.info().map_err(|error| unreadable_map(name, &error))?.max_entries();
        // A flow table that has no place yet has no flow.
        let is_used = OF_TRANSLATIONS.contains(&name) && held > 1;
        if held >= entries || is_used || OF_FLOWS.contains(&name) {
            data.pin(to.join(name))
                .map_err(|error| KernelError(format!("the map {name} cannot be pinned: {error}")))?;
        } else {
            too_small.push(name);
        }
    }
    Ok(too_small)
}

/// Copies what some maps of one folder hold into the larger ones of another.
pub(super) fn copy(from: &Path, to: &Path, names: &[&str]) -> Result<(), KernelError> {
    for &name in names {
        match name {
            maps::STAMPS => copy_array::<Stamps>(from, to, name)?,
            maps::GUARDS => copy_array::<Guard>(from, to, name)?,
            maps::SIGNALS => copy_array::<Signals>(from, to, name)?,
            maps::COUNTERS => copy_counters::<BackendCounters>(from, to, name)?,
            maps::REASONS => copy_counters::<ReasonCounters>(from, to, name)?,
            maps::EXCEPTION_COUNTERS => copy_counters::<ExceptionCounters>(from, to, name)?,
            maps::TRANSLATIONS | maps::SEATS | maps::PERMITS => {}
            other => unreachable!("{other} always stays"),
        }
    }
    Ok(())
}

fn copy_array<T: aya::Pod>(from: &Path, to: &Path, name: &str) -> Result<(), KernelError> {
    let (from, to) = (mappable::<T>(from, name)?, mappable::<T>(to, name)?);
    for index in 0..from.len() {
        let window = |map: &super::Mappable<T>| map.window(index, 1).map_err(|error| unreadable_map(name, &error));
        let value = window(&from)?.read(index);
        window(&to)?.write(index, &value);
    }
    Ok(())
}

fn copy_counters<T: aya::Pod>(from: &Path, to: &Path, name: &str) -> Result<(), KernelError> {
    let failed = |error: MapError| unreadable_map(name, &error);
    let open = |folder: &Path| -> Result<PerCpuArray<MapData, T>, KernelError> {
        Map::PerCpuArray(opened(folder, name)?).try_into().map_err(failed)
    };
    let (from, mut to) = (open(from)?, open(to)?);
    for index in 0..from.len() {
        to.set(index, from.get(&index, 0).map_err(failed)?, 0).map_err(failed)?;
    }
    Ok(())
}
