//! Rollouts whose candidate is compared with stable, on counts of the data path.

use grayxdp_common::records::SAMPLE_ALL;

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

/// The rate at which flows of the first service are followed.
fn sample_rate(host: &Host) -> u16 {
    host.kernel.memory().wanted.services[0].sample_rate
}

#[test]
fn more_flows_are_followed_while_a_rollout_runs_at_one_rate_within_an_epoch() {
    let host = Host::new();
    let mut owner = host.start();
    host.seconds(&mut owner, 3);
    assert_eq!(sample_rate(&host), SAMPLE_ALL / 64);
    let mut slow = compared();
    slow.spec.analysis.interval = Duration::from_secs(1);
    start_rollout(&mut owner, slow).expect("a rollout");
    let mut rates: BTreeMap<u64, Vec<u16>> = BTreeMap::new();
    let mut restarted = false;
    while !state(&mut owner).is_final() {
        host.second(&mut owner);
        let (epoch, measures) = {
            let service = &host.kernel.memory().wanted.services[0];
            (service.epoch, service.measures)
        };
        if measures {
            rates.entry(epoch).or_default().push(sample_rate(&host));
        }
        if rates.len() == 2 && !restarted {
            restarted = true;
            drop(owner);
            owner = host.start();
        }
    }
    assert_eq!(rates.len(), 3, "{rates:?}");
    // 1,000 new flows a second (949 and 50 at 5 %): 16,384 ÷ 4 ÷ 60 s of them.
    let expected = 68.27 / 1_000.0 * f64::from(SAMPLE_ALL);
    for (epoch, rates) in &rates {
        assert!(rates.iter().all(|rate| *rate == rates[0]), "epoch {epoch}: {rates:?}");
        assert!((f64::from(rates[0]) / expected - 1.0).abs() < 0.01, "epoch {epoch}: {rates:?}");
    }
    host.second(&mut owner);
    assert_eq!(sample_rate(&host), SAMPLE_ALL / 64, "after the end");
}

#[test]
fn flows_of_udp_are_followed_at_one_rate_always() {
    let host = Host::new();
    host.configure(&CONFIG.replacen("  port: 80\n", "  port: 80\n  protocol: udp\n", 1));
    let mut owner = host.start();
    host.seconds(&mut owner, 3);
    start_rollout(&mut owner, canary()).expect("a rollout");
    host.seconds(&mut owner, 3);
    assert!(host.kernel.memory().wanted.services[0].measures);
    assert_eq!(sample_rate(&host), SAMPLE_ALL / 64);
}
