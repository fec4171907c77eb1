//! Shadow releases: nothing is exposed, and yet the candidate is judged, by copies of what stable is asked.

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        plan::{Shadow, Strategy},
        shadow::ShadowCounts,
        state::RolloutState,
    },
    rollout::{stages::StageKind, state::State, turn::Turn},
};

/// What became of the copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Copies {
    /// Until the daemon was started.
    before: ShadowCounts,
    /// Since then.
    now: ShadowCounts,
}

impl Copies {
    /// A daemon begins to count anew.
    pub(super) fn restarted(&mut self) {
        self.before += std::mem::take(&mut self.now);
    }
}

impl State {
    /// The plan of a shadow release.
    #[must_use]
    pub const fn shadow(&self) -> Option<&Shadow> {
        match &self.plan.spec.strategy {
            Strategy::Shadow(shadow) => Some(shadow),
            Strategy::Canary(_) | Strategy::BlueGreen(_) | Strategy::AbTest(_) | Strategy::Rolling(_) => None,
        }
    }

    /// The plan of a shadow release while flows are to be copied: also while it is held up.
    #[must_use]
    pub fn copying(&self) -> Option<&Shadow> {
        let is_on = match self.phase {
            RolloutState::Progressing | RolloutState::Paused | RolloutState::Frozen => self.reached,
            RolloutState::Pending
            | RolloutState::Promoting
            | RolloutState::RollingBack
            | RolloutState::Promoted
            | RolloutState::RolledBack
            | RolloutState::Completed
            | RolloutState::Failed => false,
        };
        self.shadow().filter(|_| is_on)
    }

    /// What became of the copies of a shadow release.
    #[must_use]
    pub fn copies(&self) -> Option<ShadowCounts> {
        self.shadow()?;
        let mut sum = self.copies.before;
        sum += self.copies.now;
        Some(sum)
    }

    /// Whether the stage at hand judges copies.
    pub(super) fn is_judged_by_copies(&self) -> bool {
        self.reached && matches!(self.stage(self.step).map(|stage| stage.kind), Some(StageKind::Shadow(_)))
    }
}

impl Turn {
    /// What became of the copies since the daemon was started.
    pub(super) fn copied(&mut self, counts: ShadowCounts) {
        if !self.state.phase.is_final() {
            self.state.copies.now = counts;
        }
    }

    /// The time of a shadow release is over and its metrics pass: it ends, and nothing was exposed.
    pub(super) fn complete_shadow(&mut self) {
        let (candidate, counts) = (self.state.candidate().clone(), self.state.copies().unwrap_or_default());
        self.complete(format!("the shadow of {candidate} has ended: {}", counts.said()));
    }
}
