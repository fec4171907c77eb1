//! A daemon that is killed between any two commands.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::model::{kernel::LeaseEnd, plan::Lease};

/// What happens to the daemon from outside, by second.
#[derive(Clone, Debug)]
struct Story {
    plan: Plan,
    candidate: Candidate,
    turns_at: u32,
    operator: Option<(u32, RolloutAction)>,
    /// When the fuse trips.
    trips_at: Option<u32>,
}

fn live(world: &mut World, story: &Story, second: u32) {
    if second == story.turns_at {
        world.candidate = story.candidate;
    }
    if let Some((at, action)) = story.operator
        && at == second
    {
        world.operator(action);
    }
    world.guard.tripped |= story.trips_at == Some(second);
    world.second();
}

/// Every place that runs without a crash go through. A crash may delay what the operator or the candidate does, so runs
/// in which it comes at another step count too.
fn places_without_crash(story: &Story) -> BTreeSet<Place> {
    let delays = (0..4).map(|step| step * 11 + 2);
    let delayed = delays.map(|at| Story {
        turns_at: at,
        operator: story.operator.map(|(_, action)| (at, action)),
        ..story.clone()
    });
    let trips =
        (0..SECONDS).filter(|_| story.trips_at.is_some()).map(|at| Story { trips_at: Some(at), ..story.clone() });
    let delayed = delayed.chain(trips);
    // One step back whose journal entry is missing looks like any rollback, and is completed as one.
    let back = story.operator.filter(|(_, action)| *action == RolloutAction::Back);
    let completed = back.map(|(at, _)| Story { operator: Some((at, RolloutAction::Abort)), ..story.clone() });
    let delayed = delayed.chain(completed);
    let mut places = BTreeSet::new();
    for story in delayed.chain([story.clone()]) {
        let mut world = World::new(story.plan.clone());
        (0..SECONDS).for_each(|second| live(&mut world, &story, second));
        places.append(&mut world.places);
    }
    places
}

const SECONDS: u32 = 60;

/// With a canary instance first, and a lease that no restart is long enough for.
fn leased() -> Plan {
    let mut plan = super::guard::with_instance(plan());
    plan.spec.lease = Some(Lease { duration: Duration::from_secs(30), on_expiry: LeaseEnd::Stable });
    plan
}

fn stories() -> impl Strategy<Value = Story> {
    let candidate = prop_oneof![Just(Candidate::Sound), Just(Candidate::Refusing), Just(Candidate::Silent)];
    let action = prop_oneof![
        Just(RolloutAction::Pause),
        Just(RolloutAction::Abort),
        Just(RolloutAction::Promote { full: false }),
        Just(RolloutAction::Promote { full: true }),
    ];
    (candidate, 0..SECONDS, proptest::option::of((0..SECONDS, action)), proptest::option::of(0..SECONDS)).prop_map(
        |(candidate, turns_at, operator, trips_at)| Story { plan: leased(), candidate, turns_at, operator, trips_at },
    )
}

/// Runs a story until it has used `commands` commands, then restarts. None if the story ends before.
fn crashed(story: &Story, commands: usize) -> Option<(World, Weight, u32)> {
    let mut world = World::new(story.plan.clone());
    world.commands_left = commands;
    for second in 0..SECONDS {
        live(&mut world, story, second);
        if world.commands_left == 0 {
            let before = world.kernel.weight;
            world.restart();
            return Some((world, before, second));
        }
    }
    None
}

fn check(story: &Story) {
    let allowed = places_without_crash(story);
    for commands in 0.. {
        let Some((mut world, before, second)) = crashed(story, commands) else { break };
        let after = world.place();
        assert!(!world.guard.tripped || world.state.weight == Weight::ZERO || world.state.phase.is_final());
        assert!(world.kernel.weight <= before, "{story:?}: exposes more after command {commands}");
        // In earnest a fuse trips between any two commands, also without a crash: from each step that is reached.
        let tripped = story.trips_at.is_some() && (after.0, after.2) == (RolloutState::RolledBack, Weight::ZERO);
        let from_a_step = tripped && allowed.iter().any(|place| place.1 == after.1);
        assert!(allowed.contains(&after) || from_a_step, "{story:?}: {after:?} after command {commands}");
        assert_ne!(world.state.phase, RolloutState::Frozen, "{story:?}: in doubt after command {commands}");
        for second in second..SECONDS + 120 {
            if second == story.turns_at {
                world.candidate = story.candidate;
            }
            world.guard.tripped |= story.trips_at == Some(second);
            world.second();
        }
        assert!(world.state.phase.is_final() || world.state.phase == RolloutState::Paused, "{story:?}: {after:?}");
        assert!(!world.state.phase.is_final() || [Weight::ZERO, Weight::FULL].contains(&world.kernel.weight));
    }
}

#[test]
fn a_crash_at_any_command_leaves_a_place_of_a_run_without_crash_and_exposes_no_more() {
    for candidate in [Candidate::Sound, Candidate::Refusing] {
        check(&Story { plan: leased(), candidate, turns_at: 25, operator: None, trips_at: None });
        check(&Story { plan: leased(), candidate, turns_at: 25, operator: None, trips_at: Some(14) });
        let operator = Some((14, RolloutAction::Promote { full: false }));
        check(&Story { plan: leased(), candidate, turns_at: 0, operator, trips_at: Some(14) });
    }
}

/// A plan of each strategy.
fn plans() -> Vec<(&'static str, Plan)> {
    use super::strategies::with;
    let strategy = |json: serde_json::Value| with(json, serde_json::json!({}));
    let ramp = serde_json::json!({"curve": "linear", "duration": "32s", "interval": "8s"});
    let steps = serde_json::json!([{"setWeight": 50, "pause": {"duration": "8s"}}, {"setWeight": 100}]);
    let caps = serde_json::json!({"constraints": {"maxTotalStep": 30, "per": "8s"}});
    let regions = serde_json::json!({"segments": [{"name": "asia", "share": 0.4, "key": true, "maxStep": 25}], "constraints": {"per": "8s"}});
    let reverse = serde_json::json!({"onFailure": {"mode": "reverseSteps"}});
    let asia_first = serde_json::json!([
        {"segments": {"asia": 5}, "pause": {"duration": "8s"}}, {"setWeight": 50, "pause": {"duration": "8s"}}, {"setWeight": 100},
    ]);
    let canary = serde_json::to_value(&plan().spec.strategy).expect("JSON");
    vec![
        ("ramp", strategy(serde_json::json!({"canary": {"ramp": ramp}}))),
        ("caps", with(serde_json::json!({"canary": {"steps": steps}}), caps)),
        ("segments", with(serde_json::json!({"canary": {"steps": asia_first}}), regions)),
        ("reverse", with(canary, reverse)),
        (
            "blueGreen",
            strategy(
                serde_json::json!({"blueGreen": {"preview": {"match": {"dscp": [46]}}, "prePromotionAnalysis": [], "steps": [10, 100], "postPromotionDuration": "8s"}}),
            ),
        ),
        (
            "abTest",
            strategy(
                serde_json::json!({"abTest": {"primary": "errors", "maxDuration": "30s", "onWinner": "promote", "analysis": []}}),
            ),
        ),
    ]
}

#[test]
fn so_does_a_crash_at_any_command_of_every_strategy() {
    for (name, plan) in plans() {
        for candidate in [Candidate::Sound, Candidate::Refusing] {
            let story = Story { plan: plan.clone(), candidate, turns_at: 20, operator: None, trips_at: None };
            println!("{name}: {candidate:?}");
            check(&story);
            check(&Story { operator: Some((14, RolloutAction::Abort)), ..story.clone() });
            check(&Story { operator: Some((26, RolloutAction::Back)), ..story });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn so_does_a_crash_in_any_story(story in stories()) {
        check(&story);
    }

    #[test]
    fn a_disk_and_a_kernel_that_fail_at_random_never_skip_a_step_and_never_raise_without_intent(
        works in proptest::collection::vec((any::<bool>(), any::<bool>()), 200),
    ) {
        let mut world = World::new(plan());
        let order = [0, 5, 25, 50, 100].map(percent);
        let mut at = 0;
        for (journal, kernel) in works {
            (world.journal_works, world.kernel_works) = (journal, kernel);
            let before = world.kernel.weight;
            world.second();
            if world.kernel.weight > before {
                prop_assert!(journal, "raised without a journal");
                at += 1;
                prop_assert_eq!(world.kernel.weight, order[at]);
            }
        }
    }
}
