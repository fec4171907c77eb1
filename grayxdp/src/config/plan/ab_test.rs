//! What an A/B test must be, by itself and against a service.

use std::time::Duration;

use crate::{
    config::problem::{Place, Problem},
    model::{
        Weight,
        config::{Affinity, Service, duration::said},
        plan::{AbTest, Plan, Provider, TestUnit},
    },
};

/// How long a test may be.
const TESTS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);

/// What is wrong with a test, in a step of a canary or by itself.
pub(super) fn alone(plan: &Plan, test: &AbTest, is_in_step: bool, place: &Place, problems: &mut Vec<Problem>) {
    let mut refuse = |field: &str, what: String, remedy: &str| {
        problems.push(Problem::new(place.field(field), what, remedy));
    };
    if is_in_step && !test.weights.is_empty() {
        refuse("weights", "weights of a test in a step".to_owned(), "leave them out: `setWeight` has them");
    }
    if is_in_step && test.on_winner.is_some() {
        refuse("onWinner", "onWinner of a test in a step".to_owned(), "leave it out: the next step follows");
    }
    if !is_in_step && !test.weights.is_empty() {
        let sum: u32 = test.weights.values().map(|weight| u32::from(weight.hundredths())).sum();
        let versions = [Some(&plan.spec.candidate), plan.spec.stable.as_ref()];
        if sum != u32::from(Weight::FULL.hundredths()) {
            refuse("weights", format!("the weights sum to {}", f64::from(sum) / 100.0), "they must sum to 100");
        }
        if let Some(other) =
            test.weights.keys().find(|name| plan.spec.stable.is_some() && !versions.contains(&Some(*name)))
        {
            refuse("weights", format!("`{other}` is neither stable nor candidate"), "name these two");
        }
        match test.weights.get(&plan.spec.candidate) {
            Some(&Weight::ZERO) | None => {
                refuse("weights", format!("`{}` has no part", plan.spec.candidate), "give it more than 0");
            }
            Some(&Weight::FULL) => refuse("weights", "stable has no part".to_owned(), "give it more than 0"),
            Some(_) => {}
        }
    }
    if !(test.alpha > 0.0 && test.alpha <= 0.5) {
        refuse("alpha", format!("an alpha of {}", test.alpha), "use more than 0 and at most 0.5, as 0.05");
    }
    if !(0.0..1.0).contains(&test.min_improvement) {
        refuse(
            "minImprovement",
            format!("an improvement of {}", test.min_improvement),
            "use 0 to below 1, as 0.05 for 5 %",
        );
    }
    if !TESTS.contains(&test.max_duration) {
        refuse("maxDuration", format!("a test of {}", said(test.max_duration)), "use 1s to 365days");
    }
    primary(plan, test, &place.field("primary"), problems);
    super::strategy::metrics(test.analysis.as_deref(), &plan.spec.analysis, &place.field("analysis"), problems);
}

/// The metric that decides: one whose values single flows have.
fn primary(plan: &Plan, test: &AbTest, place: &Place, problems: &mut Vec<Problem>) {
    let metric = plan.spec.analysis.metrics.iter().find(|metric| metric.name == test.primary);
    let Some(metric) = metric else {
        let named = [test.primary.clone()];
        let mut found = Vec::new();
        super::strategy::metrics(Some(&named), &plan.spec.analysis, place, &mut found);
        problems.extend(found.into_iter().map(|problem| problem.at(place.clone())));
        return;
    };
    let has_values = match &metric.provider {
        Provider::Kernel(kernel) => kernel.signal.is_of_flows(),
        Provider::Prometheus(_) | Provider::Http(_) | Provider::Command(_) | Provider::Posted(_) => false,
    };
    if !has_values {
        let what = format!("metric `{}` has no value of single flows", test.primary);
        let remedy = "use a kernel metric of connectFailureRatio, connect, firstByte or resetRatio";
        problems.push(Problem::new(place.clone(), what, remedy));
    }
}

/// What the service does not have.
pub(super) fn against(test: &AbTest, service: &Service, place: &Place, problems: &mut Vec<Problem>) {
    match (test.unit, service.affinity) {
        (TestUnit::Client, Affinity::Flow) => {
            let what = format!("clients are compared, and service `{}` has affinity: flow", service.name);
            let remedy = "set `affinity: client` there: else a client meets both versions; or use `unit: flow`";
            problems.push(Problem::new(place.field("unit"), what, remedy));
        }
        (TestUnit::Client, Affinity::Client) | (TestUnit::Flow, Affinity::Flow | Affinity::Client) => {}
    }
    for (index, version) in test.weights.keys().enumerate() {
        if service.version(version).is_none() {
            let what = format!("service `{}` has no version `{version}`", service.name);
            let known = service.versions.iter().map(|version| version.name.as_str());
            let remedy = crate::config::problem::suggestion(version.as_str(), known);
            problems.push(Problem::new(place.field("weights").index(index), what, remedy));
        }
    }
}
