//! A rollout as operators see it.

use crate::{
    model::{
        api::RolloutStatus,
        plan::{Pause, Step},
        time,
    },
    rollout::state::State,
};

impl State {
    /// The rollout as operators see it; `epoch` is the service's now.
    #[must_use]
    pub fn status(&self, epoch: u64) -> RolloutStatus {
        let message = match &self.journal_problem {
            Some(problem) => format!("{}; the journal cannot be written: {problem}", self.message),
            None => self.message.clone(),
        };
        let looked = self.metrics.iter().filter(|(_, record)| !record.verdicts.is_empty());
        RolloutStatus {
            name: self.name().clone(),
            service: self.service().clone(),
            stable: self.stable.clone(),
            candidate: self.candidate().clone(),
            state: self.phase,
            message,
            step: self.step,
            steps: self.steps().iter().map(said).collect(),
            weight: self.weight,
            dwell_seconds: self.dwell.as_secs_f64(),
            pause_seconds: self.required_dwell().map(|pause| pause.as_secs_f64()),
            findings: self.metrics.values().filter_map(|record| record.finding.clone()).collect(),
            verdicts: looked.map(|(name, record)| (name.clone(), record.verdicts.clone())).collect(),
            started: time::timestamp(self.started),
            ended: self.ended.map(time::timestamp),
            epoch,
        }
    }
}

/// A step in the words of the plan: `setWeight 25, pause 30m`.
fn said(step: &Step) -> String {
    let weight = step.set_weight.map(|weight| format!("setWeight {weight}"));
    let pause = step.pause.as_ref().map(|Pause { duration }| match duration {
        Some(duration) => format!("pause {}", humantime::format_duration(*duration)),
        None => "pause until resumed".to_owned(),
    });
    [weight, pause].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
