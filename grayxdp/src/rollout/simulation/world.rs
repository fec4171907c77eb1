//! The world around a simulated engine.

use std::{
    collections::{BTreeMap, VecDeque},
    f64::consts::TAU,
    sync::Arc,
    time::Duration,
};

use statrs::distribution::{ContinuousCDF, Normal};

use crate::{
    analysis::{self, Answer, History, Measured, Measurement, Reading, Sample},
    model::{
        Name, Weight,
        api::RolloutAction,
        config::{BackendAddress, DEFAULT_SEGMENT, Fuse, Service, Version},
        plan::Plan,
        state::RolloutState,
        time::{Now, timestamp},
        traffic::{Answers, Latency, Struck, Traffic},
    },
    rollout::{
        Cause, Command, Dwell, Exposure, HookAnswer, Input, State,
        rolling::Pools,
        simulation::{Detection, Moment, Simulated, WeightsAt},
        step,
    },
};

/// Time between two ticks of a rollout of hours, and of one of days.
const SHORT_TICK: Duration = Duration::from_secs(1);
const LONG_TICK: Duration = Duration::from_secs(5);

/// A rollout of days has longer pauses than this.
const DAYS: Duration = Duration::from_secs(2 * 86_400);

/// Of the flows, those whose times are taken: 1 in 64, as in the data path, and at most so many a tick.
const FOLLOWED: f64 = 64.0;
const MOST_FOLLOWED: u64 = 64;

/// Clients beside the weights (a canary instance, a preview) are this part of all flows.
const ASIDE: f64 = 0.01;

/// The standard normal's 0.99 quantile.
const Z99: f64 = 2.326_347_874;

/// Equally likely times that stand for a distribution.
const TIMES: usize = 4_096;

/// Seconds of a day, and its second at which the least traffic is met.
const DAY: f64 = 86_400.0;
const NIGHT: f64 = 2.0 * 3_600.0;

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
    random: fastrand::Rng,
    stable: Measured,
    candidate: Measured,
    /// Times to the first byte of stable and of the candidate.
    times: [(Latency, Vec<u64>); 2],
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
            random: fastrand::Rng::with_seed(traffic.seed),
            stable: Measured::default(),
            candidate: Measured::default(),
            times: [traffic.stable, traffic.candidate]
                .map(|answers| (answers.first_byte, times_of(answers.first_byte))),
            window: (Duration::ZERO, 0, 0),
            waiting_since: None,
            told,
        };
        world.give(Input::Shares(traffic.segments.clone()));
        world.note_weights();
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
        self.flow();
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

    /// The flows of one tick.
    fn flow(&mut self) {
        let seconds = self.tick.as_secs_f64();
        let night = 0.5 + 0.5 * (TAU * (seconds_of_day(self.traffic, self.at) - NIGHT) / DAY).cos();
        let rate = self.traffic.flows_per_second * (1.0 - (1.0 - self.traffic.nightly) * night);
        let flows = self.poisson(rate * seconds);
        let rest = (1.0 - self.traffic.segments.values().sum::<f64>()).max(0.0);
        let named = self.traffic.segments.iter();
        let share: f64 = named
            .map(|(name, share)| share * self.exposure.in_segment(Some(name)).ratio())
            .chain([rest * self.exposure.weight.ratio()])
            .sum();
        let aside = if self.exposure.aside.is_some() { ASIDE } else { 0.0 };
        self.told.clients_exposed = self.told.clients_exposed.max(share.max(aside));
        let candidate = self.binomial(flows, share.max(aside).min(1.0));
        let (of_stable, of_candidate) = self.answers();
        let stable_failures = self.answer(flows - candidate, of_stable, false);
        let candidate_failures = self.answer(candidate, of_candidate, true);
        let told = &mut self.told;
        (told.flows, told.candidate_flows) = (told.flows + flows, told.candidate_flows + candidate);
        told.stable_failures += stable_failures;
        told.candidate_failures += candidate_failures;
        self.window.1 += candidate;
        self.window.2 += candidate_failures;
    }

    /// How both versions answer now.
    fn answers(&self) -> (Answers, Answers) {
        let mut both = (self.traffic.stable, self.traffic.candidate);
        let now = |incident: &&crate::model::traffic::Incident| {
            incident.at <= self.at && incident.duration.is_none_or(|lasts| self.at < incident.at + lasts)
        };
        for incident in self.traffic.incidents.iter().filter(now) {
            let strike = |answers: &mut Answers| {
                answers.failure_ratio = incident.failure_ratio.unwrap_or(answers.failure_ratio);
                answers.first_byte = incident.first_byte.unwrap_or(answers.first_byte);
            };
            match incident.to {
                Struck::Stable => strike(&mut both.0),
                Struck::Candidate => strike(&mut both.1),
                Struck::Both => {
                    strike(&mut both.0);
                    strike(&mut both.1);
                }
            }
        }
        both
    }

    /// A version answers its flows: how many it refused.
    fn answer(&mut self, flows: u64, answers: Answers, is_candidate: bool) -> u64 {
        let failures = self.binomial(flows, answers.failure_ratio.clamp(0.0, 1.0));
        let followed = self.binomial(flows - failures, 1.0 / FOLLOWED).min(MOST_FOLLOWED);
        let times = &mut self.times[usize::from(is_candidate)];
        if times.0 != answers.first_byte {
            *times = (answers.first_byte, times_of(answers.first_byte));
        }
        let measured = if is_candidate { &mut self.candidate } else { &mut self.stable };
        measured.attempts += flows;
        measured.opened += flows - failures;
        measured.refused += failures;
        measured.flows += followed;
        measured.ended += followed;
        for _ in 0..followed {
            let nanoseconds = times.1[self.random.usize(..TIMES)];
            measured.connect.record(nanoseconds / 10);
            measured.first_byte.record(nanoseconds);
        }
        failures
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
        let versions = [(stable.clone(), reading(&self.stable)), (candidate.clone(), reading(&self.candidate))].into();
        self.history.push(Sample { at, versions });
        let signals = [(stable, Arc::new(self.stable.clone())), (candidate, Arc::new(self.candidate.clone()))];
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
        (self.told.state, self.told.message) = (state.phase, state.message);
        self.told.seconds = self.at.as_secs_f64();
        self.told
    }

    /// Box and Muller (1958).
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.random.f64().max(f64::MIN_POSITIVE), self.random.f64());
        (-2.0 * radius.ln()).sqrt() * (TAU * angle).cos()
    }

    /// Exact below 30 (Knuth), a rounded normal above.
    fn poisson(&mut self, mean: f64) -> u64 {
        if mean >= 30.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.random.f64(), 0);
        while product > limit {
            product *= self.random.f64();
            count += 1;
        }
        count
    }

    /// A rounded normal where it is near enough, a Poisson number where one side is rare.
    fn binomial(&mut self, of: u64, share: f64) -> u64 {
        let (mean, rest) = (of as f64 * share, of as f64 * (1.0 - share));
        if mean < 30.0 {
            self.poisson(mean).min(of)
        } else if rest < 30.0 {
            of - self.poisson(rest).min(of)
        } else {
            let spread = (mean * (1.0 - share)).sqrt();
            ((mean + spread * self.normal()).round().max(0.0) as u64).min(of)
        }
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

/// Equally likely times of a log-normal distribution, in nanoseconds: its quantiles in the middle of each part.
fn times_of(latency: Latency) -> Vec<u64> {
    let (median, p99) = (latency.median.as_secs_f64(), latency.p99.max(latency.median).as_secs_f64());
    let sigma = if median > 0.0 { (p99 / median).ln() / Z99 } else { 0.0 };
    let normal = Normal::standard();
    let quantile = |part: usize| normal.inverse_cdf((part as f64 + 0.5) / TIMES as f64);
    // `as` saturates.
    (0..TIMES).map(|part| (median * (sigma * quantile(part)).exp() * 1e9) as u64).collect()
}

fn wall(traffic: &Traffic, at: Duration) -> Duration {
    Duration::from_secs(u64::try_from(traffic.start.as_second()).unwrap_or_default()) + at
}

fn seconds_of_day(traffic: &Traffic, at: Duration) -> f64 {
    wall(traffic, at).as_secs_f64() % DAY
}
