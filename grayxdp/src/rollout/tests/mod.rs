//! The engine's tests: a plan, a virtual clock, a simulated kernel and journal.

mod canary;
mod compare;
mod crash;
mod durability;
mod guard;
mod table;

use std::{collections::BTreeSet, time::Duration};

use crate::{
    analysis::{History, Reading, Sample},
    model::{Name, Weight, api::RolloutAction, kernel::Latch, plan::Plan, state::RolloutState, time::Now},
    rollout::{Command, InKernel, Input, Record, State, step},
};

pub(super) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(super) fn percent(percent: u16) -> Weight {
    Weight::from_hundredths(percent * 100).expect("a weight")
}

/// 5 → 25 → 50 → 100 with ten seconds each, one metric, looks two seconds apart.
pub(super) fn plan() -> Plan {
    plan_with(serde_json::json!([
        {"setWeight": 5, "pause": {"duration": "10s"}},
        {"setWeight": 25, "pause": {"duration": "10s"}},
        {"setWeight": 50, "pause": {"duration": "10s"}},
        {"setWeight": 100, "pause": {"duration": "10s"}},
    ]))
}

pub(super) fn plan_with(steps: serde_json::Value) -> Plan {
    let json = serde_json::json!({
        "apiVersion": "grayxdp.io/v1", "kind": "Rollout", "metadata": {"name": "recsys-v2"},
        "spec": {
            "service": "recsys", "stable": "v1", "candidate": "v2",
            "strategy": {"canary": {"steps": steps}},
            "analysis": {"interval": "2s", "maxExtension": "30s", "metrics": [
                {"name": "errors", "provider": {"kernel": {"signal": "connectFailureRatio"}},
                 "thresholdRange": {"max": 0.02}},
            ]},
        },
    });
    serde_json::from_value(json).expect("a plan")
}

/// What clients meet at the candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Candidate {
    Sound,
    Refusing,
    Silent,
    Idle,
}

/// The outside world as a daemon would be to the engine: carries out commands at once, in order.
pub(super) struct World {
    pub(super) now: Now,
    pub(super) state: State,
    pub(super) kernel: InKernel,
    pub(super) journal: Option<String>,
    pub(super) stable_in_journal: Name,
    pub(super) journal_works: bool,
    pub(super) kernel_works: bool,
    pub(super) candidate: Candidate,
    pub(super) trace: Vec<String>,
    pub(super) refused: Vec<String>,
    /// Commands until the daemon is killed.
    pub(super) commands_left: usize,
    /// Where it has been, after every command.
    pub(super) places: BTreeSet<Place>,
    /// The kernel's guard.
    pub(super) guard: Guard,
    history: History,
    counted: Reading,
}

/// Fuse and lease as the kernel has them.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub(super) struct Guard {
    pub(super) tripped: bool,
    pub(super) expired: bool,
    /// When the lease runs out, monotonic.
    pub(super) lease_until: Option<Duration>,
}

/// State, step and weight in the kernel.
pub(super) type Place = (RolloutState, usize, Weight);

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let now = Now { monotonic: Duration::from_secs(1_000), wall: Duration::from_secs(1_800_000_000) };
        let state = State::new(7, plan, name("v1"), 41, now);
        Self {
            now,
            journal: Some(serde_json::to_string(&state).expect("states are JSON")),
            stable_in_journal: name("v1"),
            state,
            kernel: InKernel { weight: Weight::ZERO, epoch: 41, rollout: 0 },
            journal_works: true,
            kernel_works: true,
            candidate: Candidate::Sound,
            trace: Vec::new(),
            refused: Vec::new(),
            commands_left: usize::MAX,
            places: BTreeSet::new(),
            guard: Guard::default(),
            history: History::new(Duration::from_secs(10)),
            counted: Reading::default(),
        }
    }

    /// One second: 1,000 new connections over all versions, then a tick.
    pub(super) fn second(&mut self) {
        self.pass(Duration::from_secs(1));
    }

    pub(super) fn seconds(&mut self, seconds: u32) {
        (0..seconds).for_each(|_| self.second());
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.wall += time;
        let syns = (self.kernel.weight.ratio() * 1_000.0) as u64;
        match self.candidate {
            Candidate::Sound => {
                (self.counted.syns, self.counted.syn_acks) = (self.counted.syns + syns, self.counted.syn_acks + syns)
            }
            Candidate::Refusing => {
                (self.counted.syns, self.counted.refusals) = (self.counted.syns + syns, self.counted.refusals + syns)
            }
            Candidate::Silent => self.counted.syns += syns,
            Candidate::Idle => {}
        }
        self.latches();
        self.history.push(Sample { at: self.now.monotonic, versions: [(name("v2"), self.counted)].into() });
        let history = self.history.clone();
        self.input(Input::Tick { observed: Some(&history) });
    }

    /// The kernel finds the lease run out; the daemon tells of what is latched.
    fn latches(&mut self) {
        self.guard.expired |= self.guard.lease_until.is_some_and(|until| until < self.now.monotonic);
        if self.guard.tripped {
            self.input(Input::Tripped { what: "23 connections to v2 failed".to_owned(), failures: 23 });
        } else if self.guard.expired {
            self.input(Input::LeaseExpired);
        }
    }

    /// The share of new flows that the candidate really has.
    pub(super) fn effective(&self) -> Weight {
        if self.guard.tripped || self.guard.expired { Weight::ZERO } else { self.kernel.weight }
    }

    pub(super) fn operator(&mut self, action: RolloutAction) {
        self.input(Input::Operator { action, actor: "uid 1000 (ann)".to_owned(), reason: None });
    }

    /// Runs one input and everything that follows from it. Stops dead when no command is left.
    pub(super) fn input(&mut self, input: Input<'_>) {
        let (state, commands) = step(self.state.clone(), input, self.now);
        self.state = state;
        self.places.insert(self.place());
        let mut commands = std::collections::VecDeque::from(commands);
        while let Some(command) = commands.pop_front() {
            if self.commands_left == 0 {
                return;
            }
            self.commands_left -= 1;
            let result = self.carry_out(command);
            self.places.insert(self.place());
            if self.commands_left == 0 {
                return;
            }
            if let Some(result) = result {
                let (state, more) = step(self.state.clone(), result, self.now);
                self.state = state;
                self.places.insert(self.place());
                commands.extend(more);
            }
        }
    }

    pub(super) fn place(&self) -> Place {
        (self.state.phase, self.state.step, self.kernel.weight)
    }

    fn carry_out(&mut self, command: Command) -> Option<Input<'static>> {
        match command {
            Command::Journal(record) if self.journal_works => {
                self.trace.push(format!("journal {record:?}"));
                self.journal = Some(serde_json::to_string(&self.state).expect("states are JSON"));
                if record == Record::Promotion {
                    self.stable_in_journal = self.state.candidate().clone();
                }
                Some(Input::Journaled(record))
            }
            Command::Journal(record) => Some(Input::JournalFailed(record, "disk full".to_owned())),
            Command::Publish { weight, step } if self.kernel_works => {
                let instance = step.and_then(|step| self.state.instance_at(step)).map(|_| " and the instance");
                self.trace.push(format!("publish {weight}{}", instance.unwrap_or_default()));
                let epoch = self.kernel.epoch + 1;
                self.kernel = InKernel { weight, epoch, rollout: self.state.number };
                Some(Input::Published { weight, epoch })
            }
            Command::Publish { weight, step: _ } => {
                Some(Input::PublishFailed { weight, message: "no memory".to_owned() })
            }
            Command::RenewLease { duration } => {
                self.guard.lease_until = Some(self.now.monotonic + duration);
                None
            }
            Command::ClearLatch(latch) => {
                self.trace.push(format!("clear {latch:?}"));
                match latch {
                    Latch::Tripped => self.guard.tripped = false,
                    Latch::LeaseExpired => self.guard.expired = false,
                }
                None
            }
            Command::Event(notice) => {
                self.trace.push(format!("event {}", notice.kind));
                None
            }
            Command::Refuse(line) => {
                self.refused.push(line);
                None
            }
        }
    }

    /// The daemon is started anew on what is in the journal and the kernel, and looks at the guard.
    pub(super) fn restart(&mut self) {
        self.commands_left = usize::MAX;
        let journal = self.journal.as_ref().expect("a journal");
        self.state = serde_json::from_str(journal).expect("a state");
        self.history.clear();
        let kernel = Some(self.kernel);
        self.input(Input::Restarted { kernel });
        self.latches();
    }

    pub(super) fn until(&mut self, phase: RolloutState, at_most: u32) {
        for _ in 0..at_most {
            if self.state.phase == phase {
                return;
            }
            self.second();
        }
        panic!("{} instead of {}: {}", self.state.phase.label(), phase.label(), self.state.message);
    }
}
