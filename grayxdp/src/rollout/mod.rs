//! The release engine: `step(state, input, now) → (state, commands)`. It has no clock, no I/O and no randomness; who
//! calls it carries out the commands in their order and brings back what became of them.
//!
//! ```text
//!            first stage in the kernel             after the last stage
//!  pending ────────────────────────────► progressing ──────────────────► promoting ──────► promoted
//!     │                                   │  ▲  │  ▲                         │   durable role   │
//!     │   pause: {}, `pause`, no data ────┘  │  │  │                         │   swap           │
//!     ├──────────────► paused ───────────────┘  │  │ `resume`; outage or     │                  │
//!     │                  │         `resume`     │  │ doubt of an adaptive    │                  │
//!     ├──────────────────┼─────────► frozen ◄───┘  │ plan: by itself         │                  │
//!     │                  │            │  └─────────┘                         │                  │
//!     │   `abort`, fuse, or a breach, a deadline, an outage with rollback    │                  │
//!     └──────────────────┴────────────┴──────► rollingBack ◄─────────────────┘◄─────────────────┘
//!                                                   │  stable's 100 % read back          `undo`
//!                                                   ▼
//!                                   rolledBack, or completed: the end of a test or a shadow
//! ```
//!
//! Two rules order everything (ENGINE: durability):
//!
//! - What may raise the candidate's exposure, and so every step of the plan, goes journal (intent) → kernel → read back →
//!   journal (applied). Where the journal cannot be written, nothing is exposed further.
//! - What gives the traffic back to stable goes to the kernel first, and to the journal as soon as it can.
//!
//! Time counts towards a pause only between ticks that observed something. A restart keeps what has passed and drops
//! a change that had not reached the kernel: the step's last look has to be passed again.

mod compare;
mod course;
mod exposure;
mod guard;
pub mod hooks;
mod input;
mod limits;
mod looks;
mod needs;
mod operator;
pub mod outline;
mod progress;
pub mod prospects;
mod restart;
mod results;
pub mod rolling;
mod shadow;
pub mod simulation;
mod stages;
mod state;
mod status;
mod tick;
mod trials;
mod turn;
mod walk;
pub mod windows;

#[cfg(test)]
mod tests;

pub use exposure::{Aside, Exposure};
pub use hooks::{HookAnswer, HookRecord};
pub use input::{Command, InKernel, Input, Notice, Record};
pub use needs::{AsideNeeds, GuardNeeds, RolloutNeeds};
pub use shadow::Copies;
pub use stages::{Dwell, Goal, Stage, StageKind};
pub use state::{Awaits, Cause, Ending, Flight, MetricRecord, Posted, State};

use crate::model::time::Now;

/// What comes next: the new state, and what is to be done, in this order.
#[must_use]
pub fn step(state: State, input: Input<'_>, now: Now) -> (State, Vec<Command>) {
    let mut turn = turn::Turn::new(state, now);
    match input {
        Input::Tick { observed } => turn.tick(observed),
        Input::Answered { hook, call, answer } => turn.answered(&hook, call, answer),
        Input::Shares(shares) => turn.state.measured_shares = shares,
        Input::Apply { plan, actor, reason } => turn.apply(*plan, &actor, reason),
        Input::Batch { is_turned, is_drained, is_well } => turn.note_batch(is_turned, is_drained, is_well),
        Input::Copied(counts) => turn.copied(counts),
        Input::Replaced(outcome) => turn.replaced(outcome),
        Input::Operator { action, actor, reason } => turn.operator(action, &actor, reason),
        Input::Journaled(record) => turn.journaled(record),
        Input::JournalFailed(record, message) => turn.journal_failed(record, &message),
        Input::Published { weight, epoch } => turn.published(weight, epoch),
        Input::PublishFailed { weight, message } => turn.publish_failed(weight, &message),
        Input::Restarted { kernel } => turn.restarted(kernel),
        Input::ForeignWeights { kernel, by } => turn.foreign_weights(kernel, &by),
        Input::Tripped { what, failures } => turn.tripped(what, failures),
        Input::LeaseExpired => turn.lease_expired(),
        Input::NoStable => turn.no_stable(),
    }
    turn.finish()
}
