//! What the kernel is to hold, from the daemon's point of view, and reading it back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    balance::{
        self, Assignment, IdTable, IdsExhausted, Moment, Ownership, SegmentTarget, Settled, Target, ids::BackendKey,
    },
    daemon::view,
    model::{
        Name, Weight,
        config::{Config, Service},
        kernel::{
            BackendState, HeldSlots, Kernel, KernelError, Published, VersionId, Wanted, WantedBuckets, WantedService,
        },
    },
    rollout::RolloutNeeds,
    store::ServiceRecord,
};

/// A configuration with its numbers, cells and weights: one whole that is published at once.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) config: Arc<Config>,
    pub(super) ids: Arc<IdTable>,
    pub(super) services: BTreeMap<Name, ServiceRecord>,
    /// Who has which cell, now and at home.
    pub(super) cells: BTreeMap<Name, Assignment>,
    /// What rollouts need beyond the weights, by service.
    pub(super) needs: BTreeMap<Name, RolloutNeeds>,
    /// Backends that do not take new flows, and why: the others are up.
    pub(super) backends: BTreeMap<BackendKey, BackendState>,
    /// Services whose candidate a fuse or a lease turned off.
    pub(super) turned_off: BTreeSet<Name>,
    /// The same as the kernel sees it.
    views: BTreeMap<Name, WantedService>,
}

impl Layout {
    /// The first layout of a run: cells as the journal knows them, then changed to what the file says now.
    pub(super) fn restored(
        config: Config,
        ids: IdTable,
        services: BTreeMap<Name, ServiceRecord>,
        journaled: &BTreeMap<Name, ServiceRecord>,
        backends: BTreeMap<BackendKey, BackendState>,
        now: Moment,
    ) -> Result<Self, IdsExhausted> {
        let mut layout = Self::numbered(config, ids, services, BTreeMap::new())?;
        layout.backends = backends;
        for service in &Arc::clone(&layout.config).services {
            let journaled = journaled.get(&service.name).filter(|record| record.file.is_some());
            let record = journaled.unwrap_or(&layout.services[&service.name]).clone();
            layout.restore(service, &record, now);
            layout.renew(&service.name, now);
        }
        Ok(layout)
    }

    /// Builds a service's cells from a record, under the file of that record.
    pub(super) fn restore(&mut self, service: &Service, record: &ServiceRecord, now: Moment) {
        let file = record.file.as_deref().unwrap_or(service);
        let cells = self.with_target_of(file, record, |target| Assignment::restored(target, &record.home, now));
        self.cells.insert(service.name.clone(), cells);
    }

    /// The layout of another configuration: what leaves goes on for a while.
    pub(super) fn configured(
        &self,
        config: Config,
        services: BTreeMap<Name, ServiceRecord>,
        backends: BTreeMap<BackendKey, BackendState>,
        now: Moment,
    ) -> Result<Self, IdsExhausted> {
        let kept = |(name, _): &(&Name, &Assignment)| services.contains_key(*name);
        let cells = self.cells.iter().filter(kept).map(|(name, cells)| (name.clone(), cells.clone())).collect();
        let mut next = Self::numbered(config, self.ids.as_ref().clone(), services, cells)?;
        next.needs.clone_from(&self.needs);
        next.backends = backends;
        next.turned_off.clone_from(&self.turned_off);
        for service in &Arc::clone(&next.config).services {
            next.renew(&service.name, now);
        }
        Ok(next)
    }

    /// Numbers what is new. Numbers of what is gone are kept while there are others: its counters still belong to its
    /// version.
    fn numbered(
        config: Config,
        mut ids: IdTable,
        services: BTreeMap<Name, ServiceRecord>,
        cells: BTreeMap<Name, Assignment>,
    ) -> Result<Self, IdsExhausted> {
        if ids.assign(&config).is_err() {
            let leaving = cells.values().flat_map(Assignment::backends).collect();
            ids.retain(&config, &leaving);
            ids.assign(&config)?;
        }
        let (config, ids) = (Arc::new(config), Arc::new(ids));
        let (needs, backends) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { config, ids, services, cells, needs, backends, turned_off: BTreeSet::new(), views: BTreeMap::new() })
    }

    /// The configuration of a service.
    pub(super) fn service(&self, name: &Name) -> Option<&Service> {
        self.config.services.iter().find(|service| service.name == *name)
    }

    /// The same with another record of one service.
    pub(super) fn with(&self, service: &Name, record: ServiceRecord, now: Moment) -> Self {
        let mut next = self.clone();
        next.services.insert(service.clone(), record);
        next.renew(service, now);
        next
    }

    /// Takes what the kernel holds of a service for what it has, and gives it to its record's owners.
    pub(super) fn adopt(&mut self, service: &Name, found: &WantedBuckets, held: &[HeldSlots], now: Moment) {
        if let Some(cells) = self.cells.get_mut(service) {
            cells.adopt(found, held, now);
        }
        self.renew(service, now);
    }

    /// UDP, after a trip or an abort: what has no entry moves at once.
    pub(super) fn settle_at_once(&mut self, name: &Name, now: Moment) -> Settled {
        let learns = self.service(name).is_some_and(Service::learns);
        let Some(cells) = self.cells.get_mut(name).filter(|_| learns) else { return Settled::default() };
        let settled = cells.settle_at_once(now);
        self.renew(name, now);
        settled
    }

    /// Brings a service's cells and view in line with its record, its needs and its backends.
    pub(super) fn renew(&mut self, name: &Name, now: Moment) {
        let config = Arc::clone(&self.config);
        let Some(service) = config.services.iter().find(|service| service.name == *name) else { return };
        self.number_instance(name);
        let mut cells = self.cells.remove(name);
        let (cells, home) = self.with_target(service, |target, _| {
            let mut cells = cells.take().unwrap_or_else(|| Assignment::new(target, now));
            cells.change(target, now);
            if service.forwarding.knows_flows() {
                cells.settle_at_once(now);
            }
            let home = cells.home(target);
            (cells, home)
        });
        self.cells.insert(name.clone(), cells);
        if let Some(record) = self.services.get_mut(name) {
            record.home = home;
            if record.file.as_deref() != Some(service) {
                record.file = Some(Arc::new(service.clone()));
            }
        }
        self.keep_looking(name, now);
        self.show(name);
    }

    /// Brings in line what differs from an earlier layout in needs and backends.
    pub(super) fn renew_changed(&mut self, before: &Self, now: Moment) {
        let differs = |one: &BTreeMap<BackendKey, BackendState>, other: &BTreeMap<BackendKey, BackendState>| {
            let changed = one.iter().filter(|(key, state)| other.get(*key) != Some(*state));
            changed.map(|(key, _)| key.service.clone()).collect::<BTreeSet<Name>>()
        };
        let mut changed = differs(&self.backends, &before.backends);
        changed.extend(differs(&before.backends, &self.backends));
        let names = self.needs.keys().chain(before.needs.keys());
        changed.extend(names.filter(|name| self.needs.get(*name) != before.needs.get(*name)).cloned());
        changed.iter().for_each(|name| self.renew(name, now));
    }

    /// Lets buckets look whose flows something sends elsewhere. Says whether that changed any.
    pub(super) fn keep_looking(&mut self, name: &Name, now: Moment) -> bool {
        let looks = view::looks(self, name);
        self.cells.get_mut(name).is_some_and(|cells| cells.keep_looking(looks, now))
    }

    /// What the kernel is to see of a service, after its cells changed.
    pub(super) fn show(&mut self, name: &Name) {
        if let Some(view) = self.service(name).and_then(|service| view::service(self, service)) {
            self.views.insert(name.clone(), view);
        }
    }

    /// The home of a service's cells, for its record.
    pub(super) fn note_home(&mut self, name: &Name) {
        let Some(service) = self.service(name).cloned() else { return };
        let home = self.cells.get(name).map(|cells| self.with_target(&service, |target, _| cells.home(target)));
        if let (Some(record), Some(home)) = (self.services.get_mut(name), home) {
            record.home = home;
        }
    }

    /// Clients beside the weights have a segment of their own.
    fn number_instance(&mut self, name: &Name) {
        let wanted = self.needs.get(name).is_some_and(|needs| needs.aside.is_some());
        let Some(record) = self.services.get_mut(name).filter(|record| wanted && record.instance.is_none()) else {
            return;
        };
        let used = |number: &u8| record.segments.values().any(|segment| segment.number == *number);
        record.instance = (1..grayxdp_common::cells::SEGMENTS as u8).find(|number| !used(number));
    }

    fn with_target<T>(&self, service: &Service, run: impl FnOnce(&Target<'_>, &ServiceRecord) -> T) -> T {
        let record = &self.services[&service.name];
        self.with_target_of(service, record, |target| run(target, record))
    }

    fn with_target_of<T>(&self, service: &Service, record: &ServiceRecord, run: impl FnOnce(&Target<'_>) -> T) -> T {
        let up = BackendState::Up;
        let state = |key: &BackendKey| self.backends.get(key).copied().unwrap_or(up);
        let aside = self.needs.get(&service.name).and_then(|needs| needs.aside.as_ref());
        // In a preview they are all the candidate's.
        let preview = aside.filter(|aside| aside.backend.is_none()).and_then(|aside| {
            let place = record.places.get(&aside.candidate)?;
            Some(Ownership::first(&[(*place, Weight::FULL)], balance::offset(&service.name, None)))
        });
        let of_instance = record.instance.map(|number| SegmentTarget {
            number,
            r#match: aside.map(|aside| &aside.r#match),
            buckets: preview.as_ref().unwrap_or(&record.buckets),
        });
        let of_file = service.segments.iter().filter_map(|segment| {
            let known = record.segments.get(&segment.name)?;
            Some(SegmentTarget { number: known.number, r#match: Some(&segment.r#match), buckets: &known.buckets })
        });
        let is_of_file = |name: &Name| service.segments.iter().any(|segment| segment.name == *name);
        let leaving = record.segments.iter().filter(|(name, _)| !is_of_file(name));
        let leaving =
            leaving.map(|(_, known)| SegmentTarget { number: known.number, r#match: None, buckets: &known.buckets });
        let target = Target {
            service,
            ids: &self.ids,
            places: &record.places,
            buckets: &record.buckets,
            segments: of_instance.into_iter().chain(of_file).chain(leaving).collect(),
            state: &state,
        };
        run(&target)
    }

    /// All that the kernel is to hold.
    pub(super) fn wanted(&self) -> Wanted {
        let direct_access = self.config.direct_access.iter().map(|prefix| (prefix.address, prefix.length)).collect();
        let services = self.config.services.iter().filter_map(|service| self.views.get(&service.name).cloned());
        Wanted { services: services.collect(), direct_access }
    }

    /// What is read back of a service when the kernel holds this.
    pub(super) fn expected(&self, service: &Service) -> Option<Published> {
        let view = self.views.get(&service.name)?;
        let places = match view.buckets {
            WantedBuckets::Split(_) => 2,
            WantedBuckets::Cells(_) => grayxdp_common::cells::VERSIONS,
        };
        let mut versions = vec![VersionId::NONE; places];
        view.versions.iter().for_each(|version| versions[usize::from(version.place)] = version.id);
        let (epoch, rollout) = (view.epoch, view.rollout);
        Some(Published { id: view.id, versions, buckets: view.buckets.clone(), epoch, rollout })
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
                let of = |published: Option<&Published>| published.map(said).unwrap_or_else(|| "nothing".to_owned());
                let (name, found, expected) = (&service.name, of(found), of(expected.as_ref()));
                let message = format!("service {name}: read back {found} instead of {expected}; run `grayxdp reload`");
                return Err(KernelError(message));
            }
        }
        Ok(())
    }

    /// What was asked for at `asked` is in the kernel now.
    pub(super) fn took_effect(&mut self, asked: Moment, now: Moment) {
        self.cells.values_mut().for_each(|cells| cells.took_effect(asked, now));
    }
}

fn said(published: &Published) -> String {
    let Published { id: _, versions, buckets, epoch, rollout } = published;
    let buckets = match buckets {
        WantedBuckets::Split(split) => format!("{} buckets from {} on", split.threshold, split.offset),
        WantedBuckets::Cells(tables) => format!("{} tables of buckets", tables.len()),
    };
    let versions: Vec<_> = versions.iter().map(|version| version.0.to_string()).collect();
    format!("epoch {epoch} of rollout {rollout}, versions {}, {buckets}", versions.join(" "))
}
