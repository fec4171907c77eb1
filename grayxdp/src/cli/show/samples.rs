//! Answers of a daemon for the tests of this folder.

use std::collections::BTreeMap;

use crate::model::{
    Name, Weight,
    api::{Availability, BackendStatus, InterfaceStatus, RolloutStatus, ServiceStatus, Status, Totals, VersionStatus},
    config::Forwarding,
    settling::{ExceptionTableStatus, FlowTableStatus, SettlingStatus},
    signals::{Quantiles, SignalsStatus},
    state::{Finding, Prospect, RolloutState, Verdict},
};

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn weight(percent: &str) -> Weight {
    percent.parse().expect("a weight")
}

fn version(number: &str, percent: &str, buckets: u16, traffic: Option<(f64, f64)>) -> VersionStatus {
    let totals = Totals { packets_forward: 100, packets_reverse: 90, syns: 10, syn_acks: 9, ..Totals::default() };
    let backend = BackendStatus {
        address: format!("10.0.{number}.1:8080").parse().expect("an address"),
        weight: 1,
        slots: 16_381,
        resolved: number == "1",
        state: Availability::Up,
        why: None,
        since: None,
        check_error: None,
        drained: None,
        totals,
    };
    VersionStatus {
        name: name(&format!("v{number}")),
        weight: weight(percent),
        buckets,
        observed: traffic.map(|(observed, _)| observed),
        live: traffic.map(|(_, live)| live),
        flows_per_second: traffic.map_or(0.0, |(observed, _)| observed * 200.0),
        totals,
        signals: if number == "1" { signals() } else { SignalsStatus::default() },
        backends: vec![backend],
    }
}

fn signals() -> SignalsStatus {
    SignalsStatus {
        attempts: 10,
        refused: 1,
        connect: Quantiles { samples: 9, median: Some(0.000_212), p99: Some(0.003_4) },
        first_byte: Quantiles { samples: 9, median: Some(0.02), p99: Some(1.2) },
        reset_by_client: 1,
        reset_by_backend: 2,
        segments: 1_000,
        retransmits: 5,
        ..SignalsStatus::default()
    }
}

pub(crate) fn status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        pid: 812,
        started: "2026-03-01T09:00:00.25Z".parse().expect("a time"),
        warnings: vec!["no next hop for 10.0.2.1".to_owned()],
        notes: vec!["this kernel is old".to_owned()],
        interfaces: vec![InterfaceStatus { name: "eth0".to_owned(), mode: "native".to_owned() }],
        exceptions: ExceptionTableStatus { entries: 12, places: 65_536, expired: 0, needless: 0 },
        flow_table: FlowTableStatus::default(),
        services: vec![ServiceStatus {
            prospects: vec![Prospect {
                metric: name("errors"),
                detectable: Some(0.02),
                seconds_needed: Some(240.0),
                sentence: "30m show 2.0 % or more; a pass takes 4m".to_owned(),
            }],
            name: name("web"),
            endpoint: "192.0.2.10:80/tcp".to_owned(),
            forwarding: Forwarding::Nat,
            epoch: 3,
            stable: name("v1"),
            rollout: Some(name("web-v2")),
            segments: Vec::new(),
            settling: SettlingStatus {
                unsettled_buckets: 819,
                established: 12,
                settled_idle: 3,
                ..SettlingStatus::default()
            },
            flows: None,
            drift: Some("the file says v1 100, v2 0".to_owned()),
            versions: vec![version("1", "95", 15_565, Some((0.948, 0.9512))), version("2", "5", 819, None)],
            reasons: BTreeMap::from([("fragment".to_owned(), 6), ("malformed".to_owned(), 0)]),
        }],
    }
}

pub(crate) fn rollout(state: RolloutState) -> RolloutStatus {
    RolloutStatus {
        name: name("web-v2"),
        service: name("web"),
        stable: name("v1"),
        candidate: name("v2"),
        state,
        attempt: 1,
        fuse: None,
        lease: None,
        shadow: None,
        hooks: Vec::new(),
        outlets: Vec::new(),
        prospects: Vec::new(),
        message: "25 % for 30m".to_owned(),
        step: 1,
        steps: ["setWeight 5, pause 30m", "setWeight 25, pause 30m", "setWeight 100"].map(str::to_owned).to_vec(),
        weight: weight("25"),
        segments: BTreeMap::new(),
        binding: Vec::new(),
        progress: None,
        dwell_seconds: 720.4,
        pause_seconds: Some(1800.0),
        findings: vec![Finding {
            metric: name("errors"),
            verdict: Verdict::Pass,
            value: Some(0.004),
            samples: 1_200,
            numbers: BTreeMap::new(),
            sentence: "v2 refuses 0.4 % of 1,200 connections; limit 1 %".to_owned(),
        }],
        verdicts: BTreeMap::from([(name("errors"), BTreeMap::from([(Verdict::Pass, 71), (Verdict::NoData, 1)]))]),
        started: "2026-03-01T09:00:00Z".parse().expect("a time"),
        ended: None,
        epoch: 3,
    }
}
