//! Comparing the candidate with stable at a look: what the comparison is told, and what follows from what it finds beyond the
//! verdicts of metrics.

use std::collections::BTreeMap;

use crate::{
    analysis::{History, Look},
    model::{
        Name, Weight,
        plan::Metric,
        state::{Finding, RolloutState},
    },
    rollout::{
        exposure::Exposure,
        state::{Cause, State},
        turn::Turn,
    },
};

impl State {
    /// Whether stable has new flows at the same time.
    pub(super) fn has_stable(&self) -> bool {
        let Exposure { weight, segments, aside: _ } = &self.exposure;
        *weight < Weight::FULL || segments.values().any(|weight| *weight < Weight::FULL)
    }
}

impl Turn {
    /// What was counted before the candidate has a flow is not the rollout's.
    pub(super) fn begin_comparison(&mut self, observed: Option<&History>) {
        if let Some(history) = observed {
            self.state.comparison.begin(history.strata(), &self.state.stable);
        }
    }

    /// Findings of the metrics that compare; nothing where nothing was counted.
    pub(super) fn compare_versions(
        &mut self,
        metrics: &[Metric],
        observed: Option<&History>,
    ) -> BTreeMap<Name, Finding> {
        // Whether flows are divided as the buckets say is asked of every rollout.
        let Some(history) = observed.filter(|history| !history.strata().counts.is_empty()) else {
            return BTreeMap::new();
        };
        let plan = self.state.plan.clone();
        let may_roll_back = |metric: &&Metric| metric.is_comparative() && metric.critical && !metric.dry_run;
        let family: Vec<_> =
            plan.spec.analysis.metrics.iter().filter(may_roll_back).map(|metric| &metric.name).collect();
        let watched = self.state.watched;
        let looked: Vec<_> = metrics.iter().filter(|metric| watched >= metric.initial_delay).collect();
        let (candidate, stable) = (self.state.candidate().clone(), self.state.stable.clone());
        let is_apart = self.state.exposure.aside.is_some() || self.state.shadow().is_some();
        let look = Look {
            strata: history.strata(),
            candidate: &candidate,
            stable: &stable,
            metrics: &looked,
            family: &family,
            since: self.state.since,
            is_apart,
        };
        let findings = self.state.comparison.look(&look);
        self.heed_environment();
        self.save();
        findings
    }

    /// While stable itself breaks its limit the rollout is frozen; it goes on by itself.
    fn heed_environment(&mut self) {
        let frozen_by_it = self.state.phase == RolloutState::Frozen && self.state.cause == Some(Cause::Environment);
        match self.state.comparison.environment().map(str::to_owned) {
            Some(what) if self.state.phase == RolloutState::Progressing => {
                self.enter(RolloutState::Frozen, Some(Cause::Environment), what.clone());
                self.state.flight = None;
                self.event("frozen", what);
            }
            None if frozen_by_it => {
                let message = format!("{} is within its limit again", self.state.stable);
                self.enter(RolloutState::Progressing, None, message.clone());
                self.event("resumed", message);
            }
            Some(_) | None => {}
        }
    }

    /// New flows that are not divided as the buckets say keep the candidate from promotion, until an operator says otherwise.
    pub(super) fn is_kept_by_mismatch(&mut self) -> bool {
        let found = self.state.comparison.mismatch().filter(|_| !self.state.released).map(str::to_owned);
        if let Some(found) = &found {
            let message = format!("not promoted: {found}; look for what moves flows, then `rollout promote`");
            self.enter(RolloutState::Paused, Some(Cause::Inconclusive), message.clone());
            self.save();
            self.event("paused", message);
        }
        found.is_some()
    }
}
