//! A latency quantile of the candidate against stable's, at every look.

use serde::{Deserialize, Serialize};

use super::{Names, Weighed, counts::signal, increments::Increment, means::notable, named};
use crate::{
    analysis::{
        Distribution, Measured, Quantile,
        said::{said, short},
        statistics::quantile_test::{QuantileTest, Seen, band},
    },
    model::plan::{Judge, Metric, Signal, Unit},
};

/// Nanoseconds to seconds.
const SECOND: f64 = 1e9;

/// What is known of a quantile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Quantiles {
    test: QuantileTest,
    candidate: Times,
    stable: Times,
}

/// Times of a version.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
struct Times {
    values: Distribution,
    censored: Distribution,
}

impl Times {
    fn of(signal: Signal, measured: &Measured) -> Self {
        match signal {
            Signal::FirstByte => {
                Self { values: measured.first_byte.clone(), censored: measured.first_byte_censored.clone() }
            }
            Signal::Connect
            | Signal::ConnectFailureRatio
            | Signal::ResetRatio
            | Signal::SynTimeoutRatio
            | Signal::RetransmitRatio
            | Signal::BytesPerFlow
            | Signal::FlowsPerSecond
            | Signal::ZeroWindowRatio => Self { values: measured.connect.clone(), censored: Distribution::default() },
        }
    }

    const fn seen(&self) -> Seen<'_> {
        Seen { values: &self.values, censored: &self.censored }
    }

    fn add(&mut self, other: &Self) {
        self.values.add(&other.values);
        self.censored.add(&other.censored);
    }

    fn count(&self) -> u64 {
        self.values.count() + self.censored.count()
    }
}

impl Quantiles {
    pub(super) fn new(metric: &Metric, judge: &Judge) -> Self {
        let test = QuantileTest::new(quantile(metric), judge.tolerate_ratio, judge.detected());
        Self { test, candidate: Times::default(), stable: Times::default() }
    }

    pub(super) fn take(&mut self, metric: &Metric, increments: &[Increment], against: bool) {
        for increment in increments {
            let of = |measured: &Measured| Times::of(signal(metric), measured);
            let (own, others) = (of(&increment.candidate), of(&increment.stable));
            self.test.take(own.seen(), others.seen(), against);
            self.candidate.add(&own);
            self.stable.add(&others);
        }
    }

    pub(super) fn weigh(&self, metric: &Metric, judge: &Judge, names: Names<'_>) -> Weighed {
        let quantile = quantile(metric);
        let of = |times: &Times| times.values.quantile(quantile, &times.censored);
        let (own, others) = (of(&self.candidate), of(&self.stable));
        let is_out_of_sight = [own, others].iter().any(|found| matches!(found, Some(Quantile::Above(_))));
        let text = |found: Option<Quantile>| match found {
            Some(Quantile::At(value)) => said(value / SECOND, Unit::Seconds),
            Some(Quantile::Above(value)) => format!("more than {}", said(value / SECOND, Unit::Seconds)),
            None => "nothing".to_owned(),
        };
        let mut sentence = format!(
            "{} has {} (quantile {quantile}) of {}, {} {}",
            names.candidate,
            signal(metric).label(),
            text(own),
            names.stable,
            text(others)
        );
        if is_out_of_sight {
            sentence.push_str("; the quantile lies among flows that went out of sight");
        }
        let reach = band(self.candidate.seen(), quantile, judge.alpha);
        let upper = reach.and_then(|(_, high)| high).map(|high| high / SECOND);
        let refuted = self.test.log_e_better();
        let is_below = judge.tolerate_absolute.zip(upper).is_some_and(|(tolerated, upper)| upper < tolerated);
        let is_refuted = !is_out_of_sight && refuted >= -judge.alpha.ln();
        let why = match (is_below, is_refuted) {
            (true, _) => Some("it is below what is tolerated at every look".to_owned()),
            (false, true) => Some(format!("it is not {} times stable's", short(judge.detected()))),
            (false, false) => None,
        };
        let value = own.map(|own| own.least() / SECOND);
        let mut numbers = named([("eValue", self.test.log_e_worse().exp()), ("refuted", refuted.exp())]);
        let others = others.map(|others| others.least() / SECOND);
        let low = reach.map(|(low, _)| low / SECOND);
        for (name, number) in [("candidate", value), ("stable", others), ("bandLow", low), ("bandHigh", upper)] {
            numbers.extend(number.map(|number| (name.to_owned(), number)));
        }
        Weighed {
            evidence: self.test.log_e_worse(),
            is_notable: notable(judge, value, false),
            passes: is_below || is_refuted,
            remaining: None,
            samples: (self.candidate.count(), self.stable.count()),
            value,
            why,
            sentence,
            numbers,
        }
    }
}

/// The quantile of a metric: the median where the plan names none.
fn quantile(metric: &Metric) -> f64 {
    metric.kernel().and_then(|kernel| kernel.quantile).unwrap_or(0.5)
}
