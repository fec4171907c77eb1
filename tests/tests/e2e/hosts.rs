//! Hosts as they are: links in bridges, devices that take no packets from XDP.

use grayxdp_tests::stand::{Setup, Stand, assert_one_line, eventually, get};

/// The load balancer's link to the second backend.
const LINK: &str = "backend2";
const BRIDGE: &str = "bridge2";

/// Makes the link to the second backend a port of a bridge, which takes over its address.
fn bridge(stand: &Stand) {
    let balancer = stand.lab().balancer();
    let address = balancer.run(|| {
        let output = std::process::Command::new("ip").args(["-o", "-4", "addr", "show", "dev", LINK]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().skip_while(|word| *word != "inet").nth(1).unwrap().to_owned()
    });
    let lines = [
        format!("link add {BRIDGE} type bridge"),
        format!("addr del {address} dev {LINK}"),
        format!("link set {LINK} master {BRIDGE}"),
        format!("link set {BRIDGE} up"),
        format!("addr add {address} dev {BRIDGE}"),
    ];
    balancer.ip(&lines).unwrap();
}

#[test]
fn a_port_of_a_bridge_is_refused_and_the_bridge_named() {
    let stand = Stand::new(Setup::default());
    bridge(&stand);
    let output = stand.refused(&mut stand.daemon_command(&stand.config_file()));
    assert_one_line(&output, 1, &[LINK, BRIDGE, "interfaces"]);
    stand.assert_free();
}

#[test]
fn a_backend_behind_a_bridge_is_reached_by_the_kernel_and_status_says_so() {
    let mut stand = Stand::new(Setup { v2_weight: 50, ..Setup::default() });
    bridge(&stand);
    let named = (format!("{{name: {LINK}, mode: native}}"), format!("{{name: {BRIDGE}, mode: auto}}"));
    let text = stand.configuration();
    assert!(text.contains(&named.0), "{text}");
    stand.write("grayxdp.yaml", &text.replace(&named.0, &named.1));
    stand.start();
    let target = stand.target();
    eventually("an answer", || get(stand.lab().client(), target, "/").is_ok(), |answered| *answered);
    let tally = stand.send(300);
    assert_eq!(tally.failed(), 0, "{tally:?}");
    let status = stand.status();
    assert!(status.notes.iter().any(|note| note.contains(BRIDGE) && note.contains("kernel")), "{:?}", status.notes);
    assert!(status.warnings.is_empty(), "{:?}", status.warnings);
    let service = stand.service();
    let [v1, v2] = [0, 1].map(|version: usize| service.versions[version].totals);
    assert!(v1.syns > 50 && v2.syns > 50, "{v1:?} {v2:?}");
    let passed = service.reasons.get("unresolved_backend").copied().unwrap_or_default();
    assert!(passed >= v2.syns, "what goes to the bridge goes by the kernel: {:?}", service.reasons);
}
