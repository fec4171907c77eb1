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
    /// Service id.
    pub service: u16,
    /// Version id.
    pub version: u16,
    /// Backend id.
    pub backend: u16,
    /// Bucket.
    pub bucket: u16,
    /// Slot.
    pub slot: u16,
    /// Index of the slot table.
    pub table: u16,
    /// Index (0 or 1) of the version within its service.
    pub version_index: u32,
    /// Where it leaves.
    pub next_hop: NextHop,
}

map_value!(Explanation, size 64);
