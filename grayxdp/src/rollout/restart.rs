//! What a restarted daemon makes of the state in the journal and the weights in the kernel.

use crate::{
    model::{Weight, state::RolloutState},
    rollout::{
        exposure::Exposure,
        input::InKernel,
        rolling::Replacing,
        state::{Awaits, Cause, Flight},
        turn::Turn,
    },
};

impl Turn {
    /// Never advances: what the journal intended and the kernel does not hold is dropped, and decided again.
    pub(super) fn restarted(&mut self, kernel: Option<InKernel>) {
        // Whoever was to bring the answers is gone.
        self.state.hooks.values_mut().for_each(|record| record.awaited = false);
        if self.state.phase.is_final() {
            return;
        }
        self.state.last_tick = None;
        self.state.comparison.restarted();
        self.state.backoff = None;
        self.state.copies.restarted();
        self.state.since = self.now.monotonic;
        self.state.frozen_in = None;
        if self.state.pools.replacing == Replacing::Asked {
            self.state.pools.replacing = Replacing::NotAsked;
        }
        if let Some(trial) = &mut self.state.trial {
            trial.forget_mark();
        }
        let flight = self.state.flight.take();
        match kernel {
            None => self.rebooted(),
            Some(kernel) if self.state.phase == RolloutState::RollingBack => self.go_on_rolling_back(kernel),
            Some(kernel) => self.compare(kernel, flight),
        }
    }

    fn rebooted(&mut self) {
        match self.state.phase {
            RolloutState::Pending | RolloutState::Progressing | RolloutState::Promoting => {
                let message = format!("paused at {} %: the host was rebooted", self.state.weight);
                self.enter(RolloutState::Paused, Some(Cause::Reboot), message.clone());
                self.save();
                self.event("paused", message);
            }
            RolloutState::RollingBack => self.publish_stable(),
            RolloutState::Paused
            | RolloutState::Frozen
            | RolloutState::Promoted
            | RolloutState::RolledBack
            | RolloutState::Completed
            | RolloutState::Failed => {}
        }
    }

    fn go_on_rolling_back(&mut self, kernel: InKernel) {
        self.state.hold(Exposure::of(kernel.weight), kernel.epoch);
        if kernel.is_nothing() {
            self.rolled_back();
        } else {
            self.publish_stable();
        }
    }

    fn compare(&mut self, kernel: InKernel, flight: Option<Flight>) {
        let ahead = kernel.epoch > self.state.epoch;
        let intended = flight.filter(|flight| match flight.awaits {
            Awaits::Intent | Awaits::Publishing => {
                let weight = flight.exposure.weight;
                let in_segments = flight.exposure.segments.values().any(|weight| *weight > Weight::ZERO);
                (weight, weight == Weight::ZERO && in_segments) == (kernel.weight, kernel.in_segments)
            }
            Awaits::Promotion => false,
        });
        let given_back = kernel.is_nothing() && kernel.rollout == self.state.number;
        if (kernel.epoch, kernel.weight) == (self.state.epoch, self.state.weight) {
            self.event("restarted", format!("the daemon was restarted; {} % goes on", self.state.weight));
        } else if let Some(flight) = intended.filter(|_| ahead && kernel.rollout == self.state.number) {
            self.event("restarted", format!("the daemon was restarted; {} % was applied before", kernel.weight));
            self.state.flight = Some(Flight { awaits: Awaits::Publishing, ..flight });
            self.published(kernel.weight, kernel.epoch);
        } else if ahead && (kernel.weight < self.state.weight || given_back) {
            self.adopt_rollback(kernel);
        } else {
            let (weight, epoch) = (kernel.weight, kernel.epoch);
            self.freeze(
                kernel,
                format!("the kernel holds {weight} % at epoch {epoch}, which the journal cannot explain"),
            );
        }
    }

    /// The kernel is ahead with less exposure: a rollback that the journal could not note.
    fn adopt_rollback(&mut self, kernel: InKernel) {
        self.state.hold(Exposure::of(kernel.weight), kernel.epoch);
        if kernel.is_nothing() {
            self.state.rollback_reason = Some("a rollback from before the restart was adopted".to_owned());
            self.rolled_back();
        } else {
            let message = format!("a rollback to {} % from before the restart is completed", kernel.weight);
            self.roll_back(message.clone());
            self.event("rollingBack", message);
        }
    }
}
