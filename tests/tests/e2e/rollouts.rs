//! Releases that succeed, fail, wait, and are steered.

use std::{process::Output, thread, time::Duration};

use grayxdp::{
    lab::{Failure, Running, Tally, Traffic},
    model::{event::Event, state::RolloutState},
};
use grayxdp_tests::stand::{SERVICE, Setup, Stand, assert_one_line, eventually, plan};

/// Clients enough for every look, and not more than the processors carry.
pub(crate) fn load(stand: &Stand) -> Running {
    let traffic = Traffic { clients: 16, pause: Duration::from_millis(8), ..stand.traffic() };
    let running = traffic.start(stand.lab().client()).unwrap();
    eventually("requests", || running.tally().requests(), |requests| *requests > 100);
    running
}

/// Until there are exception entries, a connection under way when its bucket moves is reset: of 16 clients, so many a
/// change of weights at most, and nothing else fails.
pub(crate) fn assert_few_moved(tally: &Tally, changes: u64) {
    let reset = tally.failures.get(&Failure::Reset).copied().unwrap_or_default();
    assert!(tally.failed() == reset && reset <= 16 * changes, "{tally:?}");
}

fn start_and_wait(stand: &Stand, name: &str, plan: &str, more: &[&str]) -> Output {
    let file = stand.write(&format!("{name}.yaml"), plan);
    stand.cli(&[&["rollout", "start", &*file.to_string_lossy(), "--wait"], more].concat())
}

#[test]
fn a_good_version_goes_through_all_steps_and_is_stable_from_then_on() {
    let mut stand = Stand::running(Setup::default());
    let running = load(&stand);
    let steps = plan("good", &[(5, "1s"), (25, "1s"), (50, "1s"), (100, "1s")], true);
    let output = start_and_wait(&stand, "good", &steps, &["--timeout", "5m"]);
    assert_eq!(output.status.code(), Some(0), "{output:?} {}", stand.log());
    let after = running.tally();
    let rollout = stand.rollout("good");
    assert_eq!(rollout.state, RolloutState::Promoted);
    eventually("requests", || running.tally().requests(), |now| *now > after.requests() + 300);
    let tally = running.stop();
    assert_few_moved(&tally, 4);
    // A request may have begun before the promotion.
    assert!(tally.since(&after).by_version("v1") <= 16, "{:?}", tally.since(&after));
    let weights: Vec<String> = stand
        .answer::<Vec<Event>>(&["events", "--limit", "1000"])
        .into_iter()
        .filter(|event| event.rollout.is_some())
        .map(|event| event.message)
        .collect();
    let position = |percent: &str| weights.iter().position(|message| message.contains(percent));
    let places = ["5 %", "25 %", "50 %", "100 %"].map(position);
    assert!(places.is_sorted() && places[0].is_some(), "{places:?} in {weights:?}");

    for _ in 0..2 {
        let service = stand.service();
        assert_eq!(service.stable.as_str(), "v2");
        assert_eq!(service.versions.iter().map(|version| version.buckets).collect::<Vec<_>>(), [0, 16_384]);
        assert_eq!(service.rollout, None);
        let _ = stand.done(&["reload"]);
        assert_eq!(stand.service().stable.as_str(), "v2", "the file's weights are initial ones");
        assert!(stand.service().drift.is_some(), "and the difference is shown");
        stand.kill();
        stand.start();
    }
    let _ = stand.done(&["reload", "--reset-weights", SERVICE]);
    assert_eq!(stand.service().versions[0].buckets, 16_384);
}

#[test]
fn a_version_that_refuses_is_rolled_back_by_itself() {
    let stand = Stand::running(Setup { serves: [true, false], ..Setup::default() });
    let running = load(&stand);
    let steps = plan("bad", &[(20, "2m"), (100, "none")], true);
    let output = start_and_wait(&stand, "bad", &steps, &["--timeout", "5m"]);
    assert_eq!(output.status.code(), Some(3), "{output:?} {}", stand.log());
    let after = running.tally();
    let refused = after.failures[&Failure::Refused];
    assert!(refused > 0 && after.failed() == refused, "{after:?}");
    let rollout = stand.rollout("bad");
    assert_eq!((rollout.state, stand.v2()), (RolloutState::RolledBack, 0.0));
    assert!(rollout.message.contains("v2") && !rollout.message.is_empty(), "{}", rollout.message);
    assert_eq!(stand.service().versions[1].totals.refusals, refused);
    eventually("requests", || running.tally().requests(), |now| *now > after.requests() + 300);
    let later = running.stop().since(&after);
    // Only what was under way when the weights changed.
    assert!(later.failed() <= 16, "{later:?}");
}

#[test]
fn waiting_ends_with_its_time_or_where_an_operator_is_needed() {
    let stand = Stand::running(Setup::default());
    let steps = plan("slow", &[(10, "1h"), (20, ""), (100, "none")], false);
    let output = start_and_wait(&stand, "slow", &steps, &["--timeout", "1s"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let output = stand.cli(&["rollout", "promote", "slow", "--wait", "--timeout", "1m"]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let rollout = stand.rollout("slow");
    assert_eq!((rollout.state, stand.v2()), (RolloutState::Paused, 20.0));
    let output = stand.cli(&["rollout", "abort", "slow", "--reason", "wrong build", "--wait", "--timeout", "1m"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!((stand.rollout("slow").state, stand.v2()), (RolloutState::RolledBack, 0.0));
    assert_one_line(&stand.cli(&["rollout", "resume", "slow"]), 1, &["slow"]);
}

#[test]
fn an_operator_pauses_resumes_and_promotes() {
    let stand = Stand::running(Setup::default());
    stand.start_rollout("steered", &plan("steered", &[(10, "1s"), (30, "1h"), (60, "1h"), (100, "none")], false));
    eventually("10 %", || stand.v2(), |v2| *v2 >= 10.0);
    let _ = stand.done(&["rollout", "pause", "steered"]);
    let paused_at = stand.v2();
    // Longer than the step's pause: it would have gone on by now.
    thread::sleep(Duration::from_secs(3));
    assert_eq!((stand.rollout("steered").state, stand.v2()), (RolloutState::Paused, paused_at));
    let _ = stand.done(&["rollout", "resume", "steered"]);
    eventually("30 %", || stand.v2(), |v2| *v2 >= 30.0);
    let _ = stand.done(&["rollout", "promote", "steered"]);
    eventually("60 %", || stand.v2(), |v2| *v2 >= 60.0);
    let output = stand.cli(&["rollout", "promote", "steered", "--full", "--wait", "--timeout", "1m"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!((stand.rollout("steered").state, stand.v2()), (RolloutState::Promoted, 100.0));
    let tally = stand.send(200);
    assert_eq!((tally.failed(), tally.by_version("v2")), (0, 200));
}

#[test]
fn the_stable_version_comes_back_as_the_candidate_of_the_next_rollout() {
    let stand = Stand::running(Setup::default());
    let there = plan("there", &[(50, "none"), (100, "none")], false);
    assert!(start_and_wait(&stand, "there", &there, &["--timeout", "1m"]).status.success());
    let back = plan("back", &[(50, "1h"), (100, "none")], false).replace("candidate: v2", "candidate: v1");
    stand.start_rollout("back", &back);
    eventually("50 %", || stand.v2(), |v2| *v2 <= 50.0);
    let output = stand.cli(&["rollout", "promote", "back", "--full", "--wait", "--timeout", "1m"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!((stand.service().stable.as_str(), stand.v2()), ("v1", 0.0));
    assert_eq!(stand.answer::<Vec<serde_json::Value>>(&["rollout", "list"]).len(), 2);
}

#[test]
fn weights_that_somebody_sets_by_force_freeze_a_rollout() {
    let stand = Stand::running(Setup::default());
    stand.start_rollout("frozen", &plan("frozen", &[(10, "1s"), (100, "none")], false));
    eventually("10 %", || stand.v2(), |v2| *v2 >= 10.0);
    let _ = stand.done(&["rollout", "pause", "frozen"]);
    let _ = stand.done(&["weights", "set", SERVICE, "v1=97", "v2=3", "--force"]);
    eventually("frozen", || stand.rollout("frozen").state, |state| *state == RolloutState::Frozen);
    thread::sleep(Duration::from_secs(2));
    assert_eq!(stand.v2(), 3.0);
}
