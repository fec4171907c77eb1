//! A rollout as operators see it.

use crate::{
    model::{api::RolloutStatus, time},
    rollout::{stages::Dwell, state::State},
};

impl State {
    /// The rollout as operators see it, without fuse and lease; `epoch` is the service's now.
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
            attempt: self.attempt,
            message,
            step: self.part(),
            steps: self.parts(),
            weight: self.weight,
            segments: self.exposure.segments.clone(),
            binding: self.binding.clone(),
            progress: self.progress(),
            dwell_seconds: self.dwell.as_secs_f64(),
            pause_seconds: match self.required_dwell() {
                Dwell::For(pause) => Some(pause.as_secs_f64()),
                Dwell::UntilResumed => None,
            },
            findings: {
                let own = self.metrics.values().filter_map(|record| record.finding.clone());
                own.chain(self.comparison.division()).collect()
            },
            prospects: Vec::new(),
            verdicts: looked.map(|(name, record)| (name.clone(), record.verdicts.clone())).collect(),
            started: time::timestamp(self.started),
            ended: self.ended.map(time::timestamp),
            epoch,
            fuse: None,
            lease: None,
            shadow: self.copies(),
            hooks: self.hook_status(),
            outlets: Vec::new(),
        }
    }
}
