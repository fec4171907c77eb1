//! What came in between two looks, by stratum, and the readings that the next look begins from.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    analysis::{Measured, Strata, Stratum},
    model::Name,
};

/// What came in of both versions in one stratum.
#[derive(Clone, Debug, PartialEq, Default)]
pub(super) struct Increment {
    /// The candidate's.
    pub(super) candidate: Measured,
    /// Stable's.
    pub(super) stable: Measured,
    /// All that the candidate had in the stratum so far.
    pub(super) candidate_whole: Measured,
    /// All that stable had.
    pub(super) stable_whole: Measured,
    /// Which stratum.
    pub(super) stratum: Option<Stratum>,
    /// The candidate's share of its buckets, where these alone divide the flows.
    pub(super) bucket_share: Option<f64>,
}

/// The same with all segments of an epoch taken as one.
pub(super) fn merged(increments: Vec<Increment>) -> Vec<Increment> {
    let mut sums: BTreeMap<Option<u64>, Increment> = BTreeMap::new();
    for Increment { candidate, stable, candidate_whole, stable_whole, stratum, bucket_share: _ } in increments {
        let sum = sums.entry(stratum.map(|stratum| stratum.epoch)).or_default();
        sum.stratum = stratum.map(|stratum| Stratum { segment: u8::MAX, ..stratum });
        sum.candidate.add(&candidate);
        sum.stable.add(&stable);
        sum.candidate_whole.add(&candidate_whole);
        sum.stable_whole.add(&stable_whole);
    }
    sums.into_values().collect()
}

/// A reading that was taken into account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Taken {
    version: Name,
    stratum: Stratum,
    measured: Measured,
}

/// The readings that were taken into account.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Readings(Vec<Taken>);

impl Readings {
    /// What came in since, and takes it as read. Counts that fell began anew.
    pub(super) fn advance(&mut self, strata: &Strata, candidate: &Name, stable: &Name) -> Vec<Increment> {
        let mut all: Vec<_> = strata.counts.keys().map(|(_, stratum)| *stratum).collect();
        all.sort_unstable();
        all.dedup();
        let side = |version: &Name, stratum: Stratum| {
            let now = strata.of(version, stratum).cloned().unwrap_or_default();
            let grown = self.before(version, stratum).and_then(|before| now.since(before));
            (grown.unwrap_or_else(|| now.clone()), now)
        };
        let increments = all
            .into_iter()
            .map(|stratum| {
                let (candidate, candidate_whole) = side(candidate, stratum);
                let (stable, stable_whole) = side(stable, stratum);
                let bucket_share = strata.shares.get(&stratum).copied();
                Increment { candidate, stable, candidate_whole, stable_whole, stratum: Some(stratum), bucket_share }
            })
            .collect();
        self.take(strata);
        increments
    }

    fn before(&self, version: &Name, stratum: Stratum) -> Option<&Measured> {
        self.0.iter().find(|taken| taken.stratum == stratum && taken.version == *version).map(|taken| &taken.measured)
    }

    /// Takes a reading as it is.
    pub(super) fn take(&mut self, strata: &Strata) {
        let taken = |((version, stratum), measured): (&(Name, Stratum), &Arc<Measured>)| Taken {
            version: version.clone(),
            stratum: *stratum,
            measured: measured.as_ref().clone(),
        };
        self.0 = strata.counts.iter().map(taken).collect();
    }
}
