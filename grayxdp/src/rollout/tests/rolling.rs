//! Rolling releases under a virtual clock.

use super::{strategies::with, *};

fn plan(more: serde_json::Value) -> Plan {
    let mut rolling = serde_json::json!({
        "maxUnavailable": 2, "drainDeadline": "20s", "replace": {"command": ["/bin/deploy"]}, "pause": "5s",
    });
    rolling.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    with(serde_json::json!({"rolling": rolling}), serde_json::json!({}))
}

fn addresses(subnet: u8, count: u8) -> Vec<BackendAddress> {
    (1..=count).map(|host| format!("10.0.{subnet}.{host}:80").parse().expect("an address")).collect()
}

/// Ten backends, two at once.
pub(in crate::rollout::tests) fn world(plan: Plan) -> World {
    let mut world = World::new(plan);
    world.state.pools.stable = addresses(1, 10);
    world.state.pools.candidate = addresses(2, 10);
    world.journal = Some(serde_json::to_string(&world.state).expect("JSON"));
    world
}

fn lines<'a>(world: &'a World, word: &str) -> Vec<&'a str> {
    world.trace.iter().filter_map(|line| line.strip_prefix(word)).collect()
}

#[test]
fn ten_backends_are_drained_replaced_and_taken_into_service_two_by_two() {
    let mut world = world(plan(serde_json::json!({})));
    world.second();
    let all = addresses(2, 10).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(lines(&world, "drain v2 "), [all.as_str()], "nobody meets a backend that is not replaced");
    assert_eq!(lines(&world, "drain v1 "), ["10.0.1.1:80 10.0.1.2:80"]);
    world.until(RolloutState::Promoted, 300);
    assert_eq!(lines(&world, "publish "), ["20", "40", "60", "80", "100"]);
    assert_eq!(lines(&world, "replace ").len(), 5);
    let order: Vec<_> =
        world.trace.iter().filter(|line| !line.starts_with("event") && !line.starts_with("journal")).collect();
    let first: Vec<_> = order.iter().skip(2).take(3).map(|line| line.as_str()).collect();
    assert_eq!(first, ["replace 10.0.2.1:80 10.0.2.2:80", "enable v2 10.0.2.1:80 10.0.2.2:80", "publish 20"]);
    assert!(world.out.is_empty(), "{:?}", world.out);
    assert_eq!(world.stable_in_journal, name("v2"));
    assert_eq!(world.state.status(1).steps[0], "replace 10.0.1.1:80 10.0.1.2:80");
    world.operator(RolloutAction::Undo);
    assert!(world.refused[0].contains("has replaced the old backends"), "{:?}", world.refused);
}

#[test]
fn a_backend_that_does_not_drain_is_waited_for_until_the_deadline() {
    let mut world = world(plan(serde_json::json!({})));
    world.drains_after = Duration::from_secs(3_600);
    world.seconds(20);
    assert!(lines(&world, "replace ").is_empty());
    world.seconds(3);
    assert_eq!(lines(&world, "replace ").len(), 1);
}

#[test]
fn a_batch_that_breaks_goes_back_to_what_was_not_replaced() {
    let mut world = world(plan(serde_json::json!({})));
    while world.kernel.weight != percent(40) {
        world.second();
    }
    world.candidate = Candidate::Refusing;
    world.until(RolloutState::RolledBack, 60);
    assert_eq!(world.kernel.weight, Weight::ZERO);
    let left: Vec<_> = world.out.iter().map(|(version, backend)| format!("{version}/{backend}")).collect();
    assert_eq!(left[..4], ["v1/10.0.1.1:80", "v1/10.0.1.2:80", "v1/10.0.1.3:80", "v1/10.0.1.4:80"]);
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn a_command_that_fails_runs_on_failure_and_one_that_replaced_all_cannot_go_back() {
    let mut failing = world(plan(serde_json::json!({})));
    failing.replace_works = false;
    failing.until(RolloutState::RolledBack, 60);
    assert!(failing.state.message.contains("/bin/deploy ended with exit status: 3"), "{}", failing.state.message);

    let mut late = world(plan(serde_json::json!({"pause": "30s"})));
    while late.kernel.weight != Weight::FULL {
        late.second();
    }
    late.candidate = Candidate::Refusing;
    late.until(RolloutState::Paused, 30);
    assert!(late.state.message.ends_with("no backend of v1 is left to go back to"), "{}", late.state.message);
    assert_eq!(late.kernel.weight, Weight::FULL);
}

#[test]
fn a_restart_runs_the_command_again_and_goes_on() {
    let mut world = world(plan(serde_json::json!({})));
    while lines(&world, "replace ").is_empty() {
        world.second();
    }
    world.restart();
    world.until(RolloutState::Promoted, 300);
    assert_eq!(lines(&world, "replace ").len(), 6, "the first batch twice");
}
