//! Blue-green, A/B tests, ramps and allocation with real servers, to their good and to their bad ends; plans that change.

use std::time::Duration;

use grayxdp::{
    lab::{Running, Tally, Traffic},
    model::state::RolloutState,
};
use grayxdp_tests::stand::{SERVICE, Setup, Stand, assert_one_line, eventually, plan, within, within_five_deviations};

use crate::rollouts::load;

/// 4,096 of the lab's sources from the 8,192nd on.
const ASIA: &str = "10.64.32.0/20";

/// Long enough for looks on two busy cores.
const LONG: Duration = Duration::from_secs(120);

const ERRORS: &str = "  analysis:\n    interval: 2s\n    metrics:\n    - {name: errors, provider: {kernel: {signal: \
                      connectFailureRatio}}, thresholdRange: {max: 0.05}}\n";

pub(crate) fn with(name: &str, strategy: &str, more: &str) -> String {
    format!(
        "apiVersion: grayxdp.io/v1\nkind: Rollout\nmetadata: {{name: {name}}}\nspec:\n  service: {SERVICE}\n  \
         candidate: v2\n  strategy:\n    {strategy}\n{ERRORS}{more}"
    )
}

fn state(stand: &Stand, name: &str, wanted: RolloutState) {
    let look = || {
        let rollout = stand.rollout(name);
        (rollout.state, rollout.message)
    };
    within(LONG, "the state", look, |(state, _)| *state == wanted);
}

/// Requests of the clients of the preview, or of the others.
fn sent_from(stand: &Stand, skip: u32, count: u32) -> Tally {
    let traffic = Traffic { sources: stand.lab().sources().slice(skip, count), ..stand.traffic() };
    traffic.send(stand.lab().client(), 400).unwrap()
}

fn preview_load(stand: &Stand) -> Running {
    let sources = stand.lab().sources().slice(8_192, 4_096);
    let traffic = Traffic { clients: 8, pause: Duration::from_millis(8), sources, ..stand.traffic() };
    traffic.start(stand.lab().client()).unwrap()
}

const TWO_AND_TWO: fn() -> Setup = || Setup { pools: [vec![1, 1], vec![1, 1]], ..Setup::default() };

#[test]
fn blue_green_previews_switches_and_can_be_undone() {
    let mut stand = Stand::running(TWO_AND_TWO());
    let strategy = format!(
        "blueGreen: {{preview: {{match: {{sources: [{ASIA}]}}}}, autoPromotionEnabled: false, postPromotionDuration: 3s}}"
    );
    stand.start_rollout("blue", &with("blue", &strategy, "  retainStable: 1h\n"));
    state(&stand, "blue", RolloutState::Paused);
    let preview = eventually("the preview", || sent_from(&stand, 8_192, 4_096), |tally| tally.by_version("v2") == 400);
    assert_eq!(preview.by_version("v2"), 400, "{preview:?}");
    assert_eq!(sent_from(&stand, 0, 8_192).by_version("v1"), 400, "the others");
    // Killed in the preview: it is still there, and only there.
    stand.kill();
    stand.start();
    assert_eq!(sent_from(&stand, 8_192, 4_096).by_version("v2"), 400);
    assert_eq!((stand.v2(), sent_from(&stand, 0, 8_192).by_version("v1")), (0.0, 400));

    let running = load(&stand);
    let _previewing = preview_load(&stand);
    let _ = stand.done(&["rollout", "resume", "blue"]);
    state(&stand, "blue", RolloutState::Promoted);
    assert_eq!((stand.service().stable.as_str(), stand.v2()), ("v2", 100.0));
    assert_eq!(sent_from(&stand, 0, 8_192).by_version("v2"), 400);
    // What is kept for an undo is not reloaded away.
    let both = stand.configuration();
    let only_v2: String =
        both.lines().filter(|line| !line.contains("name: v1")).map(|line| line.to_owned() + "\n").collect();
    stand.write("grayxdp.yaml", &only_v2.replace("weights: {v1: 100, v2: 0}", "weights: {v2: 100}"));
    assert_one_line(&stand.cli(&["reload"]), 1, &["v1", "retainStable"]);
    stand.write("grayxdp.yaml", &both);

    let output = stand.cli(&["rollout", "undo", "blue", "--reason", "orders fell", "--wait", "--timeout", "1m"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!((stand.service().stable.as_str(), stand.v2()), ("v1", 0.0));
    assert_eq!(sent_from(&stand, 0, 8_192).by_version("v1"), 400);
    let tally = running.stop();
    assert!(tally.failed() <= 48, "only what was under way: {tally:?}");
    stand.kill();
    stand.start();
    assert_eq!((stand.service().stable.as_str(), stand.v2()), ("v1", 0.0));
}

#[test]
fn blue_green_goes_back_when_the_preview_refuses_and_needs_equal_pools() {
    let stand = Stand::running(Setup { serves: [true, false], ..TWO_AND_TWO() });
    let strategy = format!("blueGreen: {{preview: {{match: {{sources: [{ASIA}]}}}}}}");
    stand.start_rollout("blue", &with("blue", &strategy, "  lockout: 1h\n"));
    let previewing = preview_load(&stand);
    state(&stand, "blue", RolloutState::RolledBack);
    let _ = previewing.stop();
    assert_eq!((stand.v2(), sent_from(&stand, 0, 8_192).by_version("v1")), (0.0, 400));
    let again = with("again", "blueGreen: {}", "");
    let file = stand.write("again.yaml", &again);
    let file = file.to_string_lossy();
    assert_one_line(&stand.cli(&["rollout", "start", &file]), 1, &["blue", "no other begins before", "--force"]);

    let unequal = Stand::running(Setup { pools: [vec![1, 1], vec![1]], ..Setup::default() });
    let file = unequal.write("again.yaml", &again);
    let file = file.to_string_lossy();
    assert_one_line(&unequal.cli(&["rollout", "start", &file]), 1, &["the pools are not equal", "v1 has 2 backends"]);
    let _ = unequal.done(&["rollout", "start", &file, "--force"]);
}

fn ab_test(on_winner: &str) -> String {
    with(
        "ab",
        &format!(
            "abTest: {{weights: {{v1: 70, v2: 30}}, primary: errors, minSamples: 200, maxDuration: 30s, onWinner: \
             {on_winner}, analysis: []}}"
        ),
        "",
    )
}

#[test]
fn an_ab_test_that_the_candidate_loses_completes_with_stable() {
    let stand = Stand::running(Setup { serves: [true, false], ..Setup::default() });
    let running = load(&stand);
    stand.start_rollout("ab", &ab_test("promote"));
    state(&stand, "ab", RolloutState::Completed);
    let _ = running.stop();
    let rollout = stand.rollout("ab");
    assert!(rollout.message.contains("v1 is better"), "{}", rollout.message);
    assert_eq!((stand.v2(), stand.service().stable.as_str()), (0.0, "v1"));
}

#[test]
fn an_ab_test_promotes_a_candidate_that_is_better() {
    let stand = Stand::running(Setup { serves: [false, true], ..Setup::default() });
    let running = load_anyhow(&stand);
    stand.start_rollout("ab", &ab_test("promote"));
    state(&stand, "ab", RolloutState::Promoted);
    let _ = running.stop();
    assert_eq!((stand.v2(), stand.service().stable.as_str()), (100.0, "v2"));
    assert_eq!(stand.send(200).by_version("v2"), 200);
}

/// Clients of a service whose stable version refuses.
fn load_anyhow(stand: &Stand) -> Running {
    let traffic = Traffic { clients: 16, pause: Duration::from_millis(8), ..stand.traffic() };
    traffic.start(stand.lab().client()).unwrap()
}

#[test]
fn a_ramp_goes_its_way_survives_a_kill_and_another_plan_takes_over_without_a_jump() {
    let mut stand = Stand::running(Setup::default());
    let ramp = "canary: {ramp: {curve: linear, duration: 40s, interval: 2s, analysis: []}}";
    stand.start_rollout("ramp", &with("ramp", ramp, ""));
    eventually("15 %", || stand.v2(), |v2| *v2 >= 15.0);
    stand.kill();
    stand.start();
    let after = stand.v2();
    assert!((15.0..=25.0).contains(&after), "{after}");
    eventually("30 %", || stand.v2(), |v2| *v2 >= 30.0);

    let slower = "canary: {ramp: {curve: linear, duration: 400s, interval: 20s, analysis: []}}";
    let file = stand.write("slower.yaml", &with("ramp", slower, ""));
    let before = stand.v2();
    let _ = stand.done(&["rollout", "apply", &file.to_string_lossy()]);
    std::thread::sleep(Duration::from_secs(3));
    assert!((stand.v2() - before).abs() <= 5.0, "{before} and then {}", stand.v2());
    let _ = stand.done(&["rollout", "back", "ramp"]);
    assert!(stand.v2() < before, "{before} and then {}", stand.v2());
    let _ = stand.done(&["rollout", "freeze", "ramp"]);
    assert_eq!(stand.rollout("ramp").state, RolloutState::Frozen);
    let other = with("ramp", "canary: {steps: [{setWeight: 90}, {setWeight: 100}]}", "");
    let file = stand.write("other.yaml", &other);
    assert_one_line(&stand.cli(&["rollout", "apply", &file.to_string_lossy()]), 1, &["ramp", "begins at 90 %"]);
    let _ = stand.done(&["rollout", "abort", "--all", "--reason", "enough"]);
    state(&stand, "ramp", RolloutState::RolledBack);
    assert_eq!(stand.v2(), 0.0);
}

#[test]
fn a_total_is_filled_from_the_segments_that_a_step_does_not_name() {
    let asia = format!("segments: [{{name: asia, match: {{sources: [{ASIA}]}}}}]");
    let stand = Stand::running(Setup { fields: vec![asia], ..Setup::default() });
    let steps = "canary: {steps: [{setWeight: 40, segments: {asia: 10}, pause: {duration: 1h}, analysis: []}, \
                 {setWeight: 100}]}";
    let caps = "  segments: [{name: asia, share: 0.25}]\n  constraints: {maxTotalStep: 20, per: 2s}\n";
    stand.start_rollout("asia", &with("asia", steps, caps));
    let reached = || stand.rollout("asia").segments.values().map(|weight| weight.hundredths()).collect::<Vec<_>>();
    within(LONG, "asia", reached, |weights| *weights == [1_000]);
    // 0.4 = 0.25 × 0.1 + 0.75 × 0.5
    eventually("50 %", || stand.v2(), |v2| (*v2 - 50.0).abs() < 0.02);
    let inside = sent_from(&stand, 8_192, 4_096);
    assert!(within_five_deviations(inside.by_version("v2"), 400, 0.1), "{inside:?}");
    let outside = sent_from(&stand, 0, 8_192);
    assert!(within_five_deviations(outside.by_version("v2"), 400, 0.5), "{outside:?}");
    let steps: Vec<String> = stand
        .answer::<Vec<grayxdp::model::event::Event>>(&["events", "--limit", "1000"])
        .into_iter()
        .filter(|event| event.kind == "subStepReached")
        .map(|event| event.message)
        .collect();
    assert!(steps.len() == 1 && steps[0].contains("maxTotalStep"), "{steps:?}");
}

#[test]
fn a_breach_goes_back_through_the_steps_where_the_plan_says_so() {
    let mut stand = Stand::running(Setup::default());
    let running = load(&stand);
    let reverse = plan("reverse", &[(10, "1s"), (30, "1s"), (60, "1h"), (100, "none")], true)
        .replace("spec:\n", "spec:\n  onFailure: {action: rollback, mode: reverseSteps}\n");
    stand.start_rollout("reverse", &reverse);
    within(LONG, "60 %", || stand.v2(), |v2| *v2 >= 60.0);
    stand.unserve(1);
    state(&stand, "reverse", RolloutState::RolledBack);
    let _ = running.stop();
    let back: Vec<String> = stand
        .answer::<Vec<grayxdp::model::event::Event>>(&["events", "--limit", "1000"])
        .into_iter()
        .filter(|event| event.kind == "steppedBack")
        .map(|event| event.message)
        .collect();
    assert_eq!(back.len(), 2, "{back:?}");
    assert!(back[0].contains("30 %") && back[1].contains("10 %"), "{back:?}");
    assert_eq!(stand.v2(), 0.0);
}

/// Each backend's second life: the program tells whom it replaced.
fn rolling(stand: &Stand, command: &str, more: &str) -> String {
    let log = stand.file("replaced");
    let command = format!("[/bin/sh, -c, '{command} echo \"$@\" >> {}', sh]", log.display());
    with(
        "rolling",
        &format!(
            "rolling: {{maxUnavailable: 1, drainDeadline: 3s, replace: {{command: {command}, timeout: 20s}}, pause: 1s}}"
        ),
        more,
    )
}

#[test]
fn a_rolling_release_replaces_backend_by_backend_and_breaks_no_connection() {
    let stand = Stand::running(Setup { pools: [vec![1, 1, 1], vec![1, 1, 1]], ..Setup::default() });
    let running = load(&stand);
    let plan = rolling(&stand, "", "");
    stand.start_rollout("rolling", &plan);
    within(LONG, "the first batch", || stand.v2(), |v2| *v2 > 30.0);
    state(&stand, "rolling", RolloutState::Promoted);
    let tally = running.stop();
    assert!(tally.failed() <= 16 * 7, "only what was under way when its bucket moved: {tally:?}");
    let replaced = std::fs::read_to_string(stand.file("replaced")).unwrap();
    let addresses: Vec<String> = (3..6).map(|host| format!("{}:8080", stand.lab().backend_address(host))).collect();
    assert_eq!(replaced.lines().collect::<Vec<_>>(), addresses);
    assert_eq!((stand.service().stable.as_str(), stand.v2()), ("v2", 100.0));
    assert_eq!(stand.send(200).by_version("v2"), 200);
}

#[test]
fn a_rolling_release_whose_program_fails_goes_back_and_leaves_out_what_it_may_have_replaced() {
    let stand = Stand::running(Setup { pools: [vec![1, 1, 1], vec![1, 1, 1]], ..Setup::default() });
    let second = format!("{}:8080", stand.lab().backend_address(4));
    let plan = rolling(&stand, &format!("test $GRAYXDP_BACKENDS != {second} || exit 3;"), "");
    let running = load(&stand);
    stand.start_rollout("rolling", &plan);
    state(&stand, "rolling", RolloutState::RolledBack);
    let _ = running.stop();
    let rollout = stand.rollout("rolling");
    assert!(rollout.message.contains("/bin/sh ended with exit status: 3"), "{}", rollout.message);
    assert_eq!(stand.v2(), 0.0);
    let backends = stand.service().versions[0].backends.iter().map(|backend| backend.state).collect::<Vec<_>>();
    use grayxdp::model::api::Availability::{Draining, Up};
    assert_eq!(backends, [Draining, Draining, Up]);
    assert_eq!(stand.send(200).by_version("v1"), 200);
}
