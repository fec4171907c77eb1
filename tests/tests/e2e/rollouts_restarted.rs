//! Rollouts whose daemon dies on the way: resumed where they were, never skipped ahead.

use std::{
    thread,
    time::{Duration, Instant},
};

use grayxdp::model::state::RolloutState;
use grayxdp_tests::{
    size::Size,
    stand::{Setup, Stand, eventually, plan},
};

use crate::rollouts::{assert_few_moved, load};

/// Milliseconds that the daemon lives each time; in order, again and again.
const LIVES: [u64; 12] = [30, 400, 1_100, 90, 1_700, 250, 10, 2_300, 700, 1_300, 150, 900];

/// The most that the plan allows after the daemon has run that long: it counts only time that it observed.
fn allowed(steps: &[(u8, u64)], ran: Duration) -> u8 {
    let mut needed = Duration::ZERO;
    let mut most = 0;
    for (weight, pause) in steps {
        if ran < needed {
            return most;
        }
        most = *weight;
        needed += Duration::from_secs(*pause);
    }
    most
}

#[test]
fn a_daemon_that_dies_again_and_again_never_gives_the_candidate_more_than_the_plan_allows() {
    let steps = [(5_u8, 2), (25, 2), (50, 2), (100, 0)];
    let mut stand = Stand::running(Setup::default());
    let running = load(&stand);
    let mut ran = Duration::ZERO;
    let mut life = Instant::now();
    stand.start_rollout("mortal", &plan("mortal", &[(5, "2s"), (25, "2s"), (50, "2s"), (100, "none")], false));
    let mut seen = vec![0];
    let lives = Size::of_this_run().pick(14, 60);
    for milliseconds in LIVES.into_iter().cycle().take(lives) {
        thread::sleep(Duration::from_millis(milliseconds));
        let v2 = stand.v2() as u8;
        stand.kill();
        ran += life.elapsed();
        assert!(v2 <= allowed(&steps, ran), "{v2} % after {ran:?}");
        seen.push(v2);
        life = Instant::now();
        stand.start();
        let v2 = stand.v2() as u8;
        // The kill may have come between the look above and it.
        assert!(v2 <= allowed(&steps, ran + life.elapsed()), "{v2} % after {ran:?}");
        seen.push(v2);
    }
    assert!(seen.is_sorted(), "{seen:?}");
    let rollout = || stand.rollout("mortal").state;
    eventually("promotion", rollout, |state| *state == RolloutState::Promoted);
    assert_eq!((stand.service().stable.as_str(), stand.v2()), ("v2", 100.0));
    assert_few_moved(&running.stop(), 4);
}

#[test]
fn a_paused_rollout_is_paused_after_a_restart_and_goes_on_by_an_operator() {
    let mut stand = Stand::running(Setup::default());
    stand.start_rollout("waits", &plan("waits", &[(15, ""), (40, "1h"), (100, "none")], false));
    eventually("a pause", || stand.rollout("waits").state, |state| *state == RolloutState::Paused);
    let before = stand.service();
    for _ in 0..2 {
        stand.kill();
        stand.start();
        thread::sleep(Duration::from_secs(2));
        assert_eq!(stand.rollout("waits").state, RolloutState::Paused);
        assert_eq!((stand.service().epoch, stand.v2()), (before.epoch, 15.0));
    }
    let _ = stand.done(&["rollout", "resume", "waits"]);
    eventually("40 %", || stand.v2(), |v2| *v2 >= 40.0);
}

/// A reboot, as far as the daemon can tell: nothing is loaded and nothing is pinned, the files are there.
pub(crate) fn reboot(stand: &mut Stand) {
    stand.kill();
    let pins = stand.snapshot().pins;
    assert!(!pins.is_empty());
    stand.lab().balancer().run(|| std::fs::remove_dir_all(grayxdp_tests::stand::PIN_DIR).unwrap());
    eventually("an empty kernel", || stand.snapshot().programs, std::collections::BTreeMap::is_empty);
    stand.start();
}

#[test]
fn a_reboot_restores_weights_and_pauses_a_running_rollout() {
    let mut stand = Stand::running(Setup::default());
    stand.start_rollout("rebooted", &plan("rebooted", &[(35, "3s"), (100, "none")], false));
    eventually("35 %", || stand.v2(), |v2| *v2 >= 35.0);
    reboot(&mut stand);
    assert_eq!((stand.rollout("rebooted").state, stand.v2()), (RolloutState::Paused, 35.0));
    // Longer than the pause of the step.
    thread::sleep(Duration::from_secs(4));
    assert_eq!((stand.rollout("rebooted").state, stand.v2()), (RolloutState::Paused, 35.0));
    assert_eq!(stand.send(300).failed(), 0);
    let _ = stand.done(&["rollout", "resume", "rebooted"]);
    eventually("promotion", || stand.rollout("rebooted").state, |state| *state == RolloutState::Promoted);
    reboot(&mut stand);
    assert_eq!((stand.service().stable.as_str(), stand.v2()), ("v2", 100.0));
    assert_eq!(stand.send(300).by_version("v2"), 300);
}

#[test]
fn weights_set_by_hand_survive_restarts_and_reboots_and_keep_every_flow() {
    let mut stand = Stand::running(Setup { pools: [vec![1, 1], vec![1]], ..Setup::default() });
    stand.set_v2(40);
    let sources = stand.lab().sources();
    let flows: Vec<_> =
        (0..300_u16).map(|n| std::net::SocketAddrV4::new(sources.at(u64::from(n)), 25_000 + n)).collect();
    let ask = |stand: &Stand| grayxdp_tests::stand::ask_flows(stand.lab().client(), stand.target(), &flows);
    let before = ask(&stand);
    stand.kill();
    stand.start();
    assert_eq!(ask(&stand), before);
    reboot(&mut stand);
    assert!((stand.v2() - 40.0).abs() < f64::EPSILON);
    assert_eq!(ask(&stand), before, "the same key and the same split: the same backends");
}
