//! Programs that nobody here wrote, both topologies, UDP, generic mode.

use std::{collections::BTreeMap, net::SocketAddrV4};

use grayxdp::lab::{Arms, Lab, Process, download};
use grayxdp_tests::stand::{PATIENCE, SERVER_PORT, Setup, Stand, ask_udp, long_text, within_five_deviations};

/// Bytes of a download.
const BIG: usize = 10_000_000;

/// nginx on a backend, at its own address.
pub(crate) fn nginx(stand: &Stand, backend: usize, name: &str, answer: &str) -> Process {
    let end = SocketAddrV4::new(stand.lab().backend_address(backend), SERVER_PORT);
    stand.nginx(backend, end.into(), name, answer, BIG)
}

fn curl(lab: &Lab, source: u64, url: &str) -> String {
    let source = lab.sources().at(source).to_string();
    lab.client().output("curl", ["-sS", "--fail", "--max-time", "20", "--interface", &source, url]).unwrap()
}

/// Both versions by nginx, asked by curl.
fn nginx_answers_curl(arms: Arms) {
    let mut stand = Stand::new(Setup { arms, v2_weight: 50, serves: [false, false], ..Setup::default() });
    let _servers = [(0, "first"), (1, "second")].map(|(backend, name)| nginx(&stand, backend, name, name));
    stand.start();
    let url = format!("http://{}", stand.target());
    let mut answers = BTreeMap::new();
    for source in 0..60 {
        *answers.entry(curl(stand.lab(), source, &url)).or_insert(0_u64) += 1;
    }
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["first", "second"]);
    assert!(within_five_deviations(answers["first"], 60, 0.5), "{answers:?}");
    let big = curl(stand.lab(), 7, &format!("{url}/big"));
    assert!(big.as_bytes() == long_text(BIG), "{} bytes", big.len());
}

#[test]
fn nginx_answers_curl_with_two_arms() {
    nginx_answers_curl(Arms::Two);
}

#[test]
fn nginx_answers_curl_with_one_arm() {
    nginx_answers_curl(Arms::One);
}

#[test]
fn the_split_holds_with_one_arm() {
    let stand = Stand::running(Setup { arms: Arms::One, v2_weight: 20, ..Setup::default() });
    let tally = stand.send(2_000);
    assert_eq!(tally.failed(), 0, "{tally:?}");
    assert!(within_five_deviations(tally.by_version("v2"), 2_000, 0.2), "{tally:?}");
}

#[test]
fn datagrams_come_back_from_the_version_that_the_weights_say() {
    let stand = Stand::running(Setup { protocol: "udp", v2_weight: 30, ..Setup::default() });
    let (client, sources) = (stand.lab().client(), stand.lab().sources());
    let ask = |flow: u16| {
        let from = SocketAddrV4::new(sources.at(u64::from(flow)), 40_000 + flow);
        ask_udp(client, stand.target(), from, &format!("flow {flow}")).unwrap()
    };
    let answers: Vec<String> = (0..600).map(ask).collect();
    let on_v2 = answers.iter().filter(|answer| answer.starts_with("v2/")).count() as u64;
    assert!(within_five_deviations(on_v2, 600, 0.3), "{on_v2} of 600 on v2");
    for flow in 0..600_u16 {
        let answer = &answers[usize::from(flow)];
        assert!(answer.ends_with(&format!(" flow {flow}")), "{answer}");
    }
    assert_eq!((0..50).map(ask).collect::<Vec<_>>(), answers[..50], "a flow stays where it was");
}

#[test]
fn generic_mode_works_and_is_shown() {
    let stand = Stand::running(Setup { mode: "generic", v2_weight: 50, ..Setup::default() });
    let tally = stand.send(1_000);
    assert_eq!(tally.failed(), 0, "{tally:?}");
    assert!(within_five_deviations(tally.by_version("v2"), 1_000, 0.5), "{tally:?}");
    let arrived =
        download(stand.lab().client(), stand.lab().sources().at(9), stand.target(), 5_000_000, PATIENCE).unwrap();
    assert!(arrived.intact);
    modes_are(&stand, "generic");
}

#[test]
fn auto_takes_the_driver_where_it_can() {
    let stand = Stand::running(Setup { mode: "auto", ..Setup::default() });
    assert_eq!(stand.send(200).failed(), 0);
    modes_are(&stand, "native");
}

fn modes_are(stand: &Stand, mode: &str) {
    let shown = stand.status().interfaces;
    assert_eq!(shown.len(), 3);
    assert!(shown.iter().all(|interface| interface.mode == mode), "{shown:?}");
    let kernel = stand.snapshot().programs;
    assert_eq!(kernel.len(), 3);
    assert!(kernel.values().all(|(of_kernel, _)| of_kernel == mode), "{kernel:?}");
    assert!(stand.done(&["status"]).contains(mode));
}
