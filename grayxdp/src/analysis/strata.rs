//! What each version had in each stratum: the epoch of a weight and a segment. Within one the versions' shares of flows stay.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{analysis::Measured, model::Name};

/// Flows that were divided by the same buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stratum {
    /// The service's epoch.
    pub epoch: u64,
    /// The segment.
    pub segment: u8,
}

/// The newest reading of a service's strata: counts that rise for as long as the epoch is one of the data path's.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Strata {
    /// By version.
    pub counts: BTreeMap<(Name, Stratum), Arc<Measured>>,
    /// The candidate's share of the buckets of both versions; only of strata where nothing else divides the flows.
    pub shares: BTreeMap<Stratum, f64>,
}

impl Strata {
    /// A version's counts in a stratum.
    #[must_use]
    pub fn of(&self, version: &Name, stratum: Stratum) -> Option<&Measured> {
        self.counts.get(&(version.clone(), stratum)).map(Arc::as_ref)
    }
}
