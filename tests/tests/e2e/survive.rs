//! The daemon dies, starts again, is upgraded, is told to end: traffic never notices.

use std::{thread, time::Duration};

use grayxdp::lab::{Running, Traffic, download};
use grayxdp_tests::{
    size::Size,
    stand::{PATIENCE, Setup, Stand, eventually, get},
};

/// Two versions of two backends, a third of the traffic for `v2`.
fn setup() -> Setup {
    Setup { pools: [vec![1, 1], vec![1, 1]], v2_weight: 33, ..Setup::default() }
}

/// Clients that do not fill both processors.
fn load(stand: &Stand) -> Running {
    let traffic = Traffic { clients: 16, pause: Duration::from_millis(4), ..stand.traffic() };
    let running = traffic.start(stand.lab().client()).unwrap();
    more_answers(&running, 200);
    running
}

/// Waits for that many more answers.
fn more_answers(running: &Running, count: u64) {
    let before = running.tally().requests();
    eventually("more requests", || running.tally().requests(), |now| *now >= before + count);
}

#[test]
fn a_killed_daemon_loses_no_request_and_the_next_one_adopts_what_it_left() {
    let mut stand = Stand::running(setup());
    stand.set_v2(20);
    let before = stand.service();
    let running = load(&stand);
    for _ in 0..Size::of_this_run().pick(3, 20) {
        stand.kill();
        more_answers(&running, 300);
        stand.start();
        more_answers(&running, 100);
        let after = stand.service();
        assert_eq!((after.epoch, after.stable.as_str()), (before.epoch, "v1"));
        assert_eq!(after.versions.iter().map(|version| version.buckets).collect::<Vec<_>>(), [13_107, 3_277]);
    }
    let tally = running.stop();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    let [v1, v2] = [0, 1].map(|version| stand.service().versions[version].totals);
    assert_eq!(v1.syns + v2.syns, tally.answered(), "counters go on across restarts");
}

#[test]
fn programs_and_pins_of_a_killed_daemon_stay_and_the_same_binary_keeps_them() {
    let mut stand = Stand::running(setup());
    let before = stand.snapshot();
    assert_eq!(before.programs.len(), 5);
    stand.kill();
    assert_eq!((stand.snapshot().programs, stand.snapshot().pins), (before.programs.clone(), before.pins.clone()));
    stand.start();
    let after = stand.snapshot();
    assert_eq!(after.pins, before.pins);
    assert_eq!(after.programs.keys().collect::<Vec<_>>(), before.programs.keys().collect::<Vec<_>>());
}

#[test]
fn a_daemon_that_is_told_to_end_leaves_forwarding_behind() {
    let mut stand = Stand::running(setup());
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let running = load(&stand);
        stand.signal(signal);
        let status = stand.wait_for_end();
        assert!(status.success(), "{status}; {}", stand.log());
        assert!(!stand.file("grayxdp.sock").exists(), "the socket is removed");
        more_answers(&running, 300);
        assert_eq!(running.stop().failed(), 0);
        stand.start();
    }
}

#[test]
fn detach_frees_interfaces_and_pins_and_ends_the_daemon() {
    let mut stand = Stand::running(setup());
    let dry = stand.done(&["detach", "--dry-run"]);
    assert!(!dry.is_empty());
    assert_eq!(stand.snapshot().programs.len(), 5);
    let _ = stand.done(&["detach", "--reason", "the host leaves"]);
    assert!(stand.wait_for_end().success(), "{}", stand.log());
    stand.assert_free();
    // The interface is free for another program.
    let balancer = stand.lab().balancer();
    let taken = balancer.output("ip", ["link", "set", "dev", "client0", "xdp", "off"]);
    assert!(taken.is_ok(), "{taken:?}");
    stand.start();
    assert_eq!(stand.send(200).failed(), 0, "a daemon can begin anew");
    assert!((stand.v2() - 33.0).abs() < f64::EPSILON);
}

#[test]
fn detach_without_a_daemon_removes_what_a_killed_one_left() {
    let mut stand = Stand::running(setup());
    stand.kill();
    assert_eq!(stand.snapshot().programs.len(), 5);
    let config = stand.config_file();
    let mut command = stand.lab().balancer().command(grayxdp_tests::size::grayxdp());
    command.arg("--socket").arg(stand.file("grayxdp.sock")).arg("detach").arg("--config").arg(&config);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    stand.assert_free();
}

#[test]
fn a_download_keeps_every_byte_while_the_daemon_is_killed_and_restarted() {
    let bytes = 100_000_000;
    let mut stand = Stand::running(setup());
    let (client, source, target) = (stand.lab().client().clone(), stand.lab().sources().at(5), stand.target());
    let downloading = thread::spawn(move || download(&client, source, target, bytes, PATIENCE));
    let mut restarts = 0;
    while !downloading.is_finished() {
        stand.kill();
        thread::sleep(Duration::from_millis(50));
        stand.start();
        restarts += 1;
    }
    let arrived = downloading.join().unwrap().unwrap();
    assert_eq!((arrived.bytes, arrived.intact), (bytes, true));
    assert!(restarts >= 1, "the daemon was killed at least once on the way");
}

#[test]
fn a_daemon_is_ready_again_after_each_start() {
    let mut stand = Stand::running(setup());
    let http = grayxdp_tests::stand::HTTP.parse().unwrap();
    for _ in 0..2 {
        let ready = || get(stand.lab().balancer(), http, "/readyz").map(|(status, _)| status).ok();
        eventually("readiness", ready, |status| *status == Some(200));
        stand.kill();
        assert!(get(stand.lab().balancer(), http, "/healthz").is_err());
        stand.start();
    }
}

#[test]
fn a_reload_that_is_asked_for_during_the_start_does_not_end_the_daemon() {
    let mut stand = Stand::new(Setup::default());
    stand.launch();
    let lock = stand.file("grayxdp.sock.lock");
    eventually("a claimed socket", || lock.exists(), |exists| *exists);
    stand.signal(libc::SIGHUP);
    eventually("an answer", || stand.cli(&["status"]).status.success() || !stand.is_alive(), |ended| *ended);
    assert!(stand.is_alive(), "the daemon ended: {}", stand.log());
    assert_eq!(stand.send(20).failed(), 0);
}
