//! Stable itself: while it breaks its limit, nothing can be compared with it.
//!
//! Neither its ratio before the rollout nor that of a look is known exactly: the limit rests on the upper end of the one's interval, and is
//! broken by the lower end of the other's (E. B. Wilson, JASA 22, 1927).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Names,
    counts::{Counted, flows, signal},
    increments::Increment,
};
use crate::{
    analysis::{
        Strata,
        said::{grouped, percent},
        statistics::proportion::Part,
    },
    model::{
        Name,
        plan::{Metric, Signal},
    },
};

/// How many times its ratio before the rollout stable may have.
const TIMES: f64 = 3.0;
/// A limit is no less than this.
const LEAST_LIMIT: f64 = 0.01;
/// Flows from which a ratio before the rollout is known.
const KNOWN: u64 = 100;
/// Half the width of the intervals in standard deviations.
const WIDTH: f64 = 2.0;

/// Stable's ratios of failures before the rollout, at most.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Before(BTreeMap<Signal, f64>);

impl Before {
    /// Of all that is counted of stable.
    pub(super) fn of(strata: &Strata, stable: &Name) -> Self {
        let signals = Signal::ALL.into_iter().filter(|signal| signal.is_failure());
        let ratio = |signal: Signal| {
            let mut sum = Counted::default();
            let own = strata.counts.iter().filter(|((version, _), _)| version == stable);
            own.for_each(|(_, measured)| sum.add(Counted::of(signal, measured)));
            (sum.flows >= KNOWN).then(|| (signal, interval(sum).1))
        };
        Self(signals.filter_map(ratio).collect())
    }

    fn limit(&self, metric: &Metric) -> f64 {
        let before = self.0.get(&signal(metric)).copied().unwrap_or(0.0);
        metric.stable_limit.unwrap_or((TIMES * before).max(LEAST_LIMIT))
    }
}

/// Where the ratio of what was counted lies.
fn interval(counted: Counted) -> (f64, f64) {
    Part { of: counted.failed.min(counted.flows), all: counted.flows }.wilson(WIDTH)
}

/// What is wrong with stable in a look, in one sentence; none where its ratios are too little known.
pub(super) fn broken(
    before: &Before,
    metrics: &[&Metric],
    increments: &[Increment],
    names: Names<'_>,
) -> Option<Option<String>> {
    let is_asked = |metric: &&&Metric| metric.is_comparative() && signal(metric).is_failure() && !metric.dry_run;
    let judged = metrics.iter().filter(is_asked);
    let known = judged.filter_map(|metric| {
        let mut sum = Counted::default();
        increments.iter().for_each(|increment| sum.add(Counted::of(signal(metric), &increment.stable)));
        let ratio = sum.ratio().filter(|_| sum.flows >= metric.min_samples.max(1))?;
        let limit = before.limit(metric);
        Some((interval(sum).0 > limit).then(|| {
            format!(
                "{} itself fails {} of {} {}, above its limit of {}: nothing can be compared with it",
                names.stable,
                percent(ratio),
                grouped(sum.flows),
                flows(signal(metric)),
                percent(limit)
            )
        }))
    });
    known.reduce(Option::or)
}
