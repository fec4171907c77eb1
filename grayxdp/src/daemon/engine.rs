//! Carrying out what the engine asks for.

use std::collections::VecDeque;

use crate::{
    analysis::History,
    daemon::{
        held::{self, Dealer},
        owner::{Engine, Owner},
    },
    model::{Name, Weight, event::Event, time},
    rollout::{self, Command, Input, Notice, Record, State},
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
        let Some(Engine { state, history }) = self.engines.remove(service) else { return outcome };
        let (mut state, commands) = rollout::step(state, input(&history), self.clock.now());
        let mut commands = VecDeque::from(commands);
        while let Some(command) = commands.pop_front() {
            if let Some(result) = self.carry_out(&state, command, &mut outcome) {
                let (next, more) = rollout::step(state, result, self.clock.now());
                state = next;
                commands.extend(more);
            }
        }
        self.engines.insert(service.clone(), Engine { state, history });
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
                Command::Publish { weight } => outcome.changes.push(format!("{} {weight} %", state.candidate())),
                Command::Journal(Record::Intent | Record::Promotion | Record::State) => {}
            }
        }
        outcome
    }

    fn carry_out(&mut self, state: &State, command: Command, outcome: &mut Outcome) -> Option<Input<'static>> {
        match command {
            Command::Journal(record) => Some(self.journal_rollout(state, record)),
            Command::Publish { weight } => Some(self.publish_rollout(state, weight)),
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

    fn publish_rollout(&mut self, state: &State, weight: Weight) -> Input<'static> {
        let Some(record) = self.rollout_record(state, weight) else {
            let message = format!("service {} is configured no more", state.service());
            return Input::PublishFailed { weight, message };
        };
        let epoch = record.epoch;
        match self.publish(state.service(), record) {
            Ok(()) => Input::Published { weight, epoch },
            Err(error) => Input::PublishFailed { weight, message: error.to_string() },
        }
    }

    /// The service's next record with that weight of the candidate.
    fn rollout_record(&self, state: &State, weight: Weight) -> Option<ServiceRecord> {
        let service = self.layout.service(state.service())?;
        let before = self.layout.services.get(state.service())?;
        let shares = [(state.stable.clone(), weight.complement()), (state.candidate().clone(), weight)];
        Some(held::next(before, service, shares.into(), Some(Dealer::of(state))))
    }

    fn journal_rollout(&mut self, state: &State, record: Record) -> Input<'static> {
        let promoted = match record {
            Record::Promotion => Some(state.candidate().clone()),
            Record::Intent | Record::State => None,
        };
        let applied = self
            .layout
            .services
            .get(state.service())
            .cloned()
            .map(|applied| ServiceRecord { stable: promoted.unwrap_or_else(|| applied.stable.clone()), ..applied });
        let intent = state.flight.filter(|_| record == Record::Intent);
        let intent = intent.and_then(|flight| self.rollout_record(state, flight.weight));
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
        self.event(Event {
            id: 0,
            time: time::timestamp(self.clock.now().wall),
            actor,
            service: Some(state.service().clone()),
            rollout: Some(state.name().clone()),
            kind: kind.to_owned(),
            message,
            reason,
        });
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
