//! An operator's commands: what each does in each state.

use crate::{
    model::{api::RolloutAction, kernel::Latch, state::RolloutState},
    rollout::{
        input::Command,
        rolling::Pools,
        state::{Cause, State},
        turn::Turn,
    },
};

impl Turn {
    pub(super) fn operator(&mut self, action: RolloutAction, actor: &str, reason: Option<String>) {
        match action {
            RolloutAction::Pause => self.pause(actor, reason),
            RolloutAction::Resume => self.resume(actor, reason),
            RolloutAction::Promote { full: false } => self.end_pause(actor, reason),
            RolloutAction::Promote { full: true } => self.skip_to_the_end(actor, reason),
            RolloutAction::Back => self.back(actor, reason),
            RolloutAction::Freeze => self.freeze_by(actor, reason),
            RolloutAction::Accelerate => self.accelerate(actor, reason),
            RolloutAction::Undo => self.undo(actor, reason),
            RolloutAction::Abort => self.abort(actor, reason),
            RolloutAction::Retry => self.retry(actor, reason),
        }
    }

    fn pause(&mut self, actor: &str, reason: Option<String>) {
        match self.state.phase {
            RolloutState::Pending | RolloutState::Progressing => {
                let weight = self.state.weight;
                self.enter(RolloutState::Paused, Some(Cause::Operator), format!("paused at {weight} % by {actor}"));
                self.save();
                self.event_by("paused", format!("paused at {weight} %"), actor, reason);
            }
            RolloutState::Paused => self.refuse_in_state("is paused already"),
            RolloutState::Frozen => self.refuse_in_state("is frozen and does not advance; `rollout resume` or `abort`"),
            RolloutState::Promoting => self.refuse_in_state("is being promoted; only `rollout abort` stops it"),
            RolloutState::RollingBack => self.refuse_in_state("is rolling back, which cannot be paused"),
            RolloutState::Promoted | RolloutState::RolledBack | RolloutState::Completed | RolloutState::Failed => {
                self.refuse_in_state("has ended");
            }
        }
    }

    fn resume(&mut self, actor: &str, reason: Option<String>) {
        match self.state.phase {
            RolloutState::Paused | RolloutState::Frozen => {
                match self.state.cause {
                    Some(Cause::Plan) => self.state.resumed = true,
                    Some(Cause::Inconclusive) if self.state.test().is_some() => self.state.released = true,
                    Some(Cause::Inconclusive) => self.waive(),
                    Some(
                        Cause::Operator
                        | Cause::Breach
                        | Cause::Reboot
                        | Cause::Doubt
                        | Cause::Lease
                        | Cause::Outage
                        | Cause::Unsure
                        | Cause::Deadline
                        | Cause::Environment,
                    )
                    | None => {}
                }
                // What the end of the lease took away is exposed again like any step: its intent is durable first.
                self.state.reached &= !self.state.lease_expired;
                self.state.walking &= !self.state.lease_expired;
                self.state.frozen_in = None;
                self.forgive();
                let untouched = self.state.step == 0 && !self.state.reached && self.state.exposure.is_nothing();
                let phase = if untouched { RolloutState::Pending } else { RolloutState::Progressing };
                self.enter(phase, None, format!("resumed by {actor}"));
                self.save();
                self.event_by("resumed", format!("resumed at {} %", self.state.weight), actor, reason);
            }
            RolloutState::Pending | RolloutState::Progressing => self.refuse_in_state("is not paused"),
            RolloutState::Promoting => self.refuse_in_state("is being promoted and not paused"),
            RolloutState::RollingBack => self.refuse_in_state("is rolling back; start it anew when it has ended"),
            RolloutState::Promoted | RolloutState::RolledBack | RolloutState::Completed | RolloutState::Failed => {
                self.refuse_in_state("has ended");
            }
        }
    }

    /// `promote`: the current step is over, whatever its metrics say.
    fn end_pause(&mut self, actor: &str, reason: Option<String>) {
        match self.state.phase {
            RolloutState::Progressing | RolloutState::Paused if self.state.lease_expired => self.refuse_expired(),
            RolloutState::Progressing | RolloutState::Paused
                if (self.state.reached || self.state.walking) && self.state.flight.is_none() =>
            {
                let step = self.state.part() + 1;
                self.forgive();
                self.state.released = true;
                self.state.backoff = None;
                self.enter(RolloutState::Progressing, None, format!("step {step} was ended by {actor}"));
                self.event_by("pauseEnded", format!("step {step} was ended by hand"), actor, reason);
                self.go_on();
                self.save_unless_under_way();
            }
            RolloutState::Pending | RolloutState::Progressing | RolloutState::Paused => {
                self.refuse_in_state("has no pause to end: its weight is not in the kernel yet");
            }
            RolloutState::Frozen => self.refuse_in_state("is frozen; `rollout resume` first"),
            RolloutState::Promoting => self.refuse_in_state("is being promoted already"),
            RolloutState::RollingBack => self.refuse_in_state("is rolling back"),
            RolloutState::Promoted | RolloutState::RolledBack | RolloutState::Completed | RolloutState::Failed => {
                self.refuse_in_state("has ended");
            }
        }
    }

    /// `promote --full`: 100 %, then the candidate is stable.
    fn skip_to_the_end(&mut self, actor: &str, reason: Option<String>) {
        match self.state.phase {
            RolloutState::Pending | RolloutState::Progressing | RolloutState::Paused if self.state.lease_expired => {
                self.refuse_expired();
            }
            RolloutState::Pending | RolloutState::Progressing | RolloutState::Paused
                if self.state.shadow().is_some() =>
            {
                self.refuse_in_state("is a shadow, which exposes nothing; `rollout promote` without --full ends it");
            }
            RolloutState::Pending | RolloutState::Progressing | RolloutState::Paused => {
                self.forgive();
                self.state.backoff = None;
                self.enter(RolloutState::Promoting, None, format!("promoted to 100 % by {actor}"));
                self.event_by("promoting", "promoted to 100 % by hand", actor, reason);
                self.promote_if_confirmed();
                self.save_unless_under_way();
            }
            RolloutState::Frozen => self.refuse_in_state("is frozen; `rollout resume` first"),
            RolloutState::Promoting => self.refuse_in_state("is being promoted already"),
            RolloutState::RollingBack => self.refuse_in_state("is rolling back"),
            RolloutState::Promoted | RolloutState::RolledBack | RolloutState::Completed | RolloutState::Failed => {
                self.refuse_in_state("has ended");
            }
        }
    }

    fn abort(&mut self, actor: &str, reason: Option<String>) {
        match self.state.phase {
            RolloutState::Pending
            | RolloutState::Progressing
            | RolloutState::Paused
            | RolloutState::Frozen
            | RolloutState::Promoting => {
                self.roll_back(format!("aborted by {actor}"));
                let message = format!("aborted at {} %", self.state.weight);
                self.event_by("rollingBack", message, actor, reason);
            }
            RolloutState::RollingBack if self.state.reversing.is_some() => {
                self.event_by("rollingBack", "rolling back at once", actor, reason);
                self.publish_stable();
                self.save();
            }
            RolloutState::RollingBack => self.refuse_in_state("is rolling back already and tries until it is done"),
            RolloutState::Promoted => {
                self.refuse_in_state("has ended: its candidate is the stable version; `rollout undo` takes that back");
            }
            RolloutState::RolledBack | RolloutState::Completed | RolloutState::Failed => {
                self.refuse_in_state("has ended");
            }
        }
    }

    /// `retry`: from the first step on, under another attempt number, with nothing latched.
    fn retry(&mut self, actor: &str, reason: Option<String>) {
        match self.state.phase {
            RolloutState::RolledBack | RolloutState::Failed => {
                let old = &self.state;
                let (attempt, started) = (old.attempt + 1, old.started);
                let fresh = State::new(old.number, (*old.plan).clone(), old.stable.clone(), old.epoch, self.now);
                let Pools { stable, candidate, .. } = old.pools.clone();
                let pools = Pools { stable, candidate, ..Pools::default() };
                self.state = State { attempt, started, pools, ..fresh };
                self.command(Command::ClearLatch(Latch::Tripped));
                self.command(Command::ClearLatch(Latch::LeaseExpired));
                self.save();
                self.event_by("retried", format!("attempt {attempt} begins"), actor, reason);
            }
            RolloutState::Promoted | RolloutState::Completed => {
                self.refuse_in_state("has ended well; there is nothing to try again");
            }
            RolloutState::Pending
            | RolloutState::Progressing
            | RolloutState::Paused
            | RolloutState::Frozen
            | RolloutState::Promoting
            | RolloutState::RollingBack => self.refuse_in_state("has not ended; `rollout abort` first"),
        }
    }

    /// What an operator was told is done outlives the daemon also where a webhook holds it up; an intent is in the journal by itself.
    fn save_unless_under_way(&mut self) {
        if self.state.flight.is_none() {
            self.save();
        }
    }

    pub(super) fn refuse_expired(&mut self) {
        self.refuse_in_state("lost its lease; `rollout resume` first, which begins the step anew");
    }

    /// Forgets the fails that an operator has seen and accepted.
    pub(super) fn forgive(&mut self) {
        for record in self.state.metrics.values_mut() {
            (record.consecutive_errors, record.inconclusive, record.no_data) = (0, 0, 0);
            if record.breached {
                (record.fails, record.consecutive_fails, record.breached) = (0, 0, false);
            }
        }
    }

    pub(super) fn refuse_in_state(&mut self, why: &str) {
        let (name, phase) = (self.state.name(), self.state.phase.label());
        self.refuse(format!("rollout {name} ({phase}) {why}"));
    }
}
