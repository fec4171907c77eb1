//! Classes of clients with weights of their own, a canary instance, many versions.

use std::{fmt::Write as _, net::SocketAddrV4, time::Duration};

use grayxdp::{
    lab::{HttpServer, LastingTraffic, Tally, Traffic},
    model::{config::Protocol, state::RolloutState},
};
use grayxdp_tests::stand::{SERVICE, Setup, Stand, VIP_PORT, ask_flows, eventually, plan, within_five_deviations};

/// 4,096 of the lab's sources from the 8,192nd on.
const ASIA: &str = "10.64.32.0/20";

fn setup(pools: [Vec<u16>; 2], segments: &str) -> Setup {
    Setup { pools, fields: vec![format!("segments: [{segments}]")], ..Setup::default() }
}

/// Requests of some of the lab's sources: `count` addresses from the one at `skip` on.
fn sent_from(stand: &Stand, skip: u32, count: u32) -> Tally {
    let traffic = Traffic { sources: stand.lab().sources().slice(skip, count), ..stand.traffic() };
    let tally = traffic.send(stand.lab().client(), 400).unwrap();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    tally
}

#[test]
fn sources_of_a_segment_go_by_its_weights() {
    let asia = format!("{{name: asia, match: {{sources: [{ASIA}]}}, weights: {{v1: 20, v2: 80}}}}");
    let stand = Stand::running(setup([vec![1], vec![1]], &asia));
    assert_eq!(sent_from(&stand, 0, 8_192).by_version("v1"), 400);
    let inside = sent_from(&stand, 8_192, 4_096);
    assert!(within_five_deviations(inside.by_version("v2"), 400, 0.8), "{inside:?}");
    assert_eq!(sent_from(&stand, 12_288, 4_096).by_version("v1"), 400);
    let _ = stand.done(&["weights", "set", SERVICE, "v1=100", "v2=0", "--segment", "asia"]);
    assert_eq!(sent_from(&stand, 8_192, 4_096).by_version("v1"), 400);
}

#[test]
fn the_longest_prefix_of_a_source_decides() {
    let segments = format!(
        "{{name: wide, match: {{sources: [10.64.0.0/18]}}, weights: {{v1: 0, v2: 100}}}}, {{name: narrow, match: \
         {{sources: [{ASIA}]}}, weights: {{v1: 100, v2: 0}}}}"
    );
    let stand = Stand::running(setup([vec![1], vec![1]], &segments));
    assert_eq!(sent_from(&stand, 0, 8_192).by_version("v2"), 400);
    assert_eq!(sent_from(&stand, 8_192, 4_096).by_version("v1"), 400);
}

#[test]
fn the_dscp_of_the_first_packet_decides_for_the_whole_connection() {
    let expedited = "{name: expedited, match: {dscp: [46]}, weights: {v1: 0, v2: 100}}";
    let stand = Stand::running(setup([vec![1], vec![1]], expedited));
    let rules = "table ip outgoing { chain out { type route hook output priority mangle; ip saddr 10.64.32.0/20 \
                 tcp flags & (syn | ack) == syn ip dscp set 46; }; }";
    stand.lab().client().output("nft", [rules]).unwrap();
    assert_eq!(sent_from(&stand, 0, 8_192).by_version("v1"), 400);
    assert_eq!(sent_from(&stand, 8_192, 4_096).by_version("v2"), 400);
    let traffic = LastingTraffic {
        silent_one_in: 0,
        longest_pause: Duration::from_millis(300),
        sources: stand.lab().sources().slice(8_192, 4_096),
        ..LastingTraffic::new(Protocol::Tcp, stand.target(), stand.lab().sources())
    };
    let flows = traffic.start(stand.lab().client()).unwrap();
    flows.begin("expedited", 100);
    eventually("connections", || flows.living().len(), |living| *living == 100);
    assert!(flows.living().values().all(|who| who.starts_with("v2/")));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(flows.finish().all().harmed(), 0);
}

#[test]
fn the_port_that_a_client_asks_decides() {
    let secure = "{name: secure, match: {ports: [81]}, weights: {v1: 0, v2: 100}}";
    let mut stand = Stand::new(Setup { serves: [false, false], ..setup([vec![1], vec![1]], secure) });
    let text = stand.configuration().replace("  port: 80\n", "  ports: [80, 81]\n").replace(", port: 8080", "");
    stand.write("grayxdp.yaml", &text);
    let mut servers = Vec::new();
    for (backend, version) in [(0, "v1"), (1, "v2")] {
        for port in [80, 81] {
            let address = SocketAddrV4::new(stand.lab().backend_address(backend), port);
            servers.push(HttpServer::start(stand.lab().backend(backend), version, address).unwrap());
        }
    }
    stand.start();
    for (port, version) in [(VIP_PORT, "v1"), (81, "v2")] {
        let target = SocketAddrV4::new(stand.lab().vip(), port);
        let tally = Traffic::new(target, stand.lab().sources()).send(stand.lab().client(), 300).unwrap();
        assert_eq!((tally.failed(), tally.by_version(version)), (0, 300), "{port}: {tally:?}");
    }
}

#[test]
fn a_canary_instance_alone_gets_its_clients_and_keeps_their_connections() {
    let stand = Stand::running(Setup { pools: [vec![1, 1], vec![1, 1]], ..Setup::default() });
    let instance = stand.lab().backend_address(2).to_string();
    let steps = plan("canary", &[(10, "1h"), (100, "none")], false).replace(
        "      steps:\n",
        &format!(
            "      instance: {{backend: \"{instance}:8080\", match: {{sources: [{ASIA}]}}, pause: {{duration: 1h}}}}\n      steps:\n"
        ),
    );
    stand.start_rollout("canary", &steps);
    let who = format!("v2/{instance}");
    let inside = || sent_from(&stand, 8_192, 4_096).answers.get(&who).copied().unwrap_or(0);
    eventually("the instance", inside, |answers| *answers == 400);
    assert_eq!(stand.v2(), 0.0);
    assert_eq!(sent_from(&stand, 0, 8_192).by_version("v1"), 400);
    let traffic = LastingTraffic {
        silent_one_in: 0,
        longest_pause: Duration::from_millis(300),
        ..LastingTraffic::new(Protocol::Tcp, stand.target(), stand.lab().sources().slice(8_192, 4_096))
    };
    let flows = traffic.start(stand.lab().client()).unwrap();
    flows.begin("at the instance", 100);
    eventually("connections", || flows.living().len(), |living| *living == 100);
    assert!(flows.living().values().all(|answers| *answers == who));
    let _ = stand.done(&["rollout", "abort", "canary", "--reason", "a test"]);
    eventually("the end", || stand.rollout("canary").state, |state| *state == RolloutState::RolledBack);
    assert_eq!(sent_from(&stand, 8_192, 4_096).by_version("v1"), 400);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(flows.finish().all().harmed(), 0);
}

/// The configuration with a version for each backend.
fn one_version_a_backend(stand: &Stand, weights: &[f64]) -> String {
    let text = stand.configuration();
    let (head, _) = text.split_once("  versions:\n").unwrap();
    let mut text = head.to_owned() + "  versions:\n";
    for index in 0..weights.len() {
        let address = stand.lab().backend_address(index);
        writeln!(text, "  - {{name: v{}, backends: [{{address: {address}, port: 8080}}]}}", index + 1).unwrap();
    }
    let weights: Vec<_> =
        weights.iter().enumerate().map(|(index, weight)| format!("v{}: {weight}", index + 1)).collect();
    text + &format!("  weights: {{{}}}\n", weights.join(", "))
}

#[test]
fn eight_versions_share_as_they_are_told_and_growth_takes_from_one_alone() {
    // Each is a whole number of buckets, so that nothing moves for the sake of rounding.
    let weights = [25.0, 12.5, 12.5, 12.5, 12.5, 12.5, 6.25, 6.25];
    let mut stand = Stand::new(Setup { pools: [vec![1; 4], vec![1; 4]], ..Setup::default() });
    stand.write("grayxdp.yaml", &one_version_a_backend(&stand, &weights));
    stand.start();
    let sources = stand.lab().sources();
    let flows: Vec<_> = (0..1_000_u16).map(|n| SocketAddrV4::new(sources.at(n.into()), 34_000 + n)).collect();
    let ask = || ask_flows(stand.lab().client(), stand.target(), &flows);
    let before = ask();
    for (index, weight) in weights.iter().enumerate() {
        let address = format!("/{}", stand.lab().backend_address(index));
        let count = before.values().filter(|who| who.ends_with(&address)).count() as u64;
        assert!(within_five_deviations(count, 1_000, weight / 100.0), "v{}: {count}", index + 1);
    }
    let set: Vec<_> = [6.25, 12.5, 12.5, 12.5, 12.5, 12.5, 6.25, 25.0]
        .iter()
        .enumerate()
        .map(|(n, w)| format!("v{}={w}", n + 1))
        .collect();
    let words: Vec<_> = ["weights", "set", SERVICE].into_iter().chain(set.iter().map(String::as_str)).collect();
    let _ = stand.done(&words);
    let after = ask();
    let (first, last) = (stand.lab().backend_address(0), stand.lab().backend_address(7));
    for (flow, who) in &before {
        let moved = after[flow] != *who;
        let from_first_to_last = who.ends_with(&format!("/{first}")) && after[flow].ends_with(&format!("/{last}"));
        assert!(!moved || from_first_to_last, "{flow}: {who} and then {}", after[flow]);
    }
    let moved = before.iter().filter(|(flow, who)| after[*flow] != **who).count() as u64;
    assert!(within_five_deviations(moved, 1_000, 0.1875), "{moved} moved");
}
