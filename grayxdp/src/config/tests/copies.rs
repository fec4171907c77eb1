//! What rests on copies: shadow releases and the flow log.

use super::*;

const CONFIG: &str = "\
interfaces: [{name: eth0}]
services:
- name: dns
  vip: 192.0.2.10
  port: 53
  protocol: udp
  versions:
  - {name: v1, backends: [{address: 10.0.1.1, port: 5353}]}
  - {name: v2, backends: [{address: 10.0.2.1, port: 5353}]}
";

const PLAN: &str = "\
apiVersion: grayxdp.io/v1
kind: Rollout
metadata: {name: dns-shadow}
spec:
  service: dns
  candidate: v2
  strategy:
    shadow: {sample: 10, duration: 1h, analysis: [latency]}
  analysis:
    metrics:
    - {name: latency, provider: {kernel: {signal: firstByte, quantile: 0.9}}, thresholdRange: {max: 50ms}}
";

#[test]
fn what_a_shadow_cannot_be_is_said_with_a_remedy() {
    assert!(load_plan(PLAN, "p.yaml").is_ok());
    for (from, to, expected) in [
        ("sample: 10", "sample: 0", "a sample of 0; use more than 0, as 10"),
        ("sample: 10", "sample: 101", "p.yaml:8:22: "),
        ("sample: 10", "sample: .nan", "p.yaml:8:22: "),
        ("sample: 10, ", "", "missing field `sample`"),
        ("duration: 1h", "duration: 0s", "a shadow of 0s; use 1s to 365days"),
        ("[latency]", "[latenz]", "there is no metric `latenz`; did you mean `latency`?"),
        ("  analysis:\n", "  lease: {}\n  analysis:\n", "lease of a shadow; leave it out: a shadow exposes nothing"),
        ("  analysis:\n", "  retainStable: 1h\n  analysis:\n", "retainStable of a shadow"),
        ("  analysis:\n", "  existingFlows: {onRollback: move}\n  analysis:\n", "existingFlows of a shadow"),
        ("  analysis:\n", "  onFailure: {mode: reverseSteps}\n  analysis:\n", "a shadow in reverse; leave it out"),
        (
            "firstByte, quantile: 0.9}}, thresholdRange: {max: 50ms}",
            "bytesPerFlow}}, thresholdRange: {max: 50}",
            "bytesPerFlow of copies is not known; use firstByte or connectFailureRatio",
        ),
    ] {
        assert!(PLAN.contains(from), "{from}");
        let error = load_plan(&PLAN.replacen(from, to, 1), "p.yaml").expect_err(to).to_string();
        assert!(error.contains(expected), "{to}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn what_of_a_service_cannot_be_copied_is_refused_with_the_reason() {
    let plan = load_plan(PLAN, "p.yaml").expect("good by itself");
    let check = |from: &str, to: &str| {
        assert!(CONFIG.contains(from), "{from}");
        check_plan(&plan, &load_config(&CONFIG.replacen(from, to, 1), "g.yaml").expect("good"))
    };
    assert_eq!(check("port: 53", "port: 53"), Ok(()));
    for (from, to, expected) in [
        ("protocol: udp", "protocol: tcp", "service `dns` is tcp; use canary with an instance: a copied connection"),
        (
            "protocol: udp\n  versions:\n  - {name: v1, backends: [{address: 10.0.1.1, port: 5353}]}\n  - {name: v2, \
             backends: [{address: 10.0.2.1, port: 5353}]}",
            "protocol: udp\n  forwarding: dsr\n  versions:\n  - {name: v1, backends: [{address: 10.0.1.1}]}\n  - {name: v2, \
             backends: [{address: 10.0.2.1}]}",
            "service `dns` has dsr; use `nat`",
        ),
    ] {
        let error = check(from, to).expect_err(to).to_string();
        assert!(error.contains(expected), "{to}: {error}");
    }
}

#[test]
fn a_flow_log_has_a_full_path_a_sample_and_services_that_are_there() {
    let with = |log: &str| load_config(&format!("flowLog: {log}\n{CONFIG}"), "g.yaml");
    let good = with("{path: /var/log/flows.jsonl, sample: 0.5, services: [dns]}").expect("good");
    let log = good.flow_log.clone().expect("a log");
    assert!(log.has(&"dns".parse().expect("a name")) && !log.has(&"web".parse().expect("a name")));
    let all = with("{path: /var/log/flows.jsonl, sample: 100}").expect("good");
    assert!(all.flow_log.as_ref().is_some_and(|log| log.has(&"web".parse().expect("a name"))));
    let plain = load_config(CONFIG, "g.yaml").expect("good");
    let lines = diff(&plain, &good);
    assert_eq!(lines, ["flowLog: none → /var/log/flows.jsonl, 0.5 % of dns"]);
    assert_eq!(diff(&good, &good), Vec::<String>::new());
    for (log, expected) in [
        ("{path: flows.jsonl, sample: 1}", "g.yaml:1:11: `flows.jsonl` is no full path; write one, as"),
        ("{path: /flows.jsonl, sample: 0}", "a sample of 0; use more than 0, as 1"),
        ("{path: /flows.jsonl, sample: 101}", "g.yaml:1:"),
        ("{path: /flows.jsonl, sample: .nan}", "g.yaml:1:"),
        ("{path: /flows.jsonl}", "missing field `sample`"),
        ("{path: /flows.jsonl, sample: 1, services: [dsn]}", "there is no service `dsn`; did you mean `dns`?"),
        ("{path: /flows.jsonl, sample: 1, services: [dns, dns]}", "service `dns` stands twice; remove one of the two"),
        ("{path: /flows.jsonl, sample: 1, size: 10}", "unknown field `size`"),
    ] {
        let error = with(log).expect_err(log).to_string();
        assert!(error.contains(expected) && error.lines().count() == 1, "{log}: {error}");
    }
}
