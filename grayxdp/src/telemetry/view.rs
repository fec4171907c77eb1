//! What is shown as metrics: plain values, read for one scrape.

use std::collections::BTreeMap;

use crate::{
    analysis::Measured,
    model::{
        Name,
        config::BackendAddress,
        kernel::{BackendCounters, Reason},
        settling::{ExceptionTableStatus, FlowTableStatus, FlowsStatus, SegmentStatus, SettlingStatus},
        shadow::ShadowCounts,
        state::{RolloutState, Verdict},
    },
};

/// Everything that one scrape shows.
#[derive(Clone, Debug, Default)]
pub struct MetricsView {
    /// All services.
    pub services: Vec<ServiceMetrics>,
    /// Drops, passes and answers that belong to no service.
    pub unassigned_reasons: BTreeMap<Reason, u64>,
    /// The exception table.
    pub exceptions: ExceptionTableStatus,
    /// The flow table of `full-nat`.
    pub flow_table: FlowTableStatus,
    /// News of rollouts by service: arrived, given up.
    pub news: BTreeMap<Name, (u64, u64)>,
    /// Lines of the flow log that were written, and lines that were lost; none without one.
    pub flow_log: Option<(u64, u64)>,
    /// The newest rollout of each service, and all that have not ended.
    pub rollouts: Vec<RolloutMetrics>,
}

/// One service.
#[derive(Clone, Debug)]
pub struct ServiceMetrics {
    /// Its name.
    pub name: Name,
    /// Its versions.
    pub versions: Vec<VersionMetrics>,
    /// Drops, passes and answers; reasons left out stand at zero.
    pub reasons: BTreeMap<Reason, u64>,
    /// Segments beside the default one, with the buckets of each version.
    pub segments: Vec<SegmentStatus>,
    /// How far it is from being settled.
    pub settling: SettlingStatus,
    /// Its flows, if it forwards by `full-nat`.
    pub flows: Option<FlowsStatus>,
    /// Buckets that changed their version by changes of weights, since the journal began.
    pub bucket_moves: u64,
}

/// One version.
#[derive(Clone, Debug)]
pub struct VersionMetrics {
    /// Its name.
    pub name: Name,
    /// Buckets that the kernel gives it, of [`grayxdp_common::BUCKETS`].
    pub buckets: u16,
    /// Sums over its backends, those included that the configuration no longer has: they never fall.
    pub totals: BackendCounters,
    /// Its signals, since the daemon began to read them.
    pub measured: Measured,
    /// Its backends.
    pub backends: Vec<BackendMetrics>,
}

/// One backend.
#[derive(Clone, Copy, Debug)]
pub struct BackendMetrics {
    /// `10.0.1.1:8080`; without a port where the client's is kept.
    pub address: BackendAddress,
    /// Whether it takes new flows.
    pub is_up: bool,
    /// What the data path counted for it.
    pub counters: BackendCounters,
}

/// One rollout.
#[derive(Clone, Debug)]
pub struct RolloutMetrics {
    /// Its name.
    pub name: Name,
    /// The service.
    pub service: Name,
    /// Where it stands.
    pub state: RolloutState,
    /// Whether its fuse tripped.
    pub fuse_tripped: bool,
    /// What is left of its lease, in seconds; none where none is armed.
    pub lease_remaining: Option<f64>,
    /// What became of the copies of a shadow release; none of others.
    pub shadow: Option<ShadowCounts>,
    /// Looks so far, by metric and verdict; verdicts left out stand at zero.
    pub verdicts: BTreeMap<Name, BTreeMap<Verdict, u64>>,
}
