//! `weights set`: weights outside a rollout.

use std::collections::BTreeMap;

use crate::{
    daemon::{
        held,
        names::not_found,
        owner::{Owner, check_epoch, log},
    },
    model::{
        Name, Weight,
        api::{ApiError, ChangeOptions, Done},
        config::Service,
        event::Event,
    },
    rollout::Input,
    store::{ServiceRecord, StoreError},
};

impl Owner {
    pub(super) fn set_weights(
        &mut self,
        name: &Name,
        weights: &BTreeMap<Name, Weight>,
        options: &ChangeOptions,
        actor: &str,
    ) -> Result<Done, ApiError> {
        let (service, before) = self.known(name)?;
        let weights = complete(&service, weights)?;
        check_epoch(name, before.epoch, options)?;
        if let Some(state) = self.running(name).filter(|_| !options.force) {
            let rollout = state.name();
            return Err(ApiError::conflict(format!(
                "rollout {rollout} ({}) decides the weights of {name}; `grayxdp rollout abort {rollout}` first, or \
                 --force, which freezes it",
                state.phase.label()
            )));
        }
        let (old, new) = (held::said(&service, &before.weights), held::said(&service, &weights));
        if before.weights == weights {
            return Ok(Done { changes: vec![format!("{name} has {new} already")], dry_run: options.dry_run });
        }
        let change = format!("{name}: {old} → {new}");
        if options.dry_run {
            return Ok(Done { changes: vec![change], dry_run: true });
        }
        let mut next = held::next(&before, &service, weights, None);
        let in_rollout = self.running(name).is_some();
        if let Some((all, _)) = next.weights.iter().find(|(_, weight)| **weight == Weight::FULL).filter(|_| !in_rollout)
        {
            next.stable = all.clone();
        }
        let applied = self.event_of(name, "weightsApplied", change.clone(), actor, options.reason.clone());
        self.apply(&service, next.clone(), applied)?;
        let mut changes = vec![change];
        if in_rollout {
            let kernel = self.in_kernel(name, &next);
            changes.extend(self.drive(name, |_| Input::ForeignWeights { kernel, by: actor.to_owned() }).changes);
        }
        Ok(Done { changes, dry_run: false })
    }

    /// Durable intent, kernel, read back, durable end together with the event that tells of it.
    fn apply(&mut self, service: &Service, next: ServiceRecord, event: Event) -> Result<(), ApiError> {
        let (name, epoch) = (&service.name, next.epoch);
        let unchanged = |what: &str| ApiError::failed(format!("nothing was changed: {what}"));
        self.journal.begin_intent(name, &next).map_err(|error| unchanged(&error.to_string()))?;
        if let Err(error) = self.publish(name, next) {
            let withdrawn = self.journal.withdraw_intent(name);
            self.note_journal(withdrawn);
            return Err(unchanged(&error.to_string()));
        }
        // The kernel has it: a journal that fails now is a warning, and the next start finds the intent fulfilled.
        log(&event);
        let applied = self.journal.transaction(|journal| -> Result<(), StoreError> {
            journal.mark_applied(name, epoch)?;
            journal.append_event(&event).map(drop)
        });
        self.note_journal(applied);
        Ok(())
    }
}

/// All versions' weights: those left out get nothing.
fn complete(service: &Service, weights: &BTreeMap<Name, Weight>) -> Result<BTreeMap<Name, Weight>, ApiError> {
    let versions = || service.versions.iter().map(|version| &version.name);
    if let Some(unknown) = weights.keys().find(|name| !versions().any(|version| version == *name)) {
        return Err(not_found(&format!("version of {}", service.name), unknown, versions()));
    }
    let sum: u32 = weights.values().map(|weight| u32::from(weight.hundredths())).sum();
    if sum != u32::from(Weight::FULL.hundredths()) {
        let sum = f64::from(sum) / 100.0;
        return Err(ApiError::input(format!("the weights of {} sum to {sum}, not to 100", service.name)));
    }
    Ok(versions().map(|name| (name.clone(), weights.get(name).copied().unwrap_or_default())).collect())
}
