//! Pools of sources of services with `forwarding: full-nat`.

use crate::{config::load_config, model::config::Forwarding};

const POOLED: &str = "\
interfaces: [{name: eth0}]
translations: 4096
services:
- name: web
  vip: 192.0.2.10
  port: 80
  forwarding: full-nat
  sourcePool: [10.1.0.248/30, 10.1.0.5]
  versions:
  - {name: v1, backends: [{address: 10.0.1.1, port: 8080}]}
- name: names
  vip: 192.0.2.10
  port: 53
  protocol: udp
  forwarding: full-nat
  sourcePool: [10.1.0.248/30]
  versions:
  - {name: v1, backends: [{address: 10.0.1.1}]}
- name: six
  vip: \"2001:db8::10\"
  port: 80
  forwarding: full-nat
  sourcePool: [\"fd00:7::/122\"]
  versions:
  - {name: v1, backends: [{address: \"fd00::1\"}]}
- name: plain
  vip: 192.0.2.11
  port: 80
  versions:
  - {name: v1, backends: [{address: 10.0.1.1, port: 8081}]}
";

#[test]
fn a_pool_is_of_addresses_and_prefixes_and_may_be_shared() {
    let config = load_config(POOLED, "g.yaml").expect("good");
    let [web, names, six, plain] = config.services.as_slice() else { panic!("four services") };
    let list = |service: &crate::model::config::Service| {
        service.pool_addresses().map(|address| address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list(web), ["10.1.0.248", "10.1.0.249", "10.1.0.250", "10.1.0.251", "10.1.0.5"]);
    assert_eq!((list(names).len(), list(six).len(), list(plain).len()), (4, 64, 0));
    assert_eq!((web.forwarding, config.translations), (Forwarding::FullNat, 4_096));
    assert!(!names.learns(), "a flow of UDP is known one by one");
}

#[test]
fn bad_pools_are_refused_with_place_and_remedy() {
    let pool = "sourcePool: [10.1.0.248/30, 10.1.0.5]";
    let cases = [
        (
            "  sourcePool: [10.1.0.248/30, 10.1.0.5]\n",
            "",
            "g.yaml:7:3: service `web` forwards by `full-nat` and has no `sourcePool`; give it addresses that are routed to this host",
        ),
        (pool, "sourcePool: []", "service `web` forwards by `full-nat` and has no `sourcePool`"),
        (
            pool,
            "sourcePool: [10.1.0.0/26, 10.1.1.1]",
            "g.yaml:8:3: sourcePool of service `web` has more than 64 addresses; keep to 64: each gives 64,512 flows",
        ),
        (pool, "sourcePool: [0.0.0.0/0]", "more than 64 addresses"),
        (pool, "sourcePool: [10.1.0.5, 10.1.0.4/31]", "source 10.1.0.5 of service `web` stands twice; name each once"),
        (
            pool,
            "sourcePool: [10.0.1.0/30]",
            "source 10.0.1.1 of service `web` is a backend of service `web` (g.yaml:10:",
        ),
        (pool, "sourcePool: [192.0.2.11]", "source 192.0.2.11 of service `web` is the VIP of service `plain` (g.yaml:"),
        (
            pool,
            "sourcePool: [\"fd00::9\"]",
            "source fd00::9 of service `web`, whose VIP is one of IPv4; use addresses of IPv4",
        ),
        (pool, "sourcePool: [224.0.0.1]", "source 224.0.0.1 of service `web` is a multicast address"),
        (pool, "sourcePool: [0.0.0.0/31]", "source 0.0.0.0 of service `web` is the unspecified address"),
        (pool, "sourcePool: [10.1.0.249/30]", "is neither an address such as 10.1.0.250 nor a prefix"),
        (
            "vip: 192.0.2.11\n",
            "vip: 192.0.2.11\n  sourcePool: [10.1.0.7]\n",
            "sourcePool of service `plain`, which forwards by `nat`; remove it, or use `forwarding: full-nat`",
        ),
        (
            "port: 8081",
            "port: 8080",
            "backend 10.0.1.1:8080 of service `web` (`full-nat`) is also of service `plain` (`nat`) (g.yaml:",
        ),
        ("translations: 4096", "translations: 1000", "room for 1000 flows of full-nat; use 1024 to 16777216"),
    ];
    for (from, to, expected) in cases {
        assert!(POOLED.contains(from), "{from}");
        let lines = load_config(&POOLED.replacen(from, to, 1), "g.yaml").expect_err(to).lines().to_vec();
        assert!(lines.iter().any(|line| line.contains(expected)), "{lines:?}\nnot: {expected}");
    }
}

#[test]
fn a_reload_tells_what_changes_in_a_pool() {
    let config = |text: &str| load_config(text, "g.yaml").expect("good");
    let (old, new) = (config(POOLED), config(&POOLED.replacen("10.1.0.248/30, 10.1.0.5", "10.1.0.6", 1)));
    let lines = crate::config::diff(&old, &new);
    assert_eq!(lines, ["service web: sourcePool [10.1.0.248/30, 10.1.0.5] → [10.1.0.6]"]);
}
