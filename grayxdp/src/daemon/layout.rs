//! What the kernel is to hold, from the daemon's point of view, and reading it back.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    balance::{AppliedSplit, IdTable, IdsExhausted, Pools, ids::BackendKey},
    daemon::held,
    model::{
        Name,
        config::{Config, Service},
        kernel::{BackendState, Kernel, KernelError, Published, VersionId, Wanted, WantedBuckets},
    },
    rollout::RolloutNeeds,
    store::ServiceRecord,
};

/// A configuration with its numbers, slot tables and weights: one whole that is published at once.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) config: Arc<Config>,
    pub(super) ids: Arc<IdTable>,
    pub(super) pools: Arc<Pools>,
    pub(super) services: BTreeMap<Name, ServiceRecord>,
    /// What rollouts need beyond the weights, by service.
    pub(super) needs: BTreeMap<Name, RolloutNeeds>,
    /// Backends that do not take new flows, and why: the others are up.
    pub(super) backends: BTreeMap<BackendKey, BackendState>,
}

impl Layout {
    /// Numbers what is new in a configuration, and builds the slot tables that `pools` lacks.
    pub(super) fn build(
        config: Config,
        mut ids: IdTable,
        pools: &Pools,
        services: BTreeMap<Name, ServiceRecord>,
    ) -> Result<Self, IdsExhausted> {
        // Numbers of what is gone are kept while there are others: its counters still belong to its version.
        if ids.assign(&config).is_err() {
            ids.retain(&config);
            ids.assign(&config)?;
        }
        let pools = Pools::build(&config, &ids, pools);
        let (config, ids, pools) = (Arc::new(config), Arc::new(ids), Arc::new(pools));
        Ok(Self { config, ids, pools, services, needs: BTreeMap::new(), backends: BTreeMap::new() })
    }

    /// The configuration of a service.
    pub(super) fn service(&self, name: &Name) -> Option<&Service> {
        self.config.services.iter().find(|service| service.name == *name)
    }

    /// The same with another record of one service.
    pub(super) fn with(&self, service: &Name, record: ServiceRecord) -> Self {
        let mut next = self.clone();
        next.services.insert(service.clone(), record);
        next
    }

    /// All that the kernel is to hold.
    pub(super) fn wanted(&self) -> Wanted {
        let applied = |name: &Name| self.services.get(name).map_or_else(AppliedSplit::default, held::applied);
        self.pools.wanted(&self.config, &self.ids, &applied)
    }

    /// What is read back of a service when the kernel holds this.
    pub(super) fn expected(&self, service: &Service) -> Option<Published> {
        let record = self.services.get(&service.name)?;
        let id = |index: usize| {
            let version = service.versions.get(index)?;
            self.ids.version(&service.name, &version.name)
        };
        Some(Published {
            id: self.ids.service(&service.name)?,
            versions: vec![id(0)?, id(1).unwrap_or(VersionId::NONE)],
            buckets: WantedBuckets::Split(record.split),
            epoch: record.epoch,
            rollout: record.rollout,
        })
    }

    /// Writes everything to the kernel and reads it back.
    ///
    /// # Errors
    /// What the kernel did not take, or what it holds instead.
    pub(super) fn publish(&self, kernel: &mut dyn Kernel) -> Result<(), KernelError> {
        kernel.publish(&self.wanted())?;
        let published = kernel.published()?;
        for service in &self.config.services {
            let expected = self.expected(service);
            let found = expected.as_ref().and_then(|expected| published.iter().find(|found| found.id == expected.id));
            if found != expected.as_ref() {
                let name = &service.name;
                let message =
                    format!("service {name}: read back {found:?} instead of {expected:?}; run `grayxdp reload`");
                return Err(KernelError(message));
            }
        }
        Ok(())
    }
}
