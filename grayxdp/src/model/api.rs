//! The API that the socket and HTTP speak: one request, one answer, keys as in the files.

mod backend;
mod history;
mod rollout;
mod trace;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    Name, Weight,
    config::{Forwarding, Protocol, duration},
    event::Event,
    plan::Plan,
    settling::{ExceptionTableStatus, SegmentStatus, SettlingStatus},
    signals::SignalsStatus,
};

pub use backend::{Availability, BackendAction, BackendName, BackendStatus, ListedBackend, NotABackendName};
pub use history::{AppliedWeights, RolloutRecord};
pub use rollout::{FuseStatus, HookStatus, LeaseStatus, OutletStatus, RolloutStatus};
pub use trace::{Headers, MAX_TRACE_COUNT, MAX_TRACE_TIME, TraceBatch, TraceFilter, TracedPacket};

/// What an operator asks. `GET` for what reads, `POST` with this as JSON for what changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "request")]
pub enum Request {
    /// How everything stands.
    Status,
    /// Sets a service's weights outside a rollout; versions left out get nothing.
    WeightsSet {
        /// The service.
        service: Name,
        /// The segment; none: the service itself, and all segments without weights of their own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        segment: Option<Name>,
        /// Percentages that sum to 100.
        weights: BTreeMap<Name, Weight>,
        /// Reason, dry run, expected epoch, force.
        #[serde(default)]
        options: ChangeOptions,
    },
    /// Reads the configuration file again and applies it.
    Reload {
        /// Only shows what would change.
        diff: bool,
        /// Services whose weights are set back to those of the file.
        reset_weights: Vec<Name>,
        /// Reason, dry run, force.
        #[serde(default)]
        options: ChangeOptions,
    },
    /// Events after a number, oldest first, at most 1,000.
    Events {
        /// Number of the last event already seen.
        after: u64,
        /// How many; the newest where there are more.
        limit: usize,
    },
    /// The way of one packet.
    Explain {
        /// The client.
        source: SocketAddr,
        /// The virtual endpoint.
        destination: SocketAddr,
        /// TCP or UDP.
        protocol: Protocol,
        /// Differentiated services code point of the first packet, `0..=63`.
        #[serde(default)]
        dscp: u8,
        /// Only what happens to a packet of a flow in progress.
        #[serde(default)]
        later: bool,
        /// What a new flow got then, from the journaled tables; now where it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<jiff::Timestamp>,
    },
    /// Begins to tell of packets as they go.
    TraceStart {
        /// Which.
        #[serde(default)]
        filter: TraceFilter,
        /// How many, `1..=100000`.
        count: u64,
        /// How long to wait for them, up to ten minutes.
        #[serde(with = "duration")]
        #[schemars(with = "String")]
        duration: Duration,
    },
    /// What a trace told since it was asked last.
    TraceRead {
        /// Its number.
        id: u64,
    },
    /// Ends a trace.
    TraceEnd {
        /// Its number.
        id: u64,
    },
    /// Backends and how they stand.
    BackendList {
        /// Only those of this service.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<Name>,
    },
    /// Takes new flows, or all flows, off backends, or gives them back.
    BackendChange {
        /// The service.
        service: Name,
        /// Which of its backends.
        backends: Vec<BackendName>,
        /// What is to be.
        action: BackendAction,
        /// Reason, dry run, expected epoch.
        #[serde(default)]
        options: ChangeOptions,
    },
    /// Begins a rollout.
    RolloutStart {
        /// The plan.
        plan: Box<Plan>,
        /// Reason, dry run, expected epoch, force.
        #[serde(default)]
        options: ChangeOptions,
    },
    /// Puts another plan in place of that of a running rollout of the same name.
    RolloutApply {
        /// The plan.
        plan: Box<Plan>,
        /// Reason, dry run, expected epoch.
        #[serde(default)]
        options: ChangeOptions,
    },
    /// Aborts all rollouts that run.
    RolloutAbortAll {
        /// Reason, dry run.
        #[serde(default)]
        options: ChangeOptions,
    },
    /// All rollouts that the journal knows, the newest first.
    RolloutList,
    /// One rollout.
    RolloutGet {
        /// Its name.
        name: Name,
    },
    /// All that the journal knows of one run of a rollout.
    RolloutRecord {
        /// Its name.
        name: Name,
        /// Which run; the newest where it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<u64>,
    },
    /// Changes a rollout's course.
    RolloutChange {
        /// Its name.
        name: Name,
        /// How.
        action: RolloutAction,
        /// Reason, dry run, expected epoch.
        #[serde(default)]
        options: ChangeOptions,
    },
    /// Takes the program off all interfaces, removes pins, ends the daemon.
    Detach {
        /// Reason, dry run.
        #[serde(default)]
        options: ChangeOptions,
    },
}

impl Request {
    /// Whether it may change something.
    #[must_use]
    pub const fn changes(&self) -> bool {
        match self {
            Self::WeightsSet { .. }
            | Self::Reload { .. }
            | Self::RolloutStart { .. }
            | Self::RolloutApply { .. }
            | Self::RolloutAbortAll { .. }
            | Self::RolloutChange { .. }
            | Self::BackendChange { .. }
            | Self::TraceStart { .. }
            | Self::TraceEnd { .. }
            | Self::Detach { .. } => true,
            Self::Status
            | Self::Events { .. }
            | Self::Explain { .. }
            | Self::TraceRead { .. }
            | Self::BackendList { .. }
            | Self::RolloutList
            | Self::RolloutGet { .. }
            | Self::RolloutRecord { .. } => false,
        }
    }
}

/// What an operator does to a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum RolloutAction {
    /// Stops advancing; judging goes on.
    Pause,
    /// Goes on.
    Resume,
    /// Ends the current pause; `full` skips to 100 %.
    Promote {
        /// Skip to 100 %.
        full: bool,
    },
    /// Goes one step back.
    Back,
    /// Stays as it is until resumed; judging goes on.
    Freeze,
    /// Makes this pause and later ones shorter.
    Accelerate,
    /// Gives all new flows back to stable.
    Abort,
    /// Gives all new flows back to the version that was stable before a promotion, which is stable again.
    Undo,
    /// Begins one that was rolled back or failed anew, and clears what fuse and lease latched.
    Retry,
}

/// What goes with every change.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ChangeOptions {
    /// Why, for the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Say what would happen, change nothing.
    pub dry_run: bool,
    /// Refuse unless the service's epoch is this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_epoch: Option<u64>,
    /// Override what can be overridden.
    pub force: bool,
}

/// A failed request; the class decides exit status and HTTP status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct ApiError {
    /// Whose fault.
    pub class: ErrorClass,
    /// What, where, what to do: one line.
    pub message: String,
}

/// Whose fault a failed request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ErrorClass {
    /// The request is wrong: exit 2, HTTP 400.
    Input,
    /// It names what is not there: exit 2, HTTP 404.
    NotFound,
    /// It does not fit the present state: exit 1, HTTP 409.
    Conflict,
    /// It was right and did not work: exit 1, HTTP 500.
    Failed,
}

impl ApiError {
    /// A wrong request.
    #[must_use]
    pub fn input(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::Input, message: message.into() }
    }

    /// Something that is not there.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::NotFound, message: message.into() }
    }

    /// Something that does not fit the present state.
    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::Conflict, message: message.into() }
    }

    /// Something that did not work.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::Failed, message: message.into() }
    }
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "response", content = "body")]
pub enum Response {
    /// To `Status`.
    Status(Box<Status>),
    /// To whatever changes something.
    Done(Done),
    /// To `Events`.
    Events(Vec<Event>),
    /// To `Explain`.
    Explained(Box<Explained>),
    /// To `TraceStart`, `TraceRead` and `TraceEnd`.
    Trace(TraceBatch),
    /// To `RolloutList`.
    Rollouts(Vec<RolloutStatus>),
    /// To `RolloutGet` and `RolloutStart`.
    Rollout(Box<RolloutStatus>),
    /// To `RolloutRecord`.
    Record(Box<RolloutRecord>),
    /// To `BackendList`.
    Backends(Vec<ListedBackend>),
}

/// What a change did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// One line a change.
    pub changes: Vec<String>,
    /// Whether it was only asked what would happen.
    pub dry_run: bool,
}

/// How everything stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since when it runs.
    pub started: jiff::Timestamp,
    /// What is wrong now: one sentence each. Empty when all is well.
    pub warnings: Vec<String>,
    /// What this machine's kernel lacks, and what takes its place: one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Interfaces.
    pub interfaces: Vec<InterfaceStatus>,
    /// The exception table.
    #[serde(default)]
    pub exceptions: ExceptionTableStatus,
    /// Services.
    pub services: Vec<ServiceStatus>,
}

/// [`InterfaceStatus::mode`] of an interface that does not carry the program.
pub const DETACHED: &str = "detached";

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// `native`, `generic`, or `detached`.
    pub mode: String,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Its name.
    pub name: Name,
    /// `192.0.2.10:80/tcp`.
    pub endpoint: String,
    /// How packets reach its backends.
    #[serde(default)]
    pub forwarding: Forwarding,
    /// Rises with every applied change of weights.
    pub epoch: u64,
    /// The stable version.
    pub stable: Name,
    /// The running rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Name>,
    /// Set when the file's weights differ from the applied ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<String>,
    /// Segments beside the default one, in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<SegmentStatus>,
    /// How far it is from being settled.
    #[serde(default)]
    pub settling: SettlingStatus,
    /// Its versions, in the order of the file.
    pub versions: Vec<VersionStatus>,
    /// Drops, passes and answers by reason.
    pub reasons: BTreeMap<String, u64>,
}

/// One version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// Its name.
    pub name: Name,
    /// Wanted share of new flows.
    pub weight: Weight,
    /// Buckets of 16,384.
    pub buckets: u16,
    /// Observed share of new flows over the last seconds, `0.0..=1.0`; none without new flows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<f64>,
    /// Share of bytes over the last seconds, `0.0..=1.0`; none without traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<f64>,
    /// New flows a second over the last seconds.
    pub flows_per_second: f64,
    /// Totals since the maps were made.
    pub totals: Totals,
    /// Its signals.
    #[serde(default)]
    pub signals: SignalsStatus,
    /// Its backends.
    pub backends: Vec<BackendStatus>,
}

/// Totals since the maps were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Packets to backends.
    pub packets_forward: u64,
    /// Packets from backends.
    pub packets_reverse: u64,
    /// Bytes to backends.
    pub bytes_forward: u64,
    /// Bytes from backends.
    pub bytes_reverse: u64,
    /// SYNs, repeated ones included.
    pub syns: u64,
    /// SYN-ACKs, repeated ones included.
    pub syn_acks: u64,
    /// Refused connections.
    pub refusals: u64,
    /// Resets by either side in the middle.
    pub resets: u64,
}

/// The way of one packet.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// `forwarded`, `passed`, `dropped`, `answered`.
    pub fate: String,
    /// Why, where it is not forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
    /// The flow hash, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The bucket, of 16,384.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<u16>,
    /// The version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Name>,
    /// The slot, of 16,381.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u16>,
    /// The backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<SocketAddr>,
    /// Where it leaves: `eth1 via 02:00:00:00:00:01`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<String>,
    /// Epoch of the tables that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// Where a new flow goes: `v2/10.0.2.1:8080`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<String>,
    /// Where flows in progress without an entry go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// Where the flow's own entry says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// What decided, one sentence each, in the order in which it came about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<String>,
    /// What happens to a packet of the flow in progress, where this is about its first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub later: Option<Box<Explained>>,
}
