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
        segment: Option<&Name>,
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
        let old = match segment {
            Some(segment) => own_weights(&service, &before, segment)?,
            None => before.weights.clone(),
        };
        let whose = segment.map_or_else(|| name.to_string(), |segment| format!("{name}, segment {segment}"));
        let (said, new) = (held::said(&service, &old), held::said(&service, &weights));
        if old == weights {
            return Ok(Done { changes: vec![format!("{whose} has {new} already")], dry_run: options.dry_run });
        }
        let change = format!("{whose}: {said} → {new}");
        if options.dry_run {
            return Ok(Done { changes: vec![change], dry_run: true });
        }
        let mut next = match segment {
            Some(segment) => held::next_of_segment(&before, &service, segment, weights)
                .ok_or_else(|| not_found(&format!("segment of {name}"), segment, before.segments.keys()))?,
            None => held::next(&before, &service, weights, &BTreeMap::new(), None),
        };
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
        // With the intent goes where flows without an entry are at home.
        let asked = self.moment();
        let next = self.layout.with(name, next, asked);
        self.journal.begin_intent(name, &next.services[name]).map_err(|error| unchanged(&error.to_string()))?;
        if let Err(error) = self.put_moved(name, next, asked) {
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

/// The weights that a segment has now.
fn own_weights(service: &Service, record: &ServiceRecord, segment: &Name) -> Result<BTreeMap<Name, Weight>, ApiError> {
    let known = service.segments.iter().map(|segment| &segment.name);
    match record.segments.get(segment).filter(|_| known.clone().any(|name| name == segment)) {
        Some(own) => Ok(own.weights.clone().unwrap_or_else(|| record.weights.clone())),
        None => Err(not_found(&format!("segment of {}", service.name), segment, known)),
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
