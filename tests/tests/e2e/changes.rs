//! Changes of configuration and weights while traffic flows, made as a whole or not at all.

use std::{
    fmt::Write as _,
    net::SocketAddrV4,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use grayxdp::{lab::Traffic, model::api::Explained};
use grayxdp_tests::{
    size::Size,
    stand::{SERVER_PORT, SERVICE, Setup, Stand, ask_flows, assert_one_line, eventually, within_five_deviations},
};

fn flows(stand: &Stand, count: u16, first_port: u16) -> Vec<SocketAddrV4> {
    let sources = stand.lab().sources();
    (0..count).map(|n| SocketAddrV4::new(sources.at(u64::from(n)), first_port + n)).collect()
}

#[test]
fn explain_says_where_a_flow_goes_and_leaves_no_trace() {
    let stand = Stand::running(Setup { pools: [vec![1, 1], vec![1]], v2_weight: 30, ..Setup::default() });
    let flows = flows(&stand, 60, 31_000);
    let target = stand.target().to_string();
    let explain =
        |flow: &SocketAddrV4| -> Explained { stand.answer(&["explain", "--src", &flow.to_string(), "--dst", &target]) };
    let said: Vec<_> = flows.iter().map(explain).collect();
    let totals = |stand: &Stand| stand.service().versions.into_iter().map(|version| version.totals).collect::<Vec<_>>();
    assert!(totals(&stand).iter().all(|totals| totals.packets_forward == 0 && totals.syns == 0));
    let answers = ask_flows(stand.lab().client(), stand.target(), &flows);
    for (flow, explained) in flows.iter().zip(&said) {
        let backend = explained.backend.unwrap();
        let who = format!("{}/{}", explained.version.as_ref().unwrap(), backend.ip());
        assert_eq!((&answers[flow], backend.port()), (&who, SERVER_PORT), "{explained:?}");
        assert_eq!((explained.fate.as_str(), explained.service.as_ref().unwrap().as_str()), ("forwarded", SERVICE));
    }
    let versions = |name| said.iter().filter(|way| way.version.as_ref().is_some_and(|v| v.as_str() == name)).count();
    assert!(versions("v1") > 0 && versions("v2") > 0);
    let elsewhere: Explained =
        stand.answer(&["explain", "--src", "10.64.0.1:1000", "--dst", &target.replace(":80", ":81")]);
    assert_eq!((elsewhere.fate.as_str(), elsewhere.reason.as_deref()), ("answered", Some("port_closed")));
}

#[test]
fn another_backend_moves_no_flow_to_another_version_and_few_within_one() {
    let stand = Stand::running(Setup { pools: [vec![1, 1, 1], vec![1]], v2_weight: 40, ..Setup::default() });
    let all = stand.configuration();
    let flows = flows(&stand, 1_000, 32_000);
    let ask = || ask_flows(stand.lab().client(), stand.target(), &flows);
    let with_three = ask();
    stand.write("grayxdp.yaml", &all.replace("{address: 10.0.3.1, port: 8080, weight: 1}", ""));
    assert_ne!(stand.configuration(), all);
    let _ = stand.done(&["reload"]);
    let with_two = ask();
    let version = |who: &str| who.split('/').next().map(str::to_owned);
    for (flow, who) in &with_three {
        assert_eq!(version(who), version(&with_two[flow]), "{flow}");
    }
    let moved = with_three.iter().filter(|(flow, who)| !who.ends_with("10.0.3.1") && with_two[*flow] != **who).count();
    // Of the 400 flows that stay, Maglev moves a few in a hundred.
    assert!(moved < 60, "{moved} of those whose backend stayed moved");
    stand.write("grayxdp.yaml", &all);
    let _ = stand.done(&["reload"]);
    assert_eq!(ask(), with_three, "the table depends on the backends alone");
}

/// Sixty more services: more than the tables have room for at first.
fn with_many_services(text: &str) -> String {
    let mut text = text.to_owned();
    for number in 0..60 {
        write!(
            text,
            "- name: more-{number}\n  vip: 198.51.100.{number}\n  port: 80\n  versions:\n  - {{name: v1, backends: \
             [{{address: 10.0.1.1, port: {}}}, {{address: 10.0.1.1, port: {}}}]}}\n  weights: {{v1: 100}}\n",
            10_000 + number,
            11_000 + number
        )
        .unwrap();
    }
    text
}

#[test]
fn larger_tables_are_taken_into_use_under_load_by_reload_and_by_a_restart() {
    let mut stand = Stand::running(Setup { pools: [vec![1, 1], vec![1]], v2_weight: 33, ..Setup::default() });
    let small = stand.configuration();
    let flows = flows(&stand, 200, 33_000);
    let ask = |stand: &Stand| ask_flows(stand.lab().client(), stand.target(), &flows);
    let before = (ask(&stand), stand.snapshot());
    let traffic = Traffic { clients: 8, pause: Duration::from_millis(2), ..stand.traffic() };
    let running = traffic.start(stand.lab().client()).unwrap();
    let programs = |stand: &Stand| stand.snapshot().programs;
    stand.write("grayxdp.yaml", &with_many_services(&small));
    let _ = stand.done(&["reload"]);
    assert_eq!(stand.status().services.len(), 61);
    let grown = programs(&stand);
    assert!(grown.iter().all(|(name, program)| before.1.programs[name] != *program), "the links have another program");
    assert_eq!(ask(&stand), before.0);
    stand.write("grayxdp.yaml", &small);
    let _ = stand.done(&["reload"]);
    let _ = stand.done(&["detach", "--dry-run"]);
    // The same by a restart: small tables are pinned, large ones are wanted.
    stand.kill();
    stand.start();
    assert_eq!(stand.status().services.len(), 1);
    stand.kill();
    stand.write("grayxdp.yaml", &with_many_services(&small));
    stand.start();
    assert_eq!(stand.status().services.len(), 61);
    assert_eq!(ask(&stand), before.0);
    let tally = running.stop();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    let folders: std::collections::BTreeSet<_> =
        stand.snapshot().pins.iter().filter_map(|pin| pin.parent().map(std::path::Path::to_owned)).collect();
    assert_eq!(folders.len(), 2, "links, and one folder of maps: {folders:?}");
}

#[test]
fn a_daemon_killed_in_the_middle_of_a_change_has_made_it_or_not() {
    let mut stand = Stand::running(Setup::default());
    let mut made = 0;
    for round in 0..Size::of_this_run().pick(12_u8, 60) {
        let before = stand.service();
        let v2 = 1 + round;
        let shares = [format!("v1={}", 100 - v2), format!("v2={v2}")];
        let mut setting = stand.cli_command(&["weights", "set", SERVICE, &shares[0], &shares[1]]);
        let mut setting = setting.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(u64::from(round) * 5 / 2));
        stand.kill();
        let answered = setting.wait().unwrap().success();
        stand.start();
        let after = stand.service();
        let changed = after.versions[1].weight.ratio() * 100.0;
        if after.epoch == before.epoch {
            assert_eq!(after.versions[1].buckets, before.versions[1].buckets);
            assert!(!answered, "what was answered is made");
        } else {
            assert_eq!(after.epoch, before.epoch + 1);
            assert!((changed - f64::from(v2)).abs() < 1e-9, "{changed} %");
            made += 1;
        }
    }
    println!("{made} changes were made");
    stand.set_v2(50);
    let tally = stand.send(1_000);
    assert!(within_five_deviations(tally.by_version("v2"), 1_000, 0.5), "{tally:?}");
    assert_eq!(tally.failed(), 0);
}

#[test]
fn a_hangup_reloads_the_file() {
    let mut stand = Stand::running(Setup::default());
    let text =
        stand.configuration().replace("- {name: v1, backends: [", "- {name: v1, backends: [{address: 10.0.9.9}, ");
    stand.write("grayxdp.yaml", &text);
    stand.signal(libc::SIGHUP);
    let backends = || stand.service().versions[0].backends.len();
    eventually("the new backend", backends, |count| *count == 2);
    assert_eq!(stand.service().versions[0].backends.iter().filter(|backend| backend.resolved).count(), 1);
}

#[test]
fn a_device_that_was_replaced_is_attached_anew_by_the_next_start() {
    let mut stand = Stand::new(Setup::default());
    let balancer = stand.lab().balancer().clone();
    let make = ["link add extra0 index 77 type veth peer name extra1".to_owned(), "link set extra0 up".to_owned()];
    balancer.ip(&make).unwrap();
    let text = stand.configuration().replace("interfaces: [", "interfaces: [{name: extra0, mode: native}, ");
    stand.write("grayxdp.yaml", &text);
    stand.start();
    assert!(stand.snapshot().programs.contains_key("extra0"));
    let running = stand.traffic().start(stand.lab().client()).unwrap();
    balancer.ip(&["link del extra0".to_owned()]).unwrap();
    balancer.ip(&make).unwrap();
    assert!(!stand.snapshot().programs.contains_key("extra0"));
    stand.kill();
    stand.start();
    assert!(stand.snapshot().programs.contains_key("extra0"), "{}", stand.log());
    let begun = Instant::now();
    eventually("requests", || running.tally().answered(), |answered| *answered > 200);
    assert_eq!(running.stop().failed(), 0, "{:?}", begun.elapsed());
}

#[test]
fn a_reload_for_an_interface_that_is_not_there_changes_nothing() {
    let stand = Stand::running(Setup { v2_weight: 30, ..Setup::default() });
    let before = stand.service();
    let text = stand.configuration();
    stand.write(
        "grayxdp.yaml",
        &text.replace("name: client0", "name: gone0").replace("vip: 192.0.2.10", "vip: 192.0.2.11"),
    );
    assert_one_line(&stand.cli(&["reload"]), 2, &["gone0", "ip link"]);
    assert_eq!(stand.service(), before);
    stand.write("grayxdp.yaml", &text);
    let _ = stand.done(&["reload"]);
}
