//! A rolling release: backend by backend the stable version's are drained and replaced, and the candidate's take over.
//!
//! A batch is three stages. *Drain*: the batch of stable has no new flows; over when no flow is left, or at `drainDeadline`.
//! *Replace*: the command runs; over when it succeeded and the candidate's batch is well. *Serve*: the candidate's batch takes
//! its part of new flows; over when the metrics pass. The candidate's backends that are not replaced yet have no new flows.
//!
//! A rollback gives everything back to the stable backends that were not replaced; the others stay drained.

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        Name, Weight,
        config::BackendAddress,
        plan::{Rolling, Strategy},
        state::RolloutState,
    },
    rollout::{
        input::Command,
        stages::StageKind,
        state::{Cause, State},
        turn::Turn,
    },
};

/// The backends of a rolling release; the first of stable is replaced by the first of the candidate, and so on.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pools {
    /// Of the stable version.
    pub stable: Vec<BackendAddress>,
    /// Of the candidate, as many.
    pub candidate: Vec<BackendAddress>,
    /// Whether no flow is left on the current batch of stable.
    pub is_drained: bool,
    /// Whether the current batch of the candidate is well.
    pub is_well: bool,
    /// What became of the current batch's command.
    pub replacing: Replacing,
    /// How many backends were given to the command so far.
    pub replaced: usize,
}

/// What became of a batch's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Replacing {
    /// It was not asked for, or the daemon was restarted meanwhile.
    #[default]
    NotAsked,
    /// It runs.
    Asked,
    /// It succeeded.
    Done,
}

/// A part of a batch's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Stable's batch has no new flows.
    Drain,
    /// The command runs.
    Replace,
    /// The candidate's batch has its part.
    Serve,
}

impl State {
    /// The batch of a stage: backends from the first number to before the second.
    pub(super) fn batch(&self, rolling: &Rolling, batch: usize) -> (usize, usize) {
        let size = rolling.max_unavailable.max(1) as usize;
        let all = self.pools.stable.len();
        ((batch * size).min(all), ((batch + 1) * size).min(all))
    }

    /// How many stages a rolling release has.
    pub(super) fn rolling_stages(&self, rolling: &Rolling) -> usize {
        self.pools.stable.len().div_ceil(rolling.max_unavailable.max(1) as usize) * 3
    }

    /// The candidate's weight at a part of a batch.
    pub(super) fn rolling_weight(&self, rolling: &Rolling, batch: usize, part: Part) -> Weight {
        let (from, to) = self.batch(rolling, batch);
        let serving = if part == Part::Serve { to } else { from };
        let all = self.pools.stable.len().max(1);
        let hundredths = usize::from(Weight::FULL.hundredths()) * serving / all;
        Weight::from_hundredths(u16::try_from(hundredths).unwrap_or(u16::MAX)).unwrap_or(Weight::FULL)
    }

    /// The backends of the current batch: of stable and of the candidate.
    #[must_use]
    pub fn current_batch(&self) -> Option<(&[BackendAddress], &[BackendAddress])> {
        let Strategy::Rolling(rolling) = &self.plan.spec.strategy else { return None };
        let StageKind::Batch(batch, _) = self.stage(self.step)?.kind else { return None };
        let (from, to) = self.batch(rolling, batch);
        Some((self.pools.stable.get(from..to)?, self.pools.candidate.get(from..to)?))
    }

    /// Whether a batch's part is over, where something else than time decides.
    pub(super) fn is_batch_over(&self, rolling: &Rolling, part: Part) -> bool {
        match part {
            Part::Drain => self.pools.is_drained || self.watched >= rolling.drain_deadline,
            Part::Replace => self.pools.replacing == Replacing::Done && self.pools.is_well,
            Part::Serve => true,
        }
    }
}

impl Turn {
    /// A part of a batch was reached.
    pub(super) fn begin_batch(&mut self, batch: usize, part: Part) {
        let Strategy::Rolling(rolling) = self.state.plan.spec.strategy.clone() else { return };
        let (from, to) = self.state.batch(&rolling, batch);
        let pools = &mut self.state.pools;
        match part {
            Part::Drain => {
                (pools.is_drained, pools.is_well, pools.replacing) = (false, false, Replacing::NotAsked);
                let (own, others) = (pools.stable[from..to].to_vec(), pools.candidate[from..].to_vec());
                let (stable, candidate) = (self.state.stable.clone(), self.state.candidate().clone());
                if batch == 0 {
                    self.turn_backends(candidate, others, true);
                }
                self.turn_backends(stable, own, true);
            }
            Part::Replace => self.ask_to_replace(),
            Part::Serve => {}
        }
    }

    fn turn_backends(&mut self, version: Name, backends: Vec<BackendAddress>, drains: bool) {
        if !backends.is_empty() {
            self.command(Command::TurnBackends { version, backends, drains });
        }
    }

    /// Runs the command of the current batch where it does not run and has not succeeded.
    pub(super) fn ask_to_replace(&mut self) {
        let Strategy::Rolling(rolling) = self.state.plan.spec.strategy.clone() else { return };
        let Some(StageKind::Batch(batch, Part::Replace)) = self.state.stage(self.state.step).map(|stage| stage.kind)
        else {
            return;
        };
        if self.state.pools.replacing != Replacing::NotAsked || !self.state.reached {
            return;
        }
        let (from, to) = self.state.batch(&rolling, batch);
        let pools = &mut self.state.pools;
        pools.replaced = pools.replaced.max(to);
        let backends = pools.candidate[from..to].to_vec();
        if rolling.replace.is_some() {
            pools.replacing = Replacing::Asked;
            self.command(Command::Replace { backends });
        } else {
            pools.replacing = Replacing::Done;
        }
        self.save();
    }

    /// How the current batch stands.
    pub(super) fn note_batch(&mut self, is_turned: bool, is_drained: bool, is_well: bool) {
        (self.state.pools.is_drained, self.state.pools.is_well) = (is_turned && is_drained, is_well);
        let runs = self.state.phase == RolloutState::Progressing && self.state.reached;
        if let Some(StageKind::Batch(batch, part @ Part::Drain)) =
            self.state.stage(self.state.step).map(|stage| stage.kind)
            && runs
            && !is_turned
        {
            self.begin_batch(batch, part);
        }
    }

    /// Whether a rolling release has nothing left to go back to.
    pub(super) fn has_replaced_all(&self) -> bool {
        let pools = &self.state.pools;
        matches!(self.state.plan.spec.strategy, Strategy::Rolling(_)) && pools.replaced >= pools.stable.len()
    }

    /// A command has ended.
    pub(super) fn replaced(&mut self, outcome: Result<(), String>) {
        if self.state.pools.replacing != Replacing::Asked || self.state.phase.is_final() {
            return;
        }
        match outcome {
            Ok(()) => {
                self.state.pools.replacing = Replacing::Done;
                self.event("replaced", "this batch is replaced");
                self.save();
            }
            Err(why) => {
                self.state.pools.replacing = Replacing::NotAsked;
                let message = format!("backends could not be replaced: {why}");
                let action = self.state.plan.spec.on_failure.action;
                self.fail(action, Cause::Breach, message);
            }
        }
    }

    /// Before a batch serves, its backends take new flows.
    pub(super) fn open_batch(&mut self, batch: usize) {
        let Strategy::Rolling(rolling) = self.state.plan.spec.strategy.clone() else { return };
        let (from, to) = self.state.batch(&rolling, batch);
        let backends = self.state.pools.candidate[from..to].to_vec();
        self.turn_backends(self.state.candidate().clone(), backends, false);
    }

    /// At the end: what was not replaced, and all of a version without flows, is as it was.
    pub(super) fn leave_batches(&mut self, is_promoted: bool) {
        let Strategy::Rolling(_) = &self.state.plan.spec.strategy else { return };
        let (pools, stable, candidate) =
            (self.state.pools.clone(), self.state.stable.clone(), self.state.candidate().clone());
        let kept = if is_promoted { 0 } else { pools.replaced.min(pools.stable.len()) };
        self.turn_backends(stable, pools.stable[kept..].to_vec(), false);
        self.turn_backends(candidate, pools.candidate, false);
    }
}
