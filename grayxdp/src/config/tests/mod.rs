//! Files that are refused, each with its line, and what a reload would change.

mod copies;
mod documented;
mod judges;
mod plans;
mod pools;
mod services;

use super::*;

const GOOD: &str = "\
interfaces: [{name: eth0}]
services:
- name: recsys
  vip: 192.0.2.10
  port: 80
  versions:
  - {name: v1, backends: [{address: 10.0.1.1, port: 8080}, {address: 10.0.1.2, port: 8080, weight: 2}]}
  - name: v2
    backends:
    - {address: 10.0.2.1, port: 8080}
  weights: {v1: 90, v2: 10}
";

const PLAN: &str = "\
apiVersion: grayxdp.io/v1
kind: Rollout
metadata: {name: recsys-v2}
spec:
  service: recsys
  stable: v1
  candidate: v2
  strategy:
    canary:
      steps:
      - {setWeight: 5, pause: {duration: 30m}, analysis: [errors]}
      - pause: {}
      - {setWeight: 100}
  analysis:
    interval: 10s
    metrics:
    - name: errors
      provider: {kernel: {signal: connectFailureRatio}}
      thresholdRange: {max: 0.01}
";

/// The lines of refusal of a good configuration in which one text is replaced.
fn lines(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    load_config(&GOOD.replacen(from, to, 1), "g.yaml").expect_err(to).lines().to_vec()
}

fn plan_lines(from: &str, to: &str) -> Vec<String> {
    assert!(PLAN.contains(from), "{from}");
    load_plan(&PLAN.replacen(from, to, 1), "p.yaml").expect_err(to).lines().to_vec()
}

#[test]
fn good_files_are_read() {
    let config = load_config(GOOD, "g.yaml").expect("good");
    assert_eq!(config.services[0].versions[0].backends[1].weight, 2);
    let plan = load_plan(PLAN, "p.yaml").expect("good");
    assert_eq!(check_plan(&plan, &config), Ok(()));
}

#[test]
fn wrong_form_is_said_with_line_column_and_remedy() {
    let cases = [
        ("  weights:", "  wieghts:", "g.yaml:11:3: unknown field `wieghts` in a service; did you mean `weights`?"),
        ("interfaces:", "interfces:", "g.yaml:1:1: unknown field `interfces` in the file; did you mean `interfaces`?"),
        ("port: 8080}, {", "prot: 8080}, {", "did you mean `port`?"),
        ("  vip: 192.0.2.10\n", "", "g.yaml:3:3: missing field `vip` in a service; add it"),
        ("port: 80\n", "port: http\n", "g.yaml:5:9: `port`: "),
        ("port: 80\n", "port: 70000\n", "g.yaml:5:9: `port`: "),
        ("192.0.2.10", "192.0.2", "g.yaml:4:8: `vip`: not an IP address; write one such as 192.0.2.10 or 2001:db8::10"),
        (
            "port: 80\n",
            "port: 80\n  protocol: tpc\n",
            "g.yaml:6:13: `protocol`: unknown value `tpc`; did you mean `tcp`?",
        ),
        (
            "port: 80\n",
            "port: 80\n  forwarding: tproxy\n",
            "g.yaml:6:15: `forwarding`: unknown value `tproxy`; known here: `nat`, `dsr`, `ipip`, `full-nat`",
        ),
        (
            "interfaces:",
            "http: {listen: \"127.0.0.1:1\", tokens: [{name: ci, scope: quality}]}\ninterfaces:",
            "missing field `tokenFrom` in `tokens`; add it",
        ),
        ("v1: 90", "v1: 90.001", "`90.001` is not a weight: use a percentage from 0 to 100 with at most two decimals"),
        ("name: recsys", "name: Rec", "g.yaml:3:9: `name`: `Rec` is not a name: use 1 to 63 lower-case letters"),
        ("port: 80\n", "port: 80\n  port: 81\n", "g.yaml:6:3: `port` stands here twice; remove one of the two"),
        ("{v1: 90, v2: 10}", "{v1: 90, v1: 10}", "`v1` stands here twice"),
        ("{v1: 90, v2: 10}", "{v1: 90, v2: 10", "g.yaml:"),
        ("{v1: 90, v2: 10}", "[90, 10]", "`weights`: "),
    ];
    for (from, to, expected) in cases {
        let lines = lines(from, to);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(expected) && !lines[0].contains('\n'), "{to}: {}\nnot: {expected}", lines[0]);
        assert!(lines[0].starts_with("g.yaml:"), "{}", lines[0]);
    }
}

#[test]
fn an_empty_file_is_one_line() {
    for text in ["", "# nothing\n", "---\n...\n", "services: []\n---\nservices: []\n", "\u{0}", "a: *b\n"] {
        let error = load_config(text, "g.yaml").expect_err(text);
        assert_eq!((error.lines().len(), error.to_string().lines().count()), (1, 1), "{error}");
    }
}

#[test]
fn wrong_meaning_is_said_with_line_column_and_remedy() {
    let cases = [
        ("[{name: eth0}]", "[]", "g.yaml:1:1: no interface; name at least one, as [{name: eth0}]"),
        (
            "[{name: eth0}]",
            "[{name: eth0}, {name: eth0}]",
            "g.yaml:1:29: interface `eth0` stands twice (g.yaml:1:15); remove one of the two",
        ),
        (
            "{name: eth0}",
            "{name: sixteen-letters-}",
            "g.yaml:1:15: `sixteen-letters-` is no name of an interface; use a name of 1 to 15 characters as `ip link` shows it",
        ),
        (
            "interfaces:",
            "http: {listen: \"127.0.0.1:1\", tokens: [{name: ci, tokenFrom: {file: ci}}]}\ninterfaces:",
            "`ci` is no full path; write the full path, as /etc/grayxdp/token",
        ),
        (
            "interfaces:",
            "http: {listen: \"127.0.0.1:1\", tokens: [{name: ci, tokenFrom: {env: A}}, {name: ci, tokenFrom: {env: B}}]}\ninterfaces:",
            "token `ci` stands twice (g.yaml:1:41); give each token a name of its own",
        ),
        ("v2: 10", "v2: 5", "g.yaml:11:3: the weights of service `recsys` sum to 95; make them sum to 100"),
        ("v2: 10", "v3: 10", "g.yaml:11:21: service `recsys` has no version `v3`; did you mean `v2`?"),
        (
            "name: v2",
            "name: v1",
            "g.yaml:8:5: version `v1` of service `recsys` stands twice (g.yaml:7:6); give each version a name of its own",
        ),
        (
            "weight: 2",
            "weight: 1001",
            "g.yaml:7:92: weight 1001 of backend 10.0.1.2 in version `v1` of service `recsys`; use 1 to 1000",
        ),
        ("weight: 2", "weight: 0", "weight 0 of backend 10.0.1.2"),
        ("port: 80\n", "port: 0\n", "g.yaml:5:3: VIP 192.0.2.10 of service `recsys` has port 0; use 1 to 65535"),
        ("10.0.2.1, port: 8080", "10.0.2.1, port: 0", "g.yaml:10:27: backend 10.0.2.1:0 has port 0; use 1 to 65535"),
        (
            "10.0.1.2",
            "10.0.1.1",
            "g.yaml:7:60: backend 10.0.1.1:8080 stands twice in version `v1` of service `recsys` (g.yaml:7:27); remove one of the two",
        ),
        (
            "10.0.2.1",
            "10.0.1.1",
            "g.yaml:10:7: backend 10.0.1.1:8080 of version `v2` of service `recsys` is also of version `v1` of service `recsys` (g.yaml:7:27); their replies could not be told apart; give each its own address or port",
        ),
        (
            "{address: 10.0.2.1, port: 8080}",
            "{address: 192.0.2.10}",
            "g.yaml:10:7: backend 192.0.2.10:80 is the virtual endpoint of service `recsys` (g.yaml:4:3); packets would go in a circle; give the backend its own address",
        ),
        (
            "192.0.2.10",
            "224.0.0.1",
            "g.yaml:4:3: VIP 224.0.0.1 of service `recsys` is a multicast address; use the address of one host",
        ),
        ("192.0.2.10", "0.0.0.0", "is the unspecified address"),
        ("10.0.2.1", "255.255.255.255", "is the broadcast address"),
        ("10.0.2.1", "127.0.0.1", "g.yaml:10:8: backend 127.0.0.1:8080 is a loopback address"),
        (
            "    - {address: 10.0.2.1, port: 8080}",
            "      []",
            "g.yaml:9:5: version `v2` of service `recsys` has no backend; give it at least one",
        ),
    ];
    for (from, to, expected) in cases {
        let lines = lines(from, to);
        assert!(lines[0].contains(expected), "{}\nnot: {expected}", lines[0]);
    }
}

#[test]
fn two_services_at_one_endpoint_are_refused_with_both_places() {
    let second = GOOD.split_once("services:\n").expect("services").1.replace("10.0.", "10.9.");
    let named = second.replace("recsys", "other");
    let error = load_config(&format!("{GOOD}{named}"), "g.yaml").expect_err("one endpoint");
    let expected = "g.yaml:13:3: 192.0.2.10:80/tcp of service `other` is that of service `recsys` (g.yaml:4:3); give each service an address, port or protocol of its own";
    assert_eq!(error.lines(), [expected]);
    let udp = named.replace("port: 80\n", "port: 80\n  protocol: udp\n");
    assert!(load_config(&format!("{GOOD}{udp}"), "g.yaml").is_ok());
    let same_name = second.replace("192.0.2.10", "192.0.2.11");
    let error = load_config(&format!("{GOOD}{same_name}"), "g.yaml").expect_err("one name");
    assert_eq!(
        error.lines(),
        ["g.yaml:12:3: service `recsys` stands twice (g.yaml:3:3); give each service a name of its own"]
    );
}

#[test]
fn a_backend_of_two_services_is_refused_with_both_places() {
    let second =
        GOOD.split_once("services:\n").expect("services").1.replace("recsys", "other").replace(".2.10\n", ".2.11\n");
    let error = load_config(&format!("{GOOD}{second}"), "g.yaml").expect_err("shared backends");
    assert_eq!(error.lines().len(), 3, "{error}");
    assert!(
        error.lines()[0].contains("`v1` of service `other` is also of version `v1` of service `recsys` (g.yaml:7:27)")
    );
    assert!(error.to_string().ends_with(" (and 2 more)"), "{error}");
}

#[test]
fn a_backend_weight_that_rounds_to_no_slot_is_refused() {
    // 16381 ÷ (200 × 1000 + 1) = 0.08 slots.
    let heavy: Vec<String> = (0..200).map(|n| format!("{{address: 10.1.0.{n}, weight: 1000}}")).collect();
    let lines = lines("[{address: 10.0.1.1, port: 8080}", &format!("[{}, {{address: 10.0.1.1}}", heavy.join(", ")));
    assert!(
        lines[0].contains("weight 1 of backend 10.0.1.1 in version `v1` of service `recsys` rounds to no slot"),
        "{lines:?}"
    );
}

#[test]
fn without_a_file_problems_name_their_path() {
    let mut config = load_config(GOOD, "g.yaml").expect("good");
    config.services[0].port = Some(0);
    let lines: Vec<String> = check_all(&config).iter().map(Problem::to_string).collect();
    assert_eq!(lines, ["services[0].port: VIP 192.0.2.10 of service `recsys` has port 0; use 1 to 65535"]);
}

#[test]
fn wrong_plans_are_said_with_line_column_and_remedy() {
    let cases = [
        ("setWeight: 100", "setWeight: 99", "p.yaml:13:10: the last setWeight is 99; the last setWeight must be 100"),
        ("- {setWeight: 100}", "- pause: {}", "p.yaml:11:10: the last setWeight is 5; the last setWeight must be 100"),
        ("stable: v1", "stable: v2", "p.yaml:7:3: `v2` is both stable and candidate; name the version to release"),
        ("[errors]", "[erors]", "p.yaml:11:59: there is no metric `erors`; did you mean `errors`?"),
        ("interval: 10s", "interval: 500ms", "p.yaml:15:5: an interval of 500ms; use 1s to 1h"),
        ("interval: 10s", "interval: 2h", "use 1s to 1h"),
        ("{max: 0.01}", "{}", "p.yaml:19:23: `thresholdRange`: no limit; give `min`, `max` or both"),
        ("{max: 0.01}", "{max: 1.5}", "p.yaml:19:24: metric `errors`: max 1.5 of a ratio; use 0 to 1, as 0.01 for 1 %"),
        ("{max: 0.01}", "{max: .nan}", "value `.nan` is not a finite number"),
        ("{max: 0.01}", "{max: soon}", "a number or a duration such as 250ms"),
        ("{max: 0.01}", "{min: 0.2, max: 0.1}", "metric `errors`: min 0.2 is above max 0.1; swap the two"),
        (
            "connectFailureRatio",
            "connectFailureRate",
            "unknown value `connectFailureRate`; did you mean `connectFailureRatio`?",
        ),
        (
            "setWeight: 5",
            "setWieght: 5",
            "p.yaml:11:10: unknown field `setWieght` in a step; did you mean `setWeight`?",
        ),
        ("duration: 30m", "duration: 30 parsecs", "`30 parsecs` is not a duration such as 500ms, 30s, 5m or 1h"),
        ("canary:", "canarry:", "did you mean `canary`?"),
        (
            "grayxdp.io/v1",
            "grayxdp.io/v2",
            "p.yaml:1:13: `apiVersion`: unknown value `grayxdp.io/v2`; did you mean `grayxdp.io/v1`?",
        ),
    ];
    for (from, to, expected) in cases {
        let lines = plan_lines(from, to);
        assert!(lines[0].contains(expected), "{}\nnot: {expected}", lines[0]);
    }
}

#[test]
fn a_plan_for_what_is_not_configured_is_refused() {
    let mut config = load_config(GOOD, "g.yaml").expect("good");
    let check = |from: &str, to: &str, config: &Config| {
        let plan = load_plan(&PLAN.replacen(from, to, 1), "p.yaml").expect("good by itself");
        check_plan(&plan, config).expect_err(to).to_string()
    };
    assert_eq!(
        check("service: recsys", "service: recsis", &config),
        "plan recsys-v2: spec.service: there is no service `recsis`; did you mean `recsys`?"
    );
    assert_eq!(
        check("candidate: v2", "candidate: next", &config),
        "plan recsys-v2: spec.candidate: service `recsys` has no version `next`; known here: `v1`, `v2`"
    );
    config.services[0].versions.pop();
    assert!(check("recsys", "recsys", &config).contains("has no version `v2`"));
}

#[test]
fn a_reload_is_described_by_what_it_changes() {
    let old = load_config(GOOD, "g.yaml").expect("good");
    assert_eq!(diff(&old, &old), Vec::<String>::new());
    let text = GOOD
        .replace("eth0", "eth1")
        .replace("{address: 10.0.1.2, port: 8080, weight: 2}", "{address: 10.0.1.3}")
        .replace("{address: 10.0.2.1, port: 8080}", "{address: 10.0.2.1, port: 8080, weight: 3}")
        .replace("{v1: 90, v2: 10}", "{v1: 50, v2: 50}\n  affinity: client");
    let new = load_config(&text, "g.yaml").expect("good");
    assert_eq!(
        diff(&old, &new),
        [
            "interfaces: differs; takes effect at the next start of the daemon",
            "service recsys: affinity flow → client",
            "service recsys: backend 10.0.1.2:8080 of v1 removed",
            "service recsys: backend 10.0.1.3:80 of v1 added, weight 1",
            "service recsys: backend 10.0.2.1:8080 of v2: weight 1 → 3",
            "service recsys: initial weights v1=90 v2=10 → v1=50 v2=50; the applied ones stay unless `reload --reset-weights recsys`",
        ]
    );
    let renamed = load_config(&GOOD.replace("recsys", "search"), "g.yaml").expect("good");
    assert_eq!(diff(&old, &renamed), ["service recsys: removed", "service search: added at 192.0.2.10:80/tcp"]);
}

#[test]
fn schemas_name_the_fields_of_the_files() {
    for (schema, field) in [(config_schema(), "/properties/stateDir"), (plan_schema(), "/properties/spec")] {
        let schema: serde_json::Value = serde_json::from_str(&schema).expect("JSON");
        assert!(schema.pointer(field).is_some(), "{field}");
        assert_eq!(schema["additionalProperties"], false);
    }
}
