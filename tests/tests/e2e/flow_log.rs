//! The flow log: one line a sampled flow, with the version whose server answered it; rotation, and a disk without room.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddrV4,
    path::{Path, PathBuf},
    process::Command,
};

use grayxdp_tests::stand::{
    SERVICE, Setup, Stand, ask_flows, ask_udp, assert_one_line, eventually, within_five_deviations,
};

/// A stand with a flow log of so many per cent of the flows, in a folder of its own.
fn stand(setup: Setup, sample: &str) -> (Stand, PathBuf) {
    let stand = Stand::new(setup);
    let folder = stand.file("flows");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("flows.jsonl");
    configure(&stand, &path, sample);
    (stand, path)
}

fn configure(stand: &Stand, path: &Path, sample: &str) {
    let own = without_log(stand);
    stand.write("grayxdp.yaml", &format!("flowLog: {{path: {}, sample: {sample}}}\n{own}", path.display()));
}

fn without_log(stand: &Stand) -> String {
    let text = stand.configuration();
    text.lines().filter(|line| !line.starts_with("flowLog:")).map(|line| line.to_owned() + "\n").collect()
}

fn flows(stand: &Stand, from: u64, count: u64) -> Vec<SocketAddrV4> {
    let flow = |number: u64| SocketAddrV4::new(stand.lab().sources().at(number), 30_000 + (number % 1_000) as u16);
    (from..from + count).map(flow).collect()
}

/// The lines by client.
fn lines(stand: &Stand, path: &Path) -> BTreeMap<String, Vec<serde_json::Value>> {
    let text = stand.lab().balancer().run(|| fs::read_to_string(path)).unwrap_or_default();
    let mut lines: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        lines.entry(value["client"].as_str().unwrap().to_owned()).or_default().push(value);
    }
    lines
}

/// Asserts that a line tells of a flow what its server said: `v1/10.0.1.1`.
fn assert_told(stand: &Stand, told: &[serde_json::Value], answer: &str, protocol: &str) {
    let [line] = told else { panic!("one line, not {told:?}") };
    let (version, address) = answer.split_once('/').unwrap();
    assert_eq!((line["service"].as_str(), line["protocol"].as_str()), (Some(SERVICE), Some(protocol)));
    assert_eq!(
        (line["version"].as_str(), line["backend"].as_str()),
        (Some(version), Some(format!("{address}:8080").as_str()))
    );
    assert_eq!(line["target"].as_str(), Some(stand.target().to_string().as_str()));
    assert!(
        line["time"].as_str().is_some_and(|time| time.ends_with('Z')) && line["epoch"].as_u64() > Some(0),
        "{line}"
    );
    assert!(line["reason"].as_array().is_some_and(|reasons| !reasons.is_empty()), "{line}");
}

#[test]
fn every_connection_has_one_line_that_names_the_version_whose_server_answered() {
    let (mut stand, path) = stand(Setup { v2_weight: 50, ..Setup::default() }, "100");
    stand.start();
    let all = flows(&stand, 0, 400);
    let mut answers = ask_flows(stand.lab().client(), stand.target(), &all);
    // Also while the split changes.
    stand.set_v2(20);
    let more = flows(&stand, 400, 200);
    answers.extend(ask_flows(stand.lab().client(), stand.target(), &more));
    let told = eventually("all lines", || lines(&stand, &path), |told| told.len() == 600);
    for (flow, answer) in &answers {
        assert_told(&stand, &told[&flow.to_string()], answer, "tcp");
    }
    let written = stand.metrics().sum("grayxdp_flow_log_lines_total", &[("result", "written")]);
    assert_eq!((written, stand.metrics().sum("grayxdp_flow_log_lines_total", &[("result", "lost")])), (600.0, 0.0));

    // Moved away and opened anew, as logrotate does it.
    let old = path.with_extension("1");
    fs::rename(&path, &old).unwrap();
    stand.signal(libc::SIGHUP);
    let mut from = 1_000;
    let again = || {
        let _ = ask_flows(stand.lab().client(), stand.target(), &flows(&stand, from, 1));
        from += 1;
        path.exists()
    };
    eventually("a new file", again, |is_there| *is_there);
    // Off again: the interfaces run the usual program.
    let logging = stand.snapshot().programs;
    stand.write("grayxdp.yaml", &without_log(&stand));
    let _ = stand.done(&["reload"]);
    eventually("the usual program", || stand.snapshot().programs, |programs| *programs != logging);
    let length = fs::metadata(&path).unwrap().len();
    let _ = ask_flows(stand.lab().client(), stand.target(), &flows(&stand, 3_000, 50));
    assert_eq!(fs::metadata(&path).unwrap().len(), length);
}

#[test]
fn connections_by_full_nat_are_told_of_too() {
    let fields = ["forwarding: full-nat", "sourcePool: [10.99.0.0/30]"].map(str::to_owned).into();
    let (mut stand, path) = stand(Setup { v2_weight: 50, fields, ..Setup::default() }, "100");
    stand.start();
    let mut answers = ask_flows(stand.lab().client(), stand.target(), &flows(&stand, 0, 100));
    stand.set_v2(20);
    answers.extend(ask_flows(stand.lab().client(), stand.target(), &flows(&stand, 100, 100)));
    let told = eventually("all lines", || lines(&stand, &path), |told| told.len() == 200);
    for (flow, answer) in &answers {
        assert_told(&stand, &told[&flow.to_string()], answer, "tcp");
    }
}

#[test]
fn a_sample_is_its_part_of_the_flows_and_datagrams_have_one_line_a_flow() {
    let (mut stand, path) = stand(Setup { protocol: "udp", v2_weight: 50, ..Setup::default() }, "25");
    stand.start();
    let all = flows(&stand, 0, 400);
    let mut answers = BTreeMap::new();
    for flow in &all {
        for _ in 0..2 {
            let answer = ask_udp(stand.lab().client(), stand.target(), *flow, "hello").unwrap();
            answers.insert(*flow, answer.split(' ').next().unwrap().to_owned());
        }
    }
    // The last flow's line comes after all others'.
    let written = || stand.metrics().sum("grayxdp_flow_log_lines_total", &[("result", "written")]) as usize;
    let told = eventually(
        "all lines",
        || (lines(&stand, &path), written()),
        |(told, written)| told.len() == *written && *written > 0,
    )
    .0;
    assert!(within_five_deviations(told.len() as u64, 400, 0.25), "{} of 400", told.len());
    for (flow, answer) in answers.iter().filter(|(flow, _)| told.contains_key(&flow.to_string())) {
        assert_told(&stand, &told[&flow.to_string()], answer, "udp");
    }
    configure(&stand, Path::new("flows.jsonl"), "25");
    assert_one_line(&stand.cli(&["reload"]), 2, &["1:11: `flows.jsonl` is no full path"]);
}

#[test]
fn a_disk_without_room_stops_the_flow_log_alone() {
    let (mut stand, path) = stand(Setup { v2_weight: 50, ..Setup::default() }, "100");
    let folder = path.parent().unwrap().to_owned();
    let mount =
        || Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&folder).status().unwrap();
    assert!(stand.lab().balancer().run(mount).success());
    stand.start();
    let filler = folder.join("filler");
    let filled = stand.lab().balancer().run(|| fs::write(&filler, vec![7; 1 << 20]));
    assert!(filled.is_err(), "there was room for all of it");
    let running = stand.traffic().start(stand.lab().client()).unwrap();
    let lost = || stand.metrics().sum("grayxdp_flow_log_lines_total", &[("result", "lost")]);
    eventually("lost lines", lost, |lost| *lost >= 50.0);
    let warned = || stand.status().warnings.iter().any(|line| line.contains("flows are not written down"));
    eventually("a warning", warned, |warned| *warned);
    stand.set_v2(20);
    assert_eq!(stand.v2(), 20.0, "all else goes on");
    stand.lab().balancer().run(|| fs::remove_file(&filler)).unwrap();
    eventually("lines", || lines(&stand, &path).len(), |lines| *lines > 0);
    assert_eq!(running.stop().failed(), 0);
}
