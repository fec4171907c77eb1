//! Lease, existing flows, canary instance and segments of a plan.

use std::time::Duration;

use super::*;
use crate::model::{
    kernel::LeaseEnd,
    plan::{FlowsEnd, Plan, Strategy},
};

const CONFIG: &str = "\
interfaces: [{name: eth0}]
services:
- name: recsys
  vip: 192.0.2.10
  port: 80
  versions:
  - {name: v1, backends: [{address: 10.0.1.1, port: 8080}]}
  - {name: v2, backends: [{address: 10.0.2.1, port: 8080}, {address: 10.0.2.1, port: 8081}, {address: 10.0.2.2}]}
  segments:
  - {name: asia, match: {sources: [203.0.113.0/24]}}
";

const FULL: &str = "\
apiVersion: grayxdp.io/v1
kind: Rollout
metadata: {name: recsys-v2}
spec:
  service: recsys
  candidate: v2
  strategy:
    canary:
      instance: {backend: \"10.0.2.1:8080\", match: {sources: [198.51.100.0/28]}, pause: {duration: 30m}, analysis: []}
      steps:
      - {setWeight: 50, pause: {duration: 1h}, segments: {asia: 10}}
      - pause: {}
      - {setWeight: 100}
  existingFlows: {onPromote: drain, onRollback: reset, deadline: 10m}
  lease: {duration: 10s, onExpiry: hold}
  windows: {timeZone: Europe/Berlin, allow: [{days: [mon, tue], from: \"09:00\", to: \"17:00\"}]}
";

fn plan(from: &str, to: &str) -> Plan {
    assert!(FULL.contains(from), "{from}");
    load_plan(&FULL.replacen(from, to, 1), "p.yaml").expect("good by itself")
}

#[test]
fn every_field_is_read_and_fits_the_configuration() {
    let config = load_config(CONFIG, "g.yaml").expect("good");
    let plan = plan("", "");
    assert_eq!(check_plan(&plan, &config), Ok(()));
    let lease = plan.spec.lease.expect("a lease");
    assert_eq!((lease.duration, lease.on_expiry), (Duration::from_secs(10), LeaseEnd::Hold));
    let flows = plan.spec.existing_flows;
    assert_eq!((flows.on_promote, flows.on_rollback), (FlowsEnd::Drain, FlowsEnd::Reset));
    let Strategy::Canary(canary) = &plan.spec.strategy else { panic!("a canary") };
    let weights: Vec<_> = (0..3).map(|step| canary.segments_at(step).len()).collect();
    assert_eq!(weights, [1, 1, 0], "kept by a step without setWeight, dropped by the next with one");
    for meant in ["10.0.2.2", "10.0.2.2:80"] {
        assert_eq!(check_plan(&self::plan("10.0.2.1:8080", meant), &config), Ok(()), "{meant}");
    }
}

#[test]
fn what_is_left_out_has_the_documented_defaults() {
    let plan = plan("lease: {duration: 10s, onExpiry: hold}", "lease: {}");
    let lease = plan.spec.lease.expect("a lease");
    assert_eq!((lease.duration, lease.on_expiry), (Duration::from_secs(30), LeaseEnd::Stable));
    let plain = load_plan(PLAN, "p.yaml").expect("good");
    let flows = plain.spec.existing_flows;
    assert_eq!((flows.on_promote, flows.on_rollback), (FlowsEnd::Pin, FlowsEnd::Pin));
    assert_eq!((flows.deadline, plain.spec.lease), (Duration::from_secs(3_600), None));
}

#[test]
fn contradictions_of_a_plan_are_said_with_line_column_and_remedy() {
    let cases = [
        ("duration: 10s", "duration: 2s", "p.yaml:15:11: a lease of 2s; use 3s to 1day: it is renewed every second"),
        ("deadline: 10m", "deadline: 31d", "p.yaml:14:56: a deadline of 31days; use 1s to 30days"),
        ("{sources: [198.51.100.0/28]}", "{}", "the instance matches everything; say which clients"),
        ("analysis: []}", "analysis: [errors]}", "there is no metric `errors`; describe it under"),
        ("\"10.0.2.1:8080\"", "first", "`first` is not a backend such as 10.0.2.1:8080, 10.0.2.1 or"),
        ("{setWeight: 100}", "{setWeight: 100, segments: {asia: 90}}", "segment `asia` is not at 100 at the end"),
        (
            "Europe/Berlin",
            "Europe/Berln",
            "p.yaml:16:13: there is no time zone `Europe/Berln`; did you mean `Europe/Berlin`?",
        ),
        (
            "Europe/Berlin",
            "CEST",
            "there is no time zone `CEST`; name one of the IANA database, as Europe/Berlin or UTC",
        ),
        (
            "from: \"09:00\"",
            "from: \"17:00\"",
            "a window from 17:00 to 17:00; use \"00:00\" to \"24:00\" for a whole day",
        ),
        ("from: \"09:00\"", "from: \"9\"", "`9` is not a time of day: use \"00:00\" to \"24:00\""),
        ("[mon, tue]", "[mon, mon]", "mon stands twice; remove one of the two"),
        ("onExpiry: hold", "onExpiry: held", "unknown value `held`; did you mean `hold`?"),
    ];
    for (from, to, expected) in cases {
        let error = load_plan(&FULL.replacen(from, to, 1), "p.yaml").expect_err(to);
        assert!(error.lines()[0].contains(expected), "{error}\nnot: {expected}");
    }
}

#[test]
fn what_the_service_does_not_have_is_refused() {
    let config = load_config(CONFIG, "g.yaml").expect("good");
    let instance = "plan recsys-v2: spec.strategy.canary.instance";
    let cases = [
        ("10.0.2.1:8080", "10.0.1.1:8080", format!("{instance}.backend: 10.0.1.1:8080 is no backend of `v2`; did you mean `10.0.2.1:8080`?")),
        ("10.0.2.1:8080", "10.0.2.1", format!("{instance}.backend: 10.0.2.1 means 2 backends of `v2`; did you mean")),
        ("198.51.100.0/28", "203.0.113.0/24", format!("{instance}.match: the instance matches exactly what segment `asia` does")),
        ("198.51.100.0/28", "203.0.113.0/24, 203.0.113.0/24", format!("{instance}.match: the instance matches exactly what segment `asia` does")),
        ("{sources: [198.51.100.0/28]}", "{ports: [443]}", format!("{instance}.match.ports[0]: service `recsys` has no port 443")),
        ("asia: 10", "europe: 10", "spec.strategy.canary.steps[0].segments.europe: service `recsys` has no segment `europe`; known here: `asia`".to_owned()),
        ("onPromote: drain", "onPromote: move", "spec.existingFlows.onPromote: move of a tcp service; use `reset`".to_owned()),
    ];
    for (from, to, expected) in cases {
        let error = check_plan(&plan(from, to), &config).expect_err(to);
        assert!(error.lines()[0].contains(&expected), "{error}\nnot: {expected}");
    }
    let udp = load_config(&CONFIG.replace("port: 80\n", "port: 80\n  protocol: udp\n"), "g.yaml").expect("good");
    let error = check_plan(&plan("", ""), &udp).expect_err("reset of UDP");
    assert!(error.lines()[0].contains("onRollback: reset of a udp service; use `move`"), "{error}");
    let error = check_plan(&plan("{sources: [198.51.100.0/28]}", "{dscp: [46]}"), &udp).expect_err("no opening");
    assert!(error.lines()[0].contains("instance.match.dscp: `dscp` counts on what opens a flow"), "{error}");
}

#[test]
fn backends_are_replaced_by_a_command_or_by_a_webhook() {
    let with = |replace: &str| {
        let begin = FULL.find("    canary:").expect("a strategy");
        let end = FULL.find("  existingFlows").expect("what follows");
        let text = format!("{}    rolling: {{replace: {replace}}}\n{}", &FULL[..begin], &FULL[end..]);
        load_plan(&text, "p.yaml")
    };
    assert!(with("{command: [/bin/true]}").is_ok());
    assert!(with("{webhook: {urlFrom: {file: /etc/hook}}, timeout: 30m}").is_ok());
    let cases = [
        ("{command: [/bin/true], webhook: {url: \"http://a/\"}}", "both `command` and `webhook`; keep one of the two"),
        (
            "{}",
            "no full path of a program; write the program's full path first, as [/usr/local/bin/deploy, v2], or give",
        ),
        ("{webhook: {}}", "no address; add `url`, or `urlFrom: {file: …}`"),
        ("{webhook: {url: \"http://a/\", retries: 11}}", "11 retries; use at most 10"),
        ("{webhook: {url: \"http://a/\"}, timeout: 2d}", "a timeout of 2days; use 1s to 1day"),
    ];
    for (replace, expected) in cases {
        let error = with(replace).expect_err(replace);
        assert!(error.lines()[0].contains(expected), "{error}\nnot: {expected}");
    }
}
