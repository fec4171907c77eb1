//! Requests about rollouts.

use crate::{
    analysis::{self, History},
    config::check_plan,
    daemon::{
        engine::journaled,
        held,
        names::not_found,
        owner::{Engine, Owner, check_epoch},
        replacing::addresses,
    },
    model::{
        Name, Weight,
        api::{ApiError, ChangeOptions, Done, Response, RolloutAction, RolloutStatus},
        config::Service,
        plan::{Plan, Strategy},
        state::RolloutState,
    },
    rollout::{Input, Notice, State, outline},
    store::{JournaledRollout, ServiceRecord},
};

impl Owner {
    /// Begins a rollout: it is durable before anything else happens.
    pub(super) fn start_rollout(
        &mut self,
        plan: Plan,
        options: &ChangeOptions,
        actor: &str,
    ) -> Result<Response, ApiError> {
        let name = plan.metadata.name.clone();
        let (service, record) = self.known(&plan.spec.service)?;
        check_plan(&plan, &self.layout.config).map_err(|error| ApiError::input(error.to_string()))?;
        self.check_start(&plan, &service, &record, options)?;
        check_epoch(&service.name, record.epoch, options)?;
        let candidate = plan.spec.candidate.clone();
        let message = format!("{candidate} is released on {} in place of {}", service.name, record.stable);
        if options.dry_run {
            return Ok(Response::Done(Done { changes: vec![message], dry_run: true }));
        }
        let failed =
            |error: crate::store::StoreError| ApiError::failed(format!("rollout {name} did not begin: {error}"));
        let number = self.journal.next_rollout_number().map_err(failed)?;
        let mut state = State::new(number, plan, record.stable.clone(), record.epoch, self.clock.now());
        state.pools.stable = addresses(&service, &record.stable);
        state.pools.candidate = addresses(&service, &candidate);
        self.journal.save_rollout(&journaled(&state)).map_err(failed)?;
        let (actor, reason) = (actor.to_owned(), options.reason.clone());
        self.rollout_event(&state, Notice { kind: "rolloutStarted", message, actor, reason });
        let status = state.status(record.epoch);
        self.engines.insert(service.name, Engine::new(state));
        Ok(Response::Rollout(Box::new(status)))
    }

    fn check_start(
        &self,
        plan: &Plan,
        service: &Service,
        record: &ServiceRecord,
        options: &ChangeOptions,
    ) -> Result<(), ApiError> {
        let name = &plan.metadata.name;
        self.check_room(name, service)?;
        self.check_latch(name)?;
        if !options.force {
            self.check_lockout(plan)?;
            self.check_parity(plan, service, record)?;
        }
        if let Strategy::Rolling(_) = &plan.spec.strategy {
            let count = |version: &Name| addresses(service, version).len();
            let (own, others) = (count(&plan.spec.candidate), count(&record.stable));
            if own != others {
                let stable = &record.stable;
                return Err(ApiError::conflict(format!(
                    "{stable} has {others} backends and {} has {own}: each replaces one; give both as many",
                    plan.spec.candidate
                )));
            }
        }
        if outline::has_all_shares(plan)
            && let Some((step, why)) =
                outline::ways(plan, &record.stable).into_iter().find_map(|way| Some((way.stage + 1, way.stuck?)))
        {
            return Err(ApiError::input(format!("plan {name}: step {step} can never be reached: {why}")));
        }
        check_roles(plan, service, record)
    }

    /// One rollout a service, and one of a name.
    fn check_room(&self, name: &Name, service: &Service) -> Result<(), ApiError> {
        if let Some(running) = self.running(&service.name) {
            let (other, phase) = (running.name(), running.phase.label());
            return Err(ApiError::conflict(format!(
                "rollout {other} ({phase}) runs on service {}; wait for its end, or `grayxdp rollout abort {other}`",
                service.name
            )));
        }
        let same_name = |engine: &&Engine| !engine.state.phase.is_final() && engine.state.name() == name;
        if let Some(engine) = self.engines.values().find(same_name) {
            let other = engine.state.service();
            return Err(ApiError::conflict(format!("a rollout {name} runs on service {other}; use another name")));
        }
        Ok(())
    }

    /// A rollout that its fuse stopped does not begin again by mistake.
    fn check_latch(&self, name: &Name) -> Result<(), ApiError> {
        let newest = self.journal.rollout(name).map_err(|error| ApiError::failed(error.to_string()))?;
        let Some(state) = newest.and_then(|rollout| read_state(&rollout).ok()) else { return Ok(()) };
        match &state.tripped {
            Some(what) => Err(ApiError::conflict(format!(
                "rollout {name} was stopped by its fuse: {what}; `grayxdp rollout retry {name}` clears it, or use \
                 another name"
            ))),
            None => Ok(()),
        }
    }

    /// What `retry` needs beyond what the engine checks: the same as a start.
    fn check_retry(&self, state: &State) -> Result<(), ApiError> {
        let (service, record) = self.known(state.service())?;
        check_plan(&state.plan, &self.layout.config).map_err(|error| ApiError::input(error.to_string()))?;
        self.check_room(state.name(), &service)?;
        if record.stable != state.stable {
            let (name, now, then) = (state.name(), &record.stable, &state.stable);
            return Err(ApiError::conflict(format!(
                "{now} is the stable version of {} now, not {then} as when rollout {name} began; start another",
                service.name
            )));
        }
        check_roles(&state.plan, &service, &record)
    }

    /// All rollouts, the newest first.
    pub(super) fn rollouts(&self) -> Result<Vec<RolloutStatus>, ApiError> {
        let rollouts = self.journal.rollouts().map_err(|error| ApiError::failed(error.to_string()))?;
        rollouts.iter().map(|rollout| self.rollout_status(rollout)).collect()
    }

    /// One rollout: the running one of that name, else the newest.
    pub(super) fn rollout(&self, name: &Name) -> Result<RolloutStatus, ApiError> {
        if let Some(engine) = self.engine_named(name) {
            return Ok(self.status_of(&engine.state));
        }
        match self.journal.rollout(name).map_err(|error| ApiError::failed(error.to_string()))? {
            Some(rollout) => self.rollout_status(&rollout),
            None => Err(self.no_rollout(name)),
        }
    }

    pub(super) fn change_rollout(
        &mut self,
        name: &Name,
        action: RolloutAction,
        options: &ChangeOptions,
        actor: &str,
    ) -> Result<Done, ApiError> {
        let Some(engine) = self.engine_named(name) else {
            let status = self.rollout(name)?;
            let message = format!("rollout {name} ({}) has ended and another followed", status.state.label());
            return Err(ApiError::conflict(message));
        };
        let service = engine.state.service().clone();
        let (_, record) = self.known(&service)?;
        check_epoch(&service, record.epoch, options)?;
        if action == RolloutAction::Undo && engine.state.phase == RolloutState::Promoted {
            check_undo(&engine.state, &record)?;
        }
        if action == RolloutAction::Retry && engine.state.phase.is_final() {
            self.check_retry(&engine.state)?;
            self.engines.get_mut(&service).expect("it was found there").state.epoch = record.epoch;
        }
        let engine = &self.engines[&service];
        let input = || Input::Operator { action, actor: actor.to_owned(), reason: options.reason.clone() };
        let outcome = match options.dry_run {
            true => self.rehearse(&engine.state, input()),
            false => self.drive(&service, |_| input()),
        };
        match outcome.refused {
            Some(line) => Err(ApiError::conflict(line)),
            None => Ok(Done { changes: outcome.changes, dry_run: options.dry_run }),
        }
    }

    /// Another plan for a running rollout.
    pub(super) fn apply_plan(&mut self, plan: Plan, options: &ChangeOptions, actor: &str) -> Result<Done, ApiError> {
        let name = plan.metadata.name.clone();
        let Some(state) = self.engine_named(&name).map(|engine| engine.state.clone()) else {
            return Err(self.no_rollout(&name));
        };
        let differs = |what: &str, old: &Name, new: &Name| {
            let message =
                format!("rollout {name} has {what} {old}, the new plan {new}: this cannot change while it runs");
            Err(ApiError::conflict(message))
        };
        let spec = &plan.spec;
        if spec.service != *state.service() {
            return differs("service", state.service(), &spec.service);
        }
        if spec.candidate != *state.candidate() {
            return differs("candidate", state.candidate(), &spec.candidate);
        }
        if let Some(stable) = spec.stable.as_ref().filter(|stable| **stable != state.stable) {
            return differs("stable", &state.stable, stable);
        }
        if std::mem::discriminant(&spec.strategy) != std::mem::discriminant(&state.plan.spec.strategy) {
            let (old, new) = (state.plan.spec.strategy.label(), spec.strategy.label());
            let message = format!("rollout {name} is {old}, the new plan {new}: this cannot change while it runs");
            return Err(ApiError::conflict(message));
        }
        let (service, record) = self.known(state.service())?;
        check_plan(&plan, &self.layout.config).map_err(|error| ApiError::input(error.to_string()))?;
        check_epoch(&service.name, record.epoch, options)?;
        let reason = options.reason.clone();
        let input = Input::Apply { plan: Box::new(plan), actor: actor.to_owned(), reason };
        let outcome = match options.dry_run {
            true => self.rehearse(&state, input),
            false => self.drive(&service.name, |_| input),
        };
        if let Some(engine) = self.engines.get_mut(&service.name).filter(|_| outcome.refused.is_none()) {
            let (old, new) = (&state.plan.spec.analysis, &engine.state.plan.spec.analysis);
            if old.interval != new.interval {
                engine.history = history_for(&engine.state);
            }
        }
        match outcome.refused {
            Some(line) => Err(ApiError::conflict(line)),
            None => Ok(Done { changes: outcome.changes, dry_run: options.dry_run }),
        }
    }

    /// Aborts whatever runs; what one of them refuses stops none of the others.
    pub(super) fn abort_all(&mut self, options: &ChangeOptions, actor: &str) -> Result<Done, ApiError> {
        let running = self.engines.values().filter(|engine| !engine.state.phase.is_final());
        let names: Vec<Name> = running.map(|engine| engine.state.name().clone()).collect();
        let mut changes = Vec::new();
        for name in names {
            let options = ChangeOptions { if_epoch: None, ..options.clone() };
            match self.change_rollout(&name, RolloutAction::Abort, &options, actor) {
                Ok(done) => changes.extend(done.changes.into_iter().map(|change| format!("{name}: {change}"))),
                Err(error) => changes.push(format!("{name}: {}", error.message)),
            }
        }
        Ok(Done { changes, dry_run: options.dry_run })
    }

    /// The engine of a name, the running one where there are several.
    pub(super) fn engine_named(&self, name: &Name) -> Option<&Engine> {
        let named = || self.engines.values().filter(|engine| engine.state.name() == name);
        named().find(|engine| !engine.state.phase.is_final()).or_else(|| named().max_by_key(|e| e.state.number))
    }

    pub(super) fn no_rollout(&self, name: &Name) -> ApiError {
        let known = self.journal.rollouts().unwrap_or_default();
        not_found("rollout", name, known.iter().map(|rollout| &rollout.name))
    }

    fn rollout_status(&self, rollout: &JournaledRollout) -> Result<RolloutStatus, ApiError> {
        let live = self.engines.values().find(|engine| engine.state.number == rollout.number);
        match live {
            Some(engine) => Ok(self.status_of(&engine.state)),
            None => read_state(rollout).map(|state| self.status_of(&state)).map_err(ApiError::failed),
        }
    }

    pub(super) fn status_of(&self, state: &State) -> RolloutStatus {
        let epoch = self.layout.services.get(state.service()).map_or(state.epoch, |record| record.epoch);
        let (fuse, lease) = self.guard_status(state);
        let prospects = self.prospects(state);
        RolloutStatus { fuse, lease, prospects, outlets: self.outlets(state), ..state.status(epoch) }
    }
}

/// A promotion can be undone while the candidate still has what it was given.
fn check_undo(state: &State, record: &ServiceRecord) -> Result<(), ApiError> {
    let (name, candidate) = (state.name(), state.candidate());
    if record.stable != *candidate || held::weight(record, candidate) != Weight::FULL {
        let service = state.service();
        return Err(ApiError::conflict(format!(
            "{candidate} does not have all new flows of {service} any more, as rollout {name} left it: `grayxdp weights set`"
        )));
    }
    Ok(())
}

/// A rollout begins with all new flows at the stable version.
fn check_roles(plan: &Plan, service: &Service, record: &ServiceRecord) -> Result<(), ApiError> {
    let stable = &record.stable;
    if let Some(meant) = plan.spec.stable.as_ref().filter(|meant| *meant != stable) {
        return Err(ApiError::conflict(format!("the stable version of {} is {stable}, not {meant}", service.name)));
    }
    if plan.spec.candidate == *stable {
        return Err(ApiError::conflict(format!("{stable} is the stable version of {} already", service.name)));
    }
    if held::weight(record, stable) != Weight::FULL {
        let weights = held::said(service, &record.weights);
        let name = &service.name;
        return Err(ApiError::conflict(format!(
            "service {name} has {weights}; a rollout begins at {stable}=100: `grayxdp weights set {name} {stable}=100`"
        )));
    }
    Ok(())
}

/// An empty history of the length that a rollout's metrics need.
pub(super) fn history_for(state: &State) -> History {
    History::new(analysis::window(state.plan.spec.analysis.interval))
}

/// The engine's state from the journal.
pub(super) fn read_state(rollout: &JournaledRollout) -> Result<State, String> {
    serde_json::from_value(rollout.state.clone()).map_err(|error| {
        format!("rollout {} in the journal cannot be read ({error}); it is of another release", rollout.name)
    })
}
