//! What becomes of the copies of one shadow release.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use grayxdp_common::{
    ipv6::{Address as _, Address6},
    signals::Histogram,
};

use crate::{analysis::Measured, model::shadow::ShadowCounts};

/// Counts that rise for as long as a daemon runs the release.
#[derive(Debug, Default)]
pub struct Counts(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    counts: ShadowCounts,
    /// By the epoch in which a flow began.
    measured: BTreeMap<u64, Measured>,
}

impl Counts {
    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts something of datagrams.
    pub(super) fn count(&self, what: impl FnOnce(&mut ShadowCounts)) {
        what(&mut self.sums().counts);
    }

    /// A flow of a client begins.
    pub(super) fn begun(&self, epoch: u64, client: IpAddr) {
        let mut sums = self.sums();
        sums.counts.flows += 1;
        let measured = sums.measured.entry(epoch).or_default();
        measured.flows += 1;
        measured.cell_attempts[cell(client)] += 1;
    }

    /// The candidate answered it for the first time.
    pub(super) fn answered(&self, epoch: u64, after: Duration) {
        let mut sums = self.sums();
        sums.counts.answered += 1;
        sums.measured.entry(epoch).or_default().first_byte.add_at(Histogram::cell(nanoseconds(after)), 1);
    }

    /// Nothing answered it in time, or somebody refused it; then `after` is none.
    pub(super) fn unanswered(&self, epoch: u64, client: IpAddr, after: Option<Duration>) {
        let mut sums = self.sums();
        sums.counts.unanswered += 1;
        let measured = sums.measured.entry(epoch).or_default();
        measured.unanswered += 1;
        measured.cell_failures[cell(client)] += 1;
        if let Some(after) = after {
            measured.first_byte_censored.add_at(Histogram::cell(nanoseconds(after)), 1);
        }
    }

    /// What became of datagrams and flows.
    #[must_use]
    pub fn all(&self) -> ShadowCounts {
        self.sums().counts
    }

    /// What was measured of the flows of each epoch.
    #[must_use]
    pub fn measured(&self) -> BTreeMap<u64, Measured> {
        self.sums().measured.clone()
    }
}

/// The cell of a client, as the data path has it.
fn cell(client: IpAddr) -> usize {
    usize::from(match client {
        IpAddr::V4(address) => u32::from_ne_bytes(address.octets()).cell(),
        IpAddr::V6(address) => Address6::from_bytes(address.octets()).cell(),
    })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
