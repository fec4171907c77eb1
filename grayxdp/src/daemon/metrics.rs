//! What one scrape shows.

use std::collections::BTreeMap;

use crate::{
    balance::ids::BackendKey,
    daemon::{held, owner::Owner},
    model::{
        config::{Service, Version},
        kernel::{Counters, Reason, ServiceId, VersionId},
    },
    rollout::State,
    telemetry::{BackendMetrics, MetricsView, RolloutMetrics, ServiceMetrics, VersionMetrics},
};

/// Everything, in names.
pub(super) fn view(owner: &mut Owner, counters: &Counters) -> MetricsView {
    let config = owner.layout.config.clone();
    MetricsView {
        services: config.services.iter().map(|of| service(owner, of, counters)).collect(),
        unassigned_reasons: reasons(counters, ServiceId::NONE),
        exceptions: owner.exception_table(),
        flow_table: owner.flow_table(),
        news: owner.deliveries(),
        flow_log: owner.flow_log_lines(),
        rollouts: owner.engines.values().map(|engine| rollout(owner, &engine.state)).collect(),
    }
}

fn service(owner: &mut Owner, service: &Service, counters: &Counters) -> ServiceMetrics {
    let totals = owner.meter.totals(counters, &owner.layout.ids);
    let owner = &*owner;
    let layout = &owner.layout;
    let record = &layout.services[&service.name];
    let version = |version: &Version| {
        let id = layout.ids.version(&service.name, &version.name);
        VersionMetrics {
            name: version.name.clone(),
            buckets: held::buckets(record, &version.name),
            totals: id.and_then(|id| totals.get(&id)).copied().unwrap_or_default(),
            measured: owner.signals.of(id.unwrap_or(VersionId::NONE)),
            backends: BackendKey::of(service, version)
                .zip(&version.backends)
                .map(|(key, backend)| {
                    let counted = layout.ids.backend(&key).and_then(|id| counters.backends.get(&id));
                    BackendMetrics {
                        address: service.backend_address(backend),
                        is_up: !layout.backends.contains_key(&key),
                        counters: counted.copied().unwrap_or_default(),
                    }
                })
                .collect(),
        }
    };
    ServiceMetrics {
        name: service.name.clone(),
        versions: service.versions.iter().map(version).collect(),
        reasons: layout.ids.service(&service.name).map(|id| reasons(counters, id)).unwrap_or_default(),
        segments: owner.segments(service),
        settling: owner.settling_of(&service.name, counters),
        flows: owner.flows_of(service, counters),
        bucket_moves: owner.bucket_moves.get(&service.name).copied().unwrap_or_default(),
    }
}

fn reasons(counters: &Counters, of: ServiceId) -> BTreeMap<Reason, u64> {
    let own = counters.reasons.iter().filter(|((service, _), _)| *service == of);
    own.map(|((_, reason), count)| (*reason, *count)).collect()
}

fn rollout(owner: &Owner, state: &State) -> RolloutMetrics {
    let (_, lease) = owner.guard_status(state);
    let verdicts = state.metrics.iter().map(|(name, record)| (name.clone(), record.verdicts.clone()));
    RolloutMetrics {
        name: state.name().clone(),
        service: state.service().clone(),
        state: state.phase,
        fuse_tripped: state.tripped.is_some(),
        lease_remaining: lease.and_then(|lease| lease.remaining_seconds),
        shadow: state.copies(),
        verdicts: verdicts.collect(),
    }
}
