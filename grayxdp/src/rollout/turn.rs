//! One call of the engine: the state as it changes, and the commands as they come.

use std::time::Duration;

use crate::{
    model::{Weight, state::RolloutState, time::Now},
    rollout::{
        exposure::Exposure,
        input::{Command, Notice, Record},
        stages::{Dwell, StageKind},
        state::{Awaits, Backoff, Cause, Ending, Flight, State},
        walk::SubStep,
    },
};

/// Longest pause between two tries.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// One call of the engine.
pub(super) struct Turn {
    pub(super) state: State,
    pub(super) now: Now,
    commands: Vec<Command>,
}

impl Turn {
    pub(super) fn new(state: State, now: Now) -> Self {
        Self { state, now, commands: Vec::new() }
    }

    pub(super) fn finish(self) -> (State, Vec<Command>) {
        (self.state, self.commands)
    }

    /// Sets state and sentence together.
    pub(super) fn enter(&mut self, phase: RolloutState, cause: Option<Cause>, message: impl Into<String>) {
        self.state.phase = phase;
        self.state.cause = cause;
        self.state.message = message.into();
    }

    pub(super) fn command(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// An event of the engine's own.
    pub(super) fn event(&mut self, kind: &'static str, message: impl Into<String>) {
        self.event_by(kind, message, "engine", None);
    }

    pub(super) fn event_by(
        &mut self,
        kind: &'static str,
        message: impl Into<String>,
        actor: &str,
        reason: Option<String>,
    ) {
        let notice = Notice { kind, message: message.into(), actor: actor.to_owned(), reason };
        self.command(Command::Event(notice));
    }

    pub(super) fn refuse(&mut self, message: impl Into<String>) {
        self.command(Command::Refuse(message.into()));
    }

    /// Sends the state to the journal.
    pub(super) fn save(&mut self) {
        self.state.since_saved = Duration::ZERO;
        self.command(Command::Journal(Record::State));
    }

    /// Begins a change that may raise exposure: the intent has to be durable first.
    pub(super) fn intend(&mut self, step: usize, next: SubStep) {
        let SubStep { exposure, binding } = next;
        self.state.flight = Some(Flight { step, exposure, binding, awaits: Awaits::Intent });
        self.command(Command::Journal(Record::Intent));
    }

    /// Ends as planned without a promotion: stable has everything again. There is no haste: the journal is told first, so
    /// that a start in between knows that nothing went wrong.
    pub(super) fn complete(&mut self, message: String) {
        self.state.ending = Ending::Completed;
        self.state.rollback_reason = Some(message.clone());
        self.enter(RolloutState::RollingBack, None, message.clone());
        self.state.backoff = None;
        self.save();
        self.event("completing", message);
        self.publish_stable();
    }

    /// Gives all new flows back to stable: the kernel first, then the journal.
    pub(super) fn roll_back(&mut self, message: impl Into<String>) {
        let message = message.into();
        self.state.rollback_reason = Some(message.clone());
        self.enter(RolloutState::RollingBack, None, message);
        self.state.backoff = None;
        self.publish_stable();
        self.save();
    }

    /// Gives new flows back to stable stage by stage, `analysis.interval` apart; the journal never is in the way.
    pub(super) fn roll_back_in_steps(&mut self, message: impl Into<String>) {
        let message = message.into();
        self.state.rollback_reason = Some(message.clone());
        self.enter(RolloutState::RollingBack, None, message);
        self.state.backoff = None;
        self.state.reversing = Some(self.state.step);
        self.reverse();
        self.save();
    }

    /// The next stage back that exposes less than now.
    pub(super) fn reverse(&mut self) {
        let Some(from) = self.state.reversing else { return self.publish_stable() };
        let now = self.state.exposure.clone();
        let less = |stage: &usize| {
            let exposure = self.state.whole(*stage);
            exposure != now && !exposure.exceeds(&now) && !exposure.is_nothing()
        };
        let Some(stage) = (0..from).rev().find(less) else {
            self.state.reversing = None;
            return self.publish_stable();
        };
        self.state.reversing = Some(stage);
        let exposure = self.state.whole(stage);
        self.command(Command::Publish(Box::new(exposure.clone())));
        self.state.flight = Some(Flight { step: stage, exposure, binding: Vec::new(), awaits: Awaits::Publishing });
    }

    pub(super) fn publish_stable(&mut self) {
        self.state.reversing = None;
        let step = self.state.step;
        let exposure = Exposure::default();
        self.command(Command::Publish(Box::new(exposure.clone())));
        self.state.flight = Some(Flight { step, exposure, binding: Vec::new(), awaits: Awaits::Publishing });
    }

    /// Goes towards promotion: 100 % first, then the durable swap of roles.
    pub(super) fn promote(&mut self) {
        let step = self.state.stage_count().saturating_sub(1);
        let (exposure, binding) = (Exposure::of(Weight::FULL), Vec::new());
        if self.state.exposure != exposure {
            self.intend(step, SubStep { exposure, binding });
        } else {
            self.state.step = step;
            self.state.flight = Some(Flight { step, exposure, binding, awaits: Awaits::Promotion });
            self.command(Command::Journal(Record::Promotion));
        }
    }

    /// A sub-step is in the kernel: the walk to the stage's goal goes on after a while.
    pub(super) fn walked(&mut self, step: usize) {
        self.begin_watching(step);
        (self.state.reached, self.state.walking) = (false, true);
        let (of, said) = (self.state.parts().len(), self.state.exposure.said());
        let (candidate, part) = (self.state.candidate().clone(), self.state.part() + 1);
        let binding = match self.state.binding.is_empty() {
            true => String::new(),
            false => format!("; {} keeps it from more at once", self.state.binding.join(" and ")),
        };
        let walked = format!("on the way to step {part} of {of}: {candidate} has {said} of new flows{binding}");
        if matches!(self.state.phase, RolloutState::Pending | RolloutState::Progressing) {
            self.enter(RolloutState::Progressing, None, walked.clone());
        }
        self.save();
        self.event("subStepReached", walked);
        self.renew_lease();
    }

    /// What was observed of an earlier exposure counts no more.
    fn begin_watching(&mut self, step: usize) {
        let state = &mut self.state;
        (state.step, state.flight, state.backoff) = (step, None, None);
        state.since = self.now.monotonic;
        (state.dwell, state.watched, state.since_look, state.since_change) = Default::default();
        (state.end_looked, state.resumed, state.released) = (false, false, false);
        state.trial = None;
        state.metrics.values_mut().for_each(|record| record.looked = false);
    }

    /// All that a stage exposes is in the kernel: its pause begins.
    pub(super) fn arrive(&mut self, step: usize) {
        self.begin_watching(step);
        (self.state.reached, self.state.walking) = (true, false);
        self.state.binding.clear();
        let reached = self.said_reached();
        match self.state.phase {
            RolloutState::Pending | RolloutState::Progressing => match self.state.required_dwell() {
                Dwell::UntilResumed => {
                    let message = format!("{reached}; the plan waits for `resume`");
                    self.enter(RolloutState::Paused, Some(Cause::Plan), message);
                }
                Dwell::For(_) => self.enter(RolloutState::Progressing, None, reached.clone()),
            },
            RolloutState::Paused
            | RolloutState::Frozen
            | RolloutState::Promoting
            | RolloutState::RollingBack
            | RolloutState::Promoted
            | RolloutState::RolledBack
            | RolloutState::Completed
            | RolloutState::Failed => {}
        }
        self.save();
        self.event("stepReached", reached);
        self.renew_lease();
        if let Some(StageKind::Batch(batch, part)) = self.state.stage(step).map(|stage| stage.kind) {
            self.begin_batch(batch, part);
        }
    }

    /// `step 2 of 4: v2 has 25 % of new flows`.
    fn said_reached(&self) -> String {
        let state = &self.state;
        let (part, of) = (state.part() + 1, state.parts().len());
        let (candidate, said) = (state.candidate(), state.exposure.said());
        match state.stage(state.step).map(|stage| stage.kind) {
            Some(StageKind::Instance(instance)) => {
                format!("step {part} of {of}: {} of {candidate} has the matched clients", instance.backend)
            }
            Some(StageKind::Preview(blue_green)) if blue_green.preview.is_some() => {
                format!("step {part} of {of}: {candidate} has the matched clients")
            }
            Some(StageKind::Shadow(shadow)) => {
                let sample = shadow.sample;
                format!("step {part} of {of}: {candidate} is sent copies of {sample} % of flows and answers nobody")
            }
            Some(
                StageKind::Step(..)
                | StageKind::Point { .. }
                | StageKind::Preview(_)
                | StageKind::Switch(..)
                | StageKind::Test(_)
                | StageKind::Batch(..),
            )
            | None => {
                format!("step {part} of {of}: {candidate} has {said} of new flows")
            }
        }
    }

    /// Stable holds everything again: the end.
    pub(super) fn rolled_back(&mut self) {
        let (stable, reason) = (&self.state.stable, self.state.rollback_reason.as_deref());
        let message = match reason {
            Some(reason) => format!("{reason}; {stable} has all new flows again"),
            None => format!("{stable} has all new flows again"),
        };
        let (phase, kind) = match self.state.ending {
            Ending::RolledBack => (RolloutState::RolledBack, "rolledBack"),
            Ending::Completed => (RolloutState::Completed, "completed"),
        };
        self.enter(phase, None, message.clone());
        self.leave_batches(false);
        self.state.reversing = None;
        self.state.flight = None;
        self.state.backoff = None;
        self.state.ended = Some(self.now.wall);
        self.save();
        self.event(kind, message);
    }

    /// Notes a failed try and when the next is due: after 1, 2, 4, … 30 seconds. True for the first in a row.
    pub(super) fn back_off(&mut self) -> bool {
        let attempts = self.state.backoff.map_or(0, |backoff| backoff.attempts) + 1;
        let pause = Duration::from_secs(1 << (attempts - 1).min(5)).min(MAX_BACKOFF);
        self.state.backoff = Some(Backoff { until: self.now.monotonic + pause, attempts });
        attempts == 1
    }

    /// Whether nothing is under way and no pause after a failed try lasts.
    pub(super) fn may_act(&self) -> bool {
        let due = self.state.backoff.is_none_or(|backoff| self.now.monotonic >= backoff.until);
        self.state.flight.is_none() && due
    }
}
