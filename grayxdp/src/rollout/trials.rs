//! A/B tests: what they measure at a look, and what their end does.

use crate::{
    analysis::{History, Outcome, Trial},
    model::{
        plan::{AbTest, OnWinner, Provider, Strategy},
        state::RolloutState,
    },
    rollout::{stages::Dwell, state::Cause, turn::Turn},
};

impl Turn {
    /// Takes what was measured since the last look, and looks.
    pub(super) fn try_out(&mut self, observed: Option<&History>) {
        let Some(test) = self.state.test().filter(|_| self.state.reached).cloned() else { return };
        let metric = self.state.plan.spec.analysis.metrics.iter().find(|metric| metric.name == test.primary);
        let Some(Provider::Kernel(kernel)) = metric.map(|metric| &metric.provider) else { return };
        let mut trial = self.state.trial.take().unwrap_or_else(|| Trial::new(&test, kernel.signal));
        let (candidate, stable) = (self.state.candidate(), &self.state.stable);
        let newest = observed.and_then(|history| history.newest(candidate).zip(history.newest(stable)));
        if let Some((own, others)) = newest {
            trial.take(kernel.signal, own, others);
        }
        let finding = trial.look(&test, self.is_time_over(), [candidate, stable]);
        let changed = trial.finding.as_ref().is_none_or(|before| before.outcome != finding.outcome);
        if changed && finding.outcome != Outcome::Undecided {
            self.event("testDecided", finding.sentence.clone());
        }
        trial.finding = Some(finding);
        self.state.trial = Some(trial);
    }

    /// Whether the stage's time has passed.
    pub(super) fn is_time_over(&self) -> bool {
        match self.state.required_dwell() {
            Dwell::For(required) => self.state.reached && self.state.dwell >= required,
            Dwell::UntilResumed => false,
        }
    }

    /// Whether a test at this stage has found something.
    pub(super) fn is_decided(&self) -> bool {
        let finding = self.state.trial.as_ref().and_then(|trial| trial.finding.as_ref());
        finding.is_some_and(|finding| finding.outcome != Outcome::Undecided)
    }

    /// What the end of a test does. True where the stage is over and the rollout goes on as without a test.
    pub(super) fn conclude(&mut self, test: &AbTest) -> bool {
        let finding = self.state.trial.as_ref().and_then(|trial| trial.finding.clone());
        let (outcome, sentence) = match finding {
            Some(finding) => (finding.outcome, finding.sentence),
            None => (Outcome::NoDifference, "nothing was measured".to_owned()),
        };
        let is_whole = matches!(self.state.plan.spec.strategy, Strategy::AbTest(_));
        match (outcome, is_whole) {
            (Outcome::Undecided, _) => false,
            (Outcome::Candidate, true) if test.on_winner == Some(OnWinner::Promote) => true,
            (Outcome::Candidate, false) => true,
            (Outcome::Candidate | Outcome::Stable | Outcome::TooSmall | Outcome::NoDifference, true) => {
                self.complete(format!("the test has ended: {sentence}"));
                false
            }
            (Outcome::Stable, false) => {
                let action = self.state.plan.spec.on_failure.action;
                self.fail(action, Cause::Breach, format!("the test was lost: {sentence}"));
                false
            }
            (Outcome::TooSmall | Outcome::NoDifference, false) => {
                let message = format!("the test has ended without a winner: {sentence}");
                self.enter(RolloutState::Paused, Some(Cause::Inconclusive), message.clone());
                self.save();
                self.event("paused", message);
                false
            }
        }
    }
}
