//! The owner: the one place that holds the data path, the journal and the engines. It runs on a thread of its own and
//! does one thing at a time, so no two changes ever meet.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use grayxdp_common::hash::HashKey;

use crate::{
    analysis::{History, Measured, Reading, Sample, Totals, history::SignalSample},
    balance::Moment,
    daemon::{
        backends::Backends, clock::Clock, flow_log::FlowLogging, held, layout::Layout, meter::Meter, outside::Outside,
        past::Past, settle::Settling, shadow::Shadows, shares::SegmentFlows, trace::Tracing,
    },
    model::{
        Name, Weight,
        api::{ApiError, ChangeOptions, DETACHED, Done, Request, Response},
        config::Service,
        event::Event,
        kernel::{Counters, Kernel, KernelError, Published, VersionId},
        time::{self, Now},
    },
    rollout::{InKernel, Input, State},
    store::{Journal, ServiceRecord},
};

/// How often history that is too old is removed from the journal.
const PRUNE_EVERY: Duration = Duration::from_secs(86_400);

/// One rollout and what was observed of its service.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) state: State,
    pub(super) history: History,
    pub(super) flows: SegmentFlows,
}

impl Engine {
    /// A rollout of which nothing was observed yet.
    pub(super) fn new(state: State) -> Self {
        let history = super::rollouts::history_for(&state);
        Self { state, history, flows: SegmentFlows::default() }
    }
}

/// What is wrong at the moment.
#[derive(Debug, Default)]
pub(super) struct Problems {
    pub(super) journal: Option<String>,
    pub(super) counters: Option<String>,
    pub(super) signals: Option<String>,
    pub(super) interfaces: Option<String>,
    pub(super) publish: Option<String>,
    pub(super) stamps: Option<String>,
    pub(super) settling: Option<String>,
    pub(super) copies: Option<String>,
}

/// Holds everything.
pub(super) struct Owner {
    pub(super) config_path: PathBuf,
    pub(super) layout: Layout,
    pub(super) kernel: Box<dyn Kernel>,
    pub(super) journal: Journal,
    pub(super) clock: Box<dyn Clock>,
    /// The newest rollout of each service that this run has seen.
    pub(super) engines: BTreeMap<Name, Engine>,
    pub(super) meter: Meter,
    pub(super) settling: Settling,
    pub(super) backends: Backends,
    pub(super) outside: Outside,
    pub(super) shadows: Shadows,
    pub(super) flow_log: FlowLogging,
    pub(super) past: Past,
    pub(super) hash_key: HashKey,
    pub(super) signals: Totals,
    pub(super) bucket_moves: BTreeMap<Name, u64>,
    /// Commands of rolling releases that run.
    pub(super) replacing: Vec<super::replacing::Running>,
    pub(super) problems: Problems,
    /// The trace that goes on, and how many there were.
    pub(super) tracing: Option<Tracing>,
    pub(super) traces: u64,
    pub(super) started: Now,
    pub(super) pruned: Option<Duration>,
    pub(super) detached: bool,
}

impl Owner {
    /// Answers one request.
    pub(super) fn handle(&mut self, request: Request, actor: &str) -> Result<Response, ApiError> {
        match request {
            Request::Status => self.status().map(|status| Response::Status(Box::new(status))),
            Request::WeightsSet { service, segment, weights, options } => {
                self.set_weights(&service, segment.as_ref(), &weights, &options, actor).map(Response::Done)
            }
            Request::Reload { diff, reset_weights, options } => {
                self.reload(diff, &reset_weights, &options, actor).map(Response::Done)
            }
            Request::Events { after, limit } => {
                let events = self.journal.events(after, limit.min(1_000));
                events.map(Response::Events).map_err(|error| ApiError::failed(error.to_string()))
            }
            Request::Explain { source, destination, protocol, dscp, later, at } => {
                let flow = (source, destination, protocol);
                let explained = match at {
                    Some(at) => self.explain_at(flow, dscp, at),
                    None => self.explain(flow, dscp, later),
                };
                explained.map(|explained| Response::Explained(Box::new(explained)))
            }
            Request::TraceStart { filter, count, duration } => {
                self.start_trace(&filter, count, duration, actor).map(Response::Trace)
            }
            Request::TraceRead { id } => self.read_trace(id).map(Response::Trace),
            Request::TraceEnd { id } => self.end_trace(id).map(Response::Trace),
            Request::BackendList { service } => self.list_backends(service.as_ref()).map(Response::Backends),
            Request::BackendChange { service, backends, action, options } => {
                self.change_backends(&service, &backends, action, &options, actor).map(Response::Done)
            }
            Request::RolloutStart { plan, options } => self.start_rollout(*plan, &options, actor),
            Request::RolloutApply { plan, options } => self.apply_plan(*plan, &options, actor).map(Response::Done),
            Request::RolloutAbortAll { options } => self.abort_all(&options, actor).map(Response::Done),
            Request::RolloutList => self.rollouts().map(Response::Rollouts),
            Request::RolloutRecord { name, number } => {
                self.record_of_run(&name, number).map(|record| Response::Record(Box::new(record)))
            }
            Request::RolloutGet { name } => self.rollout(&name).map(|status| Response::Rollout(Box::new(status))),
            Request::RolloutChange { name, action, options } => {
                self.change_rollout(&name, action, &options, actor).map(Response::Done)
            }
            Request::QualityPost { rollout, quality } => {
                self.post_quality(&rollout, &quality, actor).map(Response::Done)
            }
            Request::Detach { options } => self.detach(&options, actor).map(Response::Done),
        }
    }

    /// A second has passed: counts, looks, steps.
    pub(super) fn tick(&mut self) {
        if self.detached {
            return;
        }
        self.mend_interfaces();
        self.end_forgotten_trace();
        let now = self.clock.now();
        let counted = self.sample(now.monotonic);
        let running = self.engines.values().any(|engine| !engine.state.phase.is_final());
        if running {
            self.look_for_foreign_weights();
        }
        self.look_at_guards();
        for service in self.engines.keys().cloned().collect::<Vec<_>>() {
            if counted && self.running(&service).is_some() {
                self.measure_shares(&service, now.monotonic);
            }
            self.follow_batch(&service);
            self.tell_copies(&service);
            self.drive(&service, |history| Input::Tick { observed: counted.then_some(history) });
        }
        self.renew_targets();
        self.follow_copies();
        self.write_past();
        self.follow_needs();
        self.follow_backends();
        self.settle_cells();
        if self.pruned.is_none_or(|last| now.monotonic.saturating_sub(last) >= PRUNE_EVERY) {
            self.pruned = Some(now.monotonic);
            let kept = now.wall.saturating_sub(self.layout.config.history_retention);
            if let Err(error) = self.journal.prune(time::timestamp(kept)) {
                tracing::warn!("old history stays in the journal: {error}");
            }
        }
    }

    /// An interface that lost the program gets it again: it was made anew, or somebody removed pins.
    fn mend_interfaces(&mut self) {
        let bare = self.bare_interfaces();
        if bare.is_empty() {
            self.problems.interfaces = None;
            return;
        }
        let bare = bare.join(", ");
        if self.problems.interfaces.is_none() {
            self.host_event(
                "interfaceLost",
                format!("{bare} lost the program: nothing is served there"),
                "daemon",
                None,
            );
        }
        match self.kernel.mend() {
            Ok(()) => {
                self.problems.interfaces = None;
                self.host_event("interfaceMended", format!("{bare} carries the program again"), "daemon", None);
            }
            Err(error) => self.problems.interfaces = Some(error.to_string()),
        }
    }

    /// Interfaces that do not carry the program.
    pub(super) fn bare_interfaces(&self) -> Vec<String> {
        let interfaces = self.kernel.interfaces().into_iter();
        interfaces.filter(|interface| interface.mode == DETACHED).map(|interface| interface.name).collect()
    }

    /// Reads all counters; false where that fails.
    fn sample(&mut self, at: Duration) -> bool {
        match self.kernel.counters() {
            Ok(counters) => {
                self.problems.counters = None;
                self.take_sample(at, &counters);
                true
            }
            Err(error) => {
                if self.problems.counters.is_none() {
                    tracing::error!("the counters of the data path could not be read: {error}");
                }
                self.problems.counters = Some(error.to_string());
                false
            }
        }
    }

    fn take_sample(&mut self, at: Duration, counters: &Counters) {
        let totals = self.meter.totals(counters, &self.layout.ids);
        let running = self.engines.values().any(|engine| !engine.state.phase.is_final());
        if running {
            self.read_signals();
        }
        let readings = self.strata();
        let shadowed = |(name, engine): (&Name, &Engine)| Some((name.clone(), Arc::new(self.shadowed(&engine.state)?)));
        let shadowed: BTreeMap<_, _> = self.engines.iter().filter_map(shadowed).collect();
        for (name, engine) in self.engines.iter_mut().filter(|(_, engine)| !engine.state.phase.is_final()) {
            if let Some(record) = self.layout.services.get(name) {
                engine.history.note_sample_rate(record.sample_rate);
            }
            if let Some(strata) = readings.get(name) {
                engine.history.push_strata(strata.clone());
            }
            let measured = |version: &Name| {
                if let Some(copies) = shadowed.get(name).filter(|_| version == engine.state.candidate()) {
                    return Some((version.clone(), Arc::clone(copies)));
                }
                let id = self.layout.ids.version(name, version)?;
                Some((version.clone(), Arc::new(self.signals.of(id))))
            };
            let versions = [engine.state.candidate(), &engine.state.stable];
            let signals: SignalSample = versions.into_iter().filter_map(measured).collect();
            let reading = |measured: &Measured| {
                let (syns, syn_acks, refusals) = (measured.attempts, measured.opened, measured.refused);
                Reading { syns, syn_acks, refusals }
            };
            let versions = signals.iter().map(|(name, measured)| (name.clone(), reading(measured))).collect();
            engine.history.push(Sample { at, versions });
            engine.history.push_signals(at, signals);
        }
        self.meter.push(at, totals);
        self.note_traffic(at, counters);
    }

    /// Weights in the kernel that this daemon did not write freeze the rollout that they belong to.
    fn look_for_foreign_weights(&mut self) {
        let Ok(published) = self.kernel.published() else { return };
        for name in self.engines.keys().cloned().collect::<Vec<_>>() {
            let Some(service) = self.layout.service(&name).cloned() else { continue };
            let Some(expected) = self.layout.expected(&service) else { continue };
            let Some(found) = published.iter().find(|found| found.id == expected.id) else { continue };
            let running = self.engines.get(&name).is_some_and(|engine| !engine.state.phase.is_final());
            let is_other = |(place, id): (usize, &VersionId)| {
                *id != expected.versions.get(place).copied().unwrap_or(VersionId::NONE)
            };
            if *found == expected || found.versions.iter().enumerate().any(is_other) || !running {
                continue;
            }
            let Some(record) = self.adopted_record(&service, found) else { continue };
            let kernel = self.in_kernel(&name, &record);
            self.layout.services.insert(name.clone(), record);
            let held = self.kernel.held_slots().unwrap_or_default();
            let now = self.moment();
            self.layout.adopt(&name, &found.buckets, &held, now);
            self.drive(&name, |_| Input::ForeignWeights { kernel, by: "somebody else".to_owned() });
        }
    }

    /// A record as the engine of that service sees it.
    pub(super) fn in_kernel(&self, service: &Name, record: &ServiceRecord) -> InKernel {
        let candidate = self.engines.get(service).map(|engine| engine.state.candidate());
        let weight = candidate.map(|candidate| held::weight(record, candidate)).unwrap_or_default();
        let place = candidate.and_then(|candidate| record.places.get(candidate)).map(|place| usize::from(*place));
        let in_segments = place.is_some_and(|place| {
            record.segments.values().any(|segment| segment.buckets.counts().get(place).is_some_and(|count| *count > 0))
        });
        InKernel {
            weight,
            epoch: record.epoch,
            rollout: record.rollout,
            in_segments: in_segments && weight == Weight::ZERO,
        }
    }

    /// Writes a service's next record to the kernel, reads it back, and holds it from then on.
    pub(super) fn publish(&mut self, service: &Name, record: ServiceRecord) -> Result<(), KernelError> {
        let asked = self.moment();
        let next = self.layout.with(service, record, asked);
        self.put_moved(service, next, asked)
    }

    /// The same after a trip or an abort: what has no entry and no handshake to wait for moves at once.
    pub(super) fn publish_at_once(&mut self, service: &Name, record: ServiceRecord) -> Result<(), KernelError> {
        let asked = self.moment();
        let mut next = self.layout.with(service, record, asked);
        let settled = next.settle_at_once(service, asked);
        self.put_moved(service, next, asked)?;
        *self.settling.settled.entry(service.clone()).or_default() += settled;
        Ok(())
    }

    pub(super) fn put_moved(&mut self, service: &Name, next: Layout, asked: Moment) -> Result<(), KernelError> {
        let moved = held::moved(&self.layout.services[service], &next.services[service]);
        self.read_signals_of(service);
        self.put(next, asked)?;
        *self.bucket_moves.entry(service.clone()).or_default() += moved;
        self.note_applied(service);
        Ok(())
    }

    /// What the kernel holds of a service, as a record; none where it is about other versions.
    fn adopted_record(&self, service: &Service, found: &Published) -> Option<ServiceRecord> {
        let record = self.layout.services.get(&service.name)?;
        let buckets = super::start::ownerships(&found.buckets);
        Some(held::from_kernel(record, service, &buckets, found.epoch, found.rollout))
    }

    /// The rollout that runs on a service.
    pub(super) fn running(&self, service: &Name) -> Option<&State> {
        self.engines.get(service).map(|engine| &engine.state).filter(|state| !state.phase.is_final())
    }

    /// The configuration and the record of a service.
    pub(super) fn known(&self, name: &Name) -> Result<(Service, ServiceRecord), ApiError> {
        let service = self.layout.service(name).zip(self.layout.services.get(name));
        let service = service.map(|(service, record)| (service.clone(), record.clone()));
        service.ok_or_else(|| super::names::not_found("service", name, self.layout.services.keys()))
    }

    /// Logs and journals an event. A journal that cannot be written is shown as a warning; the log has the event anyway.
    pub(super) fn event(&mut self, event: Event) {
        log(&event);
        let written = self.journal.append_event(&event);
        self.note_journal(written.map(drop));
    }

    /// Logs and journals an event about a service.
    pub(super) fn service_event(
        &mut self,
        service: &Name,
        kind: &str,
        message: String,
        actor: &str,
        reason: Option<String>,
    ) {
        self.event(self.event_of(service, kind, message, actor, reason));
    }

    /// An event about a service, of now.
    pub(super) fn event_of(
        &self,
        service: &Name,
        kind: &str,
        message: String,
        actor: &str,
        reason: Option<String>,
    ) -> Event {
        let time = time::timestamp(self.clock.now().wall);
        let (actor, kind, service) = (actor.to_owned(), kind.to_owned(), Some(service.clone()));
        Event { id: 0, time, actor, service, rollout: None, kind, message, reason }
    }

    /// An event about the host as a whole.
    pub(super) fn host_event(&mut self, kind: &str, message: String, actor: &str, reason: Option<String>) {
        let time = time::timestamp(self.clock.now().wall);
        let (actor, kind) = (actor.to_owned(), kind.to_owned());
        self.event(Event { id: 0, time, actor, service: None, rollout: None, kind, message, reason });
    }

    /// Remembers whether the journal can be written.
    pub(super) fn note_journal(&mut self, written: Result<(), crate::store::StoreError>) {
        match written {
            Ok(()) => self.problems.journal = None,
            Err(error) => {
                if self.problems.journal.is_none() {
                    tracing::error!("{error}");
                }
                self.problems.journal = Some(error.to_string());
            }
        }
    }

    fn detach(&mut self, options: &ChangeOptions, actor: &str) -> Result<Done, ApiError> {
        let running: Vec<_> = self.engines.values().filter(|engine| !engine.state.phase.is_final()).collect();
        if let Some(engine) = running.first().filter(|_| !options.force) {
            let name = engine.state.name();
            return Err(ApiError::conflict(format!("rollout {name} runs; `rollout abort {name}` first, or --force")));
        }
        let interfaces = self.kernel.interfaces();
        let mut changes: Vec<_> =
            interfaces.iter().map(|interface| format!("interface {}: program taken off", interface.name)).collect();
        changes.push("all pins removed; the daemon ends".to_owned());
        if options.dry_run {
            return Ok(Done { changes, dry_run: true });
        }
        self.kernel.detach().map_err(|error| ApiError::failed(error.to_string()))?;
        self.detached = true;
        self.host_event("detached", "detached from all interfaces".to_owned(), actor, options.reason.clone());
        Ok(Done { changes, dry_run: false })
    }
}

/// Writes an event to the log.
pub(super) fn log(event: &Event) {
    let whose = event.rollout.as_ref().or(event.service.as_ref()).map(|name| format!("{name}: ")).unwrap_or_default();
    let alarm = matches!(
        event.kind.as_str(),
        "rollbackFailing"
            | "publishFailed"
            | "journalFailed"
            | "frozen"
            | "interfaceLost"
            | "fuseTripped"
            | "leaseExpired"
            | "noStableBackend"
            | "backendDown"
    );
    match alarm {
        true => tracing::error!(kind = event.kind, actor = event.actor, "{whose}{}", event.message),
        false => tracing::info!(kind = event.kind, actor = event.actor, "{whose}{}", event.message),
    }
}

/// Refuses a change that was made for another state of the service.
pub(super) fn check_epoch(service: &Name, epoch: u64, options: &ChangeOptions) -> Result<(), ApiError> {
    match options.if_epoch {
        Some(expected) if expected != epoch => Err(ApiError::conflict(format!(
            "service {service} is at epoch {epoch}, not {expected}: somebody changed it; look again"
        ))),
        Some(_) | None => Ok(()),
    }
}
