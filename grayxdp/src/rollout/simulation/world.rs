//! The world around a simulated engine.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    analysis::{self, Answer, History, Measured, Measurement, Reading, Sample},
    model::{
        Name, Weight,
        api::RolloutAction,
        config::{BackendAddress, DEFAULT_SEGMENT, Fuse, Service, Version},
        plan::Plan,
        state::RolloutState,
        time::{Now, timestamp},
        traffic::{Struck, Traffic},
    },
    rollout::{
        Cause, Command, Dwell, Exposure, HookAnswer, Input, State,
        rolling::Pools,
        simulation::{
            Detection, Moment, Simulated, WeightsAt,
            flows::{Flows, Passed, Tick},
        },
        step,
    },
};

/// Time between two ticks of a rollout of hours, and of one of days.
const SHORT_TICK: Duration = Duration::from_secs(1);
const LONG_TICK: Duration = Duration::from_secs(5);

/// How long a flow is followed where no configuration says it.
const FLOW_HORIZON: Duration = Duration::from_secs(60);

/// A rollout of days has longer pauses than this.
const DAYS: Duration = Duration::from_secs(2 * 86_400);

/// For how long stable has been at work when the rollout begins.
const BEFORE: Duration = Duration::from_secs(600);

/// The world around a simulated engine.
pub(super) struct World<'a> {
    traffic: &'a Traffic,
    fuse: Option<Fuse>,
    pub(super) at: Duration,
    tick: Duration,
    state: Option<State>,
    exposure: Exposure,
    epoch: u64,
    history: History,
    flows: Flows<'a>,
    /// Candidate's flows and failures since the fuse's window began, and when that was.
    window: (Duration, u64, u64),
    waiting_since: Option<Duration>,
    told: Simulated,
}

impl<'a> World<'a> {
    pub(super) fn new(plan: &Plan, service: Option<&Service>, traffic: &'a Traffic) -> Self {
        let now = Now { monotonic: Duration::from_secs(1), wall: wall(traffic, Duration::ZERO) };
        let heaviest = service.and_then(|service| {
            let weight = |version: &&Version| service.weights.get(&version.name).copied().unwrap_or_default();
            service.versions.iter().filter(|version| version.name != plan.spec.candidate).max_by_key(weight)
        });
        let stable = plan.spec.stable.clone().or(heaviest.map(|version| version.name.clone()));
        let stable = stable.unwrap_or_else(|| "stable".parse().expect("a name"));
        let mut state = State::new(1, plan.clone(), stable, 0, now);
        state.pools = pools(&state, service);
        let pauses: Duration = (0..state.stage_count())
            .filter_map(|index| match state.stage(index)?.dwell() {
                Dwell::For(pause) => Some(pause),
                Dwell::UntilResumed => Some(traffic.resume_after),
            })
            .sum();
        let horizon = service.map_or(FLOW_HORIZON, |service| service.flow_horizon);
        let flows = Flows::new(traffic, horizon, state.stable.clone(), state.candidate().clone());
        let told = Simulated {
            name: state.name().clone(),
            state: state.phase,
            message: String::new(),
            seconds: 0.0,
            timeline: Vec::new(),
            weights: Vec::new(),
            verdicts: BTreeMap::new(),
            flows: 0,
            candidate_flows: 0,
            stable_failures: 0,
            candidate_failures: 0,
            clients_exposed: 0.0,
            seconds_to_full: None,
            detections: Vec::new(),
            division: None,
        };
        let mut world = Self {
            traffic,
            fuse: service.and_then(|service| service.fuse),
            at: Duration::ZERO,
            tick: if pauses > DAYS { LONG_TICK } else { SHORT_TICK },
            history: History::new(analysis::window(plan.spec.analysis.interval)),
            state: Some(state),
            exposure: Exposure::default(),
            epoch: 0,
            flows,
            window: (Duration::ZERO, 0, 0),
            waiting_since: None,
            told,
        };
        world.give(Input::Shares(traffic.segments.clone()));
        world.note_weights();
        world.flow(BEFORE);
        world
    }

    fn state(&self) -> &State {
        self.state.as_ref().expect("it is taken only within `give`")
    }

    /// Whether nothing more happens by itself.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state();
        let waits = match state.phase {
            RolloutState::Paused => state.cause != Some(Cause::Plan),
            // What stable itself does ends by itself, too.
            RolloutState::Frozen => state.frozen_in.is_none() && state.cause != Some(Cause::Environment),
            RolloutState::Pending
            | RolloutState::Progressing
            | RolloutState::Promoting
            | RolloutState::RollingBack
            | RolloutState::Promoted
            | RolloutState::RolledBack
            | RolloutState::Completed
            | RolloutState::Failed => state.phase.is_final(),
        };
        waits && state.flight.is_none()
    }

    pub(super) fn tick(&mut self) {
        self.at += self.tick;
        let passed = self.flow(self.tick);
        self.tell(passed);
        self.measure();
        if self.fuse_trips() {
            let (_, flows, failures) = self.window;
            let what = format!("{failures} of {flows} connections to the candidate failed");
            self.give(Input::Tripped { what, failures });
        }
        if self.state().current_batch().is_some() {
            self.give(Input::Batch { is_turned: true, is_drained: true, is_well: true });
        }
        let history = std::mem::take(&mut self.history);
        self.give(Input::Tick { observed: Some(&history) });
        self.history = history;
        self.resume();
    }

    /// One input and all that follows.
    fn give(&mut self, input: Input<'_>) {
        let now = Now { monotonic: self.at + Duration::from_secs(1), wall: wall(self.traffic, self.at) };
        let state = self.state.take().expect("one input at a time");
        let (mut state, commands) = step(state, input, now);
        let mut commands = VecDeque::from(commands);
        while let Some(command) = commands.pop_front() {
            let answer = match command {
                Command::Journal(record) => Some(Input::Journaled(record)),
                Command::Publish(exposure) => {
                    self.epoch += 1;
                    let weight = exposure.weight;
                    self.exposure = *exposure;
                    self.note_weights();
                    Some(Input::Published { weight, epoch: self.epoch })
                }
                Command::Call { hook, call } => Some(Input::Answered { hook, call, answer: HookAnswer::Yes }),
                Command::Event(notice) => {
                    self.note(notice.kind, notice.message);
                    None
                }
                Command::Replace { backends: _ } => Some(Input::Replaced(Ok(()))),
                Command::TurnBackends { version: _, backends: _, drains: _ }
                | Command::RenewLease { duration: _ }
                | Command::ClearLatch(_)
                | Command::Refuse(_) => None,
            };
            if let Some(answer) = answer {
                let (next, more) = step(state, answer, now);
                state = next;
                commands.extend(more);
            }
        }
        self.state = Some(state);
    }

    /// An operator resumes what waits for one by the plan.
    fn resume(&mut self) {
        let waits = self.state().phase == RolloutState::Paused && self.state().cause == Some(Cause::Plan);
        let since = *self.waiting_since.get_or_insert(self.at);
        if !waits {
            self.waiting_since = None;
        } else if self.at - since >= self.traffic.resume_after {
            self.waiting_since = None;
            let (action, actor) = (RolloutAction::Resume, "the simulated operator".to_owned());
            self.give(Input::Operator { action, actor, reason: None });
        }
    }

    /// The flows of some time until now.
    fn flow(&mut self, length: Duration) -> Passed {
        let copied = self.state().copying().map_or(0.0, |shadow| shadow.sample.ratio());
        let tick = Tick { at: self.at, length, exposure: &self.exposure, copied, epoch: self.epoch };
        let mut strata = self.history.take_strata();
        let passed = self.flows.pass(tick, &mut strata);
        self.history.push_strata(strata);
        passed
    }

    /// Flows are told of, and counted for the fuse.
    fn tell(&mut self, passed: Passed) {
        let told = &mut self.told;
        told.clients_exposed = told.clients_exposed.max(self.flows.exposed(&self.exposure));
        told.flows += passed.flows;
        told.candidate_flows += passed.candidate;
        told.stable_failures += passed.stable_failures;
        told.candidate_failures += passed.candidate_failures;
        self.window.1 += passed.candidate;
        self.window.2 += passed.candidate_failures;
    }

    /// What the data path would show.
    fn measure(&mut self) {
        let at = self.at + Duration::from_secs(1);
        let names = [self.state().stable.clone(), self.state().candidate().clone()];
        let [stable, candidate] = names;
        let reading = |measured: &Measured| {
            let (syns, syn_acks, refusals) = (measured.attempts, measured.opened, measured.refused);
            Reading { syns, syn_acks, refusals }
        };
        let (of_stable, of_candidate) = self.flows.wholes();
        let versions = [(stable.clone(), reading(of_stable)), (candidate.clone(), reading(of_candidate))].into();
        let signals = [(stable, Arc::new(of_stable.clone())), (candidate, Arc::new(of_candidate.clone()))];
        self.history.push(Sample { at, versions });
        self.history.push_signals(at, signals.into());
        for (metric, value) in &self.traffic.outside {
            let answer = Answer::Values(vec![*value]);
            self.history.note_outside(metric.clone(), Measurement { at, answer });
        }
    }

    /// Whether the fuse's window shows more failures than it lets pass.
    fn fuse_trips(&mut self) -> bool {
        let Some(fuse) = self.fuse.filter(|_| !self.exposure.is_nothing()) else { return false };
        let (since, flows, failures) = self.window;
        let tripped = failures > u64::from(fuse.limit) && failures as f64 >= fuse.ratio * flows as f64;
        if !tripped && self.at - since >= fuse.window {
            self.window = (self.at, 0, 0);
        }
        tripped
    }

    fn note(&mut self, kind: &str, message: String) {
        let stops = ["rollingBack", "paused", "frozen", "fuseTripped"].contains(&kind);
        if stops && !message.contains("waits for `resume`") {
            let now = self.at.as_secs_f64();
            self.notice_incidents();
            let open = self.told.detections.iter_mut().filter(|detection| detection.by.is_none());
            for detection in open {
                (detection.seconds, detection.by) = (Some(now - detection.at), Some(message.clone()));
            }
        }
        let (at, time) = (self.at.as_secs_f64(), timestamp(wall(self.traffic, self.at)));
        self.told.timeline.push(Moment { at, time, kind: kind.to_owned(), message });
    }

    /// Incidents of the candidate that have begun.
    fn notice_incidents(&mut self) {
        let begun = self
            .traffic
            .incidents
            .iter()
            .filter(|incident| incident.at <= self.at && matches!(incident.to, Struck::Candidate | Struck::Both));
        for at in begun.map(|incident| incident.at.as_secs_f64()) {
            if !self.told.detections.iter().any(|detection| detection.at == at) {
                self.told.detections.push(Detection { at, seconds: None, by: None });
            }
        }
    }

    fn note_weights(&mut self) {
        let rest: Name = DEFAULT_SEGMENT.parse().expect("a name");
        let named = self.traffic.segments.keys().chain(self.exposure.segments.keys());
        let mut weights: BTreeMap<_, _> =
            named.map(|name| (name.clone(), self.exposure.in_segment(Some(name)))).collect();
        weights.insert(rest, self.exposure.weight);
        let at = self.at.as_secs_f64();
        if self.told.seconds_to_full.is_none() && weights.values().all(|weight| *weight == Weight::FULL) {
            self.told.seconds_to_full = Some(at);
        }
        self.told.weights.push(WeightsAt { at, weights });
    }

    /// All that is to be told.
    pub(super) fn finish(mut self) -> Simulated {
        self.notice_incidents();
        let state = self.state.take().expect("it is taken only within `give`");
        let looks = state.metrics.iter().map(|(name, record)| (name.clone(), record.verdicts.clone()));
        self.told.verdicts = looks.collect();
        self.told.division = state.comparison.division();
        (self.told.state, self.told.message) = (state.phase, state.message);
        self.told.seconds = self.at.as_secs_f64();
        self.told
    }
}

/// The backends of a rolling release: those of the service, or ten of each version.
fn pools(state: &State, service: Option<&Service>) -> Pools {
    let of = |version: &Name, subnet: u8| match service.and_then(|service| Some((service, service.version(version)?))) {
        Some((service, version)) => {
            version.backends.iter().map(|backend| service.backend_address(backend)).collect::<Vec<_>>()
        }
        None => (1..=10)
            .map(|host| BackendAddress { address: std::net::Ipv4Addr::new(10, 0, subnet, host).into(), port: None })
            .collect(),
    };
    Pools { stable: of(&state.stable, 1), candidate: of(state.candidate(), 2), ..Pools::default() }
}

fn wall(traffic: &Traffic, at: Duration) -> Duration {
    Duration::from_secs(u64::try_from(traffic.start.as_second()).unwrap_or_default()) + at
}
