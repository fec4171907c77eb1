//! What a plan must be beyond its form, by itself and against a configuration.

mod ab_test;
mod allocation;
mod shadow;
mod strategy;

use std::time::Duration;

use crate::{
    config::{
        check::Seen,
        judging,
        outlets::outlets,
        problem::{ConfigError, Place, Problem, suggestion},
        providers,
        windows::windows,
    },
    model::{
        Name,
        config::{Config, Protocol, Service, duration::said},
        plan::{ExistingFlows, FlowsEnd, KernelSignal, Metric, Plan, Provider},
    },
};

/// Shortest and longest time between looks.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);

/// How long `drain` may last.
const DEADLINES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
/// How long a lease may be: three ticks at least.
const LEASES: std::ops::RangeInclusive<Duration> = Duration::from_secs(3)..=Duration::from_secs(86_400);

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
    strategy::alone(plan, &spec.field("strategy"), &mut problems);
    allocation::alone(plan, &spec, &mut problems);
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
        providers::outside(metric, &place, &mut problems);
        judging::metric(metric, &place, &mut problems);
        limits(metric, &place, &mut problems);
    }
    let ExistingFlows { on_promote: _, on_rollback: _, deadline } = plan.spec.existing_flows;
    if !DEADLINES.contains(&deadline) {
        let place = spec.field("existingFlows").field("deadline");
        problems.push(Problem::new(place, format!("a deadline of {}", said(deadline)), "use 1s to 30days"));
    }
    if let Some(lease) = plan.spec.lease.filter(|lease| !LEASES.contains(&lease.duration)) {
        let what = format!("a lease of {}", said(lease.duration));
        let remedy = "use 3s to 1day: it is renewed every second";
        problems.push(Problem::new(spec.field("lease").field("duration"), what, remedy));
    }
    outlets(&plan.spec, &spec, &mut problems);
    if let Some(windows) = &plan.spec.windows {
        self::windows(windows, &spec.field("windows"), &mut problems);
    }
    problems
}

/// Limits that make no sense.
fn limits(metric: &Metric, place: &Place, problems: &mut Vec<Problem>) {
    if metric.recover_after == Some(0) {
        problems.push(Problem::new(place.field("recoverAfter"), "recoverAfter 0", "use 1 or more"));
    }
    if metric.max_outage.is_zero() {
        problems.push(Problem::new(place.field("maxOutage"), "an outage of 0s", "use 1s or more"));
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
    strategy::against(plan, service, &spec.field("strategy"), problems);
    allocation::against(plan, service, &spec.field("segments"), problems);
    signals(plan, service, &spec, problems);
    existing_flows(&plan.spec.existing_flows, service, &spec.field("existingFlows"), problems);
}

/// What the data path cannot see of a service is not available to its plans.
fn signals(plan: &Plan, service: &Service, spec: &Place, problems: &mut Vec<Problem>) {
    let (protocol, forwarding) = (service.protocol, service.forwarding);
    for (index, metric) in plan.spec.analysis.metrics.iter().enumerate() {
        let Provider::Kernel(KernelSignal { signal, quantile: _ }) = &metric.provider else { continue };
        if signal.is_measured(protocol, forwarding) {
            continue;
        }
        let (label, name) = (signal.label(), &service.name);
        let (why, remedy) = if forwarding.sees_answers() {
            (format!("service `{name}` is {}: it has no handshakes", protocol.label()), "leave the metric out")
        } else {
            let mode = forwarding.label();
            let why = format!("with `{mode}` nothing of what backends of service `{name}` answer comes by");
            (why, "judge by prometheus, http or a command")
        };
        let place = spec.field("analysis").field("metrics").index(index).field("provider").field("kernel");
        let what = format!("metric `{}`: {label} is not available: {why}", metric.name);
        problems.push(Problem::new(place.field("signal"), what, remedy));
    }
}

/// TCP cannot move, and UDP cannot be reset.
fn existing_flows(flows: &ExistingFlows, service: &Service, place: &Place, problems: &mut Vec<Problem>) {
    for (field, end) in [("onPromote", flows.on_promote), ("onRollback", flows.on_rollback)] {
        let refused = match (end, service.protocol) {
            (FlowsEnd::Move, Protocol::Tcp) => {
                Some(("move of a tcp service", "use `reset`: no other backend knows the connection"))
            }
            (FlowsEnd::Reset, Protocol::Udp) => Some(("reset of a udp service", "use `move`: UDP has no resets")),
            (FlowsEnd::Pin | FlowsEnd::Drain, Protocol::Tcp | Protocol::Udp)
            | (FlowsEnd::Reset, Protocol::Tcp)
            | (FlowsEnd::Move, Protocol::Udp) => None,
        };
        if let Some((what, remedy)) = refused {
            problems.push(Problem::new(place.field(field), what, remedy));
        }
    }
}
