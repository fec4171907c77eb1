//! One look at the metrics of a stage.

use std::time::Duration;

use crate::{
    analysis::{self, History, View},
    model::{plan::Metric, state::Finding},
    rollout::turn::Turn,
};

impl Turn {
    /// Looks once at every metric of the stage, `since` the last look, then does what the gravest finding asks for.
    pub(super) fn look(&mut self, observed: Option<&History>, since: Duration) {
        let metrics = self.state.active_metrics();
        let watched = self.state.watched;
        let mut compared = self.compare_versions(&metrics, observed);
        let due: Vec<_> = metrics.into_iter().filter(|metric| watched >= metric.initial_delay).collect();
        let mut asked = Vec::new();
        for metric in &due {
            let finding = compared.remove(&metric.name).unwrap_or_else(|| self.find(metric, observed));
            if let Some(consequence) = self.record(metric, finding, since) {
                asked.push((consequence, metric));
            }
        }
        let acting = asked.into_iter().filter(|(_, metric)| !metric.dry_run);
        self.try_out(observed);
        match acting.max_by_key(|(consequence, metric)| (*consequence, metric.critical)) {
            Some((consequence, metric)) => self.act(metric, consequence),
            None => self.weigh(&due),
        }
    }

    fn find(&self, metric: &Metric, observed: Option<&History>) -> Finding {
        let Some(history) = observed else {
            return analysis::unmeasured(metric, "the counters of the data path could not be read");
        };
        let view = View {
            history,
            posted: &self.state.posted(self.now.wall),
            candidate: self.state.candidate(),
            stable: &self.state.stable,
            since: self.state.since,
            now: self.now.monotonic,
            window: analysis::window(self.state.plan.spec.analysis.interval),
        };
        analysis::judge(metric, &view)
    }
}
