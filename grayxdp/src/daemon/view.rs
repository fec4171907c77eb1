//! A service as the kernel is to see it: record, cells, and what its rollout needs.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::{
    balance::{Assignment, Looks, View, ids::BackendKey},
    daemon::{held, layout::Layout, sampling},
    model::{
        Name,
        config::Service,
        kernel::{BackendId, WantedGuard, WantedInstance, WantedService},
    },
    rollout::{AsideNeeds, GuardNeeds},
    store::ServiceRecord,
};

/// What the kernel is to see of a service; none where the layout knows nothing of it.
pub(super) fn service(layout: &Layout, service: &Service) -> Option<WantedService> {
    let name = &service.name;
    let (record, cells) = (layout.services.get(name)?, layout.cells.get(name)?);
    let needs = layout.needs.get(name).cloned().unwrap_or_default();
    let guard = needs.guard.as_ref().and_then(|needs| guard(needs, record, cells));
    let instance = needs.aside.as_ref().and_then(|needs| instance(layout, service, needs, record.instance?));
    // Of flows whose answers do not come by, a sample would count each as unanswered.
    let sample_rate = if service.forwarding.sees_answers() { sampling::in_kernel(&needs, record) } else { 0 };
    let (existing, place) = (needs.existing, |version: &Name| record.places.get(version).copied());
    let existing = existing.and_then(|(version, end)| Some((place(&version)?, end)));
    let mut takers = takers(service, record);
    takers.retain(|taker| existing.is_none_or(|(place, _)| place != *taker));
    takers.retain(|taker| guard.is_none_or(|guard| guard.candidate != *taker));
    let (versions, buckets, segments) = cells.wanted(&View {
        buckets: &record.buckets,
        ports: service.virtual_ports(),
        one_by_one: guard.is_some() || instance.is_some(),
        existing: existing.into_iter().collect::<BTreeMap<_, _>>(),
        on_empty: service.on_empty_pool,
        takers,
    });
    Some(WantedService {
        id: layout.ids.service(name)?,
        vip: service.vip,
        ports: service.virtual_ports().to_vec(),
        protocol: service.protocol,
        quic: service.quic,
        forwarding: service.forwarding,
        tunnel: layout.config.tunnel.clone(),
        source_pool: service.pool_addresses().collect(),
        affinity: service.affinity,
        announce: service.announce,
        versions,
        buckets,
        segments,
        instance,
        guard,
        epoch: record.epoch,
        rollout: record.rollout,
        measures: needs.measures,
        sample_rate,
        flow_horizon: service.flow_horizon,
        idle_timeout: service.idle_timeout,
        closing_timeout: service.closing_timeout,
    })
}

/// What sends flows of a service elsewhere than owners say.
pub(super) fn looks(layout: &Layout, name: &Name) -> Looks {
    let needs = layout.needs.get(name);
    let Some(record) = layout.services.get(name) else { return Looks::default() };
    let guard = needs.and_then(|needs| needs.guard.as_ref()).filter(|_| layout.turned_off.contains(name));
    Looks {
        instance: needs.and_then(|needs| needs.aside.as_ref()?.backend).and(record.instance),
        turned_off: guard.and_then(|guard| record.places.get(&guard.candidate).copied()),
    }
}

fn guard(needs: &GuardNeeds, record: &ServiceRecord, cells: &Assignment) -> Option<WantedGuard> {
    let place = |version: &Name| record.places.get(version).copied();
    let stable = place(&needs.stable)?;
    Some(WantedGuard {
        attempt: needs.attempt,
        candidate: place(&needs.candidate)?,
        stable,
        fuse: needs.fuse,
        lease: needs.lease,
        no_stable: cells.is_empty_pool(stable),
    })
}

fn instance(layout: &Layout, service: &Service, needs: &AsideNeeds, segment: u8) -> Option<WantedInstance> {
    let (address, version) = (needs.backend?, service.version(&needs.candidate)?);
    let keys = BackendKey::of(service, version).zip(&version.backends);
    let mut ids = keys.filter(|(_, backend)| address.means(service, backend));
    let backend: BackendId = ids.find_map(|(key, _)| layout.ids.backend(&key))?;
    Some(WantedInstance { backend, segment })
}

/// Places to which flows of an empty pool go: the stable version, then the heaviest. Neither a candidate that a guard may turn
/// off takes any, nor a version whose flows are ended.
fn takers(service: &Service, record: &ServiceRecord) -> Vec<u8> {
    let mut names: Vec<&Name> = service.versions.iter().map(|version| &version.name).collect();
    names.sort_by_key(|name| (**name != record.stable, Reverse(held::weight(record, name))));
    names.into_iter().filter_map(|name| record.places.get(name).copied()).collect()
}
