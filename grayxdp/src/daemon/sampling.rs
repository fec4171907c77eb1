//! The rate at which flows are followed while a rollout runs: chosen when an epoch begins, from the new flows of late.

use grayxdp_common::records::SAMPLE_ALL;

use crate::{
    analysis::sampling,
    daemon::owner::Owner,
    model::{
        config::{Protocol, Service, Version},
        kernel::{SAMPLE_RATE, VersionId},
        state::Prospect,
    },
    rollout::{RolloutNeeds, State},
    store::ServiceRecord,
};

/// The rate that the kernel is to have in the epoch of a record.
pub(super) fn in_kernel(needs: &RolloutNeeds, record: &ServiceRecord) -> u16 {
    if needs.measures { record.sample_rate } else { SAMPLE_RATE }
}

impl Owner {
    /// What the present step of a rollout can show at the traffic of the last seconds. Of UDP the traffic is not known.
    pub(super) fn prospects(&self, state: &State) -> Vec<Prospect> {
        let name = state.service();
        let known = self.layout.service(name).zip(self.layout.services.get(name));
        let Some((service, record)) = known.filter(|(service, _)| service.protocol == Protocol::Tcp) else {
            return Vec::new();
        };
        let flows = self.meter.flows_per_second(self.ids_of(service)).unwrap_or(0.0);
        state.prospects(flows, f64::from(record.sample_rate) / f64::from(SAMPLE_ALL), service.protocol)
    }

    fn ids_of(&self, service: &Service) -> impl Iterator<Item = VersionId> {
        let id = |version: &Version| self.layout.ids.version(&service.name, &version.name);
        service.versions.iter().filter_map(id).collect::<Vec<_>>().into_iter()
    }

    /// The rate of a service's next epoch, of [`SAMPLE_ALL`].
    pub(super) fn next_sample_rate(&self, service: &Service, before: &ServiceRecord) -> u16 {
        match service.protocol {
            Protocol::Tcp => {
                let needs = &self.layout.needs;
                let others = needs.iter().filter(|(name, needs)| needs.measures && **name != service.name).count();
                let before = needs.get(&service.name).map_or(SAMPLE_RATE, |needs| in_kernel(needs, before));
                sampling::rate(
                    self.meter.flows_per_second(self.ids_of(service)),
                    service.flow_horizon,
                    others + 1,
                    before,
                )
            }
            // A flow in progress has no SYN by which a new one is told from it: were the rate to rise, all of them would be taken for new
            // flows, most of them stable's, and none of them would fail.
            Protocol::Udp => SAMPLE_RATE,
        }
    }
}
