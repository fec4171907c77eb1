//! Counters over the last seconds: what shares of new flows and of bytes each version really has.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{
    balance::IdTable,
    model::kernel::{BackendCounters, BackendId, Counters, VersionId},
};

/// Over how long shares are computed.
const WINDOW: Duration = Duration::from_secs(10);

/// Counters by version, sampled once a second.
#[derive(Debug, Default)]
pub(super) struct Meter {
    samples: VecDeque<(Duration, BTreeMap<VersionId, BackendCounters>)>,
    owners: BTreeMap<BackendId, Option<VersionId>>,
}

/// What a version had over the window.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub(super) struct Flow {
    /// New flows.
    pub(super) syns: u64,
    /// Bytes in both directions.
    pub(super) bytes: u64,
    /// New flows a second.
    pub(super) syns_per_second: f64,
}

impl Meter {
    /// Sums by version, removed backends included.
    pub(super) fn totals(&mut self, counters: &Counters, ids: &IdTable) -> BTreeMap<VersionId, BackendCounters> {
        let mut totals: BTreeMap<VersionId, BackendCounters> = BTreeMap::new();
        for (id, counted) in &counters.backends {
            let owner = self.owners.entry(*id).or_insert_with(|| {
                let key = ids.backend_key(*id)?;
                ids.version(&key.service, &key.version)
            });
            if let Some(version) = owner {
                *totals.entry(*version).or_default() += *counted;
            }
        }
        totals
    }

    /// Numbers may mean something else from now on.
    pub(super) fn forget_owners(&mut self) {
        self.owners.clear();
    }

    /// Takes a sample.
    pub(super) fn push(&mut self, at: Duration, totals: BTreeMap<VersionId, BackendCounters>) {
        self.samples.push_back((at, totals));
        while self.samples.front().is_some_and(|(then, _)| *then + WINDOW < at) {
            self.samples.pop_front();
        }
    }

    /// New flows a second of some versions together; none before the second sample.
    pub(super) fn flows_per_second(&self, versions: impl Iterator<Item = VersionId>) -> Option<f64> {
        let is_known = self.samples.len() > 1;
        is_known.then(|| versions.map(|version| self.flow(version).syns_per_second).sum())
    }

    /// What a version had; nothing where the counters began anew within the window.
    pub(super) fn flow(&self, version: VersionId) -> Flow {
        let (Some((begin, first)), Some((end, last))) = (self.samples.front(), self.samples.back()) else {
            return Flow::default();
        };
        let of = |totals: &BTreeMap<VersionId, BackendCounters>| totals.get(&version).copied().unwrap_or_default();
        let (first, last) = (of(first), of(last));
        let bytes = |counted: BackendCounters| counted.bytes_forward + counted.bytes_reverse;
        let syns = last.syns.saturating_sub(first.syns);
        let seconds = end.saturating_sub(*begin).as_secs_f64();
        let syns_per_second = if seconds > 0.0 { syns as f64 / seconds } else { 0.0 };
        Flow { syns, bytes: bytes(last).saturating_sub(bytes(first)), syns_per_second }
    }
}

/// A part of a whole, `0.0..=1.0`; none of nothing.
pub(super) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_come_from_the_last_seconds_only() {
        let mut meter = Meter::default();
        for second in 0..100_u64 {
            let syns = if second < 90 { second * 1_000 } else { 90_000 + (second - 90) * 5 };
            let counted =
                BackendCounters { syns, bytes_forward: second * 2, bytes_reverse: second, ..Default::default() };
            meter.push(Duration::from_secs(second), [(VersionId(1), counted)].into());
        }
        let flow = meter.flow(VersionId(1));
        assert_eq!((flow.syns, flow.bytes), (1_000 + 45, 30));
        assert_eq!(meter.flows_per_second([VersionId(1), VersionId(2)].into_iter()), Some(104.5));
        assert_eq!(Meter::default().flows_per_second([VersionId(1)].into_iter()), None);
        assert_eq!(meter.flow(VersionId(2)), Flow::default());
        assert_eq!((share(1, 4), share(0, 0)), (Some(0.25), None));
    }
}
