//! How far a service is from being settled, as people and metrics see it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Name, Weight};

/// Unsettled cells, exceptions, and what became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SettlingStatus {
    /// Buckets of all segments whose flows in progress have another version than new ones.
    pub unsettled_buckets: u64,
    /// Slots of all versions whose flows in progress have another backend than new ones.
    pub unsettled_slots: u64,
    /// Source prefixes whose flows in progress have another segment than new ones.
    pub unsettled_sources: u64,
    /// Exceptions for handshakes under way, at the newest sweep.
    pub half_open: u64,
    /// Exceptions that wait for an answer of their backend, at the newest sweep.
    pub pins: u64,
    /// Exceptions of flows in progress, at the newest sweep.
    pub established: u64,
    /// Exceptions made for handshakes, since the maps were made.
    pub handshakes_inserted: u64,
    /// Exceptions made for flows in progress, since the maps were made.
    pub pins_inserted: u64,
    /// Those that found no place.
    pub pins_refused: u64,
    /// Handshakes that found no place and went where their flow's later packets go.
    pub choice_deferred: u64,
    /// Cells that settled because nobody used them, since the daemon began.
    pub settled_idle: u64,
    /// Cells that settled because all their flows had entries, since the daemon began.
    pub settled_pinned: u64,
    /// Cells of UDP that settled when their learning window ended, since the daemon began.
    pub settled_window: u64,
}

impl SettlingStatus {
    /// Whether everything is settled and there are no exceptions.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.unsettled_buckets + self.unsettled_slots + self.unsettled_sources == 0 && self.entries() == 0
    }

    /// Exceptions, at the newest sweep.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.half_open + self.pins + self.established
    }
}

/// Flows of a service with `forwarding: full-nat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FlowsStatus {
    /// Handshakes under way and datagrams without an answer, at the newest sweep.
    pub half_open: u64,
    /// Open flows, closed ones whose time is not over included, at the newest sweep.
    pub open: u64,
    /// Flows that got an address and a port of the pool, since the maps were made.
    pub begun: u64,
}

/// The flow table of all services with `forwarding: full-nat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FlowTableStatus {
    /// Flows at the newest sweep.
    pub flows: u64,
    /// Flows that it has room for; 0: no service needs it.
    pub places: u64,
    /// Flows that the daemon removed since it began: silent or closed for too long. Those whose place the program took itself are not among them.
    pub expired: u64,
}

/// The exception table of all services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExceptionTableStatus {
    /// Entries at the newest sweep.
    pub entries: u64,
    /// Places.
    pub places: u64,
    /// Entries that ended because their flow was silent or closed for too long, since the daemon began.
    pub expired: u64,
    /// Entries removed because they said what the default says, since the daemon began.
    pub needless: u64,
}

/// A segment beside the default one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SegmentStatus {
    /// Its name.
    pub name: Name,
    /// Weights of its own; none: it goes with the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<BTreeMap<Name, Weight>>,
    /// Buckets of 16,384 by version.
    pub buckets: BTreeMap<Name, u16>,
}
