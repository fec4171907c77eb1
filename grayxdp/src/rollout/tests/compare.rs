//! A rollout whose candidate is compared with stable, under a virtual clock.

use std::sync::Arc;

use super::*;
use crate::{
    analysis::{Measured, Strata, Stratum},
    model::state::Verdict,
    rollout::Cause,
};

/// A world whose flows are counted for both versions.
struct Compared {
    world: World,
    strata: Strata,
    /// Of 1,000 flows of the candidate and of stable so many fail.
    failing: (u64, u64),
    /// The candidate's share of the flows where it is not that of the buckets.
    share: Option<f64>,
}

impl Compared {
    fn new(steps: serde_json::Value) -> Self {
        let mut plan = plan_with(steps);
        let metric = serde_json::json!({
            "name": "errors", "provider": {"kernel": {"signal": "connectFailureRatio"}}, "minSamples": 100,
        });
        plan.spec.analysis.metrics = vec![serde_json::from_value(metric).expect("a metric")];
        Self { world: World::new(plan), strata: Strata::default(), failing: (2, 2), share: None }
    }

    /// 10,000 new flows over both versions, then a tick.
    fn second(&mut self) {
        let InKernel { weight, epoch, .. } = self.world.kernel;
        let stratum = Stratum { epoch, segment: 0 };
        self.strata.counts.retain(|(_, of), _| of.epoch + 1 >= epoch);
        self.strata.shares = [(stratum, weight.ratio())].into();
        let own = (10_000.0 * self.share.filter(|_| weight > Weight::ZERO).unwrap_or(weight.ratio())) as u64;
        for (version, flows, failing) in [("v2", own, self.failing.0), ("v1", 10_000 - own, self.failing.1)] {
            let entry = self.strata.counts.entry((name(version), stratum)).or_default();
            let measured: &mut Measured = Arc::make_mut(entry);
            let failed = flows * failing / 1_000;
            measured.attempts += flows;
            measured.refused += failed;
            measured.opened += flows - failed;
        }
        self.world.history.push_strata(self.strata.clone());
        self.world.second();
    }

    fn seconds(&mut self, seconds: u32) {
        (0..seconds).for_each(|_| self.second());
    }

    fn until(&mut self, phase: RolloutState, at_most: u32) {
        for _ in 0..at_most {
            if self.world.state.phase == phase {
                return;
            }
            self.second();
        }
        panic!("{} instead of {}: {}", self.world.state.phase.label(), phase.label(), self.world.state.message);
    }
}

fn steps() -> serde_json::Value {
    serde_json::json!([
        {"setWeight": 5, "pause": {"duration": "10s"}},
        {"setWeight": 50, "pause": {"duration": "10s"}},
        {"setWeight": 100, "pause": {"duration": "5s"}},
    ])
}

#[test]
fn a_good_candidate_is_promoted_and_rests_its_comparisons_at_100_percent() {
    let mut compared = Compared::new(steps());
    compared.until(RolloutState::Promoted, 60);
    let record = &compared.world.state.metrics[&name("errors")];
    let finding = record.finding.as_ref().expect("it was looked at");
    assert!(finding.sentence.starts_with("v2 fails 0.2 % of "), "{}", finding.sentence);
    assert_eq!(compared.world.state.comparison.mismatch(), None);
}

#[test]
fn a_candidate_that_fails_more_often_than_stable_is_rolled_back_with_its_numbers() {
    let mut compared = Compared::new(steps());
    compared.seconds(4);
    compared.failing.0 = 50;
    compared.until(RolloutState::RolledBack, 20);
    let message = &compared.world.state.message;
    assert!(message.starts_with("errors broke its limit: v2 fails ") && message.contains("; e-value "), "{message}");
    assert!(message.ends_with("; v1 has all new flows again"), "{message}");
}

#[test]
fn while_both_fail_the_rollout_is_frozen_and_goes_on_by_itself() {
    let mut compared = Compared::new(steps());
    compared.seconds(4);
    compared.failing = (400, 400);
    compared.until(RolloutState::Frozen, 4);
    assert_eq!(compared.world.state.cause, Some(Cause::Environment));
    assert!(compared.world.state.message.starts_with("v1 itself fails "), "{}", compared.world.state.message);
    let place = compared.world.place();
    compared.seconds(120);
    assert_eq!(compared.world.place(), place, "neither promoted nor rolled back");
    compared.failing = (2, 2);
    compared.until(RolloutState::Promoted, 90);
}

#[test]
fn an_operator_who_goes_on_after_a_fail_is_not_stopped_again_and_nothing_passes_by_itself() {
    let mut compared = Compared::new(steps());
    compared.world.state.plan.spec.on_failure.action = crate::model::plan::FailureAction::Pause;
    compared.failing.0 = 50;
    compared.until(RolloutState::Paused, 20);
    compared.failing.0 = 2;
    compared.world.operator(RolloutAction::Resume);
    compared.seconds(20);
    assert_eq!((compared.world.state.phase, compared.world.state.step), (RolloutState::Progressing, 0));
    compared.world.operator(RolloutAction::Promote { full: false });
    compared.second();
    assert_eq!(compared.world.state.step, 1);
}

#[test]
fn what_failed_while_nobody_looked_counts_after_a_restart() {
    let mut compared = Compared::new(steps());
    compared.seconds(5);
    // The daemon is away; the data path goes on counting.
    let stratum = Stratum { epoch: compared.world.kernel.epoch, segment: 0 };
    for (version, flows, failed) in [("v2", 5_000, 300), ("v1", 95_000, 190)] {
        let entry = compared.strata.counts.get_mut(&(name(version), stratum));
        let measured = Arc::make_mut(entry.expect("it was counted before"));
        measured.attempts += flows;
        measured.refused += failed;
        measured.opened += flows - failed;
    }
    compared.world.restart();
    compared.until(RolloutState::RolledBack, 4);
}

#[test]
fn flows_that_go_elsewhere_than_the_buckets_say_keep_a_candidate_from_promotion_and_roll_nothing_back() {
    let mut compared = Compared::new(steps());
    compared.share = Some(0.3);
    compared.until(RolloutState::Paused, 60);
    let message = compared.world.state.message.clone();
    assert!(message.starts_with("not promoted: v2 had 30 % of "), "{message}");
    assert_eq!(compared.world.kernel.weight, Weight::FULL);
    compared.world.operator(RolloutAction::Promote { full: false });
    compared.until(RolloutState::Promoted, 3);
}

#[test]
fn a_comparison_of_which_nothing_was_counted_is_no_data_and_advances_nothing() {
    let mut compared = Compared::new(steps());
    // Connections are made and answered; only what the comparison rests on cannot be read.
    (0..120).for_each(|_| compared.world.second());
    let record = &compared.world.state.metrics[&name("errors")];
    let finding = record.finding.as_ref().expect("it was looked at");
    assert_eq!(finding.verdict, Verdict::NoData, "{}", finding.sentence);
    assert_eq!((compared.world.state.phase, compared.world.kernel.weight), (RolloutState::Paused, percent(5)));
}
