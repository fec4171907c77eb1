//! Comparing the candidate with a stable version that has flows at the same time: one verdict a metric and look, from what came in
//! by stratum and what was kept of all looks before.
//!
//! | verdict | when |
//! | --- | --- |
//! | no data | fewer than `minSamples` mature samples of either side in this step |
//! | fail | the evidence against "no worse than tolerated" reaches 1/α, adjusted for all metrics that may roll back, and the value is above `tolerateAbsolute`; final |
//! | pass | the value is surely below `tolerateAbsolute`, or surely less than `detectRatio` times stable's |
//! | inconclusive | all else, and everything while stable itself breaks its limit |
//!
//! All of it is journaled with the rollout's state after a look. What came in while nobody looked, after a restart, is taken into
//! account against the candidate, and never for it.

mod counts;
mod environment;
mod increments;
mod means;
mod mismatch;
mod planned;
mod quantiles;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use grayxdp_common::signals::BYTES_SHIFT;
use serde::{Deserialize, Serialize};

use self::{
    counts::Counts,
    environment::Before,
    increments::{Increment, Readings},
    means::Means,
    mismatch::Mismatch,
    planned::Planned,
    quantiles::Quantiles,
};
use crate::{
    analysis::{
        Measured, Strata,
        said::{evidence, grouped, short},
        statistics::{Sample, holm, srm},
    },
    model::{
        Name,
        plan::{Judge, JudgeType, Metric, Signal},
        state::{Finding, Verdict},
    },
};

/// Ratios of failures below this never fail, where a plan says nothing.
pub(super) const TOLERATED_RATIO: f64 = 0.001;

/// Who is compared with whom.
#[derive(Clone, Copy, Debug)]
struct Names<'a> {
    candidate: &'a Name,
    stable: &'a Name,
}

/// What one look compares.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// The newest readings.
    pub strata: &'a Strata,
    /// The version that is judged.
    pub candidate: &'a Name,
    /// The version that it is compared with.
    pub stable: &'a Name,
    /// Metrics of this step that are looked at; those that compare nothing are left alone.
    pub metrics: &'a [&'a Metric],
    /// All metrics of the rollout that compare and may roll back, looked at or not: together they are wrong no oftener than one.
    pub family: &'a [&'a Name],
    /// Since when the step's weight is in the kernel.
    pub since: Duration,
    /// The versions' clients are divided by something else than the buckets: all segments are one.
    pub is_apart: bool,
}

/// What is kept of a rollout's comparisons from look to look.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Whether the readings before the candidate's first flow are taken.
    has_begun: bool,
    /// The daemon was restarted since the last look.
    after_gap: bool,
    readings: Readings,
    before: Before,
    metrics: BTreeMap<Name, Kept>,
    mismatch: Mismatch,
    environment: Option<String>,
}

/// What is kept of a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    state: Kind,
    /// The step that the samples are of.
    since: Duration,
    /// Looks in this step.
    looks: u32,
    /// Samples of both sides before this step.
    earlier: (u64, u64),
    /// Greatest evidence ever: ln e, or −ln p.
    most: f64,
    /// Whether it failed: for good.
    has_failed: bool,
}

/// By judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    Counts(Box<Counts>),
    Means(Box<Means>),
    Quantiles(Box<Quantiles>),
    Planned(Box<Planned>),
}

/// What a metric's judge makes of all that it has seen.
#[derive(Clone, Debug, PartialEq, Default)]
struct Weighed {
    /// ln e, or −ln p, against "no worse than tolerated".
    evidence: f64,
    /// Whether the value is above what is tolerated whatever stable's is.
    is_notable: bool,
    /// Whether it passes.
    passes: bool,
    /// Samples of both versions that a pass still takes on average, if the candidate is no worse.
    remaining: Option<f64>,
    /// Samples of the candidate and of stable in the whole rollout.
    samples: (u64, u64),
    /// The candidate's value.
    value: Option<f64>,
    /// Why it passes.
    why: Option<String>,
    sentence: String,
    numbers: BTreeMap<String, f64>,
}

impl Kept {
    fn new(metric: &Metric, judge: &Judge, since: Duration) -> Option<Self> {
        let state = match judge.r#type {
            JudgeType::CountEProcess => Kind::Counts(Box::new(Counts::new(judge))),
            JudgeType::ConfidenceSequence => Kind::Means(Box::new(Means::new(judge))),
            JudgeType::QuantileTest => Kind::Quantiles(Box::new(Quantiles::new(metric, judge))),
            JudgeType::MannWhitney | JudgeType::Welch | JudgeType::Student | JudgeType::Proportion => {
                Kind::Planned(Box::default())
            }
            JudgeType::Threshold | JudgeType::Ratio | JudgeType::Quality => return None,
        };
        Some(Self { state, since, looks: 0, earlier: (0, 0), most: 0.0, has_failed: false })
    }

    fn take(&mut self, metric: &Metric, judge: &Judge, increments: &[Increment], against: bool, names: Names<'_>) {
        match &mut self.state {
            Kind::Counts(counts) => counts.take(metric, judge, increments, against),
            Kind::Means(means) => means.take(metric, increments, against),
            Kind::Quantiles(quantiles) => quantiles.take(metric, increments, against),
            Kind::Planned(planned) => planned.take(metric, judge, increments, names),
        }
    }

    fn weigh(&self, metric: &Metric, judge: &Judge, names: Names<'_>) -> Weighed {
        match &self.state {
            Kind::Counts(counts) => counts.weigh(metric, judge, names),
            Kind::Means(means) => means.weigh(metric, judge, names),
            Kind::Quantiles(quantiles) => quantiles.weigh(metric, judge, names),
            Kind::Planned(planned) => planned.weigh(metric, judge),
        }
    }

    fn begin_step(&mut self, since: Duration, samples: (u64, u64)) {
        if self.since != since {
            (self.since, self.looks, self.earlier) = (since, 0, samples);
            if let Kind::Counts(counts) = &mut self.state {
                counts.begin_step();
            }
        }
    }
}

impl Comparison {
    /// Takes the readings before the candidate has flows, once: what they hold is no rollout's.
    pub fn begin(&mut self, strata: &Strata, stable: &Name) {
        if !self.has_begun {
            self.has_begun = true;
            self.readings.take(strata);
            self.before = Before::of(strata, stable);
        }
    }

    /// The daemon was restarted: what came in since the last look may make a fail, never a pass.
    pub const fn restarted(&mut self) {
        self.after_gap = true;
    }

    /// Looks once. A finding for every metric of the look that compares.
    pub fn look(&mut self, look: &Look<'_>) -> BTreeMap<Name, Finding> {
        let names = Names { candidate: look.candidate, stable: look.stable };
        let increments = self.readings.advance(look.strata, look.candidate, look.stable);
        let increments = if look.is_apart { increments::merged(increments) } else { increments };
        let against = std::mem::take(&mut self.after_gap);
        self.mismatch.take(&increments, names);
        if let Some(found) = environment::broken(&self.before, look.metrics, &increments, names) {
            self.environment = found;
        }
        let mut weighed = Vec::new();
        for metric in look.metrics.iter().filter(|metric| metric.is_comparative()) {
            let Some(judge) = metric.judged() else { continue };
            if let Some(found) = self.weigh(metric, &judge, look.since, &increments, against, names) {
                weighed.push((*metric, judge, found));
            }
        }
        let adjusted = self.adjusted(look.family);
        let mut findings = BTreeMap::new();
        for (metric, judge, found) in weighed {
            let factor = adjusted.get(&metric.name).copied().unwrap_or(1.0);
            let finding = self.finding(metric, &judge, found, factor, names);
            if let Some(kept) = self.metrics.get_mut(&metric.name) {
                kept.has_failed |= finding.verdict == Verdict::Fail;
            }
            findings.insert(metric.name.clone(), finding);
        }
        findings
    }

    fn weigh(
        &mut self,
        metric: &Metric,
        judge: &Judge,
        since: Duration,
        increments: &[Increment],
        against: bool,
        names: Names<'_>,
    ) -> Option<Weighed> {
        if !self.metrics.contains_key(&metric.name) {
            self.metrics.insert(metric.name.clone(), Kept::new(metric, judge, since)?);
        }
        let kept = self.metrics.get_mut(&metric.name)?;
        if kept.since != since {
            let samples = kept.weigh(metric, judge, names).samples;
            kept.begin_step(since, samples);
        }
        kept.looks += 1;
        kept.take(metric, judge, increments, against, names);
        let weighed = kept.weigh(metric, judge, names);
        kept.most = kept.most.max(weighed.evidence);
        Some(weighed)
    }

    /// By how much each metric's p-value grows by the others' being there: Holm's factor.
    fn adjusted(&self, family: &[&Name]) -> BTreeMap<Name, f64> {
        let most = |name: &Name| self.metrics.get(name).map_or(0.0, |kept| kept.most);
        let p: Vec<_> = family.iter().map(|name| (-most(name)).exp().max(f64::MIN_POSITIVE)).collect();
        let adjusted = holm::adjusted(&p);
        family.iter().enumerate().map(|(index, name)| ((*name).clone(), adjusted[index] / p[index])).collect()
    }

    fn finding(&self, metric: &Metric, judge: &Judge, found: Weighed, factor: f64, names: Names<'_>) -> Finding {
        let kept = &self.metrics[&metric.name];
        let step = (found.samples.0.saturating_sub(kept.earlier.0), found.samples.1.saturating_sub(kept.earlier.1));
        let alarm = (factor / judge.alpha).max(1.0);
        let a_look = (step.0 + step.1) as f64 / f64::from(kept.looks.max(1));
        let looks =
            found.remaining.filter(|_| !found.passes && a_look > 0.0).map(|flows| (flows / a_look).ceil() as u64);
        let needed = metric.min_samples.max(1);
        let has_enough = found.samples.0.min(found.samples.1) >= needed;
        // The least number of samples keeps a judge quiet for a while; evidence that came earlier still counts afterwards.
        let fails = kept.has_failed || (has_enough && found.is_notable && kept.most >= alarm.ln());
        let weighed = match judge.r#type.is_fixed() {
            true => found.sentence.clone(),
            false => format!("{}; e-value {}, alarm at {}", found.sentence, evidence(found.evidence), short(alarm)),
        };
        let (verdict, sentence) = if fails {
            (Verdict::Fail, weighed)
        } else if step.0.min(step.1) < needed {
            let (own, others, needed) = (grouped(step.0), grouped(step.1), grouped(needed));
            let Names { candidate, stable } = names;
            (
                Verdict::NoData,
                format!(
                    "{candidate} had {own} samples and {stable} {others} in this step; {needed} of each are needed"
                ),
            )
        } else if let Some(environment) = &self.environment {
            (Verdict::Inconclusive, environment.clone())
        } else if let Some(why) = found.why.as_ref().filter(|_| found.passes) {
            (Verdict::Pass, format!("{}; {why}", found.sentence))
        } else {
            let more = looks.map(|looks| format!("; a pass takes some {} more looks at this traffic", grouped(looks)));
            (Verdict::Inconclusive, weighed + &more.unwrap_or_default())
        };
        let mut numbers = found.numbers;
        numbers.extend(looks.map(|looks| ("looksToPass".to_owned(), looks as f64)));
        numbers.extend(named([
            ("alarm", alarm),
            ("candidateSamples", step.0 as f64),
            ("stableSamples", step.1 as f64),
        ]));
        Finding { metric: metric.name.clone(), verdict, value: found.value, samples: step.0, numbers, sentence }
    }

    /// What is wrong with stable itself, in one sentence: nothing passes while it is.
    #[must_use]
    pub fn environment(&self) -> Option<&str> {
        self.environment.as_deref()
    }

    /// That new flows are not divided as the buckets say, in one sentence: nothing is promoted then.
    #[must_use]
    pub fn mismatch(&self) -> Option<&str> {
        self.mismatch.found()
    }

    /// The division of new flows as a finding; none before there are any.
    #[must_use]
    pub fn division(&self) -> Option<Finding> {
        let (square, p) = self.mismatch.chi_square()?;
        let (verdict, sentence) = match self.mismatch.found() {
            Some(found) => (Verdict::Fail, found.to_owned()),
            None => {
                (Verdict::Pass, format!("new flows are divided as the buckets say; χ² {}, p {p:.4}", short(square)))
            }
        };
        let metric = "srm".parse().expect("it is a name");
        let numbers =
            named([("eValue", self.mismatch.e()), ("alarm", srm::ALPHA.recip()), ("chiSquare", square), ("p", p)]);
        Some(Finding { metric, verdict, value: None, samples: 0, numbers, sentence })
    }
}

/// Numbers by name; what is beyond all numbers is the greatest one: JSON has no other.
fn named<const N: usize>(numbers: [(&str, f64); N]) -> BTreeMap<String, f64> {
    numbers.map(|(name, number)| (name.to_owned(), number.clamp(f64::MIN, f64::MAX))).into()
}

/// Values of a signal, in its unit; flows that went out of sight with what they had reached.
fn values(signal: Signal, measured: &Measured) -> Sample {
    const SECOND: f64 = 1e-9;
    match signal {
        Signal::Connect => Sample::of_cells(&measured.connect, SECOND),
        Signal::FirstByte => {
            let mut all = measured.first_byte.clone();
            all.add(&measured.first_byte_censored);
            Sample::of_cells(&all, SECOND)
        }
        Signal::BytesPerFlow => Sample::of_cells(&measured.bytes, f64::from(1_u32 << BYTES_SHIFT).recip()),
        Signal::ConnectFailureRatio
        | Signal::ResetRatio
        | Signal::SynTimeoutRatio
        | Signal::RetransmitRatio
        | Signal::FlowsPerSecond
        | Signal::ZeroWindowRatio => Sample::default(),
    }
}
