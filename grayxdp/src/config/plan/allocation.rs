//! What segments and caps of a plan must be, by themselves and against a service.

use std::time::Duration;

use crate::{
    config::{
        check::Seen,
        problem::{Place, Problem, suggestion},
    },
    model::{
        Weight,
        config::{DEFAULT_SEGMENT, Service, duration::said},
        plan::Plan,
    },
};

/// How far apart changes may be.
const PER: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);

/// What is wrong whatever the configuration.
pub(super) fn alone(plan: &Plan, spec: &Place, problems: &mut Vec<Problem>) {
    let mut seen = Seen::default();
    for (index, rule) in plan.spec.segments.iter().enumerate() {
        let place = spec.field("segments").index(index);
        if let Some(first) = seen.clash(&rule.name, &place.field("name")) {
            let what = format!("segment `{}` stands twice", rule.name);
            problems.push(Problem::new(place.field("name"), what, "keep one of the two").with_other(&first));
        }
        if rule.max_step == Weight::ZERO {
            let what = format!("segment `{}` may never change", rule.name);
            problems.push(Problem::new(place.field("maxStep"), what, "use percentage points above 0, as 25"));
        }
        if let Some(share) = rule.share.filter(|share| !(0.0..=1.0).contains(share)) {
            problems.push(Problem::new(
                place.field("share"),
                format!("a share of {share}"),
                "use 0 to 1, as 0.4 for 40 %",
            ));
        }
    }
    let sum: f64 = plan.spec.segments.iter().filter_map(|rule| rule.share).sum();
    if sum > 1.0 + 1e-9 {
        let what = format!("the shares sum to {sum}");
        problems.push(Problem::new(spec.field("segments"), what, "they are parts of all new flows: at most 1"));
    }
    let Some(constraints) = plan.spec.constraints else { return };
    let place = spec.field("constraints");
    if constraints.max_total_step == Weight::ZERO {
        let remedy = "use percentage points above 0, as 50";
        problems.push(Problem::new(place.field("maxTotalStep"), "exposure may never grow", remedy));
    }
    if !PER.contains(&constraints.per) {
        let what = format!("changes {} apart", said(constraints.per));
        problems.push(Problem::new(place.field("per"), what, "use 1s to 30days"));
    }
}

/// What the service does not have.
pub(super) fn against(plan: &Plan, service: &Service, place: &Place, problems: &mut Vec<Problem>) {
    let known = service.segments.iter().map(|segment| segment.name.as_str()).chain([DEFAULT_SEGMENT]);
    for (index, rule) in plan.spec.segments.iter().enumerate() {
        if known.clone().any(|known| known == rule.name.as_str()) {
            continue;
        }
        let what = format!("service `{}` has no segment `{}`", service.name, rule.name);
        let remedy = match service.segments.is_empty() {
            true => "add it to the service's `segments` and reload".to_owned(),
            false => suggestion(rule.name.as_str(), known.clone()),
        };
        problems.push(Problem::new(place.index(index).field("name"), what, remedy));
    }
}
