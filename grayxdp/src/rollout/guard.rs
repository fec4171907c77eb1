//! Fuse and lease: what the data path latched, and what keeps the lease alive.
//!
//! Both are armed from the first weight on until the state is `promoted`. Their latches live in the kernel, under the number
//! of the rollout and its attempt; the daemon tells of a latch at its start and before every tick for as long as it is set.

use crate::{
    model::{kernel::Latch, state::RolloutState},
    rollout::{input::Command, state::Cause, turn::Turn},
};

impl Turn {
    /// The candidate has no new flows any more: the weights follow, at once.
    pub(super) fn tripped(&mut self, what: String, failures: u64) {
        match self.state.phase {
            RolloutState::Pending
            | RolloutState::Progressing
            | RolloutState::Paused
            | RolloutState::Frozen
            | RolloutState::Promoting => {
                let message = format!("the fuse tripped: {what}");
                (self.state.tripped, self.state.failures) = (Some(what), failures);
                self.roll_back(message.clone());
                self.event("fuseTripped", message);
            }
            RolloutState::RollingBack if self.state.tripped.is_none() => {
                let message = format!("the fuse tripped: {what}");
                (self.state.tripped, self.state.failures) = (Some(what), failures);
                self.event("fuseTripped", message);
                if self.state.reversing.is_some() {
                    self.publish_stable();
                }
            }
            RolloutState::RollingBack
            | RolloutState::Promoted
            | RolloutState::RolledBack
            | RolloutState::Completed
            | RolloutState::Failed => {}
        }
    }

    /// Nobody observed for too long: an operator has to look.
    pub(super) fn lease_expired(&mut self) {
        let lease = self.state.plan.spec.lease;
        let Some(lease) = lease.filter(|_| !self.state.lease_expired) else { return };
        match self.state.phase {
            RolloutState::Pending
            | RolloutState::Progressing
            | RolloutState::Paused
            | RolloutState::Frozen
            | RolloutState::Promoting => {
                let (duration, weight) = (humantime::format_duration(lease.duration), self.state.weight);
                let message = match lease.on_expiry {
                    crate::model::kernel::LeaseEnd::Stable => {
                        let stable = &self.state.stable;
                        format!(
                            "paused: nobody renewed the lease of {duration}; new flows go to {stable} until resumed"
                        )
                    }
                    crate::model::kernel::LeaseEnd::Hold => {
                        format!("paused at {weight} %: nobody renewed the lease of {duration}")
                    }
                };
                self.state.lease_expired = true;
                self.state.flight = None;
                self.enter(RolloutState::Paused, Some(Cause::Lease), message.clone());
                self.save();
                self.event("leaseExpired", message);
            }
            RolloutState::RollingBack
            | RolloutState::Promoted
            | RolloutState::RolledBack
            | RolloutState::Completed
            | RolloutState::Failed => {}
        }
    }

    /// Said once an attempt.
    pub(super) fn no_stable(&mut self) {
        if self.state.phase.is_final() || self.state.no_stable {
            return;
        }
        self.state.no_stable = true;
        let (stable, candidate) = (&self.state.stable, self.state.candidate());
        let message = format!("{stable} has no backend that is up: fuse and lease leave new flows with {candidate}");
        self.save();
        self.event("noStableBackend", message);
    }

    /// Asks for the lease to hold for another while, while the candidate may have new flows.
    pub(super) fn renew_lease(&mut self) {
        let exposed = match self.state.phase {
            RolloutState::Progressing | RolloutState::Paused | RolloutState::Frozen | RolloutState::Promoting => true,
            RolloutState::RollingBack => self.state.reversing.is_some(),
            RolloutState::Pending
            | RolloutState::Promoted
            | RolloutState::RolledBack
            | RolloutState::Completed
            | RolloutState::Failed => false,
        };
        let lease = self.state.plan.spec.lease;
        if let Some(lease) = lease.filter(|_| exposed && !self.state.lease_expired) {
            self.command(Command::RenewLease { duration: lease.duration });
        }
    }

    /// The lease begins anew; its end is forgotten only then, or the program would find it expired again.
    pub(super) fn clear_expired(&mut self) {
        self.state.lease_expired = false;
        self.renew_lease();
        self.command(Command::ClearLatch(Latch::LeaseExpired));
    }
}
