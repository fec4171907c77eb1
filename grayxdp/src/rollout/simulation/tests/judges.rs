//! The judges that compare have both versions' flows by stratum, as the data path gives them.

use std::time::Duration;

use super::*;
use crate::{
    analysis::{Comparison, Look, Strata},
    rollout::{
        Exposure,
        simulation::flows::{Flows, Tick},
    },
};

/// How long a flow is followed.
const HORIZON: Duration = Duration::from_secs(60);

/// 10 → 50 → 100 over twenty minutes with one metric.
fn judged(metric: serde_json::Value, more: serde_json::Value) -> Plan {
    let steps = json!([
        {"setWeight": 10, "pause": {"duration": "10m"}},
        {"setWeight": 50, "pause": {"duration": "10m"}},
        {"setWeight": 100},
    ]);
    let mut rest = json!({"analysis": {"interval": "10s", "metrics": [metric]}});
    rest.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    plan(json!({"canary": {"steps": steps}}), "10s", rest)
}

fn errors() -> serde_json::Value {
    json!({"name": "errors", "provider": {"kernel": {"signal": "connectFailureRatio"}}})
}

fn looks(simulated: &Simulated, metric: &str, verdict: Verdict) -> u64 {
    let metric: Name = metric.parse().expect("a name");
    simulated.verdicts[&metric].get(&verdict).copied().unwrap_or_default()
}

#[test]
fn the_default_judge_rolls_a_candidate_back_that_fails_three_in_a_hundred() {
    for seed in 1..=5 {
        let met = json!({"flowsPerSecond": 500, "candidate": {"failureRatio": 0.03}, "seed": seed});
        let simulated = simulate(&judged(errors(), json!({})), None, &traffic(met));
        assert_eq!(simulated.state, RolloutState::RolledBack, "{}", simulated.message);
        // 50 flows a second, of which it should be two or three at the least that fail within a look.
        assert!(simulated.seconds < 120.0, "{}", simulated.seconds);
        assert_eq!(looks(&simulated, "errors", Verdict::Fail), 1, "{:?}", simulated.verdicts);
        let said = simulated.timeline.iter().find(|moment| moment.kind == "rollingBack").expect("it is told");
        assert!(said.message.contains("v2 fails") && said.message.contains("e-value"), "{said:?}");
    }
}

#[test]
fn the_default_judge_promotes_a_candidate_that_is_as_good_as_stable() {
    for seed in 1..=5 {
        let met = json!({"flowsPerSecond": 4000, "seed": seed});
        let simulated = simulate(&judged(errors(), json!({})), None, &traffic(met));
        assert_eq!(simulated.state, RolloutState::Promoted, "{}", simulated.message);
        assert_eq!(looks(&simulated, "errors", Verdict::Fail), 0);
        assert!(looks(&simulated, "errors", Verdict::Pass) > 0, "{:?}", simulated.verdicts);
        let division = simulated.division.expect("flows were divided");
        assert_eq!(division.verdict, Verdict::Pass, "{}", division.sentence);
    }
}

#[test]
fn a_segment_in_which_both_versions_fail_more_is_no_reason_to_roll_back() {
    let rules = json!({"segments": [{"name": "asia", "share": 0.4}, {"name": "europe", "share": 0.3}]});
    let met = |failures: f64| {
        json!({
            "flowsPerSecond": 4000, "segments": {"asia": 0.4, "europe": 0.3},
            "candidate": {"failureRatio": failures},
        })
    };
    let good = simulate(&judged(errors(), rules.clone()), None, &traffic(met(0.001)));
    assert_eq!(good.state, RolloutState::Promoted, "{}", good.message);
    let bad = simulate(&judged(errors(), rules), None, &traffic(met(0.03)));
    assert_eq!(bad.state, RolloutState::RolledBack, "{}", bad.message);
}

#[test]
fn a_slow_candidate_is_found_by_its_quantile() {
    let latency = json!({
        "name": "latency", "provider": {"kernel": {"signal": "firstByte", "quantile": 0.9}},
        "judge": {"type": "quantileTest", "tolerateRatio": 1.2},
    });
    let run = |median: &str, p99: &str| {
        let candidate = json!({"firstByte": {"median": median, "p99": p99}});
        let met = json!({"flowsPerSecond": 4000, "candidate": candidate});
        simulate(&judged(latency.clone(), json!({})), None, &traffic(met))
    };
    let slow = run("40ms", "160ms");
    assert_eq!(slow.state, RolloutState::RolledBack, "{}", slow.message);
    let said = slow.timeline.iter().find(|moment| moment.kind == "rollingBack").expect("it is told");
    assert!(said.message.contains("v2 has firstByte"), "{said:?}");
    let fast = run("15ms", "60ms");
    assert_eq!(fast.state, RolloutState::Promoted, "{}", fast.message);
}

#[test]
fn flows_are_divided_as_the_shares_say_and_not_otherwise() {
    let traffic = traffic(json!({"flowsPerSecond": 2000, "segments": {"asia": 0.4}}));
    let [v1, v2]: [Name; 2] = ["v1", "v2"].map(|name| name.parse().expect("a name"));
    let exposure = Exposure::of(Weight::from_hundredths(2_000).expect("a weight"));
    let division = |claimed: Option<f64>| {
        let mut flows = Flows::new(&traffic, HORIZON, v1.clone(), v2.clone());
        let (mut strata, mut comparison) = (Strata::default(), Comparison::default());
        for second in 1..=60 {
            let (at, length) = (Duration::from_secs(second), Duration::from_secs(1));
            flows.pass(Tick { at, length, exposure: &exposure, copied: 0.0, epoch: 2 }, &mut strata);
            if let Some(claimed) = claimed {
                strata.shares.values_mut().for_each(|share| *share = claimed);
            }
            let look = Look {
                strata: &strata,
                candidate: &v2,
                stable: &v1,
                metrics: &[],
                family: &[],
                since: Duration::ZERO,
                is_apart: false,
            };
            comparison.look(&look);
        }
        assert_eq!(strata.shares.len(), 2);
        comparison.division().expect("flows were divided").verdict
    };
    assert_eq!(division(None), Verdict::Pass);
    assert_eq!(division(Some(0.22)), Verdict::Fail);
}

#[test]
fn cells_hold_each_flow_once_and_two_epochs_at_most() {
    let traffic = traffic(json!({"flowsPerSecond": 300, "candidate": {"failureRatio": 0.5}}));
    let [v1, v2]: [Name; 2] = ["v1", "v2"].map(|name| name.parse().expect("a name"));
    let exposure = Exposure::of(Weight::from_hundredths(5_000).expect("a weight"));
    let mut flows = Flows::new(&traffic, HORIZON, v1, v2);
    let mut strata = Strata::default();
    for epoch in 1..=4 {
        let second = Duration::from_secs(1);
        let passed =
            flows.pass(Tick { at: second, length: second, exposure: &exposure, copied: 0.0, epoch }, &mut strata);
        assert!(passed.candidate > 0 && passed.candidate < passed.flows);
        let new = strata.counts.iter().filter(|((_, stratum), _)| stratum.epoch == epoch);
        let sum = |count: fn(&crate::analysis::Measured) -> u64| {
            new.clone().map(|(_, measured)| count(measured)).sum::<u64>()
        };
        let of_cells = |cells: &[u64]| cells.iter().sum::<u64>();
        assert_eq!(sum(|measured| measured.attempts), passed.flows);
        assert_eq!(sum(|measured| measured.cell_attempts.iter().sum()), passed.flows);
        let failures = passed.stable_failures + passed.candidate_failures;
        assert_eq!(sum(|measured| measured.cell_failures.iter().sum()), failures);
        assert!(strata.counts.values().all(|of| of_cells(&of.cell_failures) == of.refused));
    }
    let epochs: std::collections::BTreeSet<_> = strata.counts.keys().map(|(_, stratum)| stratum.epoch).collect();
    assert_eq!(epochs, [3, 4].into());
}

#[test]
fn as_many_flows_are_followed_as_the_sample_table_has_room_for_from_the_first_weight_on() {
    let traffic =
        traffic(json!({"flowsPerSecond": 200, "stable": {"failureRatio": 0}, "candidate": {"failureRatio": 0}}));
    let [v1, v2]: [Name; 2] = ["v1", "v2"].map(|name| name.parse().expect("a name"));
    let exposure = Exposure::of(Weight::from_hundredths(5_000).expect("a weight"));
    let mut flows = Flows::new(&traffic, HORIZON, v1, v2);
    let followed = |flows: &mut Flows<'_>, epoch: u64| {
        let mut strata = Strata::default();
        for second in 1..=100 {
            let (at, length) = (Duration::from_secs(second), Duration::from_secs(1));
            flows.pass(Tick { at, length, exposure: &exposure, copied: 0.0, epoch }, &mut strata);
        }
        strata.counts.values().map(|measured| measured.flows).sum::<u64>() as f64 / 100.0
    };
    let (before, after) = (followed(&mut flows, 0), followed(&mut flows, 1));
    // 200 ÷ 64, and a quarter of 16,384 places ÷ 60 s.
    assert!((before - 3.125).abs() < 1.0 && (after - 68.27).abs() < 5.0, "{before} {after}");
}
