//! The rate at which flows are followed while a rollout runs: chosen when an epoch begins, from the new flows of late.

use crate::{
    analysis::sampling,
    daemon::owner::Owner,
    model::{
        config::{Protocol, Service},
        kernel::SAMPLE_RATE,
    },
    rollout::RolloutNeeds,
    store::ServiceRecord,
};

/// The rate that the kernel is to have in the epoch of a record.
pub(super) fn in_kernel(needs: &RolloutNeeds, record: &ServiceRecord) -> u16 {
    if needs.measures { record.sample_rate } else { SAMPLE_RATE }
}

impl Owner {
    /// The rate of a service's next epoch, of [`grayxdp_common::records::SAMPLE_ALL`].
    pub(super) fn next_sample_rate(&self, service: &Service, before: &ServiceRecord) -> u16 {
        match service.protocol {
            Protocol::Tcp => {
                let id = |version| self.layout.ids.version(&service.name, version);
                let ids = service.versions.iter().filter_map(|version| id(&version.name));
                let needs = &self.layout.needs;
                let others = needs.iter().filter(|(name, needs)| needs.measures && **name != service.name).count();
                let before = needs.get(&service.name).map_or(SAMPLE_RATE, |needs| in_kernel(needs, before));
                sampling::rate(self.meter.flows_per_second(ids), service.flow_horizon, others + 1, before)
            }
            // A flow in progress has no SYN by which a new one is told from it: were the rate to rise, all of them would be taken for new
            // flows, most of them stable's, and none of them would fail.
            Protocol::Udp => SAMPLE_RATE,
        }
    }
}
