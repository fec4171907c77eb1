//! What the engine is told, and what it asks for.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    analysis::History,
    model::{
        Name, Weight, api::RolloutAction, config::BackendAddress, kernel::Latch, plan::Plan, shadow::ShadowCounts,
    },
    rollout::{exposure::Exposure, hooks::HookAnswer},
};

/// What the engine is told.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// Time has passed. `observed` is none where the counters could not be read.
    Tick {
        /// What was counted.
        observed: Option<&'a History>,
    },
    /// A [`Command::Call`] was answered.
    Answered {
        /// The webhook.
        hook: Name,
        /// Which call.
        call: u64,
        /// What it said.
        answer: HookAnswer,
    },
    /// Shares of all new flows by segment; what is left is the default segment's.
    Shares(BTreeMap<Name, f64>),
    /// How the current batch of a rolling release stands.
    Batch {
        /// Stable's backends of it have no new flows.
        is_turned: bool,
        /// No flow is left on stable's backends of it.
        is_drained: bool,
        /// The candidate's backends of it are well.
        is_well: bool,
    },
    /// What became of the copies of a shadow release since the daemon was started.
    Copied(ShadowCounts),
    /// A [`Command::Replace`] has ended.
    Replaced(Result<(), String>),
    /// An operator's command.
    Operator {
        /// Which.
        action: RolloutAction,
        /// Who.
        actor: String,
        /// Why.
        reason: Option<String>,
    },
    /// Another plan in place of the running one.
    Apply {
        /// The plan; it is sound, and of the same name, service and versions.
        plan: Box<Plan>,
        /// Who.
        actor: String,
        /// Why.
        reason: Option<String>,
    },
    /// A [`Command::Journal`] is durable.
    Journaled(Record),
    /// A [`Command::Journal`] failed, with the message.
    JournalFailed(Record, String),
    /// A [`Command::Publish`] was read back from the kernel.
    Published {
        /// The candidate's weight.
        weight: Weight,
        /// The service's epoch now.
        epoch: u64,
    },
    /// A [`Command::Publish`] failed; the kernel holds what it held.
    PublishFailed {
        /// The candidate's weight that was wanted.
        weight: Weight,
        /// Why.
        message: String,
    },
    /// The state was read from the journal after a restart.
    Restarted {
        /// What the kernel holds; none after a reboot, when the state's weight has been published anew.
        kernel: Option<InKernel>,
    },
    /// Somebody else changed the weights.
    ForeignWeights {
        /// What the kernel holds.
        kernel: InKernel,
        /// Who, as a sentence's subject: `uid 0 (root)`, `somebody else`.
        by: String,
    },
    /// The fuse in the data path turned the candidate off. Given for as long as the latch is set.
    Tripped {
        /// What it counted: `23 connections to v2 failed, more than 20 within 1s`.
        what: String,
        /// Connect failures that it counted.
        failures: u64,
    },
    /// The lease ran out. Given for as long as the latch is set.
    LeaseExpired,
    /// Fuse or lease would have acted, but the stable version has no backend that is up.
    NoStable,
}

/// What the kernel holds of the rollout's service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InKernel {
    /// The candidate's weight.
    pub weight: Weight,
    /// The service's epoch.
    pub epoch: u64,
    /// Number of the rollout that wrote it; 0: none.
    pub rollout: u64,
    /// Whether a segment gives the candidate something where the service's own weight gives it nothing.
    pub in_segments: bool,
}

impl InKernel {
    /// Whether no new flow goes to the candidate by its weights.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.weight == Weight::ZERO && !self.in_segments
    }
}

/// What the engine asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make the state durable; answered by [`Input::Journaled`] or [`Input::JournalFailed`].
    Journal(Record),
    /// Expose this of the candidate; stable has the rest. Answered by [`Input::Published`] or [`Input::PublishFailed`].
    Publish(Box<Exposure>),
    /// Take new flows off backends, or give them back.
    TurnBackends {
        /// Their version.
        version: Name,
        /// Which.
        backends: Vec<BackendAddress>,
        /// Whether they have no new flows from now on.
        drains: bool,
    },
    /// Run the plan's command for these backends of the candidate; answered by [`Input::Replaced`].
    Replace {
        /// Which.
        backends: Vec<BackendAddress>,
    },
    /// Let the candidate's weight hold for another while.
    RenewLease {
        /// From now on.
        duration: Duration,
    },
    /// Clear a latch of the guard.
    ClearLatch(Latch),
    /// Call a webhook of the plan; answered by [`Input::Answered`], whenever that is.
    Call {
        /// Which.
        hook: Name,
        /// Number of the call.
        call: u64,
    },
    /// Something happened that people should know.
    Event(Notice),
    /// The operator's command is refused, in one line; the state is as it was.
    Refuse(String),
}

/// What a journal entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// The state, whose flight is about to change the kernel.
    Intent,
    /// The state; the candidate is the stable version from now on.
    Promotion,
    /// The state, after the fact.
    State,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What kind of thing, in camelCase.
    pub kind: &'static str,
    /// One plain sentence.
    pub message: String,
    /// Who caused it.
    pub actor: String,
    /// Why, as given by the operator.
    pub reason: Option<String>,
}
