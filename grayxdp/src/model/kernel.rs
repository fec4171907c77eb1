//! What the kernel is to hold, what it holds, and what it counted: the language between the daemon and the data path.

mod copies;
mod trace;
mod wanted;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

pub use grayxdp_common::{
    cells::{self, Bucket, SlotState},
    counters::BackendCounters,
    explanation::Explanation,
    ids::{BackendId, ServiceId, VersionId},
    reason::Reason,
    records::{self, Split},
    signals::{ExceptionCounters, Signals},
};

use crate::model::{api::InterfaceStatus, config::Protocol};

/// Flows that are followed where no rollout runs, of [`records::SAMPLE_ALL`]: one in 64. The least that a rollout has.
pub const SAMPLE_RATE: u16 = records::SAMPLE_ALL / 64;

pub use copies::{COPY_ALL, Content, Copied, CopiesAsked, Copy, CopySink, WantedCopies, is_copied};
pub use trace::{TraceQuestion, TraceRead, Traced};
pub use wanted::{
    BackendState, ExistingFlows, LeaseEnd, Wanted, WantedBackend, WantedBuckets, WantedFuse, WantedGuard,
    WantedInstance, WantedPrefix, WantedSegments, WantedService, WantedSlots, WantedVersion, same,
};

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

/// One sweep of the whole flow table of `full-nat`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TranslationSweep {
    /// When it began, in monotonic time.
    pub began: Duration,
    /// What it found: half-open flows, open ones, flows by backend.
    pub services: BTreeMap<ServiceId, SweptService>,
    /// Flows that were silent or closed for too long, removed.
    pub expired: u64,
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
    /// A sweep of the flow table of `full-nat` that ended since the last look.
    pub translations: Option<TranslationSweep>,
    /// Places in it; 0 where no service needs it.
    pub translation_places: u64,
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
        source: SocketAddr,
        destination: SocketAddr,
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

    /// All signals, of one service or of all, in one go, summed over CPUs. What is all zero is left out.
    ///
    /// # Errors
    /// What could not be read.
    fn signals(&self, of: Option<ServiceId>) -> Result<BTreeMap<SignalKey, Box<Signals>>, KernelError>;

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

    /// Gives the interfaces a program that also tells of packets; where one tells already, the new question counts.
    ///
    /// # Errors
    /// What the kernel refused; then the interfaces keep the program that they had.
    fn start_trace(&mut self, question: &TraceQuestion) -> Result<(), KernelError>;

    /// What was told since.
    ///
    /// # Errors
    /// What could not be read.
    fn read_trace(&mut self) -> Result<TraceRead, KernelError>;

    /// Gives the interfaces the usual program again.
    ///
    /// # Errors
    /// The first interface that could not be given it.
    fn end_trace(&mut self) -> Result<(), KernelError>;

    /// Copies packets of services, as is asked for of each, to `sink`; nothing where nothing is asked for. Idempotent, and to be
    /// called often: what the data path has to do otherwise may end it.
    ///
    /// # Errors
    /// What the kernel refused; then nothing new is copied, and the interfaces keep the program that they had.
    fn copy(&mut self, asked: &WantedCopies, sink: &CopySink) -> Result<(), KernelError>;

    /// The interfaces and how they are attached now.
    fn interfaces(&self) -> Vec<InterfaceStatus>;

    /// What this machine's kernel lacks, and what takes its place: one sentence each.
    fn notes(&self) -> Vec<String>;

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

impl Way {
    /// The way that an explanation tells of.
    #[must_use]
    pub fn of(explanation: Explanation) -> Self {
        Self { reason: explanation.reason.checked_sub(1).and_then(Reason::from_number), explanation }
    }
}
