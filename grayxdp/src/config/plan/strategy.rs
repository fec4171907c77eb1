//! What a strategy must be, by itself and against a service.

use std::time::Duration;

use grayxdp_common::cells;

use crate::{
    config::{
        judging, outlets,
        plan::{ab_test, shadow},
        problem::{Place, Problem, suggestion},
        segments::{in_order, unseen},
    },
    model::{
        Name, Weight,
        config::{Match, Service, duration::said},
        plan::{
            Adaptive, Analysis, BlueGreen, Canary, Curve, Instance, Plan, Ramp, Replace, RollbackMode, Rolling,
            Strategy,
        },
    },
};

/// How long a ramp may be.
const RAMPS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);

/// How long drained backends may be waited for.
const DRAINS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);

/// How long a command may take.
const REPLACES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Most points of a ramp.
const POINTS: u128 = 100_000;

/// What is wrong with the strategy whatever the configuration.
pub(super) fn alone(plan: &Plan, place: &Place, problems: &mut Vec<Problem>) {
    let analysis = &plan.spec.analysis;
    match &plan.spec.strategy {
        Strategy::Canary(canary) => {
            let place = place.field("canary");
            self::canary(canary, analysis, &place, problems);
            let tests =
                canary.steps.iter().enumerate().filter_map(|(index, step)| Some((index, step.ab_test.as_ref()?)));
            for (index, test) in tests {
                let place = place.field("steps").index(index);
                if let Some(pause) = &canary.steps[index].pause {
                    let remedy = "leave the pause out: the test ends the step";
                    let what = pause
                        .duration
                        .map_or_else(|| "a pause".to_owned(), |pause| format!("a pause of {}", said(pause)));
                    problems.push(Problem::new(place.field("pause"), format!("{what} beside a test"), remedy));
                }
                ab_test::alone(plan, test, true, &place.field("abTest"), problems);
            }
        }
        Strategy::Rolling(rolling) => {
            self::rolling(rolling, analysis, &place.field("rolling"), problems);
            if plan.spec.on_failure.mode == RollbackMode::ReverseSteps {
                let place = Place::default().field("spec").field("onFailure").field("mode");
                let remedy = "leave it out: what was replaced stays so";
                problems.push(Problem::new(place, "a rolling release in reverse", remedy));
            }
        }
        Strategy::BlueGreen(blue_green) => self::blue_green(blue_green, analysis, &place.field("blueGreen"), problems),
        Strategy::AbTest(test) => ab_test::alone(plan, test, false, &place.field("abTest"), problems),
        Strategy::Shadow(shadow) => shadow::alone(plan, shadow, &place.field("shadow"), problems),
    }
}

/// What of the strategy does not fit the service.
pub(super) fn against(plan: &Plan, service: &Service, place: &Place, problems: &mut Vec<Problem>) {
    match &plan.spec.strategy {
        Strategy::Canary(canary) => {
            let place = place.field("canary");
            segments_of(canary, service, &place, problems);
            if let Some(instance) = &canary.instance {
                instance_of(plan, instance, service, &place.field("instance"), problems);
            }
            for (index, step) in canary.steps.iter().enumerate() {
                if let Some(test) = &step.ab_test {
                    ab_test::against(test, service, &place.field("steps").index(index).field("abTest"), problems);
                }
            }
        }
        Strategy::AbTest(test) => ab_test::against(test, service, &place.field("abTest"), problems),
        Strategy::Shadow(_) => shadow::against(plan, service, &place.field("shadow"), problems),
        Strategy::Rolling(rolling) => rolling_against(plan, rolling, service, &place.field("rolling"), problems),
        Strategy::BlueGreen(blue_green) => {
            if let Some(preview) = &blue_green.preview {
                let place = place.field("blueGreen").field("preview");
                match_of("preview", &preview.r#match, service, &place, problems);
            }
        }
    }
}

fn canary(canary: &Canary, analysis: &Analysis, place: &Place, problems: &mut Vec<Problem>) {
    match &canary.ramp {
        Some(_) if !canary.steps.is_empty() => {
            let remedy = "keep one of the two";
            problems.push(Problem::new(place.field("ramp"), "both `ramp` and `steps`", remedy));
        }
        Some(ramp) => self::ramp(ramp, analysis, &place.field("ramp"), problems),
        None => steps(canary, analysis, &place.field("steps"), problems),
    }
    if let Some(instance) = &canary.instance {
        self::instance(instance, analysis, &place.field("instance"), problems);
    }
    if let Some(adaptive) = &canary.adaptive {
        self::adaptive(adaptive, &place.field("adaptive"), problems);
    }
}

fn adaptive(adaptive: &Adaptive, place: &Place, problems: &mut Vec<Problem>) {
    let Adaptive { accelerate_after, factor, min_pause: _ } = adaptive;
    if *accelerate_after == 0 {
        problems.push(Problem::new(place.field("accelerateAfter"), "after 0 passes", "use 1 or more"));
    }
    if !(*factor > 1.0 && *factor <= 100.0) {
        let remedy = "use more than 1 and at most 100: pauses are divided by it";
        problems.push(Problem::new(place.field("factor"), format!("a factor of {factor}"), remedy));
    }
}

fn blue_green(blue_green: &BlueGreen, analysis: &Analysis, place: &Place, problems: &mut Vec<Problem>) {
    let steps = place.field("steps");
    match blue_green.steps.last() {
        Some(&Weight::FULL) => {}
        Some(weight) => {
            let place = steps.index(blue_green.steps.len() - 1);
            problems.push(Problem::new(place, format!("the last step is {weight}"), "the last step must be 100"));
        }
        None => problems.push(Problem::new(steps.clone(), "no step", "give at least 100, or leave `steps` out")),
    }
    if let Some(index) = blue_green.steps.windows(2).position(|pair| pair[0] >= pair[1]) {
        let what = format!("{} after {}", blue_green.steps[index + 1], blue_green.steps[index]);
        problems.push(Problem::new(steps.index(index + 1), what, "write them in rising order"));
    }
    if blue_green.steps.first() == Some(&Weight::ZERO) {
        problems.push(Problem::new(steps.index(0), "a first step of 0", "begin above 0"));
    }
    match &blue_green.preview {
        Some(preview) => clients("preview", &preview.r#match, &place.field("preview"), problems),
        None if blue_green.pre_promotion_analysis.as_ref().is_some_and(|named| !named.is_empty()) => {
            let remedy = "add a `preview`, or leave it out: nobody meets the candidate before the switch";
            let place = place.field("prePromotionAnalysis");
            problems.push(Problem::new(place, "an analysis before the switch without a preview", remedy));
        }
        None => {}
    }
    for (field, named) in [
        ("prePromotionAnalysis", &blue_green.pre_promotion_analysis),
        ("postPromotionAnalysis", &blue_green.post_promotion_analysis),
    ] {
        metrics(named.as_deref(), analysis, &place.field(field), problems);
    }
}

fn rolling(rolling: &Rolling, analysis: &Analysis, place: &Place, problems: &mut Vec<Problem>) {
    if rolling.max_unavailable == 0 {
        problems.push(Problem::new(place.field("maxUnavailable"), "no backend may be out", "use 1 or more"));
    }
    if !DRAINS.contains(&rolling.drain_deadline) {
        let what = format!("a deadline of {}", said(rolling.drain_deadline));
        problems.push(Problem::new(place.field("drainDeadline"), what, "use 1s to 30days"));
    }
    if let Some(replace) = &rolling.replace {
        let place = place.field("replace");
        self::replace(replace, &place, problems);
    }
    metrics(rolling.analysis.as_deref(), analysis, &place.field("analysis"), problems);
}

/// What replaces backends: one of the two, within its time.
fn replace(replace: &Replace, place: &Place, problems: &mut Vec<Problem>) {
    let Replace { command, webhook, timeout } = replace;
    match webhook {
        Some(_) if !command.is_empty() => {
            problems.push(Problem::new(place.clone(), "both `command` and `webhook`", "keep one of the two"));
        }
        Some(hook) => outlets::replacement(hook, &place.field("webhook"), problems),
        None if !command.first().is_some_and(|program| program.starts_with('/')) => {
            let remedy = "write the program's full path first, as [/usr/local/bin/deploy, v2], or give a `webhook`";
            problems.push(Problem::new(place.field("command"), "no full path of a program", remedy));
        }
        None => {}
    }
    if !REPLACES.contains(timeout) {
        let what = format!("a timeout of {}", said(*timeout));
        problems.push(Problem::new(place.field("timeout"), what, "use 1s to 1day"));
    }
}

/// Pools of one size, of which some stay.
fn rolling_against(plan: &Plan, rolling: &Rolling, service: &Service, place: &Place, problems: &mut Vec<Problem>) {
    let count = |name: &Name| service.version(name).map(|version| version.backends.len());
    let Some(own) = count(&plan.spec.candidate) else { return };
    let stable = plan.spec.stable.as_ref().and_then(count);
    if let Some(others) = stable.filter(|others| *others != own) {
        let what = format!("stable has {others} backends, `{}` has {own}", plan.spec.candidate);
        problems.push(Problem::new(place.clone(), what, "give both versions as many: each replaces one"));
    }
    if rolling.max_unavailable as usize >= own {
        let what = format!("{} of {own} backends out at once", rolling.max_unavailable);
        problems.push(Problem::new(place.field("maxUnavailable"), what, "use fewer than there are"));
    }
}

fn ramp(ramp: &Ramp, analysis: &Analysis, place: &Place, problems: &mut Vec<Problem>) {
    let mut refuse = |field: &str, what: String, remedy: &str| {
        problems.push(Problem::new(place.field(field), what, remedy));
    };
    let is_step = ramp.curve == Curve::Step;
    if !RAMPS.contains(&ramp.duration) {
        refuse("duration", format!("a ramp of {}", said(ramp.duration)), "use 1s to 365days");
    } else if !is_step && !(Duration::from_secs(1)..=ramp.duration).contains(&ramp.interval) {
        let what = format!("an interval of {} in a ramp of {}", said(ramp.interval), said(ramp.duration));
        refuse("interval", what, "use 1s to the ramp's duration");
    } else if !is_step && ramp.duration.as_nanos() / ramp.interval.as_nanos() > POINTS {
        let what = format!("{} points", ramp.duration.as_nanos() / ramp.interval.as_nanos());
        refuse("interval", what, "use at most 100000: a longer interval");
    }
    match (ramp.curve, ramp.growth) {
        (Curve::Exponential, Some(growth)) if !(growth > 0.0 && growth.is_finite()) => {
            refuse("growth", format!("a growth of {growth}"), "use a number above 0, as 1.25");
        }
        (Curve::Exponential, Some(_)) | (_, None) => {}
        (Curve::Linear | Curve::Cubic | Curve::Step, Some(_)) => {
            refuse("growth", format!("a {} ramp has no growth", ramp.curve.label()), "leave it out");
        }
    }
    match (is_step, ramp.values.is_empty(), ramp.count) {
        (false, true, None) | (true, false, None) => {}
        (true, true, Some(count)) if (1..=10_000).contains(&count) => {}
        (true, true, Some(count)) => refuse("count", format!("{count} batches"), "use 1 to 10000"),
        (true, true, None) => {
            refuse("curve", "a step ramp without batches".to_owned(), "give `values`, or `count` for equal ones");
        }
        (true, false, Some(_)) => refuse("count", "both `values` and `count`".to_owned(), "keep one of the two"),
        (false, _, Some(_)) => refuse("count", format!("a {} ramp has no batches", ramp.curve.label()), "leave it out"),
        (false, false, None) => {
            refuse("values", format!("a {} ramp has no batches", ramp.curve.label()), "leave it out")
        }
    }
    if let Some(index) = ramp.values.windows(2).position(|pair| pair[0] >= pair[1]) {
        let what = format!("{} after {}", ramp.values[index + 1], ramp.values[index]);
        refuse("values", what, "write them in rising order");
    }
    if ramp.from >= ramp.to && ramp.values.is_empty() {
        refuse("from", format!("from {} to {}", ramp.from, ramp.to), "a ramp rises");
    }
    let last = ramp.values.last().copied().unwrap_or(ramp.to);
    if last != Weight::FULL {
        let field = if ramp.values.is_empty() { "to" } else { "values" };
        refuse(field, format!("the ramp ends at {last}"), "it must end at 100");
    }
    metrics(ramp.analysis.as_deref(), analysis, &place.field("analysis"), problems);
}

fn instance(instance: &Instance, analysis: &Analysis, place: &Place, problems: &mut Vec<Problem>) {
    clients("instance", &instance.r#match, place, problems);
    metrics(instance.analysis.as_deref(), analysis, &place.field("analysis"), problems);
}

fn clients(whose: &str, r#match: &Match, place: &Place, problems: &mut Vec<Problem>) {
    let Match { sources: _, dscp, ports: _ } = r#match;
    if r#match.is_empty() {
        let remedy = "say which clients it gets, as `match: {sources: [198.51.100.0/28]}`";
        problems.push(Problem::new(place.field("match"), format!("the {whose} matches everything"), remedy));
    }
    for dscp in dscp.iter().filter(|dscp| **dscp > 63) {
        problems.push(Problem::new(place.field("match").field("dscp"), format!("DSCP {dscp}"), "use 0 to 63"));
    }
}

/// Names of metrics that are not there.
pub(super) fn metrics(named: Option<&[Name]>, analysis: &Analysis, place: &Place, problems: &mut Vec<Problem>) {
    let known = analysis.metrics.iter().map(|metric| metric.name.as_str());
    for (index, name) in named.unwrap_or_default().iter().enumerate() {
        if !known.clone().any(|known| known == name.as_str()) {
            let remedy = match analysis.metrics.is_empty() {
                true => "describe it under `spec.analysis.metrics`".to_owned(),
                false => suggestion(name.as_str(), known.clone()),
            };
            problems.push(Problem::new(place.index(index), format!("there is no metric `{name}`"), remedy));
        }
    }
}

fn steps(canary: &Canary, analysis: &Analysis, place: &Place, problems: &mut Vec<Problem>) {
    if canary.steps.is_empty() {
        problems.push(Problem::new(
            place.clone(),
            "no step",
            "give at least one, the last with `setWeight: 100`, or a `ramp`",
        ));
        return;
    }
    for (index, step) in canary.steps.iter().enumerate() {
        metrics(step.analysis.as_deref(), analysis, &place.index(index).field("analysis"), problems);
        judging::without_stable(canary, index, analysis, &place.index(index).field("analysis"), problems);
    }
    if let Some((index, segment)) = canary.held_back() {
        let place = place.index(index).field("segments").field(segment);
        let what = format!("segment `{segment}` is not at 100 at the end");
        problems.push(Problem::new(place, what, "add it to the last step with 100, as `segments: {asia: 100}`"));
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

/// Segments that steps name and the service lacks.
fn segments_of(canary: &Canary, service: &Service, place: &Place, problems: &mut Vec<Problem>) {
    let known = service.segments.iter().map(|segment| segment.name.as_str());
    for (index, step) in canary.steps.iter().enumerate() {
        for segment in step.segments.keys().filter(|segment| !known.clone().any(|known| known == segment.as_str())) {
            let remedy = match service.segments.is_empty() {
                true => "add it to the service's `segments` and reload".to_owned(),
                false => suggestion(segment.as_str(), known.clone()),
            };
            let what = format!("service `{}` has no segment `{segment}`", service.name);
            problems.push(Problem::new(
                place.field("steps").index(index).field("segments").field(segment),
                what,
                remedy,
            ));
        }
    }
}

fn instance_of(plan: &Plan, instance: &Instance, service: &Service, place: &Place, problems: &mut Vec<Problem>) {
    let candidate = &plan.spec.candidate;
    let backends = service.version(candidate).map(|version| version.backends.as_slice()).unwrap_or_default();
    let meant = backends.iter().filter(|backend| instance.backend.means(service, backend)).count();
    if meant != 1 {
        let said: Vec<_> = backends.iter().map(|backend| service.backend_address(backend).to_string()).collect();
        let what = match meant {
            0 => format!("{} is no backend of `{candidate}`", instance.backend),
            _ => format!("{} means {meant} backends of `{candidate}`", instance.backend),
        };
        let remedy = suggestion(&instance.backend.to_string(), said.iter().map(String::as_str));
        problems.push(Problem::new(place.field("backend"), what, remedy));
    }
    match_of("instance", &instance.r#match, service, place, problems);
}

/// Clients beside the weights, who are a segment of their own.
fn match_of(whose: &str, r#match: &Match, service: &Service, place: &Place, problems: &mut Vec<Problem>) {
    if service.segments.len() >= cells::SEGMENTS - 1 {
        let what = format!("service `{}` has {} segments", service.name, service.segments.len());
        let remedy = format!("leave one free: the {whose}'s match is a segment too");
        problems.push(Problem::new(place.clone(), what, remedy));
    }
    let own = in_order(r#match);
    if let Some(same) = service.segments.iter().find(|segment| in_order(&segment.r#match) == own) {
        let what = format!("the {whose} matches exactly what segment `{}` does", same.name);
        let remedy = "give it a narrower match; that of a segment cannot be told from it";
        problems.push(Problem::new(place.field("match"), what, remedy));
    }
    if let Some((what, remedy)) = unseen(service, r#match) {
        problems.push(Problem::new(place.field("match").field("dscp"), what, remedy));
    }
    for (index, port) in r#match.ports.iter().enumerate() {
        if !service.ports.contains(port) {
            let known: Vec<_> = service.ports.iter().map(u16::to_string).collect();
            let what = format!("service `{}` has no port {port} among its `ports`", service.name);
            let remedy = suggestion(&port.to_string(), known.iter().map(String::as_str));
            problems.push(Problem::new(place.field("match").field("ports").index(index), what, remedy));
        }
    }
}
