//! Settling: once a second the owner takes what the program noted about cells, and from time to time lets `home` follow
//! `current` where its time has come. What settles is journaled before the kernel gets it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    balance::{Assignment, Moment, Policy, Pressure, Settled, Span},
    daemon::{held, layout::Layout, owner::Owner, view},
    model::{
        Name,
        config::{Segment, Service},
        kernel::{Counters, GuardStatus, KernelError, LeaseEnd, Observed, Sweep, SweptService, TranslationSweep},
        settling::{ExceptionTableStatus, FlowTableStatus, FlowsStatus, SegmentStatus, SettlingStatus},
    },
    store::StoreError,
};

/// Least time between two publications that only settle.
const SETTLE_EVERY: Duration = Duration::from_secs(2);

/// Part of its time that the owner spends on them: one in so many.
const SHARE: u32 = 20;

/// How often the number of exceptions is journaled at most, for what is said after a reboot.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// What is known of exceptions and settling.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// The newest sweep of the exception table.
    pub(super) sweep: Sweep,
    /// Places in the exception table.
    pub(super) places: u64,
    /// The newest sweep of the flow table of `full-nat`.
    pub(super) translations: TranslationSweep,
    /// Places in it; 0 where no service needs it.
    pub(super) translation_places: u64,
    /// Flows that ended there, since the daemon began.
    pub(super) translations_expired: u64,
    /// Cells that settled, by service, since the daemon began.
    pub(super) settled: BTreeMap<Name, Settled>,
    /// Entries that ended, since the daemon began.
    pub(super) expired: u64,
    /// Entries removed because they equalled a settled default, since the daemon began.
    pub(super) needless: u64,
    /// When the next settling is due, in the kernel's time.
    due: Duration,
    /// Exceptions by service as journaled, and when.
    saved: (Duration, BTreeMap<Name, u64>),
}

impl Settling {
    /// Entries in the whole table at the newest sweep.
    pub(super) fn entries(&self) -> u64 {
        self.sweep.services.values().map(entries).sum()
    }

    /// What the newest sweep found of a service.
    pub(super) fn found(&self, layout: &Layout, service: &Name) -> SweptService {
        let id = layout.ids.service(service);
        let services = if knows_flows(layout, service) { &self.translations.services } else { &self.sweep.services };
        id.and_then(|id| services.get(&id)).cloned().unwrap_or_default()
    }

    /// When the newest sweep began that says something of a service.
    pub(super) fn began(&self, layout: &Layout, service: &Name) -> Option<Duration> {
        let began = if knows_flows(layout, service) { self.translations.began } else { self.sweep.began };
        (began > Duration::ZERO).then_some(began)
    }
}

/// Whether a service's flows are in the flow table and not exceptions.
fn knows_flows(layout: &Layout, service: &Name) -> bool {
    layout.service(service).is_some_and(|service| service.forwarding.knows_flows())
}

const fn entries(found: &SweptService) -> u64 {
    found.half_open + found.pins + found.established
}

impl Owner {
    /// Now, as cells keep time.
    pub(super) fn moment(&self) -> Moment {
        Moment::of(self.clock.kernel())
    }

    /// A second has passed.
    pub(super) fn settle_cells(&mut self) {
        let now = self.clock.kernel();
        match self.kernel.observe(now) {
            Ok(observed) => {
                self.problems.stamps = None;
                self.take(observed, Moment::of(now));
            }
            Err(error) => {
                if self.problems.stamps.is_none() {
                    tracing::error!("stamps and exceptions of the data path could not be read: {error}");
                }
                // Without stamps nothing may count as idle.
                self.problems.stamps = Some(error.to_string());
                return;
            }
        }
        self.note_turned_off();
        if now >= self.settling.due {
            self.settle_services(now);
            let spent = self.clock.kernel().saturating_sub(now);
            self.settling.due = now + SETTLE_EVERY.max(spent * SHARE);
        }
        self.save_exceptions(now);
    }

    fn take(&mut self, observed: Observed, now: Moment) {
        for (id, stamps) in &observed.stamps {
            let name = self.layout.ids.service_name(*id).cloned();
            if let Some(cells) = name.and_then(|name| self.layout.cells.get_mut(&name)) {
                cells.take(stamps, now);
            }
        }
        (self.settling.places, self.settling.translation_places) = (observed.places, observed.translation_places);
        if let Some(sweep) = observed.translations {
            self.settling.translations_expired += sweep.expired;
            self.settling.translations = sweep;
        }
        if let Some(sweep) = observed.sweep {
            self.settling.expired += sweep.expired;
            self.settling.needless += sweep.needless;
            self.settling.sweep = sweep;
        }
    }

    /// Candidates that a fuse or a lease turned off: their buckets look, so that the flows that stable got meanwhile stay there
    /// when the latch is cleared.
    ///
    /// False where the kernel did not take it: then no latch may be cleared.
    pub(super) fn note_turned_off(&mut self) -> bool {
        let guards = self.kernel.guards();
        let turned_off: BTreeSet<Name> = guards.iter().filter_map(|guard| self.turned_off(guard)).cloned().collect();
        if turned_off == self.layout.turned_off {
            return true;
        }
        let asked = self.moment();
        let changed: Vec<Name> = turned_off.symmetric_difference(&self.layout.turned_off).cloned().collect();
        let mut next = self.layout.clone();
        next.turned_off = turned_off;
        changed.iter().for_each(|name| next.renew(name, asked));
        match self.put(next, asked) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!("buckets of a candidate that was turned off: not published, tried again: {error}");
                false
            }
        }
    }

    /// The service whose candidate a guard has turned off.
    fn turned_off(&self, guard: &GuardStatus) -> Option<&Name> {
        let name = self.layout.ids.service_name(guard.service)?;
        let needs = self.layout.needs.get(name)?.guard.as_ref()?;
        let expired = guard.expired.is_some() && needs.lease == Some(LeaseEnd::Stable);
        (guard.tripped.is_some() || expired).then_some(name)
    }

    /// Publishes a layout and holds it from then on.
    pub(super) fn put(&mut self, mut next: Layout, asked: Moment) -> Result<(), KernelError> {
        next.publish(self.kernel.as_mut())?;
        next.took_effect(asked, self.moment());
        self.layout = next;
        Ok(())
    }

    fn settle_services(&mut self, now: Duration) {
        let moment = Moment::of(now);
        if !self.layout.config.services.iter().any(|service| self.can_settle(service)) {
            return;
        }
        let mut next = self.layout.clone();
        let mut settled = BTreeMap::new();
        for service in &self.layout.config.services {
            // A change that is under way has journaled what is to be.
            let in_flight = self.engines.get(&service.name).is_some_and(|engine| engine.state.flight.is_some());
            if !in_flight && let Some(turn) = self.settle_service(&mut next, service, moment) {
                settled.insert(service.name.clone(), turn);
            }
        }
        if settled.is_empty() {
            return;
        }
        let kept = |name: &&Name| next.services.get(*name) != self.layout.services.get(*name);
        let records: Vec<_> = settled.keys().filter(kept).map(|name| (name, &next.services[name])).collect();
        let written = self.journal.transaction(|journal| -> Result<(), StoreError> {
            records.iter().try_for_each(|(name, record)| journal.adopt(name, record))
        });
        let is_durable = written.is_ok();
        self.note_journal(written);
        if !is_durable {
            return;
        }
        match self.put(next, moment) {
            Ok(()) => {
                self.problems.settling = None;
                for (name, turn) in settled {
                    *self.settling.settled.entry(name).or_default() += turn;
                }
            }
            Err(error) => {
                if self.problems.settling.is_none() {
                    tracing::error!("cells that settled: not published, tried again: {error}");
                }
                self.problems.settling = Some(error.to_string());
            }
        }
    }

    /// Whether there is anything about a service's cells that time could change.
    fn can_settle(&self, service: &Service) -> bool {
        let cells = self.layout.cells.get(&service.name);
        cells.is_some_and(|cells| !cells.is_quiet()) || self.needs_form(service)
    }

    /// Settles one service's cells; none where nothing changed.
    fn settle_service(&self, next: &mut Layout, service: &Service, now: Moment) -> Option<Settled> {
        let name = &service.name;
        if !self.can_settle(service) {
            return None;
        }
        let cells = next.cells.get_mut(name)?;
        let mut found = self.settling.found(&self.layout, name);
        if service.forwarding.knows_flows() {
            // They hold backends, and nothing looks for them by a slot.
            found.half_open = 0;
        }
        let sweep = self.settling.began(&self.layout, name).map(Moment::of);
        let policy = Policy {
            idle: Span::of(service.idle_timeout),
            settle_after: Span::of(service.settle_after),
            pressure: Pressure::of(self.settling.entries(), self.settling.places),
            learns: service.learns(),
        };
        let turned_off = view::looks(&self.layout, name).turned_off;
        let turn = cells.settle(now, &policy, turned_off);
        let ended = sweep.map_or(0, |began| cells.swept(began, &found));
        let gone = cells.let_go(now, sweep.map(|began| (began, &found)), Span::of(service.drain_timeout));
        let record = next.services.get_mut(name)?;
        record.places.retain(|_, place| !gone.places.contains(place));
        let segments = record.segments.len();
        let is_of_file = |name: &Name| service.segments.iter().any(|segment| segment.name == *name);
        record.segments.retain(|name, known| is_of_file(name) || cells.names_segment(known.number));
        let instance = record.instance.filter(|number| {
            cells.names_segment(*number) || self.layout.needs.get(name).is_some_and(|needs| needs.aside.is_some())
        });
        let fewer = segments != record.segments.len() || instance != record.instance;
        record.instance = instance;
        let looks = next.keep_looking(name, now);
        let formed = self.form(next, service);
        let left = !gone.places.is_empty() || !gone.backends.is_empty();
        if turn.settled.sum() == 0 && turn.pins == 0 && ended == 0 && !(left || fewer || looks || formed) {
            return None;
        }
        next.note_home(name);
        next.show(name);
        Some(turn.settled)
    }

    /// Whether a service could go back to the form of a threshold between the places 0 and 1, while nobody would notice.
    fn needs_form(&self, service: &Service) -> bool {
        let Some(record) = self.layout.services.get(&service.name) else { return false };
        if record.places.len() > 2 || record.places.len() != service.versions.len() {
            return false;
        }
        let is_low = record.places.values().all(|place| *place < 2);
        let whole = || record.buckets.owner_of_all().is_some() && record.segments.is_empty();
        !is_low || (!record.buckets.is_ring() && whole())
    }

    /// Gives versions the places 0 and 1 again, and buckets the form of a threshold, once all is settled and no rollout runs.
    fn form(&self, next: &mut Layout, service: &Service) -> bool {
        let name = &service.name;
        let is_quiet = next.cells.get(name).is_some_and(Assignment::is_quiet);
        if !is_quiet || self.running(name).is_some() || !self.needs_form(service) {
            return false;
        }
        let Some((record, cells)) = next.services.get_mut(name).zip(next.cells.get_mut(name)) else { return false };
        if record.places.len() > 2 {
            return false;
        }
        let mut places: Vec<u8> = record.places.values().copied().collect();
        places.sort_unstable();
        if places.iter().any(|place| *place > 1) {
            let new = |old: u8| places.iter().position(|place| *place == old).unwrap_or(0) as u8;
            cells.renumber(&places);
            record.places.values_mut().for_each(|place| *place = new(*place));
            record.buckets = record.buckets.renumbered(&places);
            record.segments.values_mut().for_each(|segment| segment.buckets = segment.buckets.renumbered(&places));
        }
        let weights = record.weights.clone();
        // Places name signals, too: what is counted from here on is another epoch's.
        *record = held::next(record, service, weights, &BTreeMap::new(), None);
        true
    }

    /// The exception table of all services.
    pub(super) fn exception_table(&self) -> ExceptionTableStatus {
        let Settling { places, expired, needless, .. } = self.settling;
        ExceptionTableStatus { entries: self.settling.entries(), places, expired, needless }
    }

    /// The flow table of all services with `forwarding: full-nat`.
    pub(super) fn flow_table(&self) -> FlowTableStatus {
        let Settling { translations, translation_places, translations_expired, .. } = &self.settling;
        FlowTableStatus {
            flows: translations.services.values().map(entries).sum(),
            places: *translation_places,
            expired: *translations_expired,
        }
    }

    /// Flows of a service, if it knows them one by one.
    pub(super) fn flows_of(&self, service: &Service, counters: &Counters) -> Option<FlowsStatus> {
        if !service.forwarding.knows_flows() {
            return None;
        }
        let found = self.settling.found(&self.layout, &service.name);
        let id = self.layout.ids.service(&service.name);
        let counted = id.and_then(|id| counters.exceptions.get(&id)).copied().unwrap_or_default();
        Some(FlowsStatus { half_open: found.half_open, open: found.established, begun: counted.half_open })
    }

    /// How far a service is from being settled.
    pub(super) fn settling_of(&self, name: &Name, counters: &Counters) -> SettlingStatus {
        let [buckets, slots, sources] = self.layout.cells.get(name).map(Assignment::unsettled).unwrap_or_default();
        // Flows of `full-nat` are no exceptions: see `flows_of`.
        let has_exceptions = !knows_flows(&self.layout, name);
        let found = self.settling.found(&self.layout, name);
        let found = if has_exceptions { found } else { SweptService::default() };
        let id = self.layout.ids.service(name).filter(|_| has_exceptions);
        let counted = id.and_then(|id| counters.exceptions.get(&id)).copied().unwrap_or_default();
        let settled = self.settling.settled.get(name).copied().unwrap_or_default();
        SettlingStatus {
            unsettled_buckets: buckets as u64,
            unsettled_slots: slots as u64,
            unsettled_sources: sources as u64,
            half_open: found.half_open,
            pins: found.pins,
            established: found.established,
            handshakes_inserted: counted.half_open,
            pins_inserted: counted.pinned,
            pins_refused: counted.pins_refused,
            choice_deferred: counted.choice_deferred,
            settled_idle: settled.idle,
            settled_pinned: settled.pinned,
            settled_window: settled.window,
        }
    }

    /// Segments of the file, and who has how many of their buckets.
    pub(super) fn segments(&self, service: &Service) -> Vec<SegmentStatus> {
        let Some(record) = self.layout.services.get(&service.name) else { return Vec::new() };
        let segment = |segment: &Segment| {
            let known = record.segments.get(&segment.name)?;
            let counts = known.buckets.counts();
            let of = |version: &Name| record.places.get(version).map_or(0, |place| counts[usize::from(*place)]);
            let buckets = service.versions.iter().map(|version| (version.name.clone(), of(&version.name))).collect();
            Some(SegmentStatus { name: segment.name.clone(), weights: known.weights.clone(), buckets })
        };
        service.segments.iter().filter_map(segment).collect()
    }

    /// Journals how many exceptions there are: a reboot loses them.
    fn save_exceptions(&mut self, now: Duration) {
        let (when, saved) = &self.settling.saved;
        let of_both = self.settling.sweep.services.iter().chain(&self.settling.translations.services);
        let found = of_both.filter(|(_, found)| entries(found) > 0);
        let counts: BTreeMap<Name, u64> = found
            .filter_map(|(id, found)| Some((self.layout.ids.service_name(*id)?.clone(), entries(found))))
            .collect();
        if counts == *saved || now < *when + SAVE_EVERY {
            return;
        }
        let written = self.journal.transaction(|journal| journal.save_exceptions(&counts));
        self.settling.saved = (now, counts);
        self.note_journal(written);
    }
}
