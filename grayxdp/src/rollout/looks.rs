//! One look at the metrics, their limits, and what a breach does.

use crate::{
    analysis::{self, History, View},
    model::{
        plan::{FailureAction, Metric},
        state::{Finding, RolloutState, Verdict},
    },
    rollout::{
        state::{Cause, MetricRecord},
        turn::Turn,
    },
};

impl Turn {
    /// Looks once at every metric of the step, then acts on the first that broke its limits.
    pub(super) fn look(&mut self, observed: Option<&History>) {
        let metrics = self.state.active_metrics();
        let mut breached = Vec::new();
        let watched = self.state.watched;
        let mut compared = self.compare_versions(&metrics, observed);
        for metric in metrics.iter().filter(|metric| watched >= metric.initial_delay) {
            let finding = compared.remove(&metric.name).unwrap_or_else(|| self.find(metric, observed));
            if self.record(metric, finding) {
                breached.push(metric);
            }
        }
        let acting = breached.iter().filter(|metric| !metric.dry_run);
        if let Some(worst) = acting.max_by_key(|metric| metric.critical) {
            self.breach(worst);
        }
    }

    fn find(&self, metric: &Metric, observed: Option<&History>) -> Finding {
        let Some(history) = observed else {
            return analysis::unmeasured(metric, "the counters of the data path could not be read");
        };
        let view = View {
            history,
            candidate: self.state.candidate(),
            stable: &self.state.stable,
            since: self.state.since,
            now: self.now.monotonic,
            window: analysis::window(self.state.plan.spec.analysis.interval),
        };
        analysis::judge(metric, &view)
    }

    /// Keeps a finding; true if it makes the metric break its limits.
    fn record(&mut self, metric: &Metric, finding: Finding) -> bool {
        let record = self.state.metrics.entry(metric.name.clone()).or_default();
        let changed = record.finding.as_ref().is_none_or(|before| before.verdict != finding.verdict);
        let (verdict, sentence) = (finding.verdict, finding.sentence.clone());
        *record.verdicts.entry(verdict).or_default() += 1;
        record.looked = true;
        record.finding = Some(finding);
        match verdict {
            Verdict::Fail => {
                record.fails += 1;
                record.consecutive_fails += 1;
            }
            Verdict::Pass => record.consecutive_fails = 0,
            Verdict::Inconclusive | Verdict::NoData | Verdict::Error => {}
        }
        // A comparison that failed stays so: whoever resumed knows it.
        let is_new = changed || !metric.is_comparative();
        let breaches = !record.breached && is_new && exceeds(metric, record);
        record.breached |= breaches;
        if changed {
            let dry = if metric.dry_run { " (dry run)" } else { "" };
            self.event("verdict", format!("{}{dry}: {}: {sentence}", metric.name, verdict.label()));
        }
        breaches
    }

    /// A metric broke its limits.
    fn breach(&mut self, metric: &Metric) {
        let finding = self.state.metrics.get(&metric.name).and_then(|record| record.finding.as_ref());
        let sentence = finding.map_or_else(String::new, |finding| finding.sentence.clone());
        let message = format!("{} broke its limit: {sentence}", metric.name);
        let action = if metric.critical { self.state.plan.spec.on_failure.action } else { FailureAction::Pause };
        match action {
            FailureAction::Rollback => {
                self.roll_back(message.clone());
                self.event("rollingBack", message);
            }
            FailureAction::Pause => self.hold(RolloutState::Paused, "paused", message),
            FailureAction::Freeze => self.hold(RolloutState::Frozen, "frozen", message),
        }
    }

    /// Stops advancing. A frozen rollout stays frozen.
    fn hold(&mut self, phase: RolloutState, kind: &'static str, message: String) {
        let phase = if self.state.phase == RolloutState::Frozen { RolloutState::Frozen } else { phase };
        self.enter(phase, Some(Cause::Breach), message.clone());
        self.state.flight = None;
        self.state.reached &= self.state.weight == self.state.target(self.state.step);
        self.save();
        self.event(kind, message);
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
