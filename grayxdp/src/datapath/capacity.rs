//! How large the maps are made: what the configuration needs, and room to grow by a reload.

use std::sync::Arc;

use grayxdp_common::{exceptions::WAYS, fragments, maps, signals::FLOW_PLACES, translations};

use super::directory;
use crate::model::{
    config::Forwarding,
    kernel::{Wanted, WantedBuckets, WantedService, WantedVersion},
};

/// What the maps must have room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Highest service id.
    pub services: u32,
    /// Versions of all services together.
    pub versions: u32,
    /// Slot tables: one a version, and another where home differs.
    pub slot_tables: u32,
    /// Highest backend id.
    pub backends: u32,
    /// Endpoints of services and backends, and virtual addresses.
    pub endpoints: u32,
    /// Bucket tables of services that are not settled or have segments, those being built included.
    pub bucket_tables: u32,
    /// Slot states of versions that are not settled, those being built included.
    pub slot_states: u32,
    /// Stamps: one a bucket table, and one for the slots of a version that is not settled.
    pub stamps: u32,
    /// Classes of segments, those being built included.
    pub classes: u32,
    /// Guards of running rollouts.
    pub guards: u32,
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
    /// Log₂ of the places of the flow table of `full-nat`, where there is a service of that mode.
    pub translations_log2: u32,
    /// Whether there is one.
    pub translates: bool,
}

/// Log₂ of the sets of an exception table that a million live exceptions fill by half: 32 MiB.
const EXCEPTION_SETS_LOG2: u32 = 19;
/// Log₂ of the places of a flow table of `full-nat`: 16 MiB, and 5 MiB for finding them.
const TRANSLATIONS_LOG2: u32 = 18;
/// Log₂ of the places for marks: 1 MiB.
const MARKS_LOG2: u32 = 16;
/// Source prefixes of all segments, with those of changed sets beside them; room for them costs nothing.
const PREFIXES: u32 = 1 << 20;
/// Places of signals that a mark or a sample can name.
const SIGNAL_PLACES: u32 = 1 << 16;
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
    /// What a set of services needs. The tables that hold flows get their usual sizes.
    #[must_use]
    pub fn of(wanted: &Wanted) -> Self {
        let services = &wanted.services;
        let versions = services.iter().flat_map(|service| &service.versions);
        let backend =
            versions.clone().flat_map(|version| &version.backends).map(|backend| u32::from(backend.id.0)).max();
        let needs: Vec<_> = services.iter().map(Need::of).collect();
        let sum = |of: fn(&Need) -> u32| needs.iter().map(of).sum::<u32>();
        let beside = |of: fn(&Need) -> u32| sum(of) + needs.iter().map(of).max().unwrap_or(0);
        Self {
            services: services.iter().map(|service| u32::from(service.id.0)).max().unwrap_or(0),
            versions: versions.count() as u32,
            slot_tables: sum(|need| need.slot_tables),
            backends: backend.unwrap_or(0),
            endpoints: sum(|need| need.endpoints),
            bucket_tables: beside(|need| need.bucket_tables),
            slot_states: beside(|need| need.slot_states),
            stamps: sum(|need| need.bucket_tables + need.slot_states),
            classes: beside(|need| need.classes),
            guards: sum(|need| need.guards),
            signals: sum(|need| need.signals),
            cpus: aya::util::nr_cpus().unwrap_or(1) as u32,
            exception_sets_log2: EXCEPTION_SETS_LOG2,
            marks_log2: MARKS_LOG2,
            flows_log2: FLOW_PLACES.ilog2(),
            translations_log2: TRANSLATIONS_LOG2,
            translates: services.iter().any(|service| service.forwarding == Forwarding::FullNat),
        }
    }

    /// The same with an exception table that so many live exceptions fill by half.
    #[must_use]
    pub fn with_exceptions(self, live: u32) -> Self {
        let sets = (live / 2).clamp(1 << 4, 1 << 24).next_power_of_two();
        Self { exception_sets_log2: sets.ilog2(), ..self }
    }

    /// The same with a flow table of `full-nat` for so many flows at least.
    #[must_use]
    pub fn with_translations(self, flows: u32) -> Self {
        Self { translations_log2: flows.clamp(1 << 10, 1 << 24).next_power_of_two().ilog2(), ..self }
    }

    /// Log₂ of the entries of the flow table, of the sets of its seats and of those of its permits: nothing where no service has that mode.
    const fn translation_sizes(self) -> [u32; 3] {
        const SET_LOG2: u32 = translations::SEATS.ilog2();
        if !self.translates {
            return [0; 3];
        }
        let entries = self.translations_log2;
        [entries, entries + translations::SEATS_LOG2 - SET_LOG2, entries - translations::PERMITS_LOG2 - SET_LOG2]
    }

    /// Entries that the exception table has room for.
    pub(super) fn exception_places(self) -> u64 {
        (WAYS as u64) << self.exception_sets_log2
    }

    /// The same with room to grow by a half, and never tiny.
    #[must_use]
    pub fn with_room(self) -> Self {
        let room = |n: u32, least: u32| (n + n / 2).max(least);
        Self {
            services: room(self.services, 30),
            versions: room(self.versions, 24),
            slot_tables: self.slot_tables.max(room(self.versions, 24)),
            backends: room(self.backends, 120),
            endpoints: room(self.endpoints, 180),
            bucket_tables: room(self.bucket_tables, 24),
            slot_states: room(self.slot_states, 24),
            stamps: room(self.stamps, 32),
            classes: room(self.classes, 16),
            guards: room(self.guards, 16),
            signals: (self.signals + self.signals / 4).clamp(32, SIGNAL_PLACES),
            ..self
        }
    }

    /// The same with twice as much of what must lie in one piece, and may not although there is room.
    pub(super) fn with_longer_runs(self) -> Self {
        Self {
            bucket_tables: self.bucket_tables * 2,
            stamps: self.stamps * 2,
            classes: self.classes * 2,
            guards: self.guards * 2,
            signals: (self.signals * 2).min(SIGNAL_PLACES),
            slot_states: self.slot_states * 2,
            ..self
        }
    }

    /// Log₂ of the sets of one directory: endpoints and addresses of services, endpoints of backends.
    pub(super) fn region_log2(self) -> u8 {
        directory::sets_log2((self.services * 2 + self.backends).max(self.endpoints) as usize)
    }

    fn regions(self) -> u32 {
        if self.region_log2() <= SMALL { SMALL_REGIONS } else { LARGE_REGIONS }
    }

    /// Entries of each map.
    pub(super) fn entries(self) -> [(&'static str, u32); 38] {
        let [entries, seats, permits] = self.translation_sizes();
        let spare_tables = (self.slot_tables / 5).max(8);
        [
            (maps::CONTROL, 1),
            (maps::DIRECTORY, self.regions() << self.region_log2()),
            (maps::SERVICES, self.services * 2 + 32),
            (maps::SLOTS, self.slot_tables + spare_tables),
            (maps::BACKENDS, self.backends + 1),
            (maps::COUNTERS, self.backends + 1),
            (maps::REASONS, self.services + 1),
            (maps::ROUTES, ROUTES),
            (maps::NEIGHBOURS, NEIGHBOURS),
            (maps::INTERFACES, INTERFACES),
            (maps::LOG, LOG_BYTES),
            (maps::ROUTE_HEADS, 1),
            (maps::ROUTE_LEAVES, ROUTE_LEAVES),
            (maps::BUCKETS, self.bucket_tables + 1),
            (maps::SLOT_STATES, self.slot_states + 1),
            (maps::STAMPS, self.stamps + 1),
            (maps::DETAILS, self.services * 2 + 32),
            (maps::PREFIXES, PREFIXES),
            (maps::CLASSES, self.classes.max(1)),
            (maps::GUARDS, self.guards + 1),
            (maps::EVENTS, EVENT_BYTES),
            (maps::EXCEPTIONS, 1 << self.exception_sets_log2),
            (maps::EXCEPTION_COUNTERS, self.services + 1),
            (maps::MARKS, 1 << self.marks_log2),
            (maps::FLOWS, 1 << self.flows_log2),
            (maps::SIGNALS, self.signals.max(1) * 2 * self.cpus),
            (maps::FRAGMENTS, fragments::PLACES),
            (maps::ENDS6, self.backends + 1),
            (maps::ROUTES6, ROUTES),
            (maps::NEIGHBOURS6, NEIGHBOURS),
            (maps::PREFIXES6, PREFIXES),
            (maps::PROGRAMS, maps::NEXT.len() as u32),
            (maps::TARGETS, self.backends + 1),
            (maps::TRANSLATIONS, 1 << entries),
            (maps::SEATS, 1 << seats),
            (maps::PERMITS, 1 << permits),
            (maps::POOLS, if self.translates { self.services + 1 } else { 1 }),
            (maps::TRANSLATED_PIECES, if self.translates { fragments::PLACES } else { 1 }),
        ]
    }
}

/// What one service needs.
struct Need {
    slot_tables: u32,
    endpoints: u32,
    bucket_tables: u32,
    slot_states: u32,
    classes: u32,
    guards: u32,
    signals: u32,
}

impl Need {
    fn of(service: &WantedService) -> Self {
        let segments = match &service.buckets {
            WantedBuckets::Split(_) => 0,
            WantedBuckets::Cells(cells) => cells.len() as u32,
        };
        let has_home = |version: &&WantedVersion| !Arc::ptr_eq(&version.slots.current, &version.slots.home);
        let places = service.versions.iter().map(|version| u32::from(version.place) + 1).max().unwrap_or(0);
        let ports = service.ports.len() as u32;
        let backends = service.versions.iter().flat_map(|version| &version.backends);
        Self {
            slot_tables: (service.versions.len() + service.versions.iter().filter(has_home).count()) as u32,
            endpoints: 1
                + service.source_pool.len() as u32
                + ports
                + backends.map(|backend| if backend.port == 0 { ports } else { 1 }).sum::<u32>(),
            bucket_tables: segments,
            slot_states: service.versions.iter().filter(|version| version.slots.states.is_some()).count() as u32,
            classes: service.segments.as_ref().map_or(0, |segments| segments.classes.len() as u32),
            guards: u32::from(service.guard.is_some()),
            signals: places * segments.max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_exceptions_fill_half_of_a_table_of_at_most_32_mebibytes() {
        for capacity in [Capacity::of(&Wanted::default()), Capacity::of(&Wanted::default()).with_exceptions(1_000_000)]
        {
            assert!(capacity.exception_places() >= 2_000_000);
            assert_eq!(64 << capacity.exception_sets_log2, 32 << 20);
        }
        assert_eq!(Capacity::of(&Wanted::default()).with_exceptions(1_000).exception_places(), 2_048);
    }

    #[test]
    fn a_thousand_services_fit_and_memory_per_version_stays_under_forty_kibibytes() {
        let capacity = Capacity {
            services: 1_000,
            versions: 2_000,
            slot_tables: 2_000,
            backends: 10_000,
            ..Capacity::of(&Wanted::default()).with_room()
        };
        let entries: std::collections::BTreeMap<_, _> = capacity.entries().into_iter().collect();
        assert!(entries[maps::SLOTS] * 33_280 / 2_000 <= 40 * 1_024, "bytes of slot tables a version");
        assert!(capacity.region_log2() <= 24);
    }
}
