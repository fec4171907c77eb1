//! All that a rollout is, between two inputs. It is journaled as JSON.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    analysis::{Comparison, PostedAnswer, Trial},
    model::{
        Name, Weight,
        plan::Plan,
        state::{Finding, RolloutState, Verdict},
        time::Now,
    },
    rollout::{exposure::Exposure, hooks::HookRecord, rolling::Pools, shadow::Copies},
};

/// All that a rollout is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Its number, from 1, unique in the journal.
    pub number: u64,
    /// What was asked for.
    pub plan: Box<Plan>,
    /// The version that had the traffic before.
    pub stable: Name,
    /// Where it stands.
    pub phase: RolloutState,
    /// Why it is paused or frozen.
    pub cause: Option<Cause>,
    /// One sentence on where it stands.
    pub message: String,
    /// Why it is or was rolled back.
    pub rollback_reason: Option<String>,
    /// Which try it is, from 1: `rollout retry` begins another.
    #[serde(default = "first_attempt")]
    pub attempt: u64,
    /// Index of the current stage.
    pub step: usize,
    /// Whether all that the stage exposes is in the kernel.
    pub reached: bool,
    /// Whether a part of it is: the rest follows in sub-steps.
    #[serde(default)]
    pub walking: bool,
    /// What kept the last sub-step from going further, in words.
    #[serde(default)]
    pub binding: Vec<String>,
    /// The candidate's weight in the kernel, as last read back.
    pub weight: Weight,
    /// All that is exposed in the kernel, with that weight.
    pub exposure: Exposure,
    /// Shares of all new flows by segment, as measured last.
    #[serde(default)]
    pub measured_shares: BTreeMap<Name, f64>,
    /// The same as the stage uses them: frozen when its walk began, the plan's own where it gives them.
    #[serde(default)]
    pub shares: BTreeMap<Name, f64>,
    /// The service's epoch with that weight.
    pub epoch: u64,
    /// A change on its way.
    pub flight: Option<Flight>,
    /// Since when the step's weight is in the kernel, or the history unbroken: monotonic.
    pub since: Duration,
    /// How much of the step's pause has passed while `progressing` and observed.
    pub dwell: Duration,
    /// How long the step has been observed in any state.
    pub watched: Duration,
    /// Time since the last look.
    pub since_look: Duration,
    /// How often the pauses were made shorter.
    #[serde(default)]
    pub boost: u32,
    /// Looks in a row in which every metric passed.
    #[serde(default)]
    pub streak: u32,
    /// How long it took so far, as `progressDeadline` counts.
    #[serde(default)]
    pub elapsed: Duration,
    /// Whether the plan's windows were closed at the last tick.
    #[serde(default)]
    pub closed: bool,
    /// What it froze in, where it goes on by itself.
    #[serde(default)]
    pub frozen_in: Option<RolloutState>,
    /// How it ends once stable has everything again.
    #[serde(default)]
    pub ending: Ending,
    /// The stage that a rollback in reverse steps goes to next; none: at once.
    #[serde(default)]
    pub reversing: Option<usize>,
    /// The backends of a rolling release.
    #[serde(default)]
    pub pools: Pools,
    /// What became of the copies of a shadow release.
    #[serde(default)]
    pub copies: Copies,
    /// What an A/B test has measured.
    #[serde(default)]
    pub trial: Option<Trial>,
    /// Observed time since exposure last changed.
    #[serde(default)]
    pub since_change: Duration,
    /// Whether the look at the pause's end was taken.
    pub end_looked: bool,
    /// An operator ended a pause without duration.
    pub resumed: bool,
    /// An operator ended the step, whatever its metrics say.
    pub released: bool,
    /// What is known of each metric.
    pub metrics: BTreeMap<Name, MetricRecord>,
    /// What was posted last, by metric.
    #[serde(default)]
    pub posted: BTreeMap<Name, Posted>,
    /// What is known of each webhook.
    #[serde(default)]
    pub hooks: BTreeMap<Name, HookRecord>,
    /// What comparing the candidate with stable keeps from look to look.
    #[serde(default)]
    pub comparison: Comparison,
    /// When to try again what failed.
    pub backoff: Option<Backoff>,
    /// What tripped the fuse in this attempt.
    #[serde(default)]
    pub tripped: Option<String>,
    /// Connect failures that it had counted then.
    #[serde(default)]
    pub failures: u64,
    /// The lease ran out, and nobody resumed since.
    #[serde(default)]
    pub lease_expired: bool,
    /// Fuse or lease would have acted, but the stable version has no backend that is up.
    #[serde(default)]
    pub no_stable: bool,
    /// Why the journal cannot be written, while it cannot.
    pub journal_problem: Option<String>,
    /// Time since the state was last sent to the journal.
    pub since_saved: Duration,
    /// The last tick of this run.
    pub last_tick: Option<Now>,
    /// When it began, on the wall clock.
    pub started: Duration,
    /// When it ended, on the wall clock.
    pub ended: Option<Duration>,
}

/// How a rollout ends once stable has everything again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// `rolledBack`.
    #[default]
    RolledBack,
    /// `completed`: as planned, without a promotion.
    Completed,
}

/// Why a rollout is paused or frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// `rollout pause`.
    Operator,
    /// The plan's `pause: {}`.
    Plan,
    /// A step ended without enough data or without a pass.
    Inconclusive,
    /// A metric broke its limits.
    Breach,
    /// The host was rebooted.
    Reboot,
    /// Somebody else changed the weights, or the kernel holds what the journal cannot explain.
    Doubt,
    /// Nobody renewed the lease in time.
    Lease,
    /// A metric cannot be measured; left by itself when it can.
    Outage,
    /// An adaptive rollout whose metrics do not all pass; left by itself when they do.
    Unsure,
    /// `progressDeadline` passed.
    Deadline,
    /// Stable itself breaks its limit.
    Environment,
}

const fn first_attempt() -> u64 {
    1
}

/// A change on its way to the kernel and the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flight {
    /// The stage that it leads to, or on the way to which it is.
    pub step: usize,
    /// What is exposed then.
    pub exposure: Exposure,
    /// What keeps it from going further, in words.
    #[serde(default)]
    pub binding: Vec<String>,
    /// What is awaited.
    pub awaits: Awaits,
}

/// What a flight waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Awaits {
    /// The intent to be durable.
    Intent,
    /// What is exposed to be in the kernel.
    Publishing,
    /// The new roles to be durable.
    Promotion,
}

/// A pause before the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// Until then, monotonic.
    pub until: Duration,
    /// Tries that failed in a row.
    pub attempts: u32,
}

/// What is known of a metric.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricRecord {
    /// The newest finding.
    pub finding: Option<Finding>,
    /// Whether it was looked at since the step's weight is in the kernel.
    pub looked: bool,
    /// Fails since the rollout began, or since `resume` after a breach.
    pub fails: u32,
    /// Fails in a row.
    pub consecutive_fails: u32,
    /// Passes in a row.
    #[serde(default)]
    pub consecutive_passes: u32,
    /// Inconclusive looks after the end of the stage's pause.
    #[serde(default)]
    pub inconclusive: u32,
    /// Looks without data after the end of the stage's pause.
    #[serde(default)]
    pub no_data: u32,
    /// Errors in a row.
    #[serde(default)]
    pub consecutive_errors: u32,
    /// How long they last.
    #[serde(default)]
    pub outage: Duration,
    /// Whether it broke its limits.
    pub breached: bool,
    /// Looks so far by verdict.
    pub verdicts: BTreeMap<Verdict, u64>,
}

/// What somebody posted about a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Posted {
    /// When, on the wall clock: it outlives the daemon.
    pub at: Duration,
    /// The service's epoch then; under another weight it counts no more.
    pub epoch: u64,
    /// What it says.
    pub document: Value,
}

impl State {
    /// A rollout that was accepted and has exposed nothing. `epoch` is the service's now.
    #[must_use]
    pub fn new(number: u64, plan: Plan, stable: Name, epoch: u64, now: Now) -> Self {
        let metrics = &plan.spec.analysis.metrics;
        Self {
            number,
            posted: BTreeMap::new(),
            hooks: BTreeMap::new(),
            metrics: metrics.iter().map(|metric| (metric.name.clone(), MetricRecord::default())).collect(),
            plan: Box::new(plan),
            stable,
            phase: RolloutState::Pending,
            cause: None,
            message: "accepted; nothing is exposed yet".to_owned(),
            rollback_reason: None,
            attempt: first_attempt(),
            step: 0,
            reached: false,
            walking: false,
            binding: Vec::new(),
            weight: Weight::ZERO,
            exposure: Exposure::default(),
            measured_shares: BTreeMap::new(),
            shares: BTreeMap::new(),
            epoch,
            flight: None,
            since: now.monotonic,
            dwell: Duration::ZERO,
            watched: Duration::ZERO,
            since_look: Duration::ZERO,
            boost: 0,
            streak: 0,
            elapsed: Duration::ZERO,
            closed: false,
            frozen_in: None,
            ending: Ending::RolledBack,
            reversing: None,
            trial: None,
            copies: Copies::default(),
            pools: Pools::default(),
            since_change: Duration::ZERO,
            end_looked: false,
            resumed: false,
            released: false,
            comparison: Comparison::default(),
            backoff: None,
            tripped: None,
            failures: 0,
            lease_expired: false,
            no_stable: false,
            journal_problem: None,
            since_saved: Duration::ZERO,
            last_tick: None,
            started: now.wall,
            ended: None,
        }
    }

    /// Notes what the kernel holds.
    pub(super) fn hold(&mut self, exposure: Exposure, epoch: u64) {
        (self.weight, self.epoch) = (exposure.weight, epoch);
        self.exposure = exposure;
    }

    /// What was posted under the present weight, by metric.
    #[must_use]
    pub(super) fn posted(&self, wall: Duration) -> BTreeMap<Name, PostedAnswer> {
        let now = self.posted.iter().filter(|(_, posted)| posted.epoch == self.epoch);
        let answer =
            |posted: &Posted| PostedAnswer { age: wall.saturating_sub(posted.at), document: posted.document.clone() };
        now.map(|(metric, posted)| (metric.clone(), answer(posted))).collect()
    }

    /// The rollout's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.plan.metadata.name
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &Name {
        &self.plan.spec.service
    }

    /// The version to release.
    #[must_use]
    pub fn candidate(&self) -> &Name {
        &self.plan.spec.candidate
    }

    /// The weight that a kernel without tables is to be given: never more than was there.
    #[must_use]
    pub fn restored_weight(&self) -> Weight {
        match self.phase {
            RolloutState::RollingBack | RolloutState::RolledBack => Weight::ZERO,
            RolloutState::Pending
            | RolloutState::Progressing
            | RolloutState::Paused
            | RolloutState::Frozen
            | RolloutState::Promoting
            | RolloutState::Promoted
            | RolloutState::Completed
            | RolloutState::Failed => self.weight,
        }
    }
}
