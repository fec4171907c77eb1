//! What is scraped is what happened.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

use grayxdp_tests::stand::{HTTP, Setup, Stand, eventually, get, plan};

fn scrape(stand: &Stand) -> String {
    let (status, text) = get(stand.lab().balancer(), HTTP.parse().unwrap(), "/metrics").unwrap();
    assert_eq!(status, 200);
    text
}

/// Each sample's value by its name and labels.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap()).map(|(name, value)| (name, value.parse().unwrap())).collect()
}

#[test]
fn the_exception_table_has_the_room_that_the_file_gives_it_until_it_is_detached() {
    let mut stand = Stand::new(Setup::default());
    let file = stand.configuration();
    let places = |stand: &Stand| samples(&scrape(stand))["grayxdp_exception_places"];
    stand.write("grayxdp.yaml", &format!("exceptions: 1024\n{file}"));
    stand.start();
    assert_eq!(places(&stand), 2_048.0);
    stand.kill();
    stand.write("grayxdp.yaml", &format!("exceptions: 8192\n{file}"));
    stand.start();
    assert_eq!(places(&stand), 2_048.0);
    assert!(stand.log().contains("the exception table keeps its size until `grayxdp detach`"), "{}", stand.log());
}

#[test]
fn metrics_agree_with_what_the_clients_counted() {
    let stand = Stand::running(Setup { v2_weight: 30, ..Setup::default() });
    let tally = stand.send(2_000);
    assert_eq!(tally.failed(), 0);
    let text = scrape(&stand);
    let samples = samples(&text);
    for version in ["v1", "v2"] {
        let value =
            |name: &str, more: &str| samples[&*format!("{name}{{service=\"recsys\",version=\"{version}\"{more}}}")];
        let answered = tally.by_version(version) as f64;
        assert!(answered > 0.0);
        assert!((value("grayxdp_flows_opened_total", "") - answered).abs() < 0.5);
        assert!((value("grayxdp_connect_attempts_total", "") - answered).abs() < 0.5);
        // SYN, ACK, request, FIN there; SYN-ACK, answer, FIN back.
        assert!(value("grayxdp_packets_total", ",direction=\"forward\"") >= 4.0 * answered);
        assert!(value("grayxdp_packets_total", ",direction=\"reverse\"") >= 3.0 * answered);
        assert!(value("grayxdp_bytes_total", ",direction=\"reverse\"") >= 3.0 * 54.0 * answered);
        assert!(value("grayxdp_connect_failures_total", ",kind=\"refused\"").abs() < 0.5);
    }
    // 30 % of 16,384 buckets is 4,915 to the nearest whole.
    let ratio = samples["grayxdp_weight_ratio{service=\"recsys\",segment=\"\",version=\"v2\"}"];
    assert!((ratio - 4_915.0 / 16_384.0).abs() < 1e-9, "{ratio}");
    let repeated = stand.send(500);
    let later = scrape(&stand);
    let flows = |text: &str| -> f64 {
        let all = self::samples(text);
        all.iter().filter(|(name, _)| name.starts_with("grayxdp_flows_opened_total")).map(|(_, value)| value).sum()
    };
    assert!((flows(&later) - flows(&text) - repeated.answered() as f64).abs() < 0.5, "read when scraped");
}

#[test]
fn prometheus_finds_no_fault_in_the_metrics() {
    let stand = Stand::running(Setup { v2_weight: 30, ..Setup::default() });
    assert_eq!(stand.send(100).failed(), 0);
    stand.set_v2(0);
    stand.start_rollout("first", &plan("first", &[(40, "1h"), (100, "none")], true));
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there: `cargo xtask setup` installs it");
    let progressing = "grayxdp_rollout_state{rollout=\"first\",service=\"recsys\",state=\"progressing\"} 1";
    let text = eventually("a rollout on its way", || scrape(&stand), |text| text.contains(progressing));
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}\n{text}");
}

#[test]
fn health_and_readiness_are_answered_and_other_paths_are_not_found() {
    let stand = Stand::running(Setup::default());
    let status = |path| get(stand.lab().balancer(), HTTP.parse().unwrap(), path).unwrap().0;
    assert_eq!((status("/healthz"), status("/readyz"), status("/nothing")), (200, 200, 404));
}
