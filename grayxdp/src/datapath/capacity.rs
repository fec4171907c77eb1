//! How large the maps are made: what the configuration needs, and room to grow by a reload.

use grayxdp_common::maps;

use super::directory;
use crate::model::kernel::Wanted;

/// What the maps must have room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Highest service id.
    pub services: u32,
    /// Versions of all services together.
    pub versions: u32,
    /// Highest backend id.
    pub backends: u32,
    /// Bucket tables, slot-state tables and stamps of what is unsettled at a time, of each.
    pub cells: u32,
    /// Source prefixes of all segments, twice: a changed set is built beside the live one.
    pub prefixes: u32,
    /// Classes of segments.
    pub classes: u32,
    /// Places for signals: versions × segments.
    pub signals: u32,
    /// Possible CPUs.
    pub cpus: u32,
    /// Log₂ of the sets of the exception table.
    pub exception_sets_log2: u32,
    /// Log₂ of the places for marks.
    pub marks_log2: u32,
    /// Log₂ of the places for sampled flows.
    pub flows_log2: u32,
}

/// Directories that can be built before one must wait for a grace period: a small one costs little.
const SMALL_REGIONS: u32 = 8;
/// The same for large ones.
const LARGE_REGIONS: u32 = 3;
/// Log₂ of the sets up to which a directory is small (a region of 256 KiB).
const SMALL: u8 = 12;
/// Routes of replies that are mirrored; hosts with more leave them to the kernel.
pub(super) const ROUTES: u32 = 16_384;
/// On-link clients that are mirrored; the others are left to the kernel.
pub(super) const NEIGHBOURS: u32 = 4_096;
/// Interfaces that can be attached.
const INTERFACES: u32 = 64;
/// Bytes of events that wait to be read.
const EVENT_BYTES: u32 = 1 << 14;
/// Bytes of messages that wait to be read.
const LOG_BYTES: u32 = 1 << 17;
/// Different routes that heads can name at a time, and room so that a number comes again late.
pub(super) const ROUTE_LEAVES: u32 = 4_096;

impl Capacity {
    /// What a set of services needs.
    #[must_use]
    pub fn of(wanted: &Wanted) -> Self {
        let versions = wanted.services.iter().flat_map(|service| &service.versions);
        let backend =
            versions.clone().flat_map(|version| &version.backends).map(|backend| u32::from(backend.id.0)).max();
        Self {
            services: wanted.services.iter().map(|service| u32::from(service.id.0)).max().unwrap_or(0),
            versions: versions.count() as u32,
            backends: backend.unwrap_or(0),
            cells: 0,
            prefixes: 0,
            classes: 0,
            signals: wanted.services.iter().map(|service| service.versions.len() as u32).sum(),
            cpus: aya::util::nr_cpus().unwrap_or(1) as u32,
            exception_sets_log2: 0,
            marks_log2: 0,
            flows_log2: 0,
        }
    }

    /// The same with room to grow by a half, and never tiny.
    #[must_use]
    pub fn with_room(self) -> Self {
        let room = |n: u32, least: u32| (n + n / 2).max(least);
        Self {
            services: room(self.services, 30),
            versions: room(self.versions, 24),
            backends: room(self.backends, 120),
            cells: room(self.cells, 16),
            prefixes: room(self.prefixes * 2, 1_024),
            classes: room(self.classes, 16),
            signals: room(self.signals, 32),
            cpus: self.cpus,
            exception_sets_log2: self.exception_sets_log2.max(14),
            marks_log2: self.marks_log2.max(16),
            flows_log2: self.flows_log2.max(14),
        }
    }

    /// Log₂ of the sets of one directory: endpoints and addresses of services, endpoints of backends.
    pub(super) fn region_log2(self) -> u8 {
        directory::sets_log2((self.services * 2 + self.backends) as usize)
    }

    fn regions(self) -> u32 {
        if self.region_log2() <= SMALL { SMALL_REGIONS } else { LARGE_REGIONS }
    }

    /// Entries of each map.
    pub(super) fn entries(self) -> [(&'static str, u32); 26] {
        let spare_tables = (self.versions / 5).max(8);
        [
            (maps::CONTROL, 1),
            (maps::DIRECTORY, self.regions() << self.region_log2()),
            (maps::SERVICES, self.services * 2 + 32),
            (maps::SLOTS, self.versions + spare_tables),
            (maps::BACKENDS, self.backends + 1),
            (maps::COUNTERS, self.backends + 1),
            (maps::REASONS, self.services + 1),
            (maps::ROUTES, ROUTES),
            (maps::NEIGHBOURS, NEIGHBOURS),
            (maps::INTERFACES, INTERFACES),
            (maps::LOG, LOG_BYTES),
            (maps::ROUTE_HEADS, 1),
            (maps::ROUTE_LEAVES, ROUTE_LEAVES),
            (maps::BUCKETS, self.cells + 1),
            (maps::SLOT_STATES, self.cells + 1),
            (maps::STAMPS, self.cells + 1),
            (maps::DETAILS, self.services * 2 + 32),
            (maps::PREFIXES, self.prefixes),
            (maps::CLASSES, self.classes),
            (maps::GUARDS, self.services + 1),
            (maps::EVENTS, EVENT_BYTES),
            (maps::EXCEPTIONS, 1 << self.exception_sets_log2),
            (maps::EXCEPTION_COUNTERS, self.services + 1),
            (maps::MARKS, 1 << self.marks_log2),
            (maps::FLOWS, 1 << self.flows_log2),
            (maps::SIGNALS, self.signals * 2 * self.cpus),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_services_fit_and_memory_per_version_stays_under_forty_kibibytes() {
        let capacity = Capacity {
            services: 1_000,
            versions: 2_000,
            backends: 10_000,
            ..Capacity::of(&Wanted::default()).with_room()
        };
        let entries: std::collections::BTreeMap<_, _> = capacity.entries().into_iter().collect();
        assert!(entries[maps::SLOTS] * 33_280 / 2_000 <= 40 * 1_024, "bytes of slot tables a version");
        assert!(capacity.region_log2() <= 24);
    }
}
