//! What a plan must be beyond its form, by itself and against a configuration.

use std::time::Duration;

use crate::{
    config::{
        check::Seen,
        problem::{ConfigError, Place, Problem, suggestion},
    },
    model::{
        Name, Weight,
        config::Config,
        plan::{Analysis, Canary, KernelSignal, Metric, Plan, Provider, Strategy, ThresholdRange, Unit},
    },
};

/// Shortest and longest time between looks.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);

/// Checks a plan by itself and against the configuration that it is to run in.
///
/// # Errors
/// All that is wrong, one line each: `plan NAME: spec.candidate: what; what to do`.
pub fn check_plan(plan: &Plan, config: &Config) -> Result<(), ConfigError> {
    let mut problems = check_alone(plan);
    against(plan, config, &mut problems);
    let at = |place: &Place| format!("plan {}: {place}", plan.metadata.name);
    ConfigError::of(problems.iter().map(|problem| problem.line(&at)).collect())
}

/// All that is wrong with a plan whatever the configuration.
pub(super) fn check_alone(plan: &Plan) -> Vec<Problem> {
    let mut problems = Vec::new();
    let spec = Place::default().field("spec");
    if plan.spec.stable.as_ref() == Some(&plan.spec.candidate) {
        let what = format!("`{}` is both stable and candidate", plan.spec.candidate);
        problems.push(Problem::new(spec.field("candidate"), what, "name the version to release"));
    }
    let analysis = &plan.spec.analysis;
    match &plan.spec.strategy {
        Strategy::Canary(canary) => {
            let place = spec.field("strategy").field("canary").field("steps");
            steps(canary, analysis, &place, &mut problems);
        }
    }
    let place = spec.field("analysis");
    if !INTERVALS.contains(&analysis.interval) {
        let what = format!("an interval of {}", humantime::format_duration(analysis.interval));
        problems.push(Problem::new(place.field("interval"), what, "use 1s to 1h"));
    }
    let mut seen = Seen::default();
    for (index, metric) in analysis.metrics.iter().enumerate() {
        let place = place.field("metrics").index(index);
        if let Some(first) = seen.clash(&metric.name, &place.field("name")) {
            let what = format!("metric `{}` stands twice", metric.name);
            let remedy = "give each metric a name of its own";
            problems.push(Problem::new(place.field("name"), what, remedy).with_other(&first));
        }
        range(metric, &place.field("thresholdRange"), &mut problems);
    }
    problems
}

fn steps(canary: &Canary, analysis: &Analysis, place: &Place, problems: &mut Vec<Problem>) {
    if canary.steps.is_empty() {
        problems.push(Problem::new(place.clone(), "no step", "give at least one, the last with `setWeight: 100`"));
        return;
    }
    let known = analysis.metrics.iter().map(|metric| metric.name.as_str());
    for (index, step) in canary.steps.iter().enumerate() {
        let place = place.index(index).field("analysis");
        for (index, name) in step.analysis.iter().flatten().enumerate() {
            if !known.clone().any(|known| known == name.as_str()) {
                let remedy = match analysis.metrics.is_empty() {
                    true => "describe it under `spec.analysis.metrics`".to_owned(),
                    false => suggestion(name.as_str(), known.clone()),
                };
                problems.push(Problem::new(place.index(index), format!("there is no metric `{name}`"), remedy));
            }
        }
    }
    let last = canary.steps.iter().enumerate().rev().find_map(|(index, step)| Some((index, step.set_weight?)));
    match last {
        Some((_, Weight::FULL)) => {}
        Some((index, weight)) => problems.push(Problem::new(
            place.index(index).field("setWeight"),
            format!("the last setWeight is {weight}"),
            "the last setWeight must be 100",
        )),
        None => problems.push(Problem::new(
            place.clone(),
            "no step has a setWeight",
            "the last setWeight must be 100; add `{setWeight: 100}`",
        )),
    }
}

fn range(metric: &Metric, place: &Place, problems: &mut Vec<Problem>) {
    let ThresholdRange { min, max } = metric.threshold_range;
    let mut refuse = |place: Place, what: String, remedy: &str| {
        problems.push(Problem::new(place, format!("metric `{}`: {what}", metric.name), remedy));
    };
    if min.is_none() && max.is_none() {
        refuse(place.clone(), "no limit".to_owned(), "give `min`, `max` or both");
    }
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        refuse(place.clone(), format!("min {min} is above max {max}"), "swap the two");
    }
    let Provider::Kernel(KernelSignal { signal, quantile }) = &metric.provider;
    let (greatest, what, remedy) = match signal.unit() {
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

fn against(plan: &Plan, config: &Config, problems: &mut Vec<Problem>) {
    let spec = Place::default().field("spec");
    let name = &plan.spec.service;
    let Some(service) = config.services.iter().find(|service| service.name == *name) else {
        let remedy = match config.services.is_empty() {
            true => "the configuration has no service; add it there and reload".to_owned(),
            false => suggestion(name.as_str(), config.services.iter().map(|service| service.name.as_str())),
        };
        problems.push(Problem::new(spec.field("service"), format!("there is no service `{name}`"), remedy));
        return;
    };
    let known = service.versions.iter().map(|version| version.name.as_str());
    let mut version = |field: &str, version: &Name| {
        if !known.clone().any(|known| known == version.as_str()) {
            let what = format!("service `{name}` has no version `{version}`");
            problems.push(Problem::new(spec.field(field), what, suggestion(version.as_str(), known.clone())));
        }
    };
    version("candidate", &plan.spec.candidate);
    if let Some(stable) = &plan.spec.stable {
        version("stable", stable);
    }
    if service.versions.len() < 2 {
        let what = format!("service `{name}` has only one version");
        problems.push(Problem::new(spec.field("candidate"), what, "add the version to release and reload"));
    }
}
