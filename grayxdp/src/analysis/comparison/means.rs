//! Means of the candidate against stable's, at every look.

use serde::{Deserialize, Serialize};

use super::{Names, Weighed, counts::signal, increments::Increment, named, values};
use crate::{
    analysis::{
        said::said,
        statistics::{Sample, confidence_sequence::MeanDifference},
    },
    model::plan::{Judge, Metric, Signal},
};

/// What is known of a mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Means {
    worse: MeanDifference,
    better: MeanDifference,
    samples: (u64, u64),
}

impl Means {
    pub(super) fn new(judge: &Judge) -> Self {
        let of = |ratio| MeanDifference::new(ratio, judge.bounds());
        Self { worse: of(judge.tolerate_ratio), better: of(judge.detected()), samples: (0, 0) }
    }

    pub(super) fn take(&mut self, metric: &Metric, increments: &[Increment], against: bool) {
        for increment in increments {
            let signal = signal(metric);
            let (own, others) = (values(signal, &increment.candidate), values(signal, &increment.stable));
            self.samples.0 += own.count();
            self.samples.1 += others.count();
            let (worse, than) = if less_is_worse(signal) { (&others, &own) } else { (&own, &others) };
            self.worse.take(worse, than);
            if !against {
                self.better.take(worse, than);
            }
        }
    }

    pub(super) fn weigh(&self, metric: &Metric, judge: &Judge, names: Names<'_>) -> Weighed {
        let signal = signal(metric);
        let swapped = less_is_worse(signal);
        let means = self.worse.means().map(|(one, other)| if swapped { (other, one) } else { (one, other) });
        let refuted = self.better.log_e_below();
        let unit = signal.unit();
        let label = if self.worse.is_asymptotic() { " (asymptotic)" } else { "" };
        let sentence = match means {
            Some((own, others)) => format!(
                "{} has a mean {} of {}, {} {}{label}",
                names.candidate,
                signal.label(),
                said(own, unit),
                names.stable,
                said(others, unit)
            ),
            None => format!("nothing is known of the mean {} of both", signal.label()),
        };
        let passes = refuted >= -judge.alpha.ln();
        let mut numbers = named([("eValue", self.worse.log_e_above().exp()), ("refuted", refuted.exp())]);
        if let Some((own, others)) = means {
            numbers.extend(named([("candidateMean", own), ("stableMean", others)]));
        }
        if let Some((low, high)) = self.worse.interval(judge.alpha) {
            let (low, high) = if swapped { (-high, -low) } else { (low, high) };
            numbers.extend(named([("differenceLow", low), ("differenceHigh", high)]));
        }
        Weighed {
            evidence: self.worse.log_e_above(),
            is_notable: notable(judge, means.map(|(own, _)| own), swapped),
            passes,
            remaining: None,
            samples: self.samples,
            value: means.map(|(own, _)| own),
            why: passes.then(|| format!("it is not {} times as bad", judge.detected())),
            sentence,
            numbers,
        }
    }
}

/// Whether the candidate's value is beyond what is tolerated whatever stable's is.
pub(super) fn notable(judge: &Judge, value: Option<f64>, less_is_worse: bool) -> bool {
    let beyond = |tolerated: f64| value.is_some_and(|value| (value > tolerated) != less_is_worse);
    judge.tolerate_absolute.is_none_or(beyond)
}

/// Whether less of it is worse.
pub(super) const fn less_is_worse(signal: Signal) -> bool {
    match signal {
        Signal::BytesPerFlow | Signal::FlowsPerSecond => true,
        Signal::ConnectFailureRatio
        | Signal::Connect
        | Signal::FirstByte
        | Signal::ResetRatio
        | Signal::SynTimeoutRatio
        | Signal::RetransmitRatio
        | Signal::ZeroWindowRatio => false,
    }
}

/// Values times a factor.
pub(super) fn scaled(sample: &Sample, factor: f64) -> Sample {
    Sample::grouped(sample.values().iter().map(|(value, count)| (value * factor, *count)))
}
