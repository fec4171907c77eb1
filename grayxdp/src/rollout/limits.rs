//! What verdicts lead to: counts and limits of each metric, outages, and what a breach does (ENGINE: verdicts).

use std::time::Duration;

use crate::{
    model::{
        plan::{FailureAction, Metric, NoDataAction, OutageAction, RollbackMode},
        state::{Finding, RolloutState, Verdict},
    },
    rollout::{
        state::{Cause, MetricRecord},
        turn::Turn,
        walk::Onward,
    },
};

/// What one look at one metric asks for, the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Consequence {
    /// Too many looks said nothing.
    Inconclusive,
    /// Too many looks found no data.
    NoData,
    /// It lasts for too long that nothing is measured.
    Outage,
    /// It broke its limits.
    Breach,
}

impl Turn {
    /// Keeps a finding, `since` the last look, and says what it asks for.
    pub(super) fn record(&mut self, metric: &Metric, finding: Finding, since: Duration) -> Option<Consequence> {
        let is_after_pause = self.is_after_pause();
        let record = self.state.metrics.entry(metric.name.clone()).or_default();
        let changed = record.finding.as_ref().is_none_or(|before| before.verdict != finding.verdict);
        let (verdict, sentence) = (finding.verdict, finding.sentence.clone());
        *record.verdicts.entry(verdict).or_default() += 1;
        record.looked = true;
        record.finding = Some(finding);
        // A comparison that failed stays so: whoever resumed knows it.
        let is_new = changed || !metric.is_comparative();
        let consequence = count(metric, record, verdict, (is_after_pause, since, is_new));
        if changed {
            let dry = if metric.dry_run { " (dry run)" } else { "" };
            self.event("verdict", format!("{}{dry}: {}: {sentence}", metric.name, verdict.label()));
        }
        consequence
    }

    /// Whether a stage's pause is over, so that looks which say nothing count.
    fn is_after_pause(&self) -> bool {
        self.state.phase == RolloutState::Progressing && self.is_over()
    }

    /// Does what a metric asks for.
    pub(super) fn act(&mut self, metric: &Metric, consequence: Consequence) {
        let finding = self.state.metrics.get(&metric.name).and_then(|record| record.finding.as_ref());
        let sentence = finding.map_or_else(String::new, |finding| finding.sentence.clone());
        let name = &metric.name;
        match consequence {
            Consequence::Breach => {
                let message = format!("{name} broke its limit: {sentence}");
                let action =
                    if metric.critical { self.state.plan.spec.on_failure.action } else { FailureAction::Pause };
                self.fail(action, Cause::Breach, message);
            }
            Consequence::Outage => {
                let limit = humantime::format_duration(metric.max_outage);
                let message = format!("{name} was not measured for {limit}: {sentence}");
                self.fail(FailureAction::Rollback, Cause::Outage, message);
            }
            Consequence::NoData => match metric.on_no_data {
                NoDataAction::Pause => {
                    self.stop(RolloutState::Paused, Cause::Inconclusive, format!("{name} has no data: {sentence}"));
                }
                NoDataAction::Rollback => {
                    let message = format!("{name} has no data: {sentence}");
                    self.fail(FailureAction::Rollback, Cause::Breach, message);
                }
            },
            Consequence::Inconclusive => {
                self.stop(RolloutState::Paused, Cause::Inconclusive, format!("{name} is inconclusive: {sentence}"));
            }
        }
    }

    /// What `onFailure` or the like says.
    pub(super) fn fail(&mut self, action: FailureAction, cause: Cause, message: String) {
        if self.has_replaced_all() {
            let message = format!("{message}; no backend of {} is left to go back to", self.state.stable);
            return self.stop(RolloutState::Paused, cause, message);
        }
        match action {
            FailureAction::Rollback => {
                match self.state.plan.spec.on_failure.mode {
                    RollbackMode::AtOnce => self.roll_back(message.clone()),
                    RollbackMode::ReverseSteps => self.roll_back_in_steps(message.clone()),
                }
                self.event("rollingBack", message);
            }
            FailureAction::Pause => self.stop(RolloutState::Paused, cause, message),
            FailureAction::Freeze => self.stop(RolloutState::Frozen, cause, message),
        }
    }

    /// Stops advancing. A frozen rollout stays frozen, and one that is stopped already stays as it is.
    fn stop(&mut self, phase: RolloutState, cause: Cause, message: String) {
        let phase = if self.state.phase == RolloutState::Frozen { RolloutState::Frozen } else { phase };
        let kind = if phase == RolloutState::Frozen { "frozen" } else { "paused" };
        self.enter(phase, Some(cause), message.clone());
        self.state.frozen_in = None;
        self.state.flight = None;
        if self.state.reached && self.state.onward(self.state.step) != Onward::There {
            self.state.reached = false;
        }
        self.save();
        self.event(kind, message);
    }

    /// Freezes until the cause ends by itself, or an operator resumes.
    fn freeze_for(&mut self, cause: Cause, message: String) {
        if self.state.phase != RolloutState::Progressing {
            return;
        }
        self.state.flight = None;
        self.state.frozen_in = Some(RolloutState::Progressing);
        self.enter(RolloutState::Frozen, Some(cause), message.clone());
        self.save();
        self.event("frozen", message);
    }

    /// After all metrics of a look: freezes for what is not measured or, in an adaptive rollout, unsure; goes on where that has
    /// ended; makes pauses shorter after looks that passed.
    pub(super) fn weigh(&mut self, metrics: &[Metric]) {
        let acting = || metrics.iter().filter(|metric| !metric.dry_run);
        let record = |metric: &Metric| self.state.metrics.get(&metric.name).cloned().unwrap_or_default();
        let lost = acting().find(|metric| record(metric).consecutive_errors > metric.consecutive_error_limit).cloned();
        let verdict = |metric: &Metric| record(metric).finding.map(|finding| finding.verdict);
        let all_pass = acting().next().is_some() && acting().all(|metric| verdict(metric) == Some(Verdict::Pass));
        // A comparison is inconclusive until it has seen enough.
        let is_doubtful = |metric: &&Metric| match verdict(metric) {
            Some(Verdict::Fail) => true,
            Some(Verdict::Inconclusive) => !metric.is_comparative(),
            Some(Verdict::Pass | Verdict::NoData | Verdict::Error) | None => false,
        };
        let doubtful = acting().find(is_doubtful);
        let doubtful = doubtful.cloned();
        let adaptive = self.state.adaptive();
        self.state.streak = if all_pass { self.state.streak + 1 } else { 0 };
        let frozen_for = self.state.cause.filter(|_| self.state.phase == RolloutState::Frozen);
        if frozen_for == Some(Cause::Outage) && lost.is_none() {
            self.thaw("it is measured again");
        } else if frozen_for == Some(Cause::Unsure) && all_pass {
            self.thaw("all metrics pass again");
        }
        let said = |metric: &Metric, state: &crate::rollout::State| {
            let finding = state.metrics.get(&metric.name).and_then(|record| record.finding.as_ref());
            finding.map_or_else(String::new, |finding| finding.sentence.clone())
        };
        if let Some(metric) = lost {
            let message = format!("frozen until {} is measured: {}", metric.name, said(&metric, &self.state));
            self.freeze_for(Cause::Outage, message);
        } else if let (Some(adaptive), true) = (adaptive, all_pass) {
            if self.state.phase == RolloutState::Progressing && self.state.streak >= adaptive.accelerate_after.max(1) {
                self.state.streak = 0;
                self.state.boost += 1;
                let after = adaptive.accelerate_after;
                self.event("accelerated", format!("pauses are shorter: {after} looks in a row passed"));
            }
        } else if let (Some(_), Some(metric)) = (adaptive, doubtful) {
            self.state.boost = 0;
            let message = format!("frozen until all metrics pass: {}: {}", metric.name, said(&metric, &self.state));
            self.freeze_for(Cause::Unsure, message);
        }
    }

    /// What froze it has ended.
    fn thaw(&mut self, why: &str) {
        let phase = self.state.frozen_in.take().unwrap_or(RolloutState::Progressing);
        let message = format!("goes on: {why}");
        self.enter(phase, None, message.clone());
        self.save();
        self.event("resumed", message);
    }
}

/// Counts a verdict and says what it asks for.
fn count(
    metric: &Metric,
    record: &mut MetricRecord,
    verdict: Verdict,
    (is_after_pause, since, is_new): (bool, Duration, bool),
) -> Option<Consequence> {
    let measured = verdict != Verdict::Error;
    if measured {
        (record.consecutive_errors, record.outage) = (0, Duration::ZERO);
    }
    match verdict {
        Verdict::Pass => {
            record.consecutive_passes += 1;
            record.consecutive_fails = 0;
            (record.inconclusive, record.no_data) = (0, 0);
            if metric.recover_after.is_some_and(|after| record.consecutive_passes >= after) {
                record.fails = 0;
            }
            None
        }
        Verdict::Fail => {
            record.consecutive_passes = 0;
            record.fails += 1;
            record.consecutive_fails += 1;
            let breaches = !record.breached && is_new && exceeds(metric, record);
            record.breached |= breaches;
            breaches.then_some(Consequence::Breach)
        }
        Verdict::Inconclusive => {
            record.consecutive_passes = 0;
            record.inconclusive += u32::from(is_after_pause);
            let is_beyond = metric.inconclusive_limit.is_some_and(|limit| record.inconclusive > limit);
            (is_after_pause && is_beyond).then_some(Consequence::Inconclusive)
        }
        Verdict::NoData => {
            record.no_data += u32::from(is_after_pause);
            let is_beyond = metric.no_data_limit.is_some_and(|limit| record.no_data > limit);
            (is_after_pause && is_beyond).then_some(Consequence::NoData)
        }
        Verdict::Error => {
            record.consecutive_passes = 0;
            record.consecutive_errors += 1;
            let before = record.outage;
            record.outage += since;
            let limit = metric.max_outage;
            let is_over = before < limit && record.outage >= limit;
            (is_over && metric.on_outage == OutageAction::Rollback).then_some(Consequence::Outage)
        }
    }
}

/// Whether a metric's fails exceed its limits. Where only `consecutiveFailureLimit` is given, only that one binds.
fn exceeds(metric: &Metric, record: &MetricRecord) -> bool {
    match metric.consecutive_failure_limit {
        Some(in_a_row) => {
            let total = metric.failure_limit > 0 && record.fails > metric.failure_limit;
            total || record.consecutive_fails > in_a_row
        }
        None => record.fails > metric.failure_limit,
    }
}
