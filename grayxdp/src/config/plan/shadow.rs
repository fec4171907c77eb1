//! What a shadow release must be, by itself and against a service.

use std::time::Duration;

use crate::{
    config::problem::{Place, Problem},
    model::{
        Weight,
        config::{Protocol, Service, duration::said},
        plan::{KernelSignal, Plan, Provider, RollbackMode, Shadow, Signal},
    },
};

/// How long a shadow release may be.
const SHADOWS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);

/// What is wrong with it whatever the configuration.
pub(super) fn alone(plan: &Plan, shadow: &Shadow, place: &Place, problems: &mut Vec<Problem>) {
    if shadow.sample == Weight::ZERO {
        problems.push(Problem::new(place.field("sample"), "a sample of 0", "use more than 0, as 10 for 10 % of flows"));
    }
    if !SHADOWS.contains(&shadow.duration) {
        let what = format!("a shadow of {}", said(shadow.duration));
        problems.push(Problem::new(place.field("duration"), what, "use 1s to 365days"));
    }
    super::strategy::metrics(shadow.analysis.as_deref(), &plan.spec.analysis, &place.field("analysis"), problems);
    without_meaning(plan, problems);
    signals(plan, problems);
}

/// Fields that are about exposure.
fn without_meaning(plan: &Plan, problems: &mut Vec<Problem>) {
    let (place, spec) = (Place::default().field("spec"), &plan.spec);
    let fields = [
        ("lease", spec.lease.is_some()),
        ("constraints", spec.constraints.is_some()),
        ("segments", !spec.segments.is_empty()),
        ("retainStable", spec.retain_stable.is_some()),
        ("existingFlows", spec.existing_flows != Default::default()),
    ];
    for (field, _) in fields.into_iter().filter(|(_, is_there)| *is_there) {
        let what = format!("{field} of a shadow");
        problems.push(Problem::new(place.field(field), what, "leave it out: a shadow exposes nothing"));
    }
    if spec.on_failure.mode == RollbackMode::ReverseSteps {
        let place = place.field("onFailure").field("mode");
        problems.push(Problem::new(place, "a shadow in reverse", "leave it out: a shadow has no steps"));
    }
}

/// What can be told of copies: when they were answered, and whether.
fn signals(plan: &Plan, problems: &mut Vec<Problem>) {
    let place = Place::default().field("spec").field("analysis").field("metrics");
    for (index, metric) in plan.spec.analysis.metrics.iter().enumerate() {
        let Provider::Kernel(KernelSignal { signal, quantile: _ }) = &metric.provider else { continue };
        match signal {
            Signal::FirstByte | Signal::ConnectFailureRatio => {}
            Signal::Connect
            | Signal::ResetRatio
            | Signal::SynTimeoutRatio
            | Signal::RetransmitRatio
            | Signal::BytesPerFlow
            | Signal::FlowsPerSecond
            | Signal::ZeroWindowRatio => {
                let what = format!("metric `{}`: {} of copies is not known", metric.name, signal.label());
                let place = place.index(index).field("provider").field("kernel").field("signal");
                problems.push(Problem::new(place, what, "use firstByte or connectFailureRatio"));
            }
        }
    }
}

/// What of a service cannot be copied.
pub(super) fn against(plan: &Plan, service: &Service, place: &Place, problems: &mut Vec<Problem>) {
    let name = &service.name;
    if service.protocol == Protocol::Tcp {
        let what = format!("service `{name}` is tcp");
        let remedy = "use canary with an instance: a copied connection cannot be acknowledged, so only udp has shadows";
        problems.push(Problem::new(place.clone(), what, remedy));
    } else if !service.forwarding.sees_answers() {
        let what = format!("service `{name}` has {}", service.forwarding.label());
        let remedy =
            "use `nat`: backends of other modes answer to the virtual address only, and stable's answers are not seen";
        problems.push(Problem::new(place.clone(), what, remedy));
    }
    let candidate = &plan.spec.candidate;
    if service.version(candidate).is_some_and(|version| version.backends.is_empty()) {
        let what = format!("`{candidate}` has no backend");
        problems.push(Problem::new(place.clone(), what, "add the servers that are to get the copies"));
    }
}
