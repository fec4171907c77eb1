//! What the explaining instance of the program writes down about the one packet that it is shown.

use crate::{map_value, records::NextHop};

/// How far a packet came. Later steps include the earlier.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Not ours: passes untouched.
    NotOurs = 0,
    /// For a virtual address.
    Address = 1,
    /// For a service; nothing chosen.
    Service = 2,
    /// A backend was chosen.
    Backend = 3,
    /// From a backend, back to the client.
    Reverse = 4,
}

macro_rules! turns {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $label:literal;)*) => {
        /// What decided the way of a packet: one bit each of [`Explanation::turns`].
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Turn { $($(#[$doc])* $name = $number,)* }

        impl Turn {
            /// All of them, in the order in which they come about.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The turn in words.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// Its bit.
            #[inline(always)]
            #[must_use]
            pub const fn bit(self) -> u64 {
                1 << self as u32
            }
        }
    };
}

turns! {
    /// The service is settled: arithmetic decides.
    Split = 0, "the service is settled: bucket and threshold decide";
    /// Segments disagree about the bucket, or the packet opens a flow: its segment was looked up.
    Segment = 1, "the segment decides";
    /// The longest source prefix of the source is one of a segment.
    SourcePrefix = 2, "the source lies in a prefix of a segment";
    /// The DSCP was looked at.
    Dscp = 3, "the DSCP of the first packet counts";
    /// Current and home version of the bucket differ.
    BucketUnsettled = 4, "the bucket has another version for new flows than for flows in progress";
    /// Current and home backend of the slot differ.
    SlotUnsettled = 5, "the slot has another backend for new flows than for flows in progress";
    /// Current and home class of the source prefix differ.
    PrefixUnsettled = 6, "the source prefix has another segment for new flows than for flows in progress";
    /// The fuse tripped.
    FuseTripped = 7, "the fuse has turned the candidate off";
    /// The lease ran out.
    LeaseExpired = 8, "the lease of the candidate ran out";
    /// The canary instance gets the segment's new flows.
    Instance = 9, "new flows of the segment go to the canary instance";
    /// The version's pool is empty.
    Failover = 10, "the version has no backend left: another version takes its new flows";
    /// The exception table was looked into.
    Looked = 11, "the exception table was looked into";
    /// A half-open entry of the same SYN was found.
    SynRepeated = 12, "the SYN was seen before: it goes where the first one went";
    /// A half-open entry is needed.
    HalfOpen = 13, "a half-open entry remembers the choice";
    /// A half-open entry was completed.
    Completed = 14, "the packet completes its handshake: the flow has an entry";
    /// An established entry, or a pin, was found.
    Entry = 15, "the flow has an entry";
    /// No place for a half-open entry.
    Deferred = 16, "no place for a half-open entry: the SYN goes where the flow's later packets will go";
    /// By the default.
    Home = 17, "flows in progress without an entry go by home";
    /// Chosen as a new flow.
    Chosen = 18, "a new flow goes by current";
    /// An entry for a flow that was resolved by home.
    Pinned = 19, "the flow is pinned to where it went";
    /// A pin found no place.
    PinRefused = 20, "no place for a pin";
    /// The backend is down.
    Down = 21, "the backend is down";
    /// `existingFlows: reset`.
    Reset = 22, "flows of the version are ended";
    /// `existingFlows: move`.
    Moved = 23, "flows of the version are moved";
    /// The flow is followed.
    Sampled = 24, "the flow is sampled";
    /// The handshake is measured.
    Measured = 25, "the handshake is measured";
    /// The flow is in the flow table of `full-nat`.
    Translated = 26, "the flow table knows the flow, its backend and the address and port that stand for its client";
    /// A new flow of `full-nat`.
    Translating = 27, "a new flow gets an address and a port of the pool";
}

/// No place of a version.
pub const NO_PLACE: u8 = 0xff;

/// The way of one packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Explanation {
    /// A [`Step`].
    pub step: u32,
    /// A [`crate::reason::Reason`] plus one; 0 where the packet is forwarded or not ours.
    pub reason: u32,
    /// The flow hash.
    pub hash: u64,
    /// Epoch of the service record.
    pub epoch: u64,
    /// Rollout of the service record.
    pub rollout: u64,
    /// Bits of [`Turn`]s.
    pub turns: u64,
    /// Service id.
    pub service: u16,
    /// Version id of the backend.
    pub version: u16,
    /// Backend id.
    pub backend: u16,
    /// Bucket.
    pub bucket: u16,
    /// Slot.
    pub slot: u16,
    /// Backend of a flow without an entry (the default); 0: not looked for.
    pub home_backend: u16,
    /// Backend of a new flow (the choice); 0: not looked for.
    pub current_backend: u16,
    /// Backend of the flow's entry; 0: none.
    pub entry_backend: u16,
    /// Place (with a split: 0 or 1) of the version of flows without an entry.
    pub home_place: u8,
    /// Place of the version of new flows.
    pub current_place: u8,
    /// Segment of flows without an entry.
    pub home_segment: u8,
    /// Segment of new flows.
    pub current_segment: u8,
    /// Class of the port.
    pub port_class: u8,
    /// DSCP that was looked at; [`crate::cells::NO_DSCP`] for none.
    pub dscp: u8,
    /// [`crate::exceptions::EntryState`] of the entry that decided.
    pub entry_state: u8,
    /// 1: a packet that may open a flow: a SYN, or any datagram of a client.
    pub opens: u8,
    /// Where it leaves.
    pub next_hop: NextHop,
    /// The client of a packet to a service, as it lies in the packet: of IPv4 its four bytes in the first word, of IPv6 both words.
    pub client: [u64; 2],
    /// The client's port.
    pub client_port: u16,
    /// The port that the client asked.
    pub service_port: u16,
    /// 4 or 6; 0: no client's packet to a service.
    pub family: u8,
    /// Zero.
    pub zero: [u8; 3],
    /// Room for what comes later.
    pub reserved: [u64; 3],
}

map_value!(Explanation, size 128);
