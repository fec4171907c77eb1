//! How a plan's metrics are judged: what a judge can judge, and what its words may say.

use crate::{
    config::problem::{Place, Problem},
    model::{
        Weight,
        plan::{
            Analysis, Canary, Judge, JudgeType, KernelSignal, Metric, Provider, QualityLimits, Signal, ThresholdRange,
            Unit,
        },
    },
};

/// Least planned sample of a judge that looks once: below it the normal distribution is no good guess.
const LEAST_PLANNED: u64 = 100;

/// Multiples of stable's value that can be tolerated.
const RATIOS: std::ops::RangeInclusive<f64> = 0.1..=100.0;

/// All that is wrong with how a metric is judged.
pub(super) fn metric(metric: &Metric, place: &Place, problems: &mut Vec<Problem>) {
    range(metric, &place.field("thresholdRange"), problems);
    let mut refuse = |place: Place, what: String, remedy: &str| {
        problems.push(Problem::new(place, format!("metric `{}`: {what}", metric.name), remedy));
    };
    let Provider::Kernel(KernelSignal { signal, quantile: _ }) = &metric.provider else {
        from_outside(metric, place, &mut refuse);
        return;
    };
    if metric.quality.is_some() {
        let remedy = "leave `quality` out: it needs a confusion matrix";
        refuse(place.field("quality"), format!("the kernel's {} is no confusion matrix", signal.label()), remedy);
    }
    let Some(judge) = metric.judged() else {
        let remedy = "give `thresholdRange` with `min` or `max`, or `judge`";
        refuse(place.clone(), "no limit".to_owned(), remedy);
        return;
    };
    let of = judge.r#type;
    if !of.judges(*signal) {
        let known = JudgeType::ALL.into_iter().filter(|judge| judge.judges(*signal));
        let known: Vec<_> = known.map(JudgeType::label).collect();
        let what = format!("{} cannot judge {}", of.label(), signal.label());
        refuse(place.field("judge").field("type"), what, &format!("use {}", known.join(", ")));
        return;
    }
    numbers(&judge, metric, &place.field("judge"), &mut refuse);
    belonging(metric, &judge, place, &mut refuse);
}

/// Values from outside have plain limits only.
fn from_outside(metric: &Metric, place: &Place, refuse: &mut impl FnMut(Place, String, &str)) {
    match metric.judge.map(|judge| judge.r#type) {
        Some(JudgeType::Threshold) | None => {}
        Some(JudgeType::Quality) if metric.quality.is_some() => {}
        Some(other) => {
            let what = format!("{} cannot judge values from outside", other.label());
            refuse(place.field("judge").field("type"), what, "use threshold, or leave `judge` out");
        }
    }
    for (field, is_there) in
        [("stableLimit", metric.stable_limit.is_some()), ("perClientCap", metric.per_client_cap.is_some())]
    {
        if is_there {
            refuse(place.field(field), format!("{field} of a value from outside"), "leave it out");
        }
    }
    if let Some(limits) = &metric.quality {
        quality(metric, limits, place, refuse);
    }
    if metric.quality.is_none() && metric.judged().is_none() {
        let remedy = "give `thresholdRange`, `successCondition` or `failureCondition`";
        refuse(place.clone(), "no limit".to_owned(), remedy);
    }
}

/// Limits of a model's quality: of a JSON object that is asked for.
fn quality(metric: &Metric, limits: &QualityLimits, place: &Place, refuse: &mut impl FnMut(Place, String, &str)) {
    let QualityLimits { min_f1, min_precision, min_recall, margin } = *limits;
    let own = place.field("quality");
    let all = [("minF1", min_f1), ("minPrecision", min_precision), ("minRecall", min_recall), ("margin", margin)];
    if all.iter().all(|(_, limit)| limit.is_none()) {
        let remedy = "give `minF1`, `minPrecision`, `minRecall` or `margin`";
        refuse(own.clone(), "no limit".to_owned(), remedy);
    }
    for (name, limit) in all {
        if let Some(limit) = limit.filter(|limit| !(0.0..=1.0).contains(limit)) {
            refuse(own.field(name), format!("{name} {limit}"), "use 0 to 1, as 0.85");
        }
    }
    let has_limits =
        !metric.threshold_range.is_none() || metric.success_condition.is_some() || metric.failure_condition.is_some();
    if has_limits {
        refuse(own.clone(), "quality beside other limits".to_owned(), "make two metrics of it");
    }
    match &metric.provider {
        Provider::Prometheus(_) => {
            refuse(own, "quality of a Prometheus query".to_owned(), "use `http` or `command`: it needs a JSON object");
        }
        Provider::Kernel(_) | Provider::Http(_) | Provider::Command(_) | Provider::Posted(_) => {}
    }
}

/// Metrics that a step names although they compare with a stable version that has no flows there.
pub(super) fn without_stable(
    canary: &Canary,
    index: usize,
    analysis: &Analysis,
    place: &Place,
    problems: &mut Vec<Problem>,
) {
    let weight = canary.steps[..=index].iter().rev().find_map(|step| step.set_weight);
    let held_back = canary.segments_at(index).values().any(|weight| *weight < Weight::FULL);
    if weight != Some(Weight::FULL) || held_back {
        return;
    }
    for (number, name) in canary.steps[index].analysis.iter().flatten().enumerate() {
        if analysis.metrics.iter().any(|metric| metric.name == *name && metric.needs_stable()) {
            let what = format!("metric `{name}` compares with the stable version, which has no flows at 100 %");
            problems.push(Problem::new(place.index(number), what, "leave it out here, or give it a `thresholdRange`"));
        }
    }
}

/// Numbers that make no sense.
fn numbers(judge: &Judge, metric: &Metric, place: &Place, refuse: &mut impl FnMut(Place, String, &str)) {
    let Judge { r#type: of, alpha, tolerate_ratio, tolerate_absolute, detect_ratio, range: _ } = *judge;
    let Provider::Kernel(KernelSignal { signal, quantile: _ }) = &metric.provider else { return };
    if !(alpha > 0.0 && alpha <= 0.5) {
        refuse(place.field("alpha"), format!("alpha {alpha}"), "use a number above 0 and at most 0.5, as 0.01");
    }
    if !RATIOS.contains(&tolerate_ratio) {
        refuse(place.field("tolerateRatio"), format!("tolerateRatio {tolerate_ratio}"), "use 0.1 to 100, as 1.5");
    }
    if let Some(detect) = detect_ratio.filter(|detect| !(*detect > tolerate_ratio && detect.is_finite())) {
        let what = format!("detectRatio {detect} is not above tolerateRatio {tolerate_ratio}");
        refuse(place.field("detectRatio"), what, "leave it out for twice tolerateRatio");
    }
    let most = if signal.unit() == Unit::Ratio { 1.0 } else { f64::MAX };
    if let Some(absolute) = tolerate_absolute.filter(|absolute| !(0.0..=most).contains(absolute)) {
        let remedy = if signal.unit() == Unit::Ratio { "use 0 to 1, as 0.001 for 0.1 %" } else { "use 0 or more" };
        refuse(place.field("tolerateAbsolute"), format!("tolerateAbsolute {absolute}"), remedy);
    }
    if let Some((low, high)) = judge.bounds().filter(|(low, high)| !(*low >= 0.0 && low < high && high.is_finite())) {
        refuse(place.field("range"), format!("range {low} to {high}"), "give the least value first, as [0, 10s]");
    }
    if judge.range.is_some() && of != JudgeType::ConfidenceSequence {
        let what = format!("{} has no range", of.label());
        refuse(place.field("range"), what, "leave it out; only confidenceSequence has one");
    }
    if of.is_fixed() && metric.min_samples < LEAST_PLANNED {
        let what = format!("{} looks once, at {} samples a side", of.label(), metric.min_samples);
        refuse(place.field("type"), what, "set the metric's `minSamples` to the planned sample, at least 100");
    }
}

/// Words that belong to another judge.
fn belonging(metric: &Metric, judge: &Judge, place: &Place, refuse: &mut impl FnMut(Place, String, &str)) {
    let of = judge.r#type;
    let Provider::Kernel(KernelSignal { signal, quantile }) = &metric.provider else { return };
    let limits = matches!(of, JudgeType::Threshold | JudgeType::Ratio);
    if limits && metric.threshold_range.is_none() {
        refuse(place.clone(), format!("{} without a limit", of.label()), "give `thresholdRange` with `min` or `max`");
    }
    if !limits && !metric.threshold_range.is_none() {
        let what = format!("{} has no thresholdRange", of.label());
        refuse(place.field("thresholdRange"), what, "leave it out, or use `judge: {type: threshold}`");
    }
    if !of.is_comparative() {
        for (name, is_there) in
            [("stableLimit", metric.stable_limit.is_some()), ("perClientCap", metric.per_client_cap.is_some())]
        {
            if is_there {
                let what = format!("{} has no {name}", of.label());
                refuse(place.field(name), what, "leave it out; only comparisons with stable have it");
            }
        }
        return;
    }
    for (name, is_there) in [
        ("failureLimit", metric.failure_limit > 0),
        ("consecutiveFailureLimit", metric.consecutive_failure_limit.is_some()),
    ] {
        if is_there {
            let what = format!("a fail of {} is final and has no {name}", of.label());
            refuse(place.field(name), what, "leave it out; a smaller `alpha` makes fails rarer");
        }
    }
    if quantile.is_some() && of != JudgeType::QuantileTest {
        let what = format!("{} compares no quantiles", of.label());
        refuse(place.field("provider").field("kernel").field("quantile"), what, "leave it out, or use quantileTest");
    }
    match metric.stable_limit {
        Some(_) if !signal.is_failure() => {
            let what = format!("{} is no ratio of failures", signal.label());
            refuse(place.field("stableLimit"), what, "leave `stableLimit` out");
        }
        Some(limit) if !(limit > 0.0 && limit < 1.0) => {
            let what = format!("stableLimit {limit}");
            refuse(place.field("stableLimit"), what, "use a number between 0 and 1, as 0.05 for 5 %");
        }
        Some(_) | None => {}
    }
    let has_cells = of == JudgeType::CountEProcess && *signal == Signal::ConnectFailureRatio;
    match metric.per_client_cap {
        Some(_) if !has_cells => {
            let what = format!("{} of {} is not known by client", of.label(), signal.label());
            refuse(place.field("perClientCap"), what, "leave it out; countEProcess of connectFailureRatio has it");
        }
        Some(0) => refuse(place.field("perClientCap"), "perClientCap 0".to_owned(), "use 1 or more"),
        Some(_) | None => {}
    }
}

fn range(metric: &Metric, place: &Place, problems: &mut Vec<Problem>) {
    let ThresholdRange { min, max } = metric.threshold_range;
    let mut refuse = |place: Place, what: String, remedy: &str| {
        problems.push(Problem::new(place, format!("metric `{}`: {what}", metric.name), remedy));
    };
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        refuse(place.clone(), format!("min {min} is above max {max}"), "swap the two");
    }
    let Provider::Kernel(KernelSignal { signal, quantile }) = &metric.provider else { return };
    let is_quotient = metric.judge.is_some_and(|judge| judge.r#type == JudgeType::Ratio);
    let (greatest, what, remedy) = match signal.unit() {
        _ if is_quotient => (f64::MAX, "a quotient", "use 0 or more, as 1.2 for 20 % more than stable"),
        Unit::Ratio => (1.0, "a ratio", "use 0 to 1, as 0.01 for 1 %"),
        Unit::Seconds => (f64::MAX, "a time", "use a duration, as 250ms"),
        Unit::Bytes => (f64::MAX, "a number of bytes", "use 0 or more"),
        Unit::PerSecond => (f64::MAX, "a rate", "use 0 or more"),
    };
    for (name, bound) in [("min", min), ("max", max)] {
        if let Some(bound) = bound.filter(|bound| !(0.0..=greatest).contains(bound)) {
            refuse(place.field(name), format!("{name} {bound} of {what}"), remedy);
        }
    }
    match quantile {
        Some(_) if !signal.has_quantile() => {
            let what = format!("{} has no quantile", signal.label());
            refuse(place.clone(), what, "leave `quantile` out");
        }
        Some(quantile) if !(*quantile > 0.0 && *quantile < 1.0) => {
            refuse(place.clone(), format!("quantile {quantile}"), "use a number between 0 and 1, as 0.99");
        }
        Some(_) | None => {}
    }
}
