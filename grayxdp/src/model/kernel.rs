//! What the kernel is to hold, what it holds, and what it counted: the language between the daemon and the data path.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use grayxdp_common::{
    cells::{self, Bucket, SlotState},
    counters::BackendCounters,
    explanation::Explanation,
    ids::{BackendId, ServiceId, VersionId},
    reason::Reason,
    records::{self, Split},
    signals::{ExceptionCounters, Signals},
};

use crate::model::{
    api::InterfaceStatus,
    config::{Affinity, Protocol},
};

/// Flows that are followed, of [`records::SAMPLE_ALL`]: one in 64.
pub const SAMPLE_RATE: u16 = records::SAMPLE_ALL / 64;

/// Whether a backend takes flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum BackendState {
    /// New ones too.
    #[default]
    Up,
    /// Those in progress only.
    Draining,
    /// None: it failed its health checks, or was disabled. With `resets` packets of flows in progress are answered with RST
    /// (`onDown: reset`), else they still go there.
    Down {
        /// `onDown: reset`.
        resets: bool,
    },
}

/// A backend as the data path is to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedBackend {
    /// Its number, kept for as long as it is configured or something refers to it.
    pub id: BackendId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its port; 0 where the client's port is kept.
    pub port: u16,
    /// Whether it takes flows.
    pub state: BackendState,
}

impl WantedBackend {
    /// A backend that is up.
    #[must_use]
    pub const fn up(id: BackendId, address: Ipv4Addr, port: u16) -> Self {
        Self { id, address, port, state: BackendState::Up }
    }
}

/// The backends of a version's slots, [`grayxdp_common::SLOTS`] of them each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedSlots {
    /// Of new flows; [`BackendId::NONE`] in an empty pool.
    pub current: Arc<[BackendId]>,
    /// Of flows without an entry.
    pub home: Arc<[BackendId]>,
    /// [`SlotState`] bits; none where `current` equals `home` and no slot looks.
    pub states: Option<Arc<[SlotState]>>,
}

impl WantedSlots {
    /// Slots that are all settled.
    #[must_use]
    pub fn settled(slots: Arc<[BackendId]>) -> Self {
        Self { home: Arc::clone(&slots), current: slots, states: None }
    }
}

/// What happens to the flows in progress of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ExistingFlows {
    /// They go on.
    #[default]
    Stay,
    /// Their next packet is answered with RST.
    Reset,
    /// UDP: they are chosen for anew.
    Move,
}

/// A version as the data path is to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedVersion {
    /// Its number.
    pub id: VersionId,
    /// Its place among the service's versions, below [`cells::VERSIONS`]: what buckets name. It stays the same for as long
    /// as anything refers to it. In a [`WantedBuckets::Split`] 0 and 1.
    pub place: u8,
    /// All its backends, those on their way out included.
    pub backends: Vec<WantedBackend>,
    /// Who has which slot.
    pub slots: WantedSlots,
    /// What happens to its flows in progress.
    pub existing: ExistingFlows,
    /// Place of the version that takes its new flows, because its pool is empty.
    pub failover: Option<u8>,
}

impl WantedVersion {
    /// A version whose slots are settled and whose flows stay.
    #[must_use]
    pub fn settled(id: VersionId, place: u8, backends: Vec<WantedBackend>, slots: Arc<[BackendId]>) -> Self {
        Self { id, place, backends, slots: WantedSlots::settled(slots), existing: ExistingFlows::Stay, failover: None }
    }
}

/// Who has which bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedBuckets {
    /// Settled, at most two versions, no segments, no guard: arithmetic.
    Split(Split),
    /// [`grayxdp_common::BUCKETS`] of each segment, from segment 0, the default one, on.
    Cells(Vec<Arc<[Bucket]>>),
}

/// How a packet's segment is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedSegments {
    /// Source prefixes: address, length, class now and at home, [`SlotState`] bits. A source outside all has class 0.
    pub prefixes: Arc<[WantedPrefix]>,
    /// For each class the segment by [`cells::SegmentClass::index`]; [`cells::PORTS`] × 128 numbers.
    pub classes: Arc<[Vec<u8>]>,
    /// Whether any segment depends on the DSCP.
    pub by_dscp: bool,
}

/// A source prefix of the segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedPrefix {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its length, `0..=32`.
    pub length: u8,
    /// Class of new flows.
    pub current: u16,
    /// Class of flows without an entry.
    pub home: u16,
    /// Whether it is settled, looks, pins.
    pub state: SlotState,
}

/// A canary instance: one backend that alone gets the new flows of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedInstance {
    /// The backend, one of the candidate's.
    pub backend: BackendId,
    /// The segment.
    pub segment: u8,
}

/// Fuse and lease of a running rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WantedGuard {
    /// Attempt of the rollout; with the service's rollout number the guard's name.
    pub attempt: u64,
    /// Place of the candidate.
    pub candidate: u8,
    /// Place of the stable version.
    pub stable: u8,
    /// When the fuse trips.
    pub fuse: Option<WantedFuse>,
    /// What the end of the lease does; none: there is no lease.
    pub lease: Option<LeaseEnd>,
    /// The stable version has no backend that is up: neither acts.
    pub no_stable: bool,
}

/// When a fuse trips.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WantedFuse {
    /// More failures of the candidate inside the window trip it; below [`grayxdp_common::guard::FAILURES`].
    pub limit: u32,
    /// … that are at least this part of its attempts, `0.0..=1.0`.
    pub ratio: f64,
    /// The window.
    pub window: Duration,
}

/// What the end of a lease does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LeaseEnd {
    /// New flows go to stable.
    Stable,
    /// The weight stays; it is only latched.
    Hold,
}

/// A service as the data path is to see it.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedService {
    /// Its number.
    pub id: ServiceId,
    /// The virtual address.
    pub vip: Ipv4Addr,
    /// The virtual ports; a port's class is its index. At most [`cells::PORTS`].
    pub ports: Vec<u16>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// UDP: a long-header Initial counts as a SYN.
    pub quic: bool,
    /// What makes a flow.
    pub affinity: Affinity,
    /// Whether ARP requests for the VIP are answered.
    pub announce: bool,
    /// Versions, at most [`cells::VERSIONS`]; in a split the first two by place.
    pub versions: Vec<WantedVersion>,
    /// Who owns which bucket.
    pub buckets: WantedBuckets,
    /// How segments are found; none where there is only the default one.
    pub segments: Option<WantedSegments>,
    /// A canary instance.
    pub instance: Option<WantedInstance>,
    /// Fuse and lease.
    pub guard: Option<WantedGuard>,
    /// Rises with every applied change of weights.
    pub epoch: u64,
    /// Number of the rollout that wants this; 0: none.
    pub rollout: u64,
    /// Whether every handshake is measured: a rollout runs.
    pub measures: bool,
    /// Flows that are followed, of [`records::SAMPLE_ALL`].
    pub sample_rate: u16,
    /// How long a sampled flow is followed.
    pub flow_horizon: Duration,
    /// Silence after which a flow may move.
    pub idle_timeout: Duration,
    /// What remains of an entry's life once its flow was closed.
    pub closing_timeout: Duration,
}

impl WantedService {
    /// The split, where arithmetic decides.
    #[must_use]
    pub const fn split(&self) -> Option<Split> {
        match &self.buckets {
            WantedBuckets::Split(split) => Some(*split),
            WantedBuckets::Cells(_) => None,
        }
    }
}

impl Default for WantedService {
    fn default() -> Self {
        Self {
            id: ServiceId(1),
            vip: Ipv4Addr::UNSPECIFIED,
            ports: vec![80],
            protocol: Protocol::Tcp,
            quic: false,
            affinity: Affinity::Flow,
            announce: false,
            versions: Vec::new(),
            buckets: WantedBuckets::Split(Split::default()),
            segments: None,
            instance: None,
            guard: None,
            epoch: 1,
            rollout: 0,
            measures: false,
            sample_rate: 0,
            flow_horizon: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(3_600),
            closing_timeout: Duration::from_secs(60),
        }
    }
}

/// Everything that the data path is to hold.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Wanted {
    /// All services.
    pub services: Vec<WantedService>,
    /// Prefixes (address, length) to which backends may also talk past the VIP.
    pub direct_access: Vec<(Ipv4Addr, u8)>,
}

/// What the kernel holds of one service, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its number.
    pub id: ServiceId,
    /// Ids of its versions by place; [`VersionId::NONE`] where there is none. With a split two places, else
    /// [`cells::VERSIONS`].
    pub versions: Vec<VersionId>,
    /// Who owns which bucket.
    pub buckets: WantedBuckets,
    /// Epoch of the change that wrote it.
    pub epoch: u64,
    /// Rollout that wrote it; 0: none.
    pub rollout: u64,
}

impl Published {
    /// The split, where arithmetic decides.
    #[must_use]
    pub fn split(&self) -> Option<Split> {
        match self.buckets {
            WantedBuckets::Split(split) => Some(split),
            WantedBuckets::Cells(_) => None,
        }
    }
}

/// The slots that the kernel holds of one version, read back at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldSlots {
    /// The version.
    pub version: VersionId,
    /// Its slots.
    pub slots: WantedSlots,
}

/// Cells that were stamped since the last look, by index.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CellStamps<I = u16> {
    /// A packet was resolved by home.
    pub seen: Vec<I>,
    /// A SYN was deferred.
    pub deferred: Vec<I>,
    /// A pin found no place.
    pub refused: Vec<I>,
}

/// The stamps of one service.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ServiceStamps {
    /// Of the buckets of each segment; empty where the service has none.
    pub segments: Vec<CellStamps>,
    /// Of the slots of each version that has any.
    pub versions: BTreeMap<VersionId, CellStamps>,
    /// Of the source prefixes (index in [`WantedSegments::prefixes`]).
    pub prefixes: CellStamps<u32>,
}

/// What one sweep of the whole exception table found of one service, after it removed what may go.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SweptService {
    /// Buckets of which an entry lives, half-open ones included.
    pub buckets: BTreeSet<u16>,
    /// Slots of which a pin or an established entry lives.
    pub slots: BTreeSet<u16>,
    /// Half-open entries.
    pub half_open: u64,
    /// Pins without an answer.
    pub pins: u64,
    /// Established entries.
    pub established: u64,
    /// Entries by backend.
    pub backends: BTreeMap<BackendId, u64>,
}

/// One sweep of the whole exception table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sweep {
    /// When it began, in monotonic time.
    pub began: Duration,
    /// What it found.
    pub services: BTreeMap<ServiceId, SweptService>,
    /// Entries whose flow was silent or closed for too long, removed.
    pub expired: u64,
    /// Entries that equalled a settled default, removed.
    pub needless: u64,
}

/// What the daemon is told once a second.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Observed {
    /// Stamps, taken and cleared.
    pub stamps: BTreeMap<ServiceId, ServiceStamps>,
    /// A sweep that ended since the last look.
    pub sweep: Option<Sweep>,
    /// Places in the exception table.
    pub places: u64,
}

/// How a guard stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardStatus {
    /// The service.
    pub service: ServiceId,
    /// The rollout.
    pub rollout: u64,
    /// Its attempt.
    pub attempt: u64,
    /// When the fuse tripped, in monotonic time.
    pub tripped: Option<Duration>,
    /// When the lease was found expired, in monotonic time.
    pub expired: Option<Duration>,
    /// Fuse or lease would have acted, but the stable version has no backend that is up.
    pub alarm: bool,
    /// When the lease runs out, in monotonic time; none: no lease.
    pub lease_until: Option<Duration>,
    /// Connect failures of the candidate that the fuse counted.
    pub failures: u64,
}

/// A latch that an operator can clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latch {
    /// The fuse tripped.
    Tripped,
    /// The lease ran out.
    LeaseExpired,
}

/// Whose signals they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignalKey {
    /// The version.
    pub version: VersionId,
    /// The segment.
    pub segment: u8,
    /// The epoch: the present one or the one before.
    pub epoch: u64,
}

/// Which packet of a flow is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The first one (TCP: a SYN, QUIC: an Initial), with a DSCP.
    First {
        /// Six bits of the IP header's second byte.
        dscp: u8,
    },
    /// A packet of a flow in progress that has no entry of its own numbers: an acknowledgement.
    Later,
}

/// All counters at one reading, summed over CPUs. They rise for as long as the maps live.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// Traffic by backend.
    pub backends: BTreeMap<BackendId, BackendCounters>,
    /// Drops, passes and answers by service; zero counts are left out.
    pub reasons: BTreeMap<(ServiceId, Reason), u64>,
    /// What the exception table had to do, by service.
    pub exceptions: BTreeMap<ServiceId, ExceptionCounters>,
}

/// What the daemon needs of the data path; `datapath` is the real one, tests have a fake.
pub trait Kernel: Send {
    /// Builds all tables beside the live ones and switches to them by one write. On an error nothing has changed.
    ///
    /// # Errors
    /// What could not be written.
    fn publish(&mut self, wanted: &Wanted) -> Result<(), KernelError>;

    /// Reads back what the kernel holds.
    ///
    /// # Errors
    /// What could not be read.
    fn published(&self) -> Result<Vec<Published>, KernelError>;

    /// Reads all counters.
    ///
    /// # Errors
    /// What could not be read.
    fn counters(&self) -> Result<Counters, KernelError>;

    /// Shows the loaded program one packet and says what it would do. Changes nothing.
    ///
    /// # Errors
    /// What could not be run.
    fn explain(
        &mut self,
        source: SocketAddrV4,
        destination: SocketAddrV4,
        protocol: Protocol,
        question: Question,
    ) -> Result<Way, KernelError>;

    /// Takes the stamps, and goes on with the sweep of the exception table by one slice; called once a second. `now` is
    /// monotonic time.
    ///
    /// # Errors
    /// What could not be read.
    fn observe(&mut self, now: Duration) -> Result<Observed, KernelError>;

    /// The slots of all versions that are not settled, as an earlier daemon left them.
    ///
    /// # Errors
    /// What could not be read.
    fn held_slots(&self) -> Result<Vec<HeldSlots>, KernelError>;

    /// All signals, in one go, summed over CPUs. What is all zero is left out.
    ///
    /// # Errors
    /// What could not be read.
    fn signals(&self) -> Result<BTreeMap<SignalKey, Box<Signals>>, KernelError>;

    /// The guards of all services that have one.
    fn guards(&self) -> Vec<GuardStatus>;

    /// Lets the lease of a service's guard run until a monotonic time.
    fn renew_lease(&mut self, service: ServiceId, until: Duration);

    /// Clears a latch of a service's guard.
    fn clear_latch(&mut self, service: ServiceId, latch: Latch);

    /// Calls `wake` from another thread whenever the program has an event to tell.
    ///
    /// # Errors
    /// What could not be read.
    fn on_event(&mut self, wake: Box<dyn Fn() + Send>) -> Result<(), KernelError>;

    /// Attaches to all configured interfaces that are not attached yet, the last step of a start. Idempotent.
    ///
    /// # Errors
    /// The first interface that could not be attached.
    fn attach(&mut self) -> Result<(), KernelError>;

    /// Attaches again where an interface was made anew, or where somebody removed pins.
    ///
    /// # Errors
    /// The first interface that is not there or could not be attached; the others that are there carry the program.
    fn mend(&mut self) -> Result<(), KernelError>;

    /// The interfaces and how they are attached now.
    fn interfaces(&self) -> Vec<InterfaceStatus>;

    /// Whether packets to a backend have a next hop.
    fn is_resolved(&self, backend: BackendId) -> bool;

    /// Takes the program off all interfaces and removes every pin.
    ///
    /// # Errors
    /// What could not be removed.
    fn detach(&mut self) -> Result<(), KernelError>;
}

/// What failed in the kernel: one line with what, where and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KernelError(pub String);

/// What the program would do with one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Why it is not forwarded; none where it is, or where it is not ours.
    pub reason: Option<Reason>,
    /// What the program wrote down.
    pub explanation: Explanation,
}
