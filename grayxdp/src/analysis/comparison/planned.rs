//! Judges that look once, when each side has as many samples as were planned, all of one stratum: a change of the weight begins
//! anew, for samples of different shares are not to be summed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Names, Weighed,
    counts::{Counted, flows, signal},
    increments::Increment,
    means::{less_is_worse, notable, scaled},
    named, values,
};
use crate::{
    analysis::{
        said::{grouped, percent, said, short},
        statistics::{
            Sample,
            hodges_lehmann::hodges_lehmann,
            kolmogorov_smirnov::kolmogorov_smirnov,
            mann_whitney::mann_whitney,
            proportion::{Part, fisher, newcombe, z_test},
            t_test::{Effect, TTest, cohens_d, student, welch},
        },
    },
    model::plan::{Judge, JudgeType, Metric},
};

/// Expected failures below which Fisher's exact test takes the place of z.
const SMALL: f64 = 5.0;

/// What has come together for the look.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Planned {
    epoch: Option<u64>,
    candidate: Vec<(f64, u64)>,
    stable: Vec<(f64, u64)>,
    candidate_counts: Counted,
    stable_counts: Counted,
    found: Option<Found>,
}

/// What the look found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    /// −ln p where the candidate is worse, else 0.
    evidence: f64,
    passes: bool,
    value: Option<f64>,
    sentence: String,
    numbers: BTreeMap<String, f64>,
}

impl Planned {
    pub(super) fn take(&mut self, metric: &Metric, judge: &Judge, increments: &[Increment], names: Names<'_>) {
        if self.found.is_some() {
            return;
        }
        let newest = increments.iter().filter_map(|increment| increment.stratum).map(|stratum| stratum.epoch).max();
        if newest != self.epoch {
            *self = Self { epoch: newest, ..Self::default() };
        }
        let signal = signal(metric);
        for increment in increments.iter().filter(|increment| increment.stratum.map(|s| s.epoch) == newest) {
            let more = |own: &mut Vec<(f64, u64)>, sample: Sample| {
                *own = Sample::grouped(own.iter().chain(sample.values()).copied()).values().to_vec();
            };
            more(&mut self.candidate, values(signal, &increment.candidate));
            more(&mut self.stable, values(signal, &increment.stable));
            self.candidate_counts.add(Counted::of(signal, &increment.candidate));
            self.stable_counts.add(Counted::of(signal, &increment.stable));
        }
        let (own, others) = self.samples(judge);
        if own.min(others) >= metric.min_samples {
            self.found = self.look(metric, judge, names);
        }
    }

    fn samples(&self, judge: &Judge) -> (u64, u64) {
        match judge.r#type {
            JudgeType::Proportion => (self.candidate_counts.flows, self.stable_counts.flows),
            JudgeType::CountEProcess
            | JudgeType::ConfidenceSequence
            | JudgeType::QuantileTest
            | JudgeType::MannWhitney
            | JudgeType::Welch
            | JudgeType::Student
            | JudgeType::Threshold
            | JudgeType::Ratio
            | JudgeType::Quality => {
                let count = |values: &[(f64, u64)]| values.iter().map(|(_, count)| count).sum();
                (count(&self.candidate), count(&self.stable))
            }
        }
    }

    /// The one look; none where nothing varies.
    fn look(&self, metric: &Metric, judge: &Judge, names: Names<'_>) -> Option<Found> {
        let (own, others) =
            (Sample::grouped(self.candidate.iter().copied()), Sample::grouped(self.stable.iter().copied()));
        match judge.r#type {
            JudgeType::Welch => self.means(metric, judge, names, (&own, &others), welch),
            JudgeType::Student => self.means(metric, judge, names, (&own, &others), student),
            JudgeType::MannWhitney => self.ranks(metric, judge, names, (&own, &others)),
            JudgeType::Proportion => self.ratios(metric, judge, names),
            JudgeType::CountEProcess
            | JudgeType::ConfidenceSequence
            | JudgeType::QuantileTest
            | JudgeType::Threshold
            | JudgeType::Ratio
            | JudgeType::Quality => None,
        }
    }

    fn means(
        &self,
        metric: &Metric,
        judge: &Judge,
        names: Names<'_>,
        (own, others): (&Sample, &Sample),
        test: impl Fn(&Sample, &Sample) -> Option<TTest>,
    ) -> Option<Found> {
        let signal = signal(metric);
        let less = less_is_worse(signal);
        // What is tolerated is as if stable had it.
        let against = |ratio: f64| scaled(others, if less { ratio.recip() } else { ratio });
        let tolerated = test(own, &against(judge.tolerate_ratio))?;
        let detected = test(own, &against(judge.detected()))?;
        let is_worse = (tolerated.difference > 0.0) != less;
        let is_better = (detected.difference < 0.0) != less;
        let d = cohens_d(others, own)?;
        let (low, high) = test(own, others)?.interval(judge.alpha);
        let unit = signal.unit();
        let sentence = format!(
            "{} has a mean {} of {}, {} {}: {} (Cohen's d {}), p {}",
            names.candidate,
            signal.label(),
            said(own.mean()?, unit),
            names.stable,
            said(others.mean()?, unit),
            Effect::of(d).label(),
            short(d),
            chance(tolerated.p),
        );
        let mut numbers = named([
            ("p", tolerated.p),
            ("t", tolerated.t),
            ("cohensD", d),
            ("differenceLow", low),
            ("differenceHigh", high),
        ]);
        shown(&mut numbers, own, others);
        let evidence = if is_worse { -tolerated.p.max(f64::MIN_POSITIVE).ln() } else { 0.0 };
        let passes = is_better && detected.p <= judge.alpha;
        Some(Found { evidence, passes, value: own.mean(), sentence, numbers })
    }

    fn ranks(
        &self,
        metric: &Metric,
        judge: &Judge,
        names: Names<'_>,
        (own, others): (&Sample, &Sample),
    ) -> Option<Found> {
        let signal = signal(metric);
        let less = less_is_worse(signal);
        let against = |ratio: f64| scaled(others, if less { ratio.recip() } else { ratio });
        let tolerated = mann_whitney(&against(judge.tolerate_ratio), own)?;
        let detected = mann_whitney(&against(judge.detected()), own)?;
        let is_worse = (tolerated.second_greater > 0.5) != less;
        let is_better = (detected.second_greater < 0.5) != less;
        let unit = signal.unit();
        let sentence = format!(
            "{} has a median {} of {}, {} {}: greater in {} of pairs, p {}",
            names.candidate,
            signal.label(),
            said(own.quantile(0.5)?, unit),
            names.stable,
            said(others.quantile(0.5)?, unit),
            percent(tolerated.second_greater),
            chance(tolerated.p),
        );
        let mut numbers = named([("p", tolerated.p), ("greater", tolerated.second_greater)]);
        shown(&mut numbers, own, others);
        let evidence = if is_worse { -tolerated.p.max(f64::MIN_POSITIVE).ln() } else { 0.0 };
        let passes = is_better && detected.p <= judge.alpha;
        Some(Found { evidence, passes, value: own.quantile(0.5), sentence, numbers })
    }

    fn ratios(&self, metric: &Metric, judge: &Judge, names: Names<'_>) -> Option<Found> {
        let part = |counted: Counted| Part { of: counted.failed.min(counted.flows), all: counted.flows };
        let (own, others) = (part(self.candidate_counts), part(self.stable_counts));
        let (ratio, stable) = (own.ratio()?, others.ratio()?);
        let (low, high) = newcombe(others, own, judge.alpha)?;
        let pooled = (own.of + others.of) as f64 / (own.all + others.all) as f64;
        let p = match z_test(others, own) {
            Some((_, p)) if pooled * own.all.min(others.all) as f64 >= SMALL => p,
            Some(_) => fisher(others, own),
            None => 1.0,
        };
        let is_worse = ratio > stable && low >= (judge.tolerate_ratio - 1.0) * stable;
        let tolerated = judge.tolerate_absolute.unwrap_or(super::TOLERATED_RATIO);
        let below = own.wilson(crate::analysis::statistics::special::normal_upper(judge.alpha / 2.0)).1 < tolerated;
        let sentence = format!(
            "{} fails {} of {} {}, {} {}; p {}",
            names.candidate,
            percent(ratio),
            grouped(own.all),
            flows(signal(metric)),
            names.stable,
            percent(stable),
            chance(p),
        );
        let numbers = [("p", p), ("differenceLow", low), ("differenceHigh", high), ("stable", stable)];
        Some(Found {
            evidence: if is_worse { -p.max(f64::MIN_POSITIVE).ln() } else { 0.0 },
            passes: below || high < (judge.detected() - 1.0) * stable,
            value: Some(ratio),
            sentence,
            numbers: named(numbers),
        })
    }

    pub(super) fn weigh(&self, metric: &Metric, judge: &Judge) -> Weighed {
        let samples = self.samples(judge);
        let Some(found) = &self.found else {
            let (own, others) = (grouped(samples.0), grouped(samples.1));
            let needed = grouped(metric.min_samples);
            return Weighed {
                remaining: Some(
                    metric.min_samples.saturating_mul(2).saturating_sub(2 * samples.0.min(samples.1)) as f64
                ),
                samples,
                sentence: format!("{own} and {others} of {needed} planned samples at this weight"),
                ..Weighed::default()
            };
        };
        let less = less_is_worse(signal(metric));
        let tolerated = match judge.r#type {
            JudgeType::Proportion => {
                let tolerated = judge.tolerate_absolute.unwrap_or(super::TOLERATED_RATIO);
                found.value.is_some_and(|value| value > tolerated)
            }
            JudgeType::CountEProcess
            | JudgeType::ConfidenceSequence
            | JudgeType::QuantileTest
            | JudgeType::MannWhitney
            | JudgeType::Welch
            | JudgeType::Student
            | JudgeType::Threshold
            | JudgeType::Ratio
            | JudgeType::Quality => notable(judge, found.value, less),
        };
        Weighed {
            evidence: found.evidence,
            is_notable: tolerated,
            passes: found.passes,
            remaining: None,
            samples,
            value: found.value,
            why: found.passes.then(|| format!("it is not {} times as bad", short(judge.detected()))),
            sentence: found.sentence.clone(),
            numbers: found.numbers.clone(),
        }
    }
}

/// What is shown and not judged.
fn shown(numbers: &mut BTreeMap<String, f64>, own: &Sample, others: &Sample) {
    if let Some(shift) = hodges_lehmann(others, own) {
        numbers.extend(named([("hodgesLehmann", shift)]));
    }
    if let Some(distance) = kolmogorov_smirnov(others, own) {
        numbers.extend(named([("ks", distance.d), ("ksP", distance.p)]));
    }
}

/// A p-value as people read it.
fn chance(p: f64) -> String {
    if p < 0.0001 { "below 0.0001".to_owned() } else { format!("{p:.4}") }
}
