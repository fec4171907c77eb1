//! `reload`: a changed configuration, as a whole or not at all.

use std::collections::BTreeMap;

use crate::{
    config::diff,
    daemon::{held, names::not_found, owner::Owner, start::read_config},
    model::{
        Name,
        api::{ApiError, ChangeOptions, Done, RolloutAction},
        config::{Config, Service},
    },
    rollout::{AsideNeeds, Input},
    store::{ServiceRecord, StoreError},
};

/// Whether this network namespace has an interface.
fn is_here(interface: &str) -> bool {
    use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
    socket(AddressFamily::INET, SocketType::DGRAM, None).is_ok_and(|socket| name_to_index(socket, interface).is_ok())
}

fn has_backend(service: &Service, aside: &AsideNeeds) -> bool {
    let backends = service.version(&aside.candidate).map(|version| version.backends.as_slice()).unwrap_or_default();
    aside.backend.is_none_or(|address| backends.iter().any(|backend| address.means(service, backend)))
}

impl Owner {
    pub(super) fn reload(
        &mut self,
        only_diff: bool,
        reset_weights: &[Name],
        options: &ChangeOptions,
        actor: &str,
    ) -> Result<Done, ApiError> {
        let config = self.read_config()?;
        if let Some(unknown) = reset_weights.iter().find(|name| !config.services.iter().any(|s| s.name == **name)) {
            return Err(not_found("service", unknown, config.services.iter().map(|service| &service.name)));
        }
        let crowded = |service: &Service| held::crowded(self.layout.services.get(&service.name)?, service);
        if let Some(why) = config.services.iter().find_map(crowded) {
            return Err(ApiError::conflict(format!("nothing was changed: {why}")));
        }
        if let Some(why) = self.forwarded_otherwise(&config) {
            return Err(ApiError::conflict(format!("nothing was changed: {why}")));
        }
        let mut changes = diff(&self.layout.config, &config);
        let hindered = self.hindered(&config, reset_weights);
        let (services, lines) = self.records(&config, reset_weights);
        changes.extend(lines);
        if only_diff || options.dry_run {
            changes.extend(
                hindered.iter().map(|(rollout, _, why)| format!("refused without --force: rollout {rollout}: {why}")),
            );
            return Ok(Done { changes, dry_run: true });
        }
        if let Some((rollout, _, why)) = hindered.first().filter(|_| !options.force) {
            return Err(ApiError::conflict(format!(
                "nothing was changed: {why} while rollout {rollout} runs; `grayxdp rollout abort {rollout}` first, or --force"
            )));
        }
        if let Some(why) = self.retained_and_removed(&config).filter(|_| !options.force) {
            return Err(ApiError::conflict(format!("nothing was changed: {why}; wait, or --force")));
        }
        for (rollout, service, _) in &hindered {
            self.abort_for_reload(rollout, service, actor, options)?;
            changes.push(format!("rollout {rollout}: aborted"));
        }
        let services = if hindered.is_empty() { services } else { self.records(&config, reset_weights).0 };
        self.exchange(config, services)?;
        self.reopen_flow_log();
        self.follow_copies();
        for change in &changes {
            tracing::info!("reload: {change}");
        }
        let message = if changes.is_empty() { "nothing differs".to_owned() } else { changes.join("; ") };
        self.host_event("reloaded", message, actor, options.reason.clone());
        Ok(Done { changes, dry_run: false })
    }

    /// A service whose flows in progress would meet servers that do not know them.
    fn forwarded_otherwise(&self, config: &Config) -> Option<String> {
        self.layout.config.services.iter().find_map(|old| {
            let new = config.services.iter().find(|new| new.name == old.name && new.vip == old.vip)?;
            let (before, after) = (old.forwarding.label(), new.forwarding.label());
            (before != after).then(|| {
                format!(
                    "forwarding of service {} is {before}, and {after} would end its flows in progress: remove the service \
                     and reload, then add it anew",
                    old.name
                )
            })
        })
    }

    fn read_config(&self) -> Result<Config, ApiError> {
        let config = read_config(&self.config_path).map_err(|error| ApiError::input(error.to_string()))?;
        let known = &self.layout.config.interfaces;
        let mut new = config.interfaces.iter().filter(|interface| !known.contains(interface));
        match new.find(|interface| !is_here(&interface.name)) {
            Some(missing) => {
                let path = self.config_path.display();
                Err(ApiError::input(format!("{path}: no interface `{}` here: see `ip link`", missing.name)))
            }
            None => Ok(config),
        }
    }

    /// Running rollouts that the new configuration has no room for: rollout, service, why.
    fn hindered(&self, config: &Config, reset_weights: &[Name]) -> Vec<(Name, Name, String)> {
        let running = self.engines.values().map(|engine| &engine.state).filter(|state| !state.phase.is_final());
        let hindered = running.filter_map(|state| {
            let name = state.service();
            let service = config.services.iter().find(|service| service.name == *name);
            let lacks = |version: &Name| service.is_some_and(|s| s.versions.iter().all(|v| v.name != *version));
            let why = match service {
                None => format!("service {name} is removed"),
                Some(_) if lacks(state.candidate()) => format!("version {} of {name} is removed", state.candidate()),
                Some(_) if lacks(&state.stable) => format!("version {} of {name} is removed", state.stable),
                Some(_) if reset_weights.contains(name) => format!("the weights of {name} are reset"),
                Some(service) => {
                    match self.aside(name).filter(|aside| !has_backend(service, aside)).map(|aside| aside.backend) {
                        Some(Some(backend)) => format!("the canary instance {backend} of {name} is removed"),
                        Some(None) | None => return None,
                    }
                }
            };
            Some((state.name().clone(), name.clone(), why))
        });
        hindered.collect()
    }

    /// An old stable version that a promotion keeps and the new configuration lacks.
    fn retained_and_removed(&self, config: &Config) -> Option<String> {
        self.engines.keys().find_map(|name| {
            let (rollout, stable) = self.retained(name)?;
            let service = config.services.iter().find(|service| service.name == *name);
            let is_kept = service.is_some_and(|service| service.version(&stable).is_some());
            (!is_kept).then(|| format!("rollout {rollout} keeps {stable} of {name} for an undo (`retainStable`)"))
        })
    }

    /// The clients beside the weights that a service has now.
    pub(super) fn aside(&self, service: &Name) -> Option<&AsideNeeds> {
        self.layout.needs.get(service)?.aside.as_ref()
    }

    /// What every service of a new configuration is to hold, and what that changes beyond the file.
    fn records(&self, config: &Config, reset_weights: &[Name]) -> (BTreeMap<Name, ServiceRecord>, Vec<String>) {
        let mut lines = Vec::new();
        let record = |service: &Service| {
            let name = &service.name;
            let known = self.layout.services.get(name);
            let initial = held::initial_weights(service);
            let record = match known.map(|known| (known, held::carried_over(known, service))) {
                None => held::initial(service),
                Some((_, Some(kept))) if !reset_weights.contains(name) => kept,
                Some((known, kept)) => {
                    let from = kept.as_ref().unwrap_or(known);
                    let (old, new) = (held::said(service, &from.weights), held::said(service, &initial));
                    if from.weights != initial {
                        lines.push(format!("service {name}: weights {old} → {new}"));
                    }
                    held::of_file(from, service)
                }
            };
            (name.clone(), record)
        };
        (config.services.iter().map(record).collect(), lines)
    }

    fn abort_for_reload(
        &mut self,
        rollout: &Name,
        service: &Name,
        actor: &str,
        options: &ChangeOptions,
    ) -> Result<(), ApiError> {
        let (action, actor, reason) = (RolloutAction::Abort, actor.to_owned(), options.reason.clone());
        self.drive(service, |_| Input::Operator { action, actor, reason });
        match self.running(service) {
            None => Ok(()),
            Some(state) => {
                let message =
                    format!("rollout {rollout} could not be aborted yet: {}; reload again later", state.message);
                Err(ApiError::failed(message))
            }
        }
    }

    /// Durable intents, kernel, durable end; on an error everything is as it was.
    fn exchange(&mut self, config: Config, services: BTreeMap<Name, ServiceRecord>) -> Result<(), ApiError> {
        let unchanged = |what: String| ApiError::failed(format!("nothing was changed: {what}"));
        let asked = self.moment();
        let backends = self.backends.states(&config);
        let next = self.layout.configured(config, services, backends, asked);
        let next = next.map_err(|error| unchanged(error.to_string()))?;
        let differs = |(name, record): &(&Name, &ServiceRecord)| self.layout.services.get(*name) != Some(*record);
        let changed: Vec<_> = next.services.iter().filter(differs).collect();
        let intended = self.journal.transaction(|journal| -> Result<(), StoreError> {
            journal.save_ids(&next.ids)?;
            changed.iter().try_for_each(|(name, record)| journal.begin_intent(name, record))
        });
        intended.map_err(|error| unchanged(error.to_string()))?;
        let before = self.layout.clone();
        let changed: Vec<_> = changed.into_iter().map(|(name, record)| (name.clone(), record.clone())).collect();
        self.read_signals();
        if let Err(error) = self.put(next, asked) {
            let withdrawn = self.journal.transaction(|journal| -> Result<(), StoreError> {
                journal.save_ids(&self.layout.ids)?;
                changed.iter().try_for_each(|(name, _)| journal.withdraw_intent(name))
            });
            self.note_journal(withdrawn);
            return Err(unchanged(error.to_string()));
        }
        let gone: Vec<_> = before.services.keys().filter(|name| !self.layout.services.contains_key(*name)).collect();
        let applied = self.journal.transaction(|journal| -> Result<(), StoreError> {
            changed.iter().try_for_each(|(name, record)| journal.mark_applied(name, record.epoch))?;
            gone.iter().try_for_each(|name| journal.forget(name))
        });
        self.note_journal(applied);
        for (name, record) in &changed {
            let moved = before.services.get(name).map_or(0, |before| held::moved(before, record));
            *self.bucket_moves.entry(name.clone()).or_default() += moved;
        }
        self.engines.retain(|name, _| self.layout.services.contains_key(name));
        self.meter.forget_owners();
        self.follow_configuration();
        Ok(())
    }
}
