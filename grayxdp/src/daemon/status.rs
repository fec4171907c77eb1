//! `status`: how everything stands.

use crate::{
    balance::ids::BackendKey,
    daemon::{
        backends::{Condition, QUIET},
        held, meter,
        owner::Owner,
        signals,
    },
    model::{
        Name,
        api::{ApiError, Availability, BackendStatus, ListedBackend, ServiceStatus, Status, Totals, VersionStatus},
        config::{Backend, Forwarding, Service, Version},
        kernel::{BackendCounters, BackendId, BackendState, Counters},
        state::RolloutState,
        time,
    },
    rollout::AsideNeeds,
    store::ServiceRecord,
};

impl Owner {
    pub(super) fn status(&mut self) -> Result<Status, ApiError> {
        self.read_signals();
        let counters = self.kernel.counters().map_err(|error| ApiError::failed(error.to_string()))?;
        let services: Vec<_> =
            self.layout.config.clone().services.iter().map(|service| self.service(service, &counters)).collect();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: time::timestamp(self.started.wall),
            warnings: self.warnings(&services),
            notes: self.kernel.notes(),
            interfaces: self.kernel.interfaces(),
            exceptions: self.exception_table(),
            flow_table: self.flow_table(),
            services,
        })
    }

    fn warnings(&self, services: &[ServiceStatus]) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(problem) = &self.problems.journal {
            warnings.push(format!("the journal cannot be written, nothing more is exposed: {problem}"));
        }
        if let Some(problem) = &self.problems.counters {
            warnings.push(format!("the counters of the data path cannot be read: {problem}"));
        }
        if let Some(problem) = &self.problems.publish {
            warnings.push(format!("the kernel did not take a change, tried again every second: {problem}"));
        }
        if let Some(problem) = &self.problems.signals {
            warnings.push(format!("the signals of the data path cannot be read: {problem}"));
        }
        if let Some(problem) = &self.problems.stamps {
            warnings.push(format!("nothing settles, because the data path's stamps cannot be read: {problem}"));
        }
        if let Some(problem) = self.flow_log_problem() {
            warnings.push(format!("flows are not written down: {problem}"));
        }
        if let Some(problem) = &self.problems.copies {
            warnings.push(format!(
                "nothing is copied for shadow releases and the flow log, tried again every second: {problem}"
            ));
        }
        if let Some(problem) = &self.problems.settling {
            warnings.push(format!("what settled could not be published: {problem}"));
        }
        let bare = self.bare_interfaces();
        if !bare.is_empty() {
            let why = self.problems.interfaces.as_deref().unwrap_or("tried again within a second");
            warnings.push(format!("nothing is served on {}: the program is not attached: {why}", bare.join(", ")));
        }
        for state in self.engines.values().map(|engine| &engine.state) {
            let stuck = state.phase == RolloutState::RollingBack || state.phase == RolloutState::Frozen;
            if stuck {
                warnings.push(format!("rollout {} is {}: {}", state.name(), state.phase.label(), state.message));
            }
        }
        for state in self.engines.values().map(|engine| &engine.state).filter(|state| !state.phase.is_final()) {
            let (name, service) = (state.name(), state.service());
            if self.layout.turned_off.contains(service) {
                let (candidate, stable) = (state.candidate(), &state.stable);
                warnings.push(format!("rollout {name}: {candidate} is turned off, its new flows go to {stable}"));
            }
            if let Some(aside) = self.aside(service).filter(|aside| !self.takes_flows(service, aside)) {
                let whose = match aside.backend {
                    Some(backend) => format!("the canary instance {backend}"),
                    None => format!("{} in its preview", aside.candidate),
                };
                warnings.push(format!("rollout {name}: {whose} takes no new flows"));
            }
        }
        warnings.extend(self.layout.config.services.iter().flat_map(|service| self.emptied(service)));
        for service in services {
            let unresolved = service.versions.iter().flat_map(|v| &v.backends).filter(|backend| !backend.resolved);
            let addresses: Vec<_> = unresolved.map(|backend| backend.address.to_string()).collect();
            if !addresses.is_empty() {
                let why = match service.forwarding {
                    Forwarding::Nat | Forwarding::Ipip | Forwarding::FullNat => "",
                    Forwarding::Dsr => {
                        ": with dsr a backend has to be on a link of this host, behind no router or bridge"
                    }
                };
                warnings.push(format!("service {}: no next hop to {}{why}", service.name, addresses.join(", ")));
            }
        }
        warnings
    }

    fn takes_flows(&self, service: &Name, aside: &AsideNeeds) -> bool {
        let Some(service) = self.layout.service(service) else { return false };
        let Some(version) = service.version(&aside.candidate) else { return false };
        let mut backends = BackendKey::of(service, version).zip(&version.backends);
        backends.any(|(key, backend)| {
            aside.backend.is_none_or(|address| address.means(service, backend))
                && !self.layout.backends.contains_key(&key)
        })
    }

    fn service(&mut self, service: &Service, counters: &Counters) -> ServiceStatus {
        let record = self.layout.services[&service.name].clone();
        let id = self.layout.ids.service(&service.name);
        let reasons = counters.reasons.iter().filter(|((of, _), _)| Some(*of) == id);
        ServiceStatus {
            name: service.name.clone(),
            endpoint: service.endpoint(),
            forwarding: service.forwarding,
            epoch: record.epoch,
            stable: record.stable.clone(),
            rollout: self.running(&service.name).map(|state| state.name().clone()),
            prospects: self.running(&service.name).map(|state| self.prospects(state)).unwrap_or_default(),
            drift: self.drift(service, &record),
            segments: self.segments(service),
            settling: self.settling_of(&service.name, counters),
            flows: self.flows_of(service, counters),
            versions: self.versions(service, &record, counters),
            reasons: reasons.map(|((_, reason), count)| (reason.label().to_owned(), *count)).collect(),
        }
    }

    /// Said when the file's weights differ from the applied ones and no rollout is the reason.
    fn drift(&self, service: &Service, record: &ServiceRecord) -> Option<String> {
        let initial = held::initial_weights(service);
        let differs = initial.iter().any(|(version, weight)| held::weight(record, version) != *weight)
            && self.running(&service.name).is_none();
        differs.then(|| {
            let (file, applied) = (held::said(service, &initial), held::said(service, &record.weights));
            format!(
                "the file has {file}, applied are {applied}; `grayxdp reload --reset-weights {}` takes the file's",
                service.name
            )
        })
    }

    fn versions(&mut self, service: &Service, record: &ServiceRecord, counters: &Counters) -> Vec<VersionStatus> {
        let totals = self.meter.totals(counters, &self.layout.ids);
        let id = |version: &Version| self.layout.ids.version(&service.name, &version.name);
        let flows: Vec<_> = service
            .versions
            .iter()
            .map(|version| id(version).map(|id| self.meter.flow(id)).unwrap_or_default())
            .collect();
        let (syns, bytes) = flows.iter().fold((0, 0), |(syns, bytes), flow| (syns + flow.syns, bytes + flow.bytes));
        let version = |(index, version): (usize, &Version)| VersionStatus {
            name: version.name.clone(),
            weight: held::weight(record, &version.name),
            buckets: held::buckets(record, &version.name),
            observed: meter::share(flows[index].syns, syns),
            live: meter::share(flows[index].bytes, bytes),
            flows_per_second: flows[index].syns_per_second,
            totals: id(version).and_then(|id| totals.get(&id)).map(totals_of).unwrap_or_default(),
            signals: signals::status(&self.measured(id(version))),
            backends: self.backends(service, version, counters),
        };
        service.versions.iter().enumerate().map(version).collect()
    }

    fn backends(&self, service: &Service, version: &Version, counters: &Counters) -> Vec<BackendStatus> {
        let keys: Vec<_> = BackendKey::of(service, version).collect();
        let up = |key: &BackendKey| !self.layout.backends.contains_key(key);
        let place = self.layout.services.get(&service.name).and_then(|record| record.places.get(&version.name));
        let cells = self.layout.cells.get(&service.name);
        let slots = cells.zip(place).map(|(cells, place)| cells.slot_counts(*place)).unwrap_or_default();
        let status = |(key, backend): (&BackendKey, &Backend)| {
            let id = self.layout.ids.backend(key);
            let condition = self.backends.conditions.get(key);
            let state = self.layout.backends.get(key).copied().unwrap_or_default();
            BackendStatus {
                address: service.backend_address(backend),
                weight: backend.weight,
                slots: id.and_then(|id| slots.get(&id)).copied().unwrap_or_default(),
                resolved: id.is_some_and(|id| self.kernel.is_resolved(id)),
                state: availability(state),
                why: condition.filter(|_| !up(key)).and_then(Condition::why),
                since: condition.map(|condition| time::timestamp(condition.since)),
                check_error: condition.and_then(|condition| condition.error.clone()),
                drained: id.filter(|_| !up(key)).map(|id| self.is_drained(&service.name, id)),
                totals: id.and_then(|id| counters.backends.get(&id)).map(totals_of).unwrap_or_default(),
            }
        };
        keys.iter().zip(&version.backends).map(status).collect()
    }

    /// Whether a backend that takes no new flows has none left: no entry and no slot names it, and no packet came of late.
    pub(super) fn is_drained(&self, service: &Name, id: BackendId) -> bool {
        let last = self.backends.last_packet(id);
        let quiet = last.is_some_and(|last| self.clock.now().monotonic.saturating_sub(last) >= QUIET);
        let swept = self.settling.began(&self.layout, service).is_some();
        let has_entries = self.settling.found(&self.layout, service).backends.contains_key(&id);
        let is_home = self.layout.cells.get(service).is_some_and(|cells| cells.names_backend(id));
        quiet && swept && !has_entries && !is_home
    }

    /// `backend list`.
    pub(super) fn list_backends(&self, only: Option<&Name>) -> Result<Vec<ListedBackend>, ApiError> {
        if let Some(name) = only {
            self.known(name)?;
        }
        let counters = self.kernel.counters().map_err(|error| ApiError::failed(error.to_string()))?;
        let services = self.layout.config.services.iter().filter(|service| only.is_none_or(|n| *n == service.name));
        let listed = services.flat_map(|service| {
            let counters = &counters;
            service.versions.iter().flat_map(move |version| {
                let listed =
                    |backend| ListedBackend { service: service.name.clone(), version: version.name.clone(), backend };
                self.backends(service, version, counters).into_iter().map(listed)
            })
        });
        Ok(listed.collect())
    }

    /// Everything that one scrape shows, read from the kernel now.
    pub(super) fn metrics(&mut self) -> Result<crate::telemetry::MetricsView, ApiError> {
        let counters = self.kernel.counters().map_err(|error| ApiError::failed(error.to_string()))?;
        self.read_signals();
        Ok(super::metrics::view(self, &counters))
    }
}

const fn availability(state: BackendState) -> Availability {
    match state {
        BackendState::Up => Availability::Up,
        BackendState::Draining => Availability::Draining,
        BackendState::Down { resets: _ } => Availability::Down,
    }
}

fn totals_of(counted: &BackendCounters) -> Totals {
    Totals {
        packets_forward: counted.packets_forward,
        packets_reverse: counted.packets_reverse,
        bytes_forward: counted.bytes_forward,
        bytes_reverse: counted.bytes_reverse,
        syns: counted.syns,
        syn_acks: counted.syn_acks,
        refusals: counted.refusals,
        resets: counted.resets_forward + counted.resets_reverse,
    }
}
