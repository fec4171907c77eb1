//! Rollouts whose candidate is compared with stable, on counts of the data path.

use super::*;

/// The canary with failures counted against stable's.
fn compared() -> Plan {
    let mut plan = canary();
    let metric = serde_json::json!({
        "name": "errors", "provider": {"kernel": {"signal": "connectFailureRatio"}},
        "judge": {"type": "countEProcess", "tolerateAbsolute": 0.01},
    });
    plan.spec.analysis.metrics = vec![serde_json::from_value(metric).expect("a metric")];
    plan
}

#[test]
fn a_candidate_that_refuses_is_rolled_back_and_the_finding_has_both_sides() {
    let mut host = Host::new();
    host.refusing = vec!["v2"];
    let mut owner = host.start();
    start_rollout(&mut owner, compared()).expect("a rollout");
    host.seconds(&mut owner, 6);
    assert_eq!((state(&mut owner), host.candidate_buckets()), (RolloutState::RolledBack, 0));
    let found = rollout(&mut owner, "recsys-v2");
    let sentence = &found.findings[0].sentence;
    assert!(
        sentence.starts_with("v2 fails 100 % of ") && sentence.contains("connections, v1 0 %; e-value "),
        "{sentence}"
    );
    assert!(found.findings[0].numbers["eValue"] > found.findings[0].numbers["alarm"]);
}

#[test]
fn a_good_candidate_is_promoted_with_its_flows_divided_as_the_buckets_say() {
    let host = Host::new();
    let mut owner = host.start();
    start_rollout(&mut owner, compared()).expect("a rollout");
    host.seconds(&mut owner, 60);
    assert_eq!(state(&mut owner), RolloutState::Promoted, "{}", rollout(&mut owner, "recsys-v2").message);
    let found = rollout(&mut owner, "recsys-v2");
    let division = found.findings.iter().find(|finding| finding.metric.as_str() == "srm").expect("it is always there");
    assert!(division.sentence.starts_with("new flows are divided as the buckets say; χ² "), "{}", division.sentence);
}

#[test]
fn a_restart_in_the_middle_of_a_comparison_counts_nothing_twice() {
    let mut host = Host::new();
    let mut owner = host.start();
    start_rollout(&mut owner, compared()).expect("a rollout");
    host.seconds(&mut owner, 8);
    let flows = |owner: &mut Owner| rollout(owner, "recsys-v2").findings[0].numbers["stableFlows"];
    let before = flows(&mut owner);
    drop(owner);
    let mut owner = host.start();
    host.seconds(&mut owner, 3);
    let after = flows(&mut owner);
    assert!(after > before && after <= before + 5.0 * 950.0, "{before} {after}");
    host.refusing = vec!["v2"];
    host.seconds(&mut owner, 6);
    assert_eq!(state(&mut owner), RolloutState::RolledBack);
}
