//! What keeps a rollout from beginning that `--force` overrides: a lockout after a rollback, and pools that differ.

use std::time::Duration;

use crate::{
    balance::ids::BackendKey,
    daemon::{owner::Owner, rollouts::read_state},
    model::{
        Name,
        api::ApiError,
        config::Service,
        plan::{Plan, Strategy},
        state::RolloutState,
        time::timestamp,
    },
    store::ServiceRecord,
};

impl Owner {
    /// For a while after a rollback nobody begins the same release again by mistake.
    pub(super) fn check_lockout(&self, plan: &Plan) -> Result<(), ApiError> {
        let now = self.clock.now().wall;
        let known = self.journal.rollouts().map_err(|error| ApiError::failed(error.to_string()))?;
        let states = known.iter().filter_map(|rollout| read_state(rollout).ok());
        let mut same = states.filter(|state| {
            state.service() == &plan.spec.service
                && state.candidate() == &plan.spec.candidate
                && state.phase == RolloutState::RolledBack
        });
        let locked = same.find_map(|state| {
            let lockout = state.plan.spec.lockout.max(plan.spec.lockout);
            let until = state.ended?.saturating_add(lockout);
            (lockout > Duration::ZERO && now < until).then(|| (state.name().clone(), until))
        });
        match locked {
            Some((name, until)) => Err(ApiError::conflict(format!(
                "rollout {name} rolled {} back; no other begins before {}, but with --force",
                plan.spec.candidate,
                timestamp(until)
            ))),
            None => Ok(()),
        }
    }

    /// A blue-green candidate has to be as large as stable: as many backends, of the same weights, all up.
    pub(super) fn check_parity(&self, plan: &Plan, service: &Service, record: &ServiceRecord) -> Result<(), ApiError> {
        match &plan.spec.strategy {
            Strategy::BlueGreen(_) => {}
            Strategy::Canary(_) | Strategy::AbTest(_) | Strategy::Rolling(_) | Strategy::Shadow(_) => return Ok(()),
        }
        let (stable, candidate) = (&record.stable, &plan.spec.candidate);
        let (old, new) = (self.pool(service, stable), self.pool(service, candidate));
        let differs = if old.backends != new.backends {
            format!("{stable} has {} backends, {candidate} {}", old.backends, new.backends)
        } else if old.weight != new.weight {
            format!("the backends of {stable} weigh {} together, those of {candidate} {}", old.weight, new.weight)
        } else if let Some(down) = new.down {
            format!("backend {down} of {candidate} takes no new flows")
        } else {
            return Ok(());
        };
        Err(ApiError::conflict(format!("the pools are not equal: {differs}; make them so and reload, or --force")))
    }

    fn pool(&self, service: &Service, version: &Name) -> Pool {
        let Some(version) = service.version(version) else { return Pool::default() };
        let down = BackendKey::of(service, version).find(|key| self.layout.backends.contains_key(key));
        Pool {
            backends: version.backends.len(),
            weight: version.backends.iter().map(|backend| u64::from(backend.weight)).sum(),
            down: down.map(|key| key.address.to_string()),
        }
    }

    /// The old stable version of a promotion that may still be undone.
    pub(super) fn retained(&self, service: &Name) -> Option<(Name, Name)> {
        let state = &self.engines.get(service)?.state;
        let until = state.ended?.saturating_add(state.plan.spec.retain_stable?);
        let is_kept = state.phase == RolloutState::Promoted && self.clock.now().wall < until;
        is_kept.then(|| (state.name().clone(), state.stable.clone()))
    }
}

/// What counts for parity.
#[derive(Default)]
struct Pool {
    backends: usize,
    weight: u64,
    /// One that takes no new flows.
    down: Option<String>,
}
