//! Carrying out what the engine asks for.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    analysis::History,
    daemon::{
        held::{self, Dealer},
        layout::Layout,
        owner::{Engine, Owner},
    },
    model::{Name, Weight, event::Event, kernel::Latch, state::RolloutState, time},
    rollout::{self, Command, Exposure, Input, Notice, Record, State},
    store::{JournaledRollout, ServiceRecord, StoreError},
};

/// What one input to an engine led to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Why it was refused.
    pub(super) refused: Option<String>,
    /// What happened, a line each.
    pub(super) changes: Vec<String>,
}

impl Owner {
    /// Gives a service's engine one input, and all that follows from it.
    pub(super) fn drive(&mut self, service: &Name, input: impl for<'a> FnOnce(&'a History) -> Input<'a>) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(Engine { state, history, flows }) = self.engines.remove(service) else { return outcome };
        let (mut state, commands) = rollout::step(state, input(&history), self.clock.now());
        let mut commands = VecDeque::from(commands);
        while let Some(command) = commands.pop_front() {
            if let Some(result) = self.carry_out(&state, command, &mut outcome) {
                let (next, more) = rollout::step(state, result, self.clock.now());
                state = next;
                commands.extend(more);
            }
        }
        self.engines.insert(service.clone(), Engine { state, history, flows });
        outcome
    }

    /// What an input would lead to: nothing is carried out.
    pub(super) fn rehearse(&self, state: &State, input: Input<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        let (_, commands) = rollout::step(state.clone(), input, self.clock.now());
        for command in commands {
            match command {
                Command::Refuse(line) => outcome.refused = Some(line),
                Command::Event(notice) => outcome.changes.push(notice.message),
                Command::Publish(exposure) => {
                    outcome.changes.push(format!("{} {}", state.candidate(), exposure.said()));
                }
                Command::TurnBackends { version, backends, drains } => {
                    let what = if drains { "drained" } else { "enabled" };
                    outcome.changes.extend(backends.iter().map(|backend| format!("{version}/{backend}: {what}")));
                }
                Command::Replace { backends } => {
                    outcome.changes.extend(backends.iter().map(|backend| format!("{backend}: replaced")));
                }
                Command::RenewLease { duration: _ }
                | Command::Call { hook: _, call: _ }
                | Command::ClearLatch(Latch::Tripped | Latch::LeaseExpired)
                | Command::Journal(Record::Intent | Record::Promotion | Record::State) => {}
            }
        }
        outcome
    }

    fn carry_out(&mut self, state: &State, command: Command, outcome: &mut Outcome) -> Option<Input<'static>> {
        match command {
            Command::Journal(record) => Some(self.journal_rollout(state, record)),
            Command::Publish(exposure) => Some(self.publish_rollout(state, &exposure)),
            Command::TurnBackends { version, backends, drains } => {
                self.turn_backends(state, &version, &backends, drains);
                None
            }
            Command::Replace { backends } => self.replace(state, &backends),
            Command::RenewLease { duration } => {
                if let Some(id) = self.layout.ids.service(state.service()) {
                    self.kernel.renew_lease(id, self.clock.kernel() + duration);
                }
                None
            }
            Command::ClearLatch(latch) => {
                // Uncleared it is told again at the next tick.
                let is_noted = self.note_turned_off();
                if let Some(id) = self.layout.ids.service(state.service()).filter(|_| is_noted) {
                    self.kernel.clear_latch(id, latch);
                }
                None
            }
            Command::Call { hook, call } => self.call_hook(state, &hook, call),
            Command::Event(notice) => {
                outcome.changes.push(notice.message.clone());
                self.rollout_event(state, notice);
                None
            }
            Command::Refuse(line) => {
                outcome.refused = Some(line);
                None
            }
        }
    }

    fn publish_rollout(&mut self, state: &State, exposure: &Exposure) -> Input<'static> {
        let (name, weight) = (state.service(), exposure.weight);
        if !self.note_turned_off() {
            let message = "buckets of a candidate that was turned off: not published".to_owned();
            return Input::PublishFailed { weight, message };
        }
        let Some((record, service)) = self.rollout_record(state, exposure).zip(self.layout.service(name)) else {
            return Input::PublishFailed { weight, message: format!("service {name} is configured no more") };
        };
        let (epoch, needs) = (record.epoch, state.needs(service, exposure, self.clock.now().wall));
        let before = self.layout.needs.insert(name.clone(), needs);
        let published = match exposure.is_nothing() {
            true => self.publish_at_once(name, record),
            false => self.publish(name, record),
        };
        match published {
            Ok(()) => Input::Published { weight, epoch },
            Err(error) => {
                self.layout.needs.insert(name.clone(), before.unwrap_or_default());
                Input::PublishFailed { weight, message: error.to_string() }
            }
        }
    }

    /// Gives the data path what the rollouts need of it now beyond the weights: a guard goes when its rollout ends, flows
    /// in progress are ended at a deadline. What the kernel does not take is tried again at the next tick.
    pub(super) fn follow_needs(&mut self) {
        let wall = self.clock.now().wall;
        let needs = |(name, engine): (&Name, &Engine)| {
            let (service, state) = (self.layout.service(name)?, &engine.state);
            // A change that is under way brings its own.
            let needs = state.flight.is_none().then(|| state.needs(service, &state.exposure, wall))?;
            (self.layout.needs.get(name).cloned().unwrap_or_default() != needs).then(|| (name.clone(), needs))
        };
        let changed: BTreeMap<_, _> = self.engines.iter().filter_map(needs).collect();
        // What was turned off may be turned on by this.
        if changed.is_empty() || !self.note_turned_off() {
            return;
        }
        let mut next = self.layout.clone();
        next.needs.extend(changed);
        self.exchange_layout(next, "what rollouts need beyond their weights");
    }

    /// Publishes a layout with the same weights as now, and holds it from then on. False where the kernel does not take it,
    /// which is logged once.
    pub(super) fn exchange_layout(&mut self, mut next: Layout, what: &str) -> bool {
        let asked = self.moment();
        next.renew_changed(&self.layout, asked);
        match self.put(next, asked) {
            Ok(()) => {
                self.problems.publish = None;
                true
            }
            Err(error) => {
                if self.problems.publish.is_none() {
                    tracing::error!("{what}: not published, tried again every second: {error}");
                }
                self.problems.publish = Some(format!("{what}: {error}"));
                false
            }
        }
    }

    /// The service's next record with that exposure of the candidate.
    fn rollout_record(&self, state: &State, exposure: &Exposure) -> Option<ServiceRecord> {
        let service = self.layout.service(state.service())?;
        let before = self.layout.services.get(state.service())?;
        let shares =
            |weight: Weight| [(state.stable.clone(), weight.complement()), (state.candidate().clone(), weight)].into();
        let segments = exposure.segments.iter().map(|(name, weight)| (name.clone(), shares(*weight))).collect();
        let next = held::next(before, service, shares(exposure.weight), &segments, Some(Dealer::of(state)));
        Some(ServiceRecord { sample_rate: self.next_sample_rate(service, before), ..next })
    }

    fn journal_rollout(&mut self, state: &State, record: Record) -> Input<'static> {
        let promoted = match record {
            Record::Promotion => Some(state.candidate().clone()),
            Record::Intent | Record::State => gives_back(state).then(|| state.stable.clone()),
        };
        let applied = self
            .layout
            .services
            .get(state.service())
            .cloned()
            .map(|applied| ServiceRecord { stable: promoted.unwrap_or_else(|| applied.stable.clone()), ..applied });
        let intent = state.flight.as_ref().filter(|_| record == Record::Intent);
        let intent = intent.and_then(|flight| {
            let next = self.rollout_record(state, &flight.exposure)?;
            // With it goes where flows without an entry are at home: it must be durable before the kernel gets it.
            self.layout.with(state.service(), next, self.moment()).services.remove(state.service())
        });
        let entry = journaled(state);
        let written = self.journal.transaction(|journal| -> Result<(), StoreError> {
            journal.save_rollout(&entry)?;
            if let Some(applied) = &applied {
                journal.adopt(state.service(), applied)?;
            }
            intent.as_ref().map_or(Ok(()), |intent| journal.begin_intent(state.service(), intent))
        });
        match written {
            Ok(()) => {
                if let Some(applied) = applied {
                    self.layout.services.insert(state.service().clone(), applied);
                }
                self.note_journal(Ok(()));
                Input::Journaled(record)
            }
            Err(error) => {
                let message = error.to_string();
                self.note_journal(Err(error));
                Input::JournalFailed(record, message)
            }
        }
    }

    pub(super) fn rollout_event(&mut self, state: &State, notice: Notice) {
        let Notice { kind, message, actor, reason } = notice;
        let event = Event {
            id: 0,
            time: time::timestamp(self.clock.now().wall),
            actor,
            service: Some(state.service().clone()),
            rollout: Some(state.name().clone()),
            kind: kind.to_owned(),
            message,
            reason,
        };
        self.notify(state, &event);
        self.event(event);
    }
}

/// Whether the version that was stable before is so from now on: also after a promotion that is undone.
fn gives_back(state: &State) -> bool {
    match state.phase {
        RolloutState::RollingBack | RolloutState::RolledBack | RolloutState::Completed => true,
        RolloutState::Pending
        | RolloutState::Progressing
        | RolloutState::Paused
        | RolloutState::Frozen
        | RolloutState::Promoting
        | RolloutState::Promoted
        | RolloutState::Failed => false,
    }
}

/// A rollout as the journal keeps it.
pub(super) fn journaled(state: &State) -> JournaledRollout {
    JournaledRollout {
        number: state.number,
        name: state.name().clone(),
        plan: serde_json::to_value(&state.plan).expect("a plan is plain JSON"),
        state: serde_json::to_value(state).expect("a state is plain JSON"),
        started: time::timestamp(state.started),
        ended: state.ended.map(time::timestamp),
    }
}
