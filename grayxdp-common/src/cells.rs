//! Cells: the buckets of a service and the slots of a version. A cell has an owner for new flows (*current*) and one for
//! flows without an exception entry (*home*), and stamps by which the program tells the daemon that it met one.
//!
//! A service that is settled, has at most two versions and no segments needs none of this: see
//! [`crate::records::ServiceRecord`]. All other services have a [`DetailRecord`].

use crate::{BUCKETS, SLOT_TABLE_LEN, map_value, records::TableRef};

/// Versions of a service at most. A version keeps its place (`0..VERSIONS`) for as long as a bucket or an entry may name it.
pub const VERSIONS: usize = 8;
/// Segments of a service at most, the default one (number 0) included.
pub const SEGMENTS: usize = 16;
/// Ports of a service at most.
pub const PORTS: usize = 16;

/// A bucket: current version (3 bits), home version (3 bits), a flag, and whether segments differ about it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct Bucket(pub u8);

impl Bucket {
    const FLAG: u8 = 1 << 6;
    const DIFFERS: u8 = 1 << 7;

    /// A bucket. `flag`: where `current` is `home`, that an entry of the bucket may differ from the default; else that
    /// packets resolved by home are pinned.
    #[must_use]
    pub const fn new(current: u8, home: u8, flag: bool, differs: bool) -> Self {
        let (flag, differs) = (if flag { Self::FLAG } else { 0 }, if differs { Self::DIFFERS } else { 0 });
        Self((current & 7) | ((home & 7) << 3) | flag | differs)
    }

    /// Place of the version of new flows.
    #[inline(always)]
    #[must_use]
    pub const fn current(self) -> u8 {
        self.0 & 7
    }

    /// Place of the version of flows without an entry.
    #[inline(always)]
    #[must_use]
    pub const fn home(self) -> u8 {
        self.0 >> 3 & 7
    }

    /// Whether both are the same.
    #[inline(always)]
    #[must_use]
    pub const fn is_settled(self) -> bool {
        self.current() == self.home()
    }

    /// Whether its packets look into the exception table.
    #[inline(always)]
    #[must_use]
    pub const fn looks(self) -> bool {
        !self.is_settled() || self.0 & Self::FLAG != 0
    }

    /// Whether packets resolved by home get an entry.
    #[inline(always)]
    #[must_use]
    pub const fn pins(self) -> bool {
        !self.is_settled() && self.0 & Self::FLAG != 0
    }

    /// Whether the segments of the service disagree about it: then the segment of a packet is looked up.
    #[inline(always)]
    #[must_use]
    pub const fn differs(self) -> bool {
        self.0 & Self::DIFFERS != 0
    }
}

/// The buckets of one segment of a service. Never changed once a live record names it.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketTable(pub [u8; BUCKETS as usize]);

map_value!(BucketTable, size 16_384);

/// The state of a slot of a version whose slots are not all settled.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct SlotState(pub u8);

impl SlotState {
    /// Current and home backend differ: the home table has the second.
    pub const UNSETTLED: u8 = 1;
    /// Its packets look into the exception table.
    pub const LOOKS: u8 = 2;
    /// Packets resolved by home get an entry.
    pub const PINS: u8 = 4;

    /// Whether a bit is set.
    #[inline(always)]
    #[must_use]
    pub const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// The states of a version's slots. Never changed once a live record names it.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotStates(pub [u8; SLOT_TABLE_LEN]);

map_value!(SlotStates, size 16_384);

/// What the program writes about a cell, one byte each, which it sets and the daemon clears once a second; so a cell is
/// written at most once a second, and no time is read for it.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stamp {
    /// A packet was resolved by home, or a SYN was deferred.
    pub seen: u8,
    /// A SYN was deferred: no place for its half-open entry.
    pub deferred: u8,
    /// A pin found no place.
    pub refused: u8,
    /// Zero.
    pub zero: u8,
}

map_value!(Stamp, size 4);

/// The stamps of a segment's buckets or of a version's slots. They stay where they are while tables are exchanged.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamps(pub [Stamp; SLOT_TABLE_LEN]);

map_value!(Stamps, size 65_536);

/// A version in a [`DetailRecord`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct VersionDetail {
    /// Current backends.
    pub current: TableRef,
    /// Home backends; the same table where all slots are settled.
    pub home: TableRef,
    /// As [`crate::records::ServiceRecord::first_backends`], for `current`.
    pub first_current: u16,
    /// The same for `home`.
    pub first_home: u16,
    /// Index of its slot states; 0: all slots are settled and none looks.
    pub states: u16,
    /// Index of its slots' stamps; 0 where `states` is 0.
    pub stamps: u16,
    /// The version's id; 0: there is no version at this place.
    pub version: u16,
    /// `FLAG_…` bits, and in the low three bits the place of the version that takes over while its pool is empty.
    pub flags: u16,
}

map_value!(VersionDetail, size 16);

impl VersionDetail {
    /// Bits of `flags`: where new flows go while no backend is left (`onEmptyPool: failover`).
    pub const FAILOVER_PLACE: u16 = 7;
    /// No backend is left, and the version at [`Self::FAILOVER_PLACE`] takes its new flows.
    pub const FLAG_FAILOVER: u16 = 1 << 3;
}

/// What a service has beyond its [`crate::records::ServiceRecord`]. Never changed once a live record names it.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DetailRecord {
    /// Index of the bucket table of segment 0; segment `s` has the one `s` further on.
    pub buckets: u32,
    /// Index of the stamps of segment 0's buckets; segment `s` has the one `s` further on. 0: none are kept, because every
    /// bucket is settled and nothing can unsettle it but a switch.
    pub bucket_stamps: u32,
    /// First key word of the service's source prefixes in the trie; 0: segments do not depend on the source.
    pub prefixes: u32,
    /// Index of class 0 in the class map; only meaningful with more than one segment.
    pub classes: u32,
    /// Index of the guard; 0: none is armed.
    pub guard: u32,
    /// `FLAG_…` bits.
    pub flags: u32,
    /// Backend that gets the new flows of `instance_segment`; 0: no canary instance runs.
    pub instance: u16,
    /// Segment of the canary instance.
    pub instance_segment: u8,
    /// How many segments there are, at least 1.
    pub segments: u8,
    /// Place of the candidate, for the guard.
    pub candidate: u8,
    /// Place of the stable version, for the guard.
    pub stable: u8,
    /// Places in use, `1..=VERSIONS`.
    pub versions_len: u8,
    /// Zero.
    pub zero: u8,
    /// How many classes there are from `classes` on; for the daemon, which has to know them after a restart.
    pub classes_len: u32,
    /// Room for what comes later.
    pub reserved: [u32; 7],
    /// The versions by place.
    pub versions: [VersionDetail; VERSIONS],
}

map_value!(DetailRecord, size 192);

impl DetailRecord {
    /// Neither fuse nor lease acts, because the stable version has no backend that is up: an alarm is raised instead.
    pub const FLAG_NO_STABLE: u32 = 1;
    /// A lease that ran out turns the candidate off (`onExpiry: stable`).
    pub const FLAG_LEASE_STABLE: u32 = 2;
    /// `quic: true`: a long-header Initial counts as a SYN.
    pub const FLAG_QUIC: u32 = 4;
    /// At least one segment depends on the DSCP.
    pub const FLAG_DSCP: u32 = 8;
    /// Every SYN leaves a measuring mark: a rollout runs.
    pub const FLAG_MEASURES: u32 = 16;
    /// Nothing of what backends answer comes by (`dsr`, `ipip`).
    pub const FLAG_ONE_WAY: u32 = 32;
}

/// Key of a source prefix in the trie: the service's set of prefixes, then the address as it lies in a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrefixKey {
    /// [`DetailRecord::prefixes`].
    pub set: u32,
    /// The address.
    pub address: u32,
}

map_value!(PrefixKey, size 8);

/// What a source prefix says: the class that decides the segment, now and for flows without an entry.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PrefixValue {
    /// Class of new flows, from 0.
    pub current: u16,
    /// Class of flows without an entry.
    pub home: u16,
    /// [`SlotState`] bits.
    pub state: u8,
    /// As [`Stamp::seen`].
    pub seen: u8,
    /// As [`Stamp::deferred`].
    pub deferred: u8,
    /// As [`Stamp::refused`].
    pub refused: u8,
}

map_value!(PrefixValue, size 8);

/// The DSCP of a packet whose DSCP does not count.
pub const NO_DSCP: u8 = 64;

/// Segments by port class and DSCP: what remains to be decided once the longest source prefix is known.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentClass(pub [u8; PORTS * 128]);

map_value!(SegmentClass, size 2_048);

impl SegmentClass {
    /// Index of a port class (below [`PORTS`]) and a DSCP (below 64, or [`NO_DSCP`]).
    #[inline(always)]
    #[must_use]
    pub const fn index(port_class: u8, dscp: u8) -> usize {
        (port_class as usize & (PORTS - 1)) * 128 + (dscp as usize & 127)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_back_what_it_was_made_of() {
        for current in 0..8 {
            for home in 0..8 {
                for (flag, differs) in [(false, false), (false, true), (true, false), (true, true)] {
                    let bucket = Bucket::new(current, home, flag, differs);
                    assert_eq!((bucket.current(), bucket.home(), bucket.differs()), (current, home, differs));
                    assert_eq!(bucket.looks(), flag || current != home);
                    assert_eq!(bucket.pins(), flag && current != home);
                }
            }
        }
    }
}
