//! The split is what was asked for, and nobody is moved who need not be.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddrV4,
};

use grayxdp::lab::Sources;
use grayxdp_tests::{
    size::Size,
    stand::{Setup, Stand, ask_flows, eventually, within_five_deviations},
};

/// Connections at each weight.
fn connections() -> u64 {
    Size::of_this_run().pick(4_000, 20_000)
}

#[test]
fn each_version_gets_its_share_of_connections_within_five_deviations() {
    let stand = Stand::running(Setup::default());
    let mut syns = [0, 0];
    for percent in [1_u8, 10, 50] {
        stand.set_v2(percent);
        let tally = stand.send(connections());
        assert_eq!(tally.failed(), 0, "{tally:?}");
        let by_v2 = tally.by_version("v2");
        assert!(
            within_five_deviations(by_v2, connections(), f64::from(percent) / 100.0),
            "{by_v2} of {} at {percent} %",
            connections()
        );
        syns = [syns[0] + tally.by_version("v1"), syns[1] + by_v2];
    }
    let service = stand.service();
    for (version, answered) in service.versions.iter().zip(syns) {
        assert_eq!(version.totals.syns, answered, "SYNs of {} against answers", version.name);
        assert_eq!(version.totals.syn_acks, answered, "SYN-ACKs of {} against answers", version.name);
    }
}

#[test]
fn the_observed_share_is_what_the_servers_count() {
    let stand = Stand::running(Setup { v2_weight: 30, ..Setup::default() });
    let running = stand.traffic().start(stand.lab().client()).unwrap();
    eventually("enough traffic", || running.tally().answered(), |answered| *answered >= 4_000);
    let observed = || {
        let before = running.tally();
        (stand.service().versions[1].observed, before.by_version("v2") as f64 / before.answered() as f64)
    };
    // Both are samples of the same split, of at least a thousand connections each.
    eventually("an observed share", observed, |(observed, counted)| {
        observed.is_some_and(|observed| (observed - counted).abs() < 0.07 && (observed - 0.3).abs() < 0.07)
    });
    assert_eq!(running.stop().failed(), 0);
}

#[test]
fn backends_of_a_version_share_by_their_weights() {
    let stand = Stand::running(Setup { pools: [vec![2, 1], vec![1]], v2_weight: 25, ..Setup::default() });
    let tally = stand.send(connections());
    assert_eq!(tally.failed(), 0, "{tally:?}");
    for (who, share) in [("v1/10.0.1.1", 0.5), ("v1/10.0.2.1", 0.25), ("v2/10.0.3.1", 0.25)] {
        let count = tally.answers[who];
        assert!(within_five_deviations(count, connections(), share), "{count} of {} for {who}", connections());
    }
}

/// 2,000 flows of 1,000 addresses.
fn flows(sources: Sources) -> Vec<SocketAddrV4> {
    (0..2_000_u16).map(|n| SocketAddrV4::new(sources.at(u64::from(n / 2)), 20_000 + n)).collect()
}

fn on_v2(answers: &BTreeMap<SocketAddrV4, String>) -> BTreeSet<SocketAddrV4> {
    answers.iter().filter(|(_, who)| who.starts_with("v2/")).map(|(flow, _)| *flow).collect()
}

#[test]
fn raising_v2_adds_flows_and_moves_none_back_and_lowering_it_again_gives_the_same_ones() {
    let stand = Stand::running(Setup { pools: [vec![1, 1], vec![1]], ..Setup::default() });
    let flows = flows(stand.lab().sources());
    let ask = |percent| {
        stand.set_v2(percent);
        ask_flows(stand.lab().client(), stand.target(), &flows)
    };
    let [ten, twenty, again] = [10, 20, 10].map(ask);
    let (at_ten, at_twenty) = (on_v2(&ten), on_v2(&twenty));
    assert!(within_five_deviations(at_ten.len() as u64, 2_000, 0.1), "{} on v2", at_ten.len());
    assert!(within_five_deviations(at_twenty.len() as u64, 2_000, 0.2), "{} on v2", at_twenty.len());
    assert!(at_ten.is_subset(&at_twenty), "who was on v2 stays there");
    assert_eq!(ten, again, "the same flows at the same backends");
    let moved = ten
        .iter()
        .filter(|(flow, who)| who.starts_with("v1/") && twenty[*flow].starts_with("v1/") && twenty[*flow] != **who);
    assert_eq!(moved.count(), 0, "a change of weights moves nobody within v1");
}

#[test]
fn with_affinity_client_all_flows_of_an_address_meet_one_backend() {
    let setup = Setup { affinity: "client", pools: [vec![1, 1], vec![1]], v2_weight: 40, ..Setup::default() };
    let stand = Stand::running(setup);
    let sources = stand.lab().sources();
    let flows: Vec<_> = (0..600_u16).map(|n| SocketAddrV4::new(sources.at(u64::from(n / 3)), 30_000 + n)).collect();
    let answers = ask_flows(stand.lab().client(), stand.target(), &flows);
    let mut met = BTreeMap::new();
    for (flow, who) in &answers {
        met.entry(flow.ip()).or_insert_with(BTreeSet::new).insert(who);
    }
    assert_eq!(met.len(), 200);
    assert!(met.values().all(|backends| backends.len() == 1), "{met:?}");
    let clients = met.values().filter(|backends| backends.iter().all(|who| who.starts_with("v2/"))).count();
    assert!(within_five_deviations(clients as u64, 200, 0.4), "{clients} of 200 clients on v2");
}
