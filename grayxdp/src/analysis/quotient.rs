//! The judge of a plain limit on the candidate's value ÷ stable's.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    analysis::{
        Quantile,
        history::ANSWER_TIME,
        said::{grouped, said, short},
        signal::{self, Reading},
        threshold::View,
    },
    model::{
        Name,
        plan::{KernelSignal, Metric, ThresholdRange},
        state::{Finding, Verdict},
    },
};

/// Looks at the quotient over the closed window.
pub(super) fn judge(metric: &Metric, kernel: &KernelSignal, view: &View<'_>) -> Finding {
    let from = view.since.max(view.now.saturating_sub(ANSWER_TIME + view.window));
    let rate = view.history.sample_rate();
    let read = |version: &Name| {
        let measured: Option<(_, Duration)> = view.history.measured(version, from);
        measured.map_or(Reading { value: None, samples: 0 }, |(measured, length)| {
            signal::read(kernel, &measured, length, rate)
        })
    };
    let (own, others) = (read(view.candidate), read(view.stable));
    let samples = own.samples.min(others.samples);
    let finding = |verdict, value, sentence| Finding {
        metric: metric.name.clone(),
        verdict,
        value,
        samples,
        numbers: BTreeMap::new(),
        sentence,
    };
    let (Some(value), Some(stable)) = (own.value, others.value) else {
        let sentence = format!("{} or {} had no {}", view.candidate, view.stable, kernel.signal.label());
        return finding(Verdict::NoData, None, sentence);
    };
    if samples < metric.min_samples {
        let (had, needed) = (grouped(samples), grouped(metric.min_samples));
        let sentence = format!("{had} samples of {} on one side; {needed} are needed", kernel.signal.label());
        return finding(Verdict::NoData, None, sentence);
    }
    let (value, stable) = match (value, stable) {
        (Quantile::At(value), Quantile::At(stable)) => (value, stable),
        (Quantile::Above(_), _) | (_, Quantile::Above(_)) => {
            let sentence = format!("{} lies among flows that went out of sight", kernel.signal.label());
            return finding(Verdict::Inconclusive, None, sentence);
        }
    };
    let unit = kernel.signal.unit();
    let both = format!(
        "{} has {} {}, {} {}",
        view.candidate,
        kernel.signal.label(),
        said(value, unit),
        view.stable,
        said(stable, unit)
    );
    if stable <= 0.0 {
        let verdict = if value <= 0.0 { Verdict::Pass } else { Verdict::Inconclusive };
        return finding(verdict, None, format!("{both}: there is no quotient"));
    }
    let quotient = value / stable;
    let ThresholdRange { min, max } = metric.threshold_range;
    let is_beyond = max.is_some_and(|max| quotient > max) || min.is_some_and(|min| quotient < min);
    let limits = match (min, max) {
        (Some(min), Some(max)) => format!("limits {} to {}", short(min), short(max)),
        (Some(min), None) => format!("at least {}", short(min)),
        (None, Some(max)) => format!("limit {}", short(max)),
        (None, None) => "no limit".to_owned(),
    };
    let verdict = if is_beyond { Verdict::Fail } else { Verdict::Pass };
    finding(verdict, Some(quotient), format!("{both}: {} times as much; {limits}", short(quotient)))
}
