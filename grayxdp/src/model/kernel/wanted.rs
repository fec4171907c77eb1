//! What the kernel is to hold.

use std::{net::IpAddr, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BackendId, Bucket, ServiceId, SlotState, Split, VersionId};
use crate::model::config::{Affinity, Forwarding, Protocol, Tunnel};

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
    pub address: IpAddr,
    /// Its port; 0 where the client's port is kept.
    pub port: u16,
    /// Whether it takes flows.
    pub state: BackendState,
}

impl WantedBackend {
    /// A backend that is up.
    #[must_use]
    pub fn up(id: BackendId, address: impl Into<IpAddr>, port: u16) -> Self {
        Self { id, address: address.into(), port, state: BackendState::Up }
    }
}

/// The backends of a version's slots, [`grayxdp_common::SLOTS`] of them each.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
pub enum WantedBuckets {
    /// Settled, at most two versions, no segments, no guard: arithmetic.
    Split(Split),
    /// [`grayxdp_common::BUCKETS`] of each segment, from segment 0, the default one, on.
    Cells(Vec<Arc<[Bucket]>>),
}

/// How a packet's segment is found.
#[derive(Clone, Debug)]
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
    pub address: IpAddr,
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
    pub vip: IpAddr,
    /// The virtual ports; a port's class is its index. At most [`cells::PORTS`].
    pub ports: Vec<u16>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// UDP: a long-header Initial counts as a SYN.
    pub quic: bool,
    /// How packets reach a backend.
    pub forwarding: Forwarding,
    /// The tunnels to its backends, if packets reach them by such.
    pub tunnel: Tunnel,
    /// The addresses that stand for clients, if any do: at most [`grayxdp_common::translations::POOL_ADDRESSES`].
    pub source_pool: Vec<IpAddr>,
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
            vip: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            ports: vec![80],
            protocol: Protocol::Tcp,
            quic: false,
            forwarding: Forwarding::Nat,
            tunnel: Tunnel::default(),
            source_pool: Vec::new(),
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
    pub direct_access: Vec<(IpAddr, u8)>,
}

/// Whether two tables hold the same; mostly they are the same one, which the library asks of single values only.
#[must_use]
pub fn same<T: PartialEq>(one: &Arc<[T]>, other: &Arc<[T]>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

impl Eq for WantedSlots {}

impl PartialEq for WantedSlots {
    fn eq(&self, other: &Self) -> bool {
        let Self { current, home, states } = self;
        let states = match (states, &other.states) {
            (Some(one), Some(other)) => same(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        states && same(current, &other.current) && same(home, &other.home)
    }
}

impl Eq for WantedBuckets {}

impl PartialEq for WantedBuckets {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Split(one), Self::Split(other)) => one == other,
            (Self::Cells(one), Self::Cells(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
            }
            (Self::Split(_), Self::Cells(_)) | (Self::Cells(_), Self::Split(_)) => false,
        }
    }
}

impl Eq for WantedSegments {}

impl PartialEq for WantedSegments {
    fn eq(&self, other: &Self) -> bool {
        let Self { prefixes, classes, by_dscp } = self;
        *by_dscp == other.by_dscp && same(prefixes, &other.prefixes) && same(classes, &other.classes)
    }
}
