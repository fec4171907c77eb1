//! What the kernel is to hold, what it holds, and what it counted: the language between the daemon and the data path.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

pub use grayxdp_common::{
    counters::BackendCounters,
    explanation::Explanation,
    ids::{BackendId, ServiceId, VersionId},
    reason::Reason,
    records::Split,
};

use crate::model::{
    api::InterfaceStatus,
    config::{Affinity, Protocol},
};

/// A backend as the data path is to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedBackend {
    /// Its number, kept for as long as it is configured.
    pub id: BackendId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
}

/// A version as the data path is to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedVersion {
    /// Its number.
    pub id: VersionId,
    /// All its backends.
    pub backends: Vec<WantedBackend>,
    /// Backend id of each of the [`grayxdp_common::SLOTS`] slots.
    pub slots: Arc<[BackendId]>,
}

/// A service as the data path is to see it. One or two versions; the split's threshold counts the second's buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedService {
    /// Its number.
    pub id: ServiceId,
    /// The virtual address.
    pub vip: Ipv4Addr,
    /// The virtual port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// What makes a flow.
    pub affinity: Affinity,
    /// Whether ARP requests for the VIP are answered.
    pub announce: bool,
    /// Versions in the order of the file.
    pub versions: Vec<WantedVersion>,
    /// Who owns which bucket.
    pub split: Split,
    /// Rises with every applied change of weights.
    pub epoch: u64,
    /// Number of the rollout that wants this; 0: none.
    pub rollout: u64,
}

/// Everything that the data path is to hold.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Wanted {
    /// All services.
    pub services: Vec<WantedService>,
    /// Prefixes (address, length) to which backends may also talk past the VIP.
    pub direct_access: Vec<(Ipv4Addr, u8)>,
}

/// What the kernel holds of one service, read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its number.
    pub id: ServiceId,
    /// Ids of its versions; [`VersionId::NONE`] for a second that is not there.
    pub versions: [VersionId; 2],
    /// Who owns which bucket.
    pub split: Split,
    /// Epoch of the change that wrote it.
    pub epoch: u64,
    /// Rollout that wrote it; 0: none.
    pub rollout: u64,
}

/// All counters at one reading, summed over CPUs. They rise for as long as the maps live.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// Traffic by backend.
    pub backends: BTreeMap<BackendId, BackendCounters>,
    /// Drops, passes and answers by service; zero counts are left out.
    pub reasons: BTreeMap<(ServiceId, Reason), u64>,
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

    /// Shows the loaded program one packet (for TCP a SYN) and says what it would do. Changes nothing.
    ///
    /// # Errors
    /// What could not be run.
    fn explain(
        &mut self,
        source: SocketAddrV4,
        destination: SocketAddrV4,
        protocol: Protocol,
    ) -> Result<Way, KernelError>;

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
