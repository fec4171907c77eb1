mod judges;

use serde_json::json;

use super::*;

const HOUR: f64 = 3_600.0;

fn plan(strategy: serde_json::Value, interval: &str, more: serde_json::Value) -> Plan {
    let mut spec = json!({
        "service": "recsys", "stable": "v1", "candidate": "v2", "strategy": strategy,
        "analysis": {"interval": interval, "metrics": [
            {"name": "errors", "provider": {"kernel": {"signal": "connectFailureRatio"}}, "thresholdRange": {"max": 0.02},
             "failureLimit": 2},
            {"name": "latency", "provider": {"kernel": {"signal": "firstByte", "quantile": 0.9}},
             "thresholdRange": {"max": "200ms"}, "failureLimit": 2},
        ]},
    });
    spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let plan = json!({
        "apiVersion": "grayxdp.io/v1", "kind": "Rollout", "metadata": {"name": "recsys-v2"}, "spec": spec,
    });
    serde_json::from_value(plan).expect("a plan")
}

/// 5 → 25 → 50 → 100 with 30, 30 and 60 minutes.
fn article() -> Plan {
    let steps = json!([
        {"setWeight": 5, "pause": {"duration": "30m"}},
        {"setWeight": 25, "pause": {"duration": "30m"}},
        {"setWeight": 50, "pause": {"duration": "1h"}},
        {"setWeight": 100},
    ]);
    plan(json!({"canary": {"steps": steps}}), "10s", json!({}))
}

fn traffic(json: serde_json::Value) -> Traffic {
    serde_json::from_value(json).expect("traffic")
}

/// Time of the change to each weight in the default segment.
fn weights(simulated: &Simulated) -> Vec<(f64, String)> {
    let rest: Name = "default".parse().expect("a name");
    simulated.weights.iter().map(|at| (at.at, at.weights[&rest].to_string())).collect()
}

#[test]
fn the_articles_plan_takes_two_hours_with_a_good_candidate() {
    let simulated = simulate(&article(), None, &traffic(json!({"flowsPerSecond": 8000})));
    assert_eq!(simulated.state, RolloutState::Promoted, "{}", simulated.message);
    let to_full = simulated.seconds_to_full.expect("it got everything");
    assert!((2.0 * HOUR..2.0 * HOUR + 60.0).contains(&to_full), "{to_full}");
    let changes: Vec<_> = weights(&simulated).into_iter().map(|(_, weight)| weight).collect();
    assert_eq!(changes, ["0", "5", "25", "50", "100"]);
    // 8,000 a second: 5 % for 30, 25 % for 30, 50 % for 60 minutes, and all for a few seconds.
    let expected = 8_000.0 * 60.0 * (0.05 * 30.0 + 0.25 * 30.0 + 0.5 * 60.0);
    let found = simulated.candidate_flows as f64;
    assert!((found / expected - 1.0).abs() < 0.03, "{found}, not {expected}");
    assert!((simulated.candidate_failures as f64 / found - 0.001).abs() < 0.000_5);
    assert!((simulated.clients_exposed - 1.0).abs() < 1e-9);
}

#[test]
fn an_incident_rolls_back_within_a_few_looks_and_its_cost_is_counted() {
    let incident = json!({"flowsPerSecond": 8000, "incidents": [{"at": "45m", "failureRatio": 0.3}]});
    let simulated = simulate(&article(), None, &traffic(incident));
    assert_eq!(simulated.state, RolloutState::RolledBack);
    let [detection] = simulated.detections.as_slice() else { panic!("{:?}", simulated.detections) };
    let seconds = detection.seconds.expect("it was found");
    assert!((10.0..=60.0).contains(&seconds), "{seconds}");
    assert!(detection.by.as_ref().expect("by").contains("errors broke its limit"), "{detection:?}");
    // 25 % of 8,000 a second, of which 30 % fail, until then.
    let expected = 0.3 * 2_000.0 * seconds;
    let found = simulated.candidate_failures as f64;
    assert!((found / expected - 1.0).abs() < 0.3, "{found}, not {expected}");
    assert!((simulated.clients_exposed - 0.25).abs() < 1e-9 && simulated.seconds_to_full.is_none());
    let slow =
        json!({"flowsPerSecond": 8000, "incidents": [{"at": "10m", "firstByte": {"median": "300ms", "p99": "1s"}}]});
    let simulated = simulate(&article(), None, &traffic(slow));
    assert_eq!(simulated.state, RolloutState::RolledBack);
    assert!(simulated.detections[0].by.as_ref().expect("by").contains("latency"), "{:?}", simulated.detections);
}

#[test]
fn the_same_seed_tells_the_same_story_and_no_traffic_never_promotes() {
    let story = |seed: u64| simulate(&article(), None, &traffic(json!({"flowsPerSecond": 4000, "seed": seed})));
    assert_eq!(story(3), story(3));
    assert_ne!(story(3).candidate_failures, story(4).candidate_failures);
    let silent = simulate(&article(), None, &traffic(json!({"flowsPerSecond": 0})));
    assert_eq!(silent.state, RolloutState::Paused, "{}", silent.message);
    assert_eq!(
        silent.weights.last().expect("weights").weights.values().max().map(ToString::to_string),
        Some("5".to_owned())
    );
}

#[test]
fn segments_have_weights_of_their_own() {
    let steps = json!([
        {"setWeight": 10, "segments": {"asia": 5}, "pause": {"duration": "5m"}},
        {"setWeight": 100, "segments": {"asia": 100}},
    ]);
    let rules = json!({"segments": [{"name": "asia", "share": 0.4}]});
    let plan = plan(json!({"canary": {"steps": steps}}), "10s", rules);
    let simulated = simulate(&plan, None, &traffic(json!({"flowsPerSecond": 8000, "segments": {"asia": 0.4}})));
    assert_eq!(simulated.state, RolloutState::Promoted, "{}", simulated.message);
    let (asia, rest) = ("asia".parse().expect("a name"), "default".parse().expect("a name"));
    let second = &simulated.weights[1].weights;
    // 0.4·5 + 0.6·x = 10
    assert_eq!((second[&asia].to_string(), second[&rest].to_string()), ("5".to_owned(), "13.33".to_owned()));
}

#[test]
fn a_fortnight_goes_to_its_end() {
    let ramp = json!({"curve": "cubic", "from": 5, "duration": "14d", "interval": "1h"});
    let plan = plan(json!({"canary": {"ramp": ramp}}), "1m", json!({}));
    let simulated = simulate(&plan, None, &traffic(json!({"flowsPerSecond": 8000, "nightly": 0.2})));
    assert_eq!(simulated.state, RolloutState::Promoted, "{}", simulated.message);
    assert!(simulated.seconds >= 14.0 * 24.0 * HOUR);
}

/// A plan of `docs/plans` with its service, as they are read there.
fn documented(file: &str) -> (Plan, Service) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/plans/");
    let read = |file: &str| std::fs::read_to_string(format!("{folder}{file}")).expect("a file");
    let plan: Plan = serde_saphyr::from_str(&read(file)).expect("a plan");
    let config: crate::model::config::Config = serde_saphyr::from_str(&read("grayxdp.yaml")).expect("a configuration");
    let service = config.services.into_iter().find(|service| service.name == plan.spec.service);
    (plan, service.expect("its service"))
}

/// Each plan of the articles with a candidate that is a little better than stable, and with one that refuses a tenth.
#[test]
fn every_documented_plan_goes_to_its_good_and_to_its_bad_end() {
    use RolloutState::{Completed, Promoted, RolledBack};
    let plans = [
        ("steps.yaml", Promoted, RolledBack),
        ("whole-flow.yaml", Promoted, RolledBack),
        ("ten-twenty-thirty.yaml", Promoted, RolledBack),
        ("exponential.yaml", Promoted, RolledBack),
        ("values.yaml", Promoted, RolledBack),
        ("batches.yaml", Promoted, RolledBack),
        ("cubic.yaml", Promoted, RolledBack),
        ("adaptive.yaml", Promoted, RolledBack),
        ("regions.yaml", Promoted, RolledBack),
        ("shop.yaml", Promoted, RolledBack),
        ("blue-green.yaml", Promoted, RolledBack),
        ("blue-green-stages.yaml", Promoted, RolledBack),
        ("ab-test.yaml", Promoted, RolledBack),
        ("ab-test-report.yaml", Completed, RolledBack),
        ("rolling.yaml", Promoted, RolledBack),
        ("shadow.yaml", Completed, RolledBack),
    ];
    let mut wrong = Vec::new();
    for (file, good, bad) in plans {
        let (plan, service) = documented(file);
        let better = json!({"firstByte": {"median": "15ms", "p99": "60ms"}});
        let worse = json!({"failureRatio": 0.1});
        let run = |candidate: &serde_json::Value| {
            let met = json!({
                "flowsPerSecond": 8000, "stable": {"firstByte": {"median": "20ms", "p99": "80ms"}},
                "candidate": candidate, "resumeAfter": "10m", "start": "2026-06-01T08:00:00Z",
            });
            let shares = plan.spec.segments.iter().filter_map(|rule| Some((rule.name.clone(), rule.share?)));
            simulate(&plan, Some(&service), &Traffic { segments: shares.collect(), ..traffic(met) })
        };
        let simulated = run(&better);
        let mut expect = |end: RolloutState, found: Simulated| {
            if found.state != end {
                wrong.push(format!("{file}: {} and not {}: {}", found.state.label(), end.label(), found.message));
            }
        };
        expect(good, simulated);
        expect(bad, run(&worse));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let count = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/plans")).expect("a folder").count();
    assert_eq!(count, plans.len() + 1, "each plan, and the configuration");
}
