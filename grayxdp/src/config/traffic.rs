//! What the traffic of a simulation must be.

use std::time::Duration;

use crate::{
    config::{
        problem::{Place, Problem},
        segments::MAX_SEGMENTS,
    },
    model::{
        config::duration::said,
        traffic::{Answers, Latency, Traffic},
    },
};

/// The longest time that is simulated.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// All that is wrong with traffic.
pub(super) fn check(traffic: &Traffic) -> Vec<Problem> {
    let mut problems = Vec::new();
    let root = Place::default();
    if !(0.0..=1e6).contains(&traffic.flows_per_second) {
        let what = format!("{} flows a second", traffic.flows_per_second);
        problems.push(Problem::new(root.field("flowsPerSecond"), what, "use 0 to 1000000"));
    }
    ratio(traffic.nightly, &root.field("nightly"), &mut problems);
    for (name, share) in &traffic.segments {
        ratio(*share, &root.field("segments").field(name), &mut problems);
    }
    if traffic.segments.len() > MAX_SEGMENTS {
        let what = format!("{} segments", traffic.segments.len());
        problems.push(Problem::new(root.field("segments"), what, format!("use at most {MAX_SEGMENTS}")));
    }
    let shares: f64 = traffic.segments.values().sum();
    if shares > 1.0 + 1e-9 {
        let what = format!("the shares of segments make {shares}");
        problems.push(Problem::new(root.field("segments"), what, "make at most 1 of them"));
    }
    answers(&traffic.stable, &root.field("stable"), &mut problems);
    answers(&traffic.candidate, &root.field("candidate"), &mut problems);
    for (index, incident) in traffic.incidents.iter().enumerate() {
        let place = root.field("incidents").index(index);
        if let Some(failures) = incident.failure_ratio {
            ratio(failures, &place.field("failureRatio"), &mut problems);
        }
        if let Some(first_byte) = &incident.first_byte {
            latency(first_byte, &place.field("firstByte"), &mut problems);
        }
        if incident.failure_ratio.is_none() && incident.first_byte.is_none() {
            let remedy = "give `failureRatio` or `firstByte`";
            problems.push(Problem::new(place, "an incident that changes nothing", remedy));
        }
    }
    if traffic.max_duration.is_zero() || traffic.max_duration > LONGEST {
        let what = format!("a simulation of {}", said(traffic.max_duration));
        problems.push(Problem::new(root.field("maxDuration"), what, "use 1s to 366days"));
    }
    problems
}

fn answers(answers: &Answers, place: &Place, problems: &mut Vec<Problem>) {
    ratio(answers.failure_ratio, &place.field("failureRatio"), problems);
    latency(&answers.first_byte, &place.field("firstByte"), problems);
}

fn latency(latency: &Latency, place: &Place, problems: &mut Vec<Problem>) {
    if latency.p99 < latency.median {
        let what = format!("p99 {} is below the median {}", said(latency.p99), said(latency.median));
        problems.push(Problem::new(place.field("p99"), what, "swap the two"));
    }
}

fn ratio(ratio: f64, place: &Place, problems: &mut Vec<Problem>) {
    if !(0.0..=1.0).contains(&ratio) {
        problems.push(Problem::new(place.clone(), format!("a ratio of {ratio}"), "use 0 to 1, as 0.01 for 1 %"));
    }
}
