//! The order of kernel and journal, and what happens when one of them fails.

use super::*;
use crate::rollout::Cause;

#[test]
fn what_raises_exposure_is_journaled_before_and_after_the_kernel() {
    let mut world = World::new(plan());
    world.second();
    assert_eq!(world.trace, ["journal Intent", "publish 5", "journal State", "event stepReached"]);
}

#[test]
fn a_rollback_writes_the_kernel_before_any_journal() {
    for cause in [Candidate::Refusing, Candidate::Sound] {
        let mut world = World::new(plan());
        world.seconds(1);
        world.candidate = cause;
        world.trace.clear();
        if cause == Candidate::Sound {
            world.operator(RolloutAction::Abort);
        }
        world.until(RolloutState::RolledBack, 5);
        let first = world.trace.iter().find(|line| !line.starts_with("event")).expect("commands");
        assert_eq!(first, "publish 0");
    }
}

#[test]
fn without_a_journal_nothing_more_is_exposed_and_a_rollback_works_at_once() {
    let mut world = World::new(plan());
    world.seconds(5);
    world.journal_works = false;
    world.seconds(100);
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::Progressing, percent(5)));
    assert!(world.state.status(1).message.contains("the journal cannot be written: disk full"));
    assert_eq!(world.trace.iter().filter(|line| *line == "event journalFailed").count(), 1);

    world.operator(RolloutAction::Abort);
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::RolledBack, Weight::ZERO));
    world.journal_works = true;
    world.seconds(10);
    assert!(world.journal.as_ref().is_some_and(|json| json.contains("\"phase\":\"rolledBack\"")));
}

#[test]
fn a_journal_that_works_again_lets_the_rollout_go_on() {
    let mut world = World::new(plan());
    world.seconds(5);
    world.journal_works = false;
    world.seconds(60);
    world.journal_works = true;
    world.until(RolloutState::Promoted, 100);
}

#[test]
fn promotion_waits_for_the_journal() {
    let mut world = World::new(plan_with(serde_json::json!([{"setWeight": 100, "pause": {"duration": "4s"}}])));
    world.seconds(3);
    world.journal_works = false;
    world.seconds(60);
    assert_eq!((world.state.phase, world.stable_in_journal.clone()), (RolloutState::Promoting, name("v1")));
    world.journal_works = true;
    world.until(RolloutState::Promoted, 40);
    assert_eq!(world.stable_in_journal, name("v2"));
}

#[test]
fn a_rollback_that_the_kernel_does_not_take_is_tried_until_it_does_and_shown() {
    let mut world = World::new(plan());
    world.seconds(5);
    world.kernel_works = false;
    world.operator(RolloutAction::Abort);
    world.seconds(600);
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::RollingBack, percent(5)));
    assert!(world.state.message.contains("no memory"), "{}", world.state.message);
    assert!(world.trace.contains(&"event rollbackFailing".to_owned()));
    world.kernel_works = true;
    world.until(RolloutState::RolledBack, 31);
    assert_eq!(world.kernel.weight, Weight::ZERO);
}

#[test]
fn a_step_that_the_kernel_does_not_take_is_tried_again_and_not_skipped() {
    let mut world = World::new(plan());
    world.kernel_works = false;
    world.seconds(50);
    assert_eq!((world.state.phase, world.state.step), (RolloutState::Pending, 0));
    world.kernel_works = true;
    world.until(RolloutState::Progressing, 31);
    assert_eq!((world.state.step, world.kernel.weight), (0, percent(5)));
    world.until(RolloutState::Promoted, 100);
}

#[test]
fn a_restart_keeps_the_time_that_has_passed() {
    let mut world = World::new(plan());
    world.seconds(8);
    world.now.monotonic += Duration::from_secs(500);
    world.now.wall += Duration::from_secs(500);
    world.restart();
    let kept = world.state.dwell;
    assert!((Duration::from_secs(2)..=Duration::from_secs(7)).contains(&kept), "{kept:?}");
    world.second();
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::Progressing, percent(5)));
    assert_eq!(world.state.dwell, kept);
}

#[test]
fn a_reboot_pauses_a_running_rollout_at_its_weight() {
    let mut world = World::new(plan());
    world.seconds(12);
    world.input(Input::Restarted { kernel: None });
    assert_eq!((world.state.phase, world.state.cause), (RolloutState::Paused, Some(Cause::Reboot)));
    assert_eq!(world.state.restored_weight(), percent(25));
    world.seconds(60);
    assert_eq!(world.kernel.weight, percent(25));
}

#[test]
fn a_kernel_ahead_with_less_weight_is_adopted_as_a_rollback() {
    let mut world = World::new(plan());
    world.seconds(12);
    world.kernel = InKernel { weight: Weight::ZERO, epoch: world.kernel.epoch + 1, rollout: 7, in_segments: false };
    world.restart();
    assert_eq!(world.state.phase, RolloutState::RolledBack);

    let mut world = World::new(plan());
    world.seconds(12);
    world.kernel = InKernel { weight: percent(10), epoch: world.kernel.epoch + 1, rollout: 7, in_segments: false };
    world.restart();
    assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::RolledBack, Weight::ZERO));
}

#[test]
fn anything_else_that_the_journal_cannot_explain_freezes_and_is_left_as_it_is() {
    for (weight, ahead) in [(90, 1), (90, 0), (25, 3)] {
        let mut world = World::new(plan());
        world.seconds(12);
        world.kernel =
            InKernel { weight: percent(weight), epoch: world.kernel.epoch + ahead, rollout: 7, in_segments: false };
        world.restart();
        world.seconds(30);
        assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::Frozen, percent(weight)));
        assert_eq!(world.state.cause, Some(Cause::Doubt));
        world.operator(RolloutAction::Resume);
        world.second();
        assert_eq!((world.state.phase, world.kernel.weight), (RolloutState::Progressing, percent(25)));
    }
}
