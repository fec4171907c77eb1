//! An operator's commands that change a rollout's course: back, freeze, accelerate, undo, and another plan.

use crate::{
    model::{
        plan::{Plan, Strategy},
        state::RolloutState,
        time::timestamp,
    },
    rollout::{
        input::Command,
        state::{Awaits, Cause, Flight, MetricRecord},
        turn::Turn,
    },
};

impl Turn {
    /// `back`: the last stage that exposes less. It lowers exposure, so the kernel comes first.
    pub(super) fn back(&mut self, actor: &str, reason: Option<String>) {
        match self.state.phase {
            RolloutState::Progressing | RolloutState::Paused | RolloutState::Frozen if self.is_rolling() => {
                self.refuse_in_state("is rolling: what was replaced stays so; `rollout abort`");
            }
            RolloutState::Progressing | RolloutState::Paused | RolloutState::Frozen if self.state.lease_expired => {
                self.refuse_expired();
            }
            RolloutState::Progressing | RolloutState::Paused | RolloutState::Frozen => {
                let now = &self.state.exposure;
                let less = |stage: &usize| {
                    let exposure = self.state.whole(*stage);
                    exposure != *now && !exposure.exceeds(now)
                };
                let Some(step) = (0..self.state.step).rev().find(less) else {
                    return self.refuse_in_state("is at its first step; `rollout abort` gives everything back");
                };
                self.step_back(step, actor, reason);
            }
            RolloutState::Pending => self.refuse_in_state("has exposed nothing yet"),
            RolloutState::Promoting => self.refuse_in_state("is being promoted; only `rollout abort` stops it"),
            RolloutState::RollingBack => self.refuse_in_state("is rolling back"),
            RolloutState::Promoted | RolloutState::RolledBack | RolloutState::Completed | RolloutState::Failed => {
                self.refuse_in_state("has ended");
            }
        }
    }

    fn step_back(&mut self, step: usize, actor: &str, reason: Option<String>) {
        let exposure = self.state.whole(step);
        self.forgive();
        (self.state.step, self.state.reached, self.state.walking) = (step, false, false);
        (self.state.backoff, self.state.boost, self.state.streak) = (None, 0, 0);
        if matches!(self.state.cause, Some(Cause::Plan | Cause::Inconclusive)) {
            self.enter(RolloutState::Progressing, None, "one step back");
        }
        let message = format!("one step back to {}", exposure.said());
        self.event_by("steppedBack", message, actor, reason);
        self.command(Command::Publish(Box::new(exposure.clone())));
        self.state.flight = Some(Flight { step, exposure, binding: Vec::new(), awaits: Awaits::Publishing });
    }

    /// `freeze`: stays as it is until `resume`.
    pub(super) fn freeze_by(&mut self, actor: &str, reason: Option<String>) {
        match self.state.phase {
            RolloutState::Pending | RolloutState::Progressing | RolloutState::Paused => self.freeze_now(actor, reason),
            RolloutState::Frozen if self.state.frozen_in.is_some() => self.freeze_now(actor, reason),
            RolloutState::Frozen => self.refuse_in_state("is frozen already"),
            RolloutState::Promoting => self.refuse_in_state("is being promoted; only `rollout abort` stops it"),
            RolloutState::RollingBack => self.refuse_in_state("is rolling back, which cannot be frozen"),
            RolloutState::Promoted | RolloutState::RolledBack | RolloutState::Completed | RolloutState::Failed => {
                self.refuse_in_state("has ended");
            }
        }
    }

    fn freeze_now(&mut self, actor: &str, reason: Option<String>) {
        let said = self.state.exposure.said();
        self.state.frozen_in = None;
        self.enter(RolloutState::Frozen, Some(Cause::Operator), format!("frozen at {said} by {actor}"));
        self.save();
        self.event_by("frozen", format!("frozen at {said}"), actor, reason);
    }

    /// `accelerate`: pauses are divided once more.
    pub(super) fn accelerate(&mut self, actor: &str, reason: Option<String>) {
        match self.state.phase {
            RolloutState::Pending | RolloutState::Progressing | RolloutState::Paused => {
                self.state.boost += 1;
                self.save();
                self.event_by("accelerated", "this pause and later ones are shorter", actor, reason);
            }
            RolloutState::Frozen => self.refuse_in_state("is frozen; `rollout resume` first"),
            RolloutState::Promoting => self.refuse_in_state("is being promoted already"),
            RolloutState::RollingBack => self.refuse_in_state("is rolling back"),
            RolloutState::Promoted | RolloutState::RolledBack | RolloutState::Completed | RolloutState::Failed => {
                self.refuse_in_state("has ended");
            }
        }
    }

    /// `undo`: the old stable version has everything again, while it is kept. Its role goes with the journal's entry, which
    /// comes first and is not waited for: a start in between goes on rolling back.
    pub(super) fn undo(&mut self, actor: &str, reason: Option<String>) {
        match self.state.phase {
            RolloutState::Promoted if self.is_rolling() => {
                self.refuse_in_state("has replaced the old backends: roll the old version out again");
            }
            RolloutState::Promoted => {
                let ended = self.state.ended.unwrap_or(self.now.wall);
                let until = self.state.plan.spec.retain_stable.map(|retained| ended.saturating_add(retained));
                if let Some(until) = until.filter(|until| self.now.wall > *until) {
                    let (stable, until) = (self.state.stable.clone(), timestamp(until));
                    return self.refuse_in_state(&format!("kept {stable} until {until}; release it as a rollout"));
                }
                let message = format!("promotion undone by {actor}");
                self.state.ended = None;
                self.state.rollback_reason = Some(message.clone());
                self.enter(RolloutState::RollingBack, None, message);
                self.save();
                self.event_by("rollingBack", "promotion undone", actor, reason);
                self.publish_stable();
            }
            RolloutState::RolledBack | RolloutState::Completed | RolloutState::Failed => {
                self.refuse_in_state("was not promoted; there is nothing to undo");
            }
            RolloutState::Pending
            | RolloutState::Progressing
            | RolloutState::Paused
            | RolloutState::Frozen
            | RolloutState::Promoting
            | RolloutState::RollingBack => self.refuse_in_state("has not ended; `rollout abort` ends it"),
        }
    }

    /// Another plan from here on. What is exposed stays as it is; the rollout stands at the last stage of the new plan that
    /// exposes no more, and its pause begins anew unless it was there before.
    pub(super) fn apply(&mut self, plan: Plan, actor: &str, reason: Option<String>) {
        match self.state.phase {
            RolloutState::Pending | RolloutState::Progressing | RolloutState::Paused | RolloutState::Frozen => {}
            RolloutState::Promoting => {
                return self.refuse_in_state("is being promoted; its plan cannot change any more");
            }
            RolloutState::RollingBack => {
                return self.refuse_in_state("is rolling back; its plan cannot change any more");
            }
            RolloutState::Promoted | RolloutState::RolledBack | RolloutState::Completed | RolloutState::Failed => {
                return self.refuse_in_state("has ended; start the new plan under another name");
            }
        }
        let before = self.state.goal(self.state.step);
        let mut next = self.state.clone();
        next.plan = Box::new(plan);
        let now = &self.state.exposure;
        let same = next.step < next.stage_count() && next.goal(next.step) == before;
        let stage = match same {
            true => Some(next.step),
            false => (0..next.stage_count()).rev().find(|stage| !next.whole(*stage).exceeds(now)),
        };
        match stage {
            Some(stage) if !same => {
                (next.step, next.reached, next.walking) = (stage, !now.is_nothing(), false);
                (next.dwell, next.end_looked, next.resumed, next.released) = Default::default();
                next.trial = None;
            }
            Some(_) => {}
            None if now.is_nothing() => (next.step, next.reached, next.walking) = (0, false, false),
            None => {
                let first = next.whole(0).said();
                let said = now.said();
                let why =
                    format!("stands at {said}, and the new plan begins at {first}: give it a first step of no more");
                return self.refuse_in_state(&why);
            }
        }
        let metrics = next.plan.spec.analysis.metrics.iter().map(|metric| metric.name.clone());
        next.metrics = metrics.map(|name| (name.clone(), self.known(&name))).collect();
        next.flight = None;
        self.state = next;
        let (part, of) = (self.state.part() + 1, self.state.parts().len());
        let message = format!("another plan applies from step {part} of {of} on");
        self.save();
        self.event_by("planApplied", message, actor, reason);
    }

    fn is_rolling(&self) -> bool {
        matches!(self.state.plan.spec.strategy, Strategy::Rolling(_))
    }

    fn known(&self, metric: &crate::model::Name) -> MetricRecord {
        self.state.metrics.get(metric).cloned().unwrap_or_default()
    }
}
