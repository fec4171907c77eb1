//! What the engines are told of the strata: counts of both versions by epoch and segment, and how the buckets divide new flows.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    analysis::{Strata, Stratum},
    balance::Ownership,
    daemon::owner::Owner,
    model::{
        Name,
        config::{Affinity, Service},
        kernel::VersionId,
    },
    rollout::State,
    store::ServiceRecord,
};

impl Owner {
    /// The newest reading of every service that is in a rollout.
    pub(super) fn strata(&self) -> BTreeMap<Name, Strata> {
        let running = self.engines.iter().filter(|(_, engine)| !engine.state.phase.is_final());
        running.map(|(name, engine)| (name.clone(), self.strata_of(name, &engine.state))).collect()
    }

    fn strata_of(&self, service: &Name, state: &State) -> Strata {
        let versions = [state.candidate(), &state.stable];
        let ids = versions.map(|version| self.layout.ids.version(service, version));
        let counts = versions.into_iter().zip(ids).filter_map(|(name, id)| id.map(|id| (name, id)));
        let counts = counts.flat_map(|(name, id)| {
            self.signals.latest(move |version| version == id).map(move |(key, measured)| {
                let stratum = Stratum { epoch: key.epoch, segment: key.segment };
                ((name.clone(), stratum), Arc::new(measured.clone()))
            })
        });
        if state.shadow().is_some() {
            let stable = counts.filter(|((version, _), _)| *version == state.stable);
            let own = self.shadow_strata(state);
            let own = own.map(|(stratum, measured)| ((state.candidate().clone(), stratum), Arc::new(measured)));
            // No bucket divides copies from what they are copies of.
            return Strata { counts: stable.chain(own).collect(), shares: BTreeMap::new() };
        }
        let shares = self.layout.service(service).zip(self.layout.services.get(service));
        let shares = shares.filter(|(service, _)| self.are_divided_by_buckets(service, ids));
        let shares = shares.map(|(_, record)| shares_of(record, state)).unwrap_or_default();
        Strata { counts: counts.collect(), shares }
    }

    /// Whether nothing but the buckets says where a new flow goes: both versions have backends, the fuse holds, and a flow is a
    /// flow of its own.
    fn are_divided_by_buckets(&self, service: &Service, ids: [Option<VersionId>; 2]) -> bool {
        service.affinity == Affinity::Flow && ids.iter().all(Option::is_some) && self.emptied(service).is_empty()
    }
}

/// The candidate's share of the buckets of both versions, by segment of the present epoch.
fn shares_of(record: &ServiceRecord, state: &State) -> BTreeMap<Stratum, f64> {
    let place = |version: &Name| record.places.get(version).map(|place| usize::from(*place));
    let Some((candidate, stable)) = place(state.candidate()).zip(place(&state.stable)) else { return BTreeMap::new() };
    let share = |buckets: &Ownership| {
        let counts = buckets.counts();
        let (own, others) = (f64::from(*counts.get(candidate)?), f64::from(*counts.get(stable)?));
        (own + others > 0.0).then(|| own / (own + others))
    };
    let own = record.segments.values().map(|segment| (segment.number, &segment.buckets));
    let all = own.chain([(0, &record.buckets)]).filter(|(number, _)| Some(*number) != record.instance);
    all.filter_map(|(segment, buckets)| Some((Stratum { epoch: record.epoch, segment }, share(buckets)?))).collect()
}
