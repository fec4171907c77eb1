//! What became of a command.

use crate::{
    model::{Weight, state::RolloutState},
    rollout::{
        exposure::Exposure,
        input::{Command, InKernel, Record},
        state::{Awaits, Cause, Flight},
        turn::Turn,
        walk::Onward,
    },
};

impl Turn {
    pub(super) fn journaled(&mut self, record: Record) {
        if self.state.journal_problem.take().is_some() {
            self.event("journalWritable", "the journal can be written again");
        }
        match (record, self.state.flight.clone(), self.state.phase) {
            (
                Record::Intent,
                Some(flight @ Flight { awaits: Awaits::Intent, .. }),
                RolloutState::Pending | RolloutState::Progressing | RolloutState::Promoting,
            ) => {
                if self.state.lease_expired {
                    self.clear_expired();
                }
                self.command(Command::Publish(Box::new(flight.exposure.clone())));
                self.state.flight = Some(Flight { awaits: Awaits::Publishing, ..flight });
            }
            (
                Record::Intent,
                Some(Flight { awaits: Awaits::Intent, .. }),
                RolloutState::Paused | RolloutState::Frozen,
            ) => {
                self.state.flight = None;
            }
            (Record::Promotion, Some(Flight { awaits: Awaits::Promotion, .. }), RolloutState::Promoting) => {
                self.promoted();
            }
            (Record::Intent | Record::Promotion | Record::State, _, _) => {}
        }
    }

    fn promoted(&mut self) {
        let message = format!("{} has all new flows and is stable", self.state.candidate());
        self.enter(RolloutState::Promoted, None, message.clone());
        self.leave_batches(true);
        self.state.flight = None;
        self.state.backoff = None;
        self.state.ended = Some(self.now.wall);
        self.save();
        self.event("promoted", message);
    }

    pub(super) fn journal_failed(&mut self, record: Record, why: &str) {
        let first = self.state.journal_problem.is_none();
        self.state.journal_problem = Some(why.to_owned());
        let awaited = match record {
            Record::Intent => Some(Awaits::Intent),
            Record::Promotion => Some(Awaits::Promotion),
            Record::State => None,
        };
        if awaited.is_some() && self.state.flight.as_ref().map(|flight| flight.awaits) == awaited {
            self.state.flight = None;
            self.back_off();
            self.state.message = format!("nothing more is exposed: the journal cannot be written: {why}");
        }
        if first {
            self.event("journalFailed", format!("the journal cannot be written: {why}"));
        }
    }

    pub(super) fn published(&mut self, weight: Weight, epoch: u64) {
        if self.state.phase.is_final() {
            return;
        }
        let awaited = self.state.flight.clone();
        let awaited = awaited.filter(|flight| flight.awaits == Awaits::Publishing && flight.exposure.weight == weight);
        let Some(flight) = awaited else {
            (self.state.weight, self.state.epoch, self.state.exposure.weight) = (weight, epoch, weight);
            return;
        };
        self.state.hold(flight.exposure, epoch);
        self.state.binding = flight.binding;
        match self.state.phase {
            RolloutState::RollingBack if self.state.exposure.is_nothing() => self.rolled_back(),
            RolloutState::RollingBack => {
                (self.state.flight, self.state.since_change) = (None, Default::default());
                let (candidate, said) = (self.state.candidate(), self.state.exposure.said());
                let message = format!("rolling back: {candidate} has {said} of new flows");
                self.event("steppedBack", message);
                self.save();
                self.renew_lease();
            }
            RolloutState::Promoting => {
                self.renew_lease();
                self.state.since = self.now.monotonic;
                self.promote();
            }
            RolloutState::Pending | RolloutState::Progressing | RolloutState::Paused | RolloutState::Frozen => {
                match self.state.onward(flight.step) {
                    Onward::There => self.arrive(flight.step),
                    Onward::Next(_) | Onward::Stuck(_) => self.walked(flight.step),
                }
            }
            RolloutState::Promoted | RolloutState::RolledBack | RolloutState::Completed | RolloutState::Failed => {}
        }
    }

    pub(super) fn publish_failed(&mut self, weight: Weight, why: &str) {
        let is_of = |flight: &Flight| flight.awaits == Awaits::Publishing && flight.exposure.weight == weight;
        let awaited = self.state.flight.as_ref().is_some_and(is_of);
        if self.state.phase.is_final() || !awaited {
            return;
        }
        self.state.flight = None;
        let first = self.back_off();
        let message = format!("the kernel did not take {weight} % for {}: {why}", self.state.candidate());
        self.state.message = format!("tries again: {message}");
        if first {
            let alarm = self.state.phase == RolloutState::RollingBack;
            self.event(if alarm { "rollbackFailing" } else { "publishFailed" }, message);
            self.save();
        }
    }

    pub(super) fn foreign_weights(&mut self, kernel: InKernel, by: &str) {
        let message = format!("{by} set {} to {} % during the rollout", self.state.candidate(), kernel.weight);
        match self.state.phase {
            RolloutState::Pending
            | RolloutState::Progressing
            | RolloutState::Paused
            | RolloutState::Frozen
            | RolloutState::Promoting => self.freeze(kernel, message),
            RolloutState::RollingBack => {
                self.state.hold(Exposure::of(kernel.weight), kernel.epoch);
                self.event("foreignWeights", message);
                self.publish_stable();
            }
            RolloutState::Promoted | RolloutState::RolledBack | RolloutState::Completed | RolloutState::Failed => {}
        }
    }

    /// Takes what the kernel holds as it is, and waits for an operator.
    pub(super) fn freeze(&mut self, kernel: InKernel, message: String) {
        self.state.hold(Exposure::of(kernel.weight), kernel.epoch);
        (self.state.reached, self.state.flight, self.state.backoff) = (false, None, None);
        self.state.since = self.now.monotonic;
        self.enter(RolloutState::Frozen, Some(Cause::Doubt), message.clone());
        self.save();
        self.event("frozen", message);
    }
}
