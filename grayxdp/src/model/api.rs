//! The API that the socket and HTTP speak: one request, one answer, keys as in the files.

mod backend;
mod error;
mod explained;
mod history;
mod quality;
mod rollout;
mod status;
mod trace;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    Name, Weight,
    config::{Protocol, duration},
    event::Event,
    plan::Plan,
};

pub use backend::{Availability, BackendAction, BackendName, BackendStatus, ListedBackend, NotABackendName};
pub use error::{ApiError, ErrorClass};
pub use explained::Explained;
pub use history::{AppliedWeights, RolloutRecord};
pub use quality::{Matrix, NamedMatrix, NotAMatrix, PostedQuality};
pub use rollout::{FuseStatus, HookStatus, LeaseStatus, OutletStatus, Progress, ProgressPart, RolloutStatus, Standing};
pub use status::{DETACHED, InterfaceStatus, ServiceStatus, Status, Totals, VersionStatus};
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
    /// Tells how well a rollout's models do.
    QualityPost {
        /// The rollout's name.
        rollout: Name,
        /// The confusion matrices.
        quality: Box<PostedQuality>,
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
            | Self::QualityPost { .. }
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
