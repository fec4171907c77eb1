//! The engine's tests: a plan, a virtual clock, a simulated kernel and journal.

mod canary;
mod compare;
mod crash;
mod durability;
mod guard;
mod hooks;
mod rolling;
mod shadow;
mod strategies;
mod table;
mod verdicts;
mod walk;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crate::{
    analysis::{History, Measured, Reading, Sample},
    model::{
        Name, Weight, api::RolloutAction, config::BackendAddress, kernel::Latch, plan::Plan, state::RolloutState,
        time::Now,
    },
    rollout::{Command, Exposure, InKernel, Input, Record, State, step},
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
    /// New connections a second that an instance or a preview brings to the candidate.
    pub(super) previewed: u64,
    /// Backends without new flows.
    pub(super) out: BTreeSet<(Name, BackendAddress)>,
    /// Seconds until a command ends.
    pub(super) replacing: Option<u32>,
    /// Whether commands succeed.
    pub(super) replace_works: bool,
    /// When a drained backend has no flow left.
    pub(super) drains_after: Duration,
    /// Per cent of the connections that stable refuses.
    pub(super) stable_refuses: u64,
    pub(super) trace: Vec<String>,
    pub(super) refused: Vec<String>,
    /// Calls of webhooks that nobody has answered.
    pub(super) calls: Vec<(Name, u64)>,
    /// Commands until the daemon is killed.
    pub(super) commands_left: usize,
    /// Where it has been, after every command.
    pub(super) places: BTreeSet<Place>,
    /// The kernel's guard.
    pub(super) guard: Guard,
    history: History,
    counted: Reading,
    /// Connections to stable, and how many of them it refused.
    stable: (u64, u64),
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
            kernel: InKernel { weight: Weight::ZERO, epoch: 41, rollout: 0, in_segments: false },
            journal_works: true,
            kernel_works: true,
            candidate: Candidate::Sound,
            previewed: 0,
            stable_refuses: 0,
            out: BTreeSet::new(),
            replacing: None,
            replace_works: true,
            drains_after: Duration::from_secs(3),
            trace: Vec::new(),
            refused: Vec::new(),
            calls: Vec::new(),
            commands_left: usize::MAX,
            places: BTreeSet::new(),
            guard: Guard::default(),
            history: History::new(Duration::from_secs(10)),
            counted: Reading::default(),
            stable: (0, 0),
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
        let aside = if self.state.exposure.aside.is_some() { self.previewed } else { 0 };
        let copies = self.state.copying().map_or(0, |shadow| (shadow.sample.ratio() * 1_000.0) as u64);
        let syns = (self.kernel.weight.ratio() * 1_000.0) as u64 + aside + copies;
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
        let others = (self.kernel.weight.complement().ratio() * 1_000.0) as u64;
        self.stable.0 += others;
        self.stable.1 += others * self.stable_refuses / 100;
        let measured = |syns: u64, refused: u64| {
            Arc::new(Measured { attempts: syns, opened: syns - refused, refused, ..Measured::default() })
        };
        let own = measured(self.counted.syns, self.counted.refusals);
        let signals = [(name("v2"), own), (name("v1"), measured(self.stable.0, self.stable.1))].into();
        self.history.push_signals(self.now.monotonic, signals);
        self.batch();
        self.latches();
        self.history.push(Sample { at: self.now.monotonic, versions: [(name("v2"), self.counted)].into() });
        let history = self.history.clone();
        self.input(Input::Tick { observed: Some(&history) });
    }

    /// A command takes three seconds; a drained backend is empty after so many.
    fn batch(&mut self) {
        if let Some(left) = self.replacing {
            self.replacing = (left > 1).then(|| left - 1);
            if left == 1 {
                let outcome =
                    if self.replace_works { Ok(()) } else { Err("/bin/deploy ended with exit status: 3".to_owned()) };
                self.input(Input::Replaced(outcome));
            }
        }
        let Some((stable, _)) = self.state.current_batch() else { return };
        let is_turned = stable.iter().all(|backend| self.out.contains(&(name("v1"), *backend)));
        let is_drained = is_turned && self.state.watched >= self.drains_after;
        self.input(Input::Batch { is_turned, is_drained, is_well: true });
    }

    /// One second in which the counters cannot be read.
    pub(super) fn unobserved(&mut self) {
        self.now.monotonic += Duration::from_secs(1);
        self.now.wall += Duration::from_secs(1);
        self.input(Input::Tick { observed: None });
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
                } else if matches!(self.state.phase, RolloutState::RollingBack | RolloutState::RolledBack) {
                    self.stable_in_journal = self.state.stable.clone();
                }
                Some(Input::Journaled(record))
            }
            Command::Journal(record) => Some(Input::JournalFailed(record, "disk full".to_owned())),
            Command::Publish(exposure) if self.kernel_works => {
                let Exposure { weight, segments, aside } = *exposure;
                let instance = aside.as_ref().map(|_| " and the instance");
                let own = segments.iter().map(|(name, weight)| format!(", {name} {weight}")).collect::<String>();
                self.trace.push(format!("publish {weight}{own}{}", instance.unwrap_or_default()));
                let (epoch, rollout) = (self.kernel.epoch + 1, self.state.number);
                let in_segments = weight == Weight::ZERO && segments.values().any(|weight| *weight > Weight::ZERO);
                self.kernel = InKernel { weight, epoch, rollout, in_segments };
                Some(Input::Published { weight, epoch })
            }
            Command::Publish(exposure) => {
                Some(Input::PublishFailed { weight: exposure.weight, message: "no memory".to_owned() })
            }
            Command::TurnBackends { version, backends, drains } => {
                let what = if drains { "drain" } else { "enable" };
                let names: Vec<_> = backends.iter().map(ToString::to_string).collect();
                self.trace.push(format!("{what} {version} {}", names.join(" ")));
                for backend in backends {
                    if drains {
                        self.out.insert((version.clone(), backend))
                    } else {
                        self.out.remove(&(version.clone(), backend))
                    };
                }
                None
            }
            Command::Replace { backends } => {
                let names: Vec<_> = backends.iter().map(ToString::to_string).collect();
                self.trace.push(format!("replace {}", names.join(" ")));
                self.replacing = Some(3);
                None
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
            Command::Call { hook, call } => {
                self.calls.push((hook, call));
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
        self.replacing = None;
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
