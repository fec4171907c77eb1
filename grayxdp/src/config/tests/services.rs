//! What a service says beyond its versions: ports, segments, health checks, fuse, times.

use std::time::Duration;

use super::*;
use crate::model::config::{CheckType, Forwarding, OnDown, OnEmptyPool, Service};

const FULL: &str = "\
interfaces: [{name: eth0}]
exceptions: 65536
services:
- name: recsys
  vip: 192.0.2.10
  ports: [80, 443]
  protocol: udp
  quic: true
  versions:
  - {name: v1, backends: [{address: 10.0.1.1}]}
  - {name: v2, backends: [{address: 10.0.2.1}]}
  - {name: v3, backends: [{address: 10.0.3.1}]}
  weights: {v1: 90, v2: 10}
  segments:
  - {name: asia, match: {sources: [203.0.113.0/24], dscp: [46]}, weights: {v1: 100}}
  - {name: web, match: {ports: [443]}}
  healthCheck: {type: http, path: /healthz, port: 8081, interval: 2s, timeout: 250ms, rise: 1, fall: 4}
  onEmptyPool: drop
  onDown: keep
  idleTimeout: 75s
  settleAfter: 20s
  closingTimeout: 30s
  flowHorizon: 10s
  drainTimeout: 5m
- name: chat
  vip: 192.0.2.11
  port: 80
  versions:
  - {name: v1, backends: [{address: 10.1.1.1}]}
  fuse: {limit: 10, ratio: 0.25, window: 500ms}
";

fn full() -> Service {
    load_config(FULL, "g.yaml").expect("good").services.remove(0)
}

/// The lines of refusal of the full configuration in which one text is replaced.
fn lines(from: &str, to: &str) -> Vec<String> {
    assert!(FULL.contains(from), "{from}");
    load_config(&FULL.replacen(from, to, 1), "g.yaml").expect_err(to).lines().to_vec()
}

/// Checks that each replaced text is refused by a line with these words.
fn refused(cases: &[(&str, &str, &str)]) {
    for (from, to, expected) in cases {
        let lines = lines(from, to);
        assert!(lines.iter().any(|line| line.contains(expected)), "{lines:?}\nnot: {expected}");
        assert!(lines[0].starts_with("g.yaml:"), "{}", lines[0]);
    }
}

#[test]
fn every_field_of_a_service_is_read() {
    let service = full();
    assert_eq!((service.virtual_ports(), service.only_port(), service.quic), (&[80, 443][..], 0, true));
    assert_eq!(service.endpoint(), "192.0.2.10:80,443/udp");
    assert_eq!(service.backend_address(&service.versions[0].backends[0]).to_string(), "10.0.1.1");
    let [asia, web] = &service.segments[..] else { panic!("two segments") };
    assert_eq!((asia.r#match.sources.len(), asia.r#match.dscp.as_slice(), asia.weights.len()), (1, &[46][..], 1));
    assert_eq!((web.r#match.ports.as_slice(), web.weights.len()), (&[443][..], 0));
    let health = service.health_check.expect("a check");
    assert_eq!((health.r#type, health.path.as_deref(), health.port), (CheckType::Http, Some("/healthz"), Some(8081)));
    assert_eq!((health.interval, health.timeout), (Duration::from_secs(2), Duration::from_millis(250)));
    assert_eq!((health.rise, health.fall), (1, 4));
    let chat = load_config(FULL, "g.yaml").expect("good").services.remove(1);
    let fuse = chat.fuse.expect("a fuse");
    assert_eq!((fuse.limit, fuse.ratio, fuse.window), (10, 0.25, Duration::from_millis(500)));
    assert_eq!((service.on_empty_pool, service.on_down), (OnEmptyPool::Drop, OnDown::Keep));
    assert_eq!((service.idle_timeout, service.drain_timeout), (Duration::from_secs(75), Duration::from_secs(300)));
}

#[test]
fn what_is_left_out_has_the_documented_defaults() {
    let text = GOOD.replace("  weights:", "  healthCheck: {type: tcp}\n  fuse: {}\n  weights:");
    let config = load_config(&text, "g.yaml").expect("good");
    let service = &config.services[0];
    let seconds = Duration::from_secs;
    assert_eq!((config.exceptions, service.virtual_ports(), service.only_port()), (1_000_000, &[80][..], 80));
    assert_eq!((service.idle_timeout, service.settle_after), (seconds(3_600), seconds(900)));
    assert_eq!((service.closing_timeout, service.flow_horizon), (seconds(60), seconds(60)));
    assert_eq!((service.drain_timeout, service.quic), (seconds(3_600), false));
    assert_eq!((service.on_empty_pool, service.on_down), (OnEmptyPool::Failover, OnDown::Reset));
    let health = service.health_check.as_ref().expect("a check");
    assert_eq!((health.interval, health.timeout), (seconds(1), Duration::from_millis(500)));
    assert_eq!((health.rise, health.fall, health.port), (2, 3, None));
    let fuse = service.fuse.expect("a fuse");
    assert_eq!((fuse.limit, fuse.ratio, fuse.window), (20, 0.5, seconds(1)));
    let plain = load_config(GOOD, "g.yaml").expect("good");
    assert!(plain.services[0].fuse.is_none() && plain.services[0].health_check.is_none());
}

#[test]
fn a_written_service_reads_back() {
    let text = serde_json::to_string(&full()).expect("JSON");
    assert_eq!(serde_json::from_str::<Service>(&text).expect("a service"), full());
}

#[test]
fn wrong_fields_of_a_service_are_said_with_line_column_and_remedy() {
    let cases = [
        ("  ports: [80, 443]\n", "", "g.yaml:4:3: service `recsys` has neither `port` nor `ports`; add `port: 80`"),
        ("  ports: [", "  port: 81\n  ports: [", "g.yaml:7:3: service `recsys`: both `port` and `ports`; keep one"),
        ("[80, 443]", "[80, 443, 80]", "g.yaml:6:20: service `recsys`: port 80 stands twice (g.yaml:6:11)"),
        ("[80, 443]", "[0, 443]", "g.yaml:6:11: service `recsys`: port 0; use 1 to 65535"),
        (
            "[80, 443]",
            "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,443]",
            "g.yaml:6:3: service `recsys`: 17 ports; keep to 16 a service",
        ),
        (
            "10.0.1.1}",
            "10.0.1.1, port: 8080}",
            "g.yaml:10:47: backend 10.0.1.1:8080 of service `recsys`, which has several ports; leave its port out",
        ),
        (
            "10.0.1.1}",
            "192.0.2.10}",
            "g.yaml:10:27: backend 192.0.2.10 is the virtual endpoint of service `recsys` (g.yaml:5:3)",
        ),
        (
            "  quic: true\n",
            "",
            "segment `asia` of service `recsys`: `dscp` counts on what opens a flow, and service `recsys` is plain UDP; match",
        ),
        ("  protocol: udp\n", "", "g.yaml:7:3: service `recsys`: quic with protocol tcp; add `protocol: udp`"),
        ("name: asia", "name: default", "g.yaml:15:6: a segment `default`; use another name"),
        ("name: web", "name: asia", "g.yaml:16:6: segment `asia` of service `recsys` stands twice (g.yaml:15:6)"),
        ("{ports: [443]}", "{}", "g.yaml:16:17: segment `web` of service `recsys` matches everything; give it"),
        ("{ports: [443]}", "{ports: [8443]}", "service `recsys` has no port 8443; did you mean `443`?"),
        ("{ports: [443]}", "{dscp: [64]}", "segment `web` of service `recsys`: DSCP 64; use 0 to 63"),
        ("{ports: [443]}", "{dscp: [1, 1]}", "segment `web` of service `recsys`: DSCP 1 stands twice"),
        ("203.0.113.0/24]", "203.0.113.1/24]", "`203.0.113.1/24` is not a prefix such as 10.9.0.0/16"),
        (
            "{ports: [443]}",
            "{sources: [203.0.113.0/24], dscp: [46]}",
            "segment `web` of service `recsys` matches exactly what segment `asia` does; remove one of the two",
        ),
        (
            "{v1: 100}}",
            "{v1: 99}}",
            "the weights of segment `asia` of service `recsys` sum to 99; make them sum to 100",
        ),
        ("{v1: 100}}", "{v9: 100}}", "service `recsys` has no version `v9`; did you mean"),
    ];
    refused(&cases);
}

#[test]
fn numbers_and_words_out_of_range_are_said_with_their_range() {
    let cases = [
        ("type: http", "type: tcp", "service `recsys`: a path of a tcp check; remove it, or use `type: http`"),
        ("/healthz", "healthz", "g.yaml:17:29: service `recsys`: path `healthz`; use up to 1024 printable"),
        ("/healthz", "\"/a\\r\\nX: y\"", "service `recsys`: path `/a\\r\\nX: y`; use up to 1024 printable"),
        ("port: 8081", "port: 0", "service `recsys`: port 0; use 1 to 65535"),
        ("fall: 4", "fall: 99999999999", "`fall`: not understood; write a whole number from 0 to 4294967295"),
        ("interval: 2s", "interval: 20ms", "service `recsys`: interval 20ms; use 100ms to 1h"),
        ("timeout: 250ms", "timeout: 3s", "service `recsys`: timeout 3s; use 10ms to 2s"),
        ("rise: 1", "rise: 0", "service `recsys`: rise 0; use 1 to 100"),
        ("fall: 4", "fall: 101", "service `recsys`: fall 101; use 1 to 100"),
        ("type: http, ", "", "missing field `type` in `healthCheck`; add it"),
        ("limit: 10", "limit: 1024", "g.yaml:30:10: service `chat`: limit 1024; use 1 to 1023"),
        ("ratio: 0.25", "ratio: 0", "service `chat`: ratio 0; use 0.01 to 1"),
        ("ratio: 0.25", "ratio: .nan", "service `chat`: ratio NaN; use 0.01 to 1"),
        ("window: 500ms", "window: 2m", "service `chat`: window 2m; use 100ms to 1m"),
        ("onEmptyPool: drop", "onEmptyPool: dorp", "`onEmptyPool`: unknown value `dorp`; did you mean `drop`?"),
        ("idleTimeout: 75s", "idleTimeout: 8d", "g.yaml:20:3: service `recsys`: idleTimeout 8days; use 1s to 7days"),
        (
            "closingTimeout: 30s",
            "closingTimeout: 76s",
            "closingTimeout 1m 16s above idleTimeout 1m 15s; set it to 1m 15s or less (1m unless said)",
        ),
        ("drainTimeout: 5m", "fuse: {}", "a fuse with protocol udp, which has no handshakes to fail; remove it"),
        ("flowHorizon: 10s", "flowHorizon: 0s", "service `recsys`: flowHorizon 0s; use 1s to 10m"),
        ("settleAfter: 20s", "settleAfter: 2d", "service `recsys`: settleAfter 2days; use 0s to 1day"),
        ("drainTimeout: 5m", "drainTimeout: 31d", "drainTimeout 31days; use 0s to 30days"),
        ("exceptions: 65536", "exceptions: 10", "g.yaml:2:1: room for 10 exceptions; use 1024 to 16777216"),
    ];
    refused(&cases);
}

#[test]
fn eight_versions_and_fifteen_segments_are_taken_and_no_more() {
    let versions = |count: u8| -> String {
        (0..count).map(|n| format!("  - {{name: n{n}, backends: [{{address: 10.1.0.{n}}}]}}\n")).collect()
    };
    let with = |text: String| FULL.replace("  weights: {v1: 90", &format!("{text}  weights: {{v1: 90"));
    assert!(load_config(&with(versions(5)), "g.yaml").is_ok());
    let error = load_config(&with(versions(6)), "g.yaml").expect_err("nine");
    assert_eq!(error.lines(), ["g.yaml:9:3: service `recsys` has 9 versions; keep to 8 a service; remove the rest"]);
    let segments =
        |count: u8| -> String { (0..count).map(|n| format!("  - {{name: s{n}, match: {{dscp: [{n}]}}}}\n")).collect() };
    let with = |text: String| FULL.replace("  healthCheck:", &format!("{text}  healthCheck:"));
    assert!(load_config(&with(segments(13)), "g.yaml").is_ok());
    let error = load_config(&with(segments(14)), "g.yaml").expect_err("sixteen");
    assert_eq!(error.lines(), ["g.yaml:14:3: service `recsys` has 16 segments; keep to 15"]);
}

#[test]
fn a_hundred_thousand_prefixes_are_read_and_one_that_stands_twice_is_found() {
    let prefix = |n: u32| format!("{}/32", std::net::Ipv4Addr::from_bits(0x6440_0000 + n));
    let list = |count: u32| (0..count).map(prefix).collect::<Vec<_>>().join(", ");
    let with = |list: String| FULL.replace("203.0.113.0/24", &list);
    let config = load_config(&with(list(100_000)), "g.yaml").expect("good");
    assert_eq!(config.services[0].segments[0].r#match.sources.len(), 100_000);
    let error = load_config(&with(format!("{}, {}", list(50_000), prefix(77))), "g.yaml").expect_err("twice");
    assert!(error.lines()[0].contains("source 100.64.0.77/32 stands twice (g.yaml:15:"), "{error}");
    let error = load_config(&with(list(100_001)), "g.yaml").expect_err("one too many");
    assert!(error.lines()[0].contains("100001 source prefixes in all segments; keep to 100000"), "{error}");
}

#[test]
fn a_reload_tells_what_changes_in_a_service() {
    let old = load_config(FULL, "g.yaml").expect("good");
    let text = FULL
        .replace("exceptions: 65536", "exceptions: 131072")
        .replace("[80, 443]", "[80, 443, 8443]")
        .replace("quic: true", "quic: false")
        .replace("[203.0.113.0/24], dscp: [46]", "[203.0.113.0/24, 198.51.100.0/24]")
        .replace("{v1: 100}}", "{v2: 100}}")
        .replace("{name: web", "{name: other")
        .replace("limit: 10", "limit: 11")
        .replace("{type: http, path: /healthz,", "{type: tcp,")
        .replace("onDown: keep", "onDown: reset")
        .replace("idleTimeout: 75s", "idleTimeout: 2m");
    let new = load_config(&text, "g.yaml").expect("good");
    assert_eq!(
        diff(&old, &new),
        [
            "exceptions: 65536 → 131072; takes effect after `grayxdp detach`, at the next start",
            "service recsys: endpoint 192.0.2.10:80,443/udp → 192.0.2.10:80,443,8443/udp",
            "service recsys: quic true → false",
            "service recsys: healthCheck {type:http, path:/healthz, port:8081, interval:2s, timeout:250ms, rise:1, fall:4} → {type:tcp, port:8081, interval:2s, timeout:250ms, rise:1, fall:4}",
            "service recsys: onDown keep → reset",
            "service recsys: idleTimeout 1m 15s → 2m",
            "service recsys: segment web removed",
            "service recsys: match of segment asia: 1 sources, 1 DSCPs, 0 ports → 2 sources, 0 DSCPs, 0 ports",
            "service recsys: initial weights of segment asia {v1:100} → {v2:100}; the applied ones stay",
            "service recsys: segment other added: 0 sources, 0 DSCPs, 1 ports",
            "service chat: fuse {limit:10, ratio:0.25, window:500ms} → {limit:11, ratio:0.25, window:500ms}",
        ]
    );
}

/// The same with addresses of IPv6.
fn of_ipv6() -> String {
    let addresses = [
        ("192.0.2.10", "\"2001:db8:ff::10\""),
        ("10.0.1.1", "\"fd00::1:1\""),
        ("10.0.2.1", "\"fd00::2:1\""),
        ("10.0.3.1", "\"fd00::3:1\""),
        ("203.0.113.0/24", "\"2001:db8:7::/48\""),
    ];
    addresses.iter().fold(FULL.to_owned(), |text, (from, to)| text.replacen(from, to, 1))
}

#[test]
fn addresses_may_be_of_ipv6() {
    let service = load_config(&of_ipv6(), "g.yaml").expect("good").services.remove(0);
    assert_eq!(service.endpoint(), "[2001:db8:ff::10]:80,443/udp");
    assert_eq!(service.vip, "2001:db8:ff::10".parse::<std::net::IpAddr>().expect("an address"));
    let source = service.segments[0].r#match.sources[0];
    assert_eq!((String::from(source), source.length), ("2001:db8:7::/48".to_owned(), 48));
}

#[test]
fn a_service_is_of_one_family_and_the_refusal_says_what_to_do() {
    refused(&[
        (
            "10.0.2.1",
            "\"fd00::2:1\"",
            "backend fd00::2:1 is one of IPv6, and VIP 192.0.2.10 of service `recsys` one of IPv4",
        ),
        ("203.0.113.0/24", "\"2001:db8::/32\"", "source 2001:db8::/32, and VIP 192.0.2.10 is not of that family"),
        ("10.0.2.1", "\"fe80::1\"", "is a link-local address"),
        ("10.0.2.1", "\"::ffff:10.0.2.1\"", "is an IPv4 address in IPv6 form"),
        ("203.0.113.0/24", "\"2001:db8::1/32\"", "host bits must be zero"),
        ("203.0.113.0/24", "\"2001:db8::/129\"", "is not a prefix"),
    ]);
    let wrong = of_ipv6().replacen("\"fd00::3:1\"", "10.0.3.1", 1);
    let lines = load_config(&wrong, "g.yaml").expect_err("two families").lines().to_vec();
    assert!(lines[0].contains("give the backend's IPv6 address"), "{lines:?}");
}

const DIRECT: &str = "\
interfaces: [{name: eth0}]
tunnel: {sources: [10.7.0.0/16, \"fd07::/64\"], mtu: 1400}
services:
- name: near
  vip: 192.0.2.10
  port: 80
  forwarding: dsr
  versions:
  - {name: v1, backends: [{address: 10.0.1.1}, {address: 10.0.1.2, port: 80}]}
  - {name: v2, backends: [{address: 10.0.2.1}]}
  weights: {v1: 100, v2: 0}
- name: far
  vip: 192.0.2.11
  ports: [80, 443]
  forwarding: ipip
  versions:
  - {name: v1, backends: [{address: 10.0.1.1}, {address: \"fd00::1\"}]}
- name: six
  vip: \"2001:db8::10\"
  port: 80
  forwarding: ipip
  versions:
  - {name: v1, backends: [{address: \"fd00::1\"}]}
";

#[test]
fn a_server_may_be_in_many_services_whose_answers_do_not_come_by() {
    let config = load_config(DIRECT, "g.yaml").expect("good");
    assert_eq!(config.services[1].forwarding, Forwarding::Ipip);
    assert_eq!((config.tunnel.sources.len(), config.tunnel.mtu), (2, Some(1_400)));
}

#[test]
fn what_a_mode_cannot_do_is_refused_with_place_and_remedy() {
    let cases = [
        (
            "10.0.1.2, port: 80",
            "10.0.1.2, port: 8080",
            "g.yaml:9:68: backend 10.0.1.2:8080 of service `near`, whose packets keep port 80 with `dsr`; leave its port out and let the \
             server listen on 80; or use `forwarding: nat`",
        ),
        (
            "[{address: 10.0.2.1}]",
            "[{address: 10.0.1.1}]",
            "backend 10.0.1.1:80 of version `v2` of service `near` is also of version `v1` of service `near` (g.yaml:9:27); both would be one server at \
             one port; give each its own address",
        ),
        (
            "[{address: 10.0.2.1}]",
            "[{address: \"fd00::2\"}]",
            "`dsr` does not translate between families: use `forwarding: ipip`, give the backend's IPv4 address",
        ),
        (
            "backends: [{address: \"fd00::1\"}]",
            "backends: [{address: 10.0.9.1}]",
            "`ipip` does not carry IPv6 to a host of IPv4: give the backend's IPv6 address",
        ),
        ("mtu: 1400", "mtu: 1200", "g.yaml:2:47: mtu 1200 of tunnels; use 1280 to 9000"),
        ("10.7.0.0/16, ", "10.7.0.0/16, 10.8.0.0/16, ", "outer sources 10.8.0.0/16 beside 10.7.0.0/16 (g.yaml:2:"),
        ("10.7.0.0/16", "10.0.0.0/7", "outer sources 10.0.0.0/7; use a prefix of 8 bits or more"),
    ];
    for (from, to, expected) in cases {
        assert!(DIRECT.contains(from), "{from}");
        let lines = load_config(&DIRECT.replacen(from, to, 1), "g.yaml").expect_err(to).lines().to_vec();
        assert!(lines.iter().any(|line| line.contains(expected)), "{lines:?}\nnot: {expected}");
    }
}
