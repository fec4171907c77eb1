//! Starting: what the journal knows and what the kernel holds become one again, then the program is attached.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use grayxdp_common::hash::HashKey;

use crate::{
    analysis::Totals,
    balance::{IdsExhausted, Moment, Ownership},
    config::{self, ConfigError},
    daemon::{
        backends::Backends,
        clock::Clock,
        engine::journaled,
        flow_log::FlowLogging,
        held::{self, Dealer},
        layout::Layout,
        meter::Meter,
        outside::Outside,
        owner::{Engine, Owner, Problems},
        past::Past,
        rollouts::read_state,
        settle::Settling,
        shadow::Shadows,
    },
    model::{
        Name,
        config::{Config, Service},
        kernel::{Kernel, KernelError, Published, VersionId, Wanted, WantedBuckets},
        state::RolloutState,
    },
    rollout::{Input, State},
    store::{Journal, JournaledService, ServiceRecord, StoreError, hash_key},
};

/// Name of the journal in `stateDir`.
const JOURNAL: &str = "journal.db";
/// Name of the hash key in `stateDir`.
const HASH_KEY: &str = "hash.key";
/// Longest configuration file, in bytes: 60,000 backends take a tenth of it.
const CONFIG_BYTES: u64 = 64 << 20;

/// Why the daemon does not start: one line. The kernel goes on with what it has.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Too much is configured.
    #[error(transparent)]
    Ids(#[from] IdsExhausted),
    /// The journal, its lock or the hash key.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A rollout in the journal is of another release.
    #[error("{0}; end it with that release first")]
    Rollout(String),
    /// The data path.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The owner's thread.
    #[error("no thread for the data path: {0}")]
    Thread(String),
}

/// What the data path is opened with.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The flow hash's key.
    pub hash_key: HashKey,
    /// What it will hold first; for the size of its maps.
    pub wanted: &'a Wanted,
}

/// Reads and checks a configuration file.
///
/// # Errors
/// [`StartError::File`] and [`StartError::Config`].
pub fn read_config(path: &Path) -> Result<Config, StartError> {
    let text = read_file(path).map_err(|source| StartError::File { path: path.to_owned(), source })?;
    Ok(config::load_config(&text, &path.display().to_string())?)
}

/// Reads a file of ordinary size. The owner reads it, so nothing that could keep it waiting is read: a FIFO, a device.
fn read_file(path: &Path) -> io::Result<String> {
    // What else `O_NONBLOCK` does to a regular file is nothing; opening a FIFO would wait for its writer.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file; name one"));
    }
    if found.len() > CONFIG_BYTES {
        return Err(io::Error::other(format!("it has {} bytes; write at most {CONFIG_BYTES}", found.len())));
    }
    let mut text = String::new();
    file.take(CONFIG_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// What a service is to hold first, and what its engine is told.
struct Found {
    record: ServiceRecord,
    event: Option<(&'static str, String)>,
    /// Read back from the kernel; none: restored into empty tables.
    buckets: Option<WantedBuckets>,
    /// What the journal has of that, under the file of then.
    journaled: Option<ServiceRecord>,
}

impl Owner {
    /// Brings everything up. `pins_left` says that maps of an earlier run are pinned.
    pub(super) fn start(
        config_path: &Path,
        clock: Box<dyn Clock>,
        pins_left: bool,
        open: impl FnOnce(&Setup<'_>) -> Result<Box<dyn Kernel>, KernelError>,
    ) -> Result<Self, StartError> {
        let config = read_config(config_path)?;
        let journal = Journal::open(&config.state_dir.join(JOURNAL))?;
        let key_path = config.hash_key_file.clone().unwrap_or_else(|| config.state_dir.join(HASH_KEY));
        let hash_key = hash_key(&key_path, journal.has_services()? || pins_left)?;
        let known: BTreeMap<_, _> = journal.services()?.into_iter().map(|known| (known.name.clone(), known)).collect();
        let engines = newest_rollouts(&journal, &config)?;
        let ids = journal.ids()?;
        let record = |service: &Service| (service.name.clone(), from_journal(service, known.get(&service.name)));
        let services = config.services.iter().map(record).collect();
        let journaled: BTreeMap<_, _> =
            known.values().filter_map(|known| Some((known.name.clone(), newest(known)?.clone()))).collect();
        let now = Moment::of(clock.kernel());
        let backends = Backends::from_journal(journal.backends()?);
        let states = backends.states(&config);
        let mut layout = Layout::restored(config, ids, services, &journaled, states, now)?;
        let wanted = layout.wanted();
        let kernel = open(&Setup { config: &layout.config, hash_key, wanted: &wanted })?;
        let published = kernel.published()?;
        let held = kernel.held_slots()?;

        let mut told = Vec::new();
        for service in &layout.config.clone().services {
            let running = engines.get(&service.name).map(|engine| &engine.state).filter(|s| !s.phase.is_final());
            let found = reconcile(&layout, service, known.get(&service.name), running, &published);
            if let Some(state) = running {
                let weight = held::weight(&found.record, state.candidate());
                let needs = state.needs_at_start(service, weight, found.record.rollout, clock.now().wall);
                layout.needs.insert(service.name.clone(), needs);
            }
            layout.services.insert(service.name.clone(), found.record.clone());
            match &found.buckets {
                // The kernel's tables are of the file of then: what the file of now changes comes after them.
                Some(buckets) => {
                    layout.restore(service, found.journaled.as_ref().unwrap_or(&found.record), now);
                    layout.adopt(&service.name, buckets, &held, now);
                }
                None => layout.renew(&service.name, now),
            }
            told.push((service.name.clone(), found));
        }
        let started = clock.now();
        let (config_path, meter, problems) = (config_path.to_owned(), Meter::default(), Problems::default());
        let (bucket_moves, signals, settling) = (BTreeMap::new(), Totals::default(), Settling::default());
        let (pruned, detached, outside, past, shadows, flow_log) =
            (None, false, Outside::default(), Past::default(), Shadows::default(), FlowLogging::default());
        #[rustfmt::skip]
        let mut owner = Self {
            config_path, layout, kernel, journal, clock, engines, meter, settling, signals, backends, bucket_moves, outside, shadows, flow_log, past, hash_key, problems, started,
            pruned, detached, replacing: Vec::new(), tracing: None, traces: 0,
        };
        owner.settle(told)?;
        Ok(owner)
    }

    /// Publishes, makes durable, tells the engines, attaches.
    fn settle(&mut self, told: Vec<(Name, Found)>) -> Result<(), StartError> {
        let asked = self.moment();
        let layout = self.layout.clone();
        self.put(layout, asked)?;
        let layout = &self.layout;
        let known: Vec<Name> = self.journal.services()?.into_iter().map(|known| known.name).collect();
        let new: Vec<Name> = layout.services.keys().filter(|name| !known.contains(name)).cloned().collect();
        let quiet: Vec<_> = layout.services.iter().filter(|(name, _)| self.running(name).is_none()).collect();
        self.journal.transaction(|journal| -> Result<(), StoreError> {
            journal.save_ids(&layout.ids)?;
            let gone = known.iter().filter(|name| !layout.services.contains_key(name));
            gone.into_iter().try_for_each(|name| journal.forget(name))?;
            quiet.iter().try_for_each(|(name, record)| journal.adopt(name, record))
        })?;
        self.tell_what_a_reboot_lost(&told);
        for (name, found) in told {
            if let Some((kind, message)) = found.event {
                self.service_event(&name, kind, message, "daemon", None);
            }
            if self.running(&name).is_some() {
                let kernel = found.buckets.is_some().then(|| self.in_kernel(&name, &found.record));
                self.drive(&name, |_| Input::Restarted { kernel });
            }
        }
        self.look_at_guards();
        self.fail_the_homeless();
        if let Err(error) = self.kernel.attach() {
            self.forget(&new);
            return Err(error.into());
        }
        Ok(())
    }

    /// Exceptions live in the kernel only.
    fn tell_what_a_reboot_lost(&mut self, told: &[(Name, Found)]) {
        let mut counts = self.journal.exceptions().unwrap_or_default();
        let lost: Vec<_> = told
            .iter()
            .filter(|(_, found)| found.buckets.is_none())
            .filter_map(|(name, _)| Some((name.clone(), counts.remove(name).filter(|count| *count > 0)?)))
            .collect();
        for (name, count) in &lost {
            let message = format!(
                "{count} flows in progress had an exception entry when that was last counted; the reboot lost them, and \
                 they may break"
            );
            self.service_event(name, "exceptionsLost", message, "daemon", None);
        }
        if !lost.is_empty() {
            let written = self.journal.transaction(|journal| journal.save_exceptions(&counts));
            self.note_journal(written);
        }
    }

    /// A first start that is refused leaves no weights: those of the file are still the initial ones.
    fn forget(&mut self, services: &[Name]) {
        let forgotten = self.journal.transaction(|journal| -> Result<(), StoreError> {
            services.iter().try_for_each(|service| journal.forget(service))
        });
        self.note_journal(forgotten);
    }

    /// Rollouts of what the configuration no longer has cannot go on.
    fn fail_the_homeless(&mut self) {
        let rollouts = self.journal.rollouts().unwrap_or_default();
        for rollout in rollouts.iter().filter(|rollout| rollout.ended.is_none()) {
            let Ok(mut state) = read_state(rollout) else { continue };
            let at_home = has_versions(&self.layout.config, &state);
            if state.phase.is_final() || at_home {
                continue;
            }
            state.phase = RolloutState::Failed;
            state.message = format!("the configuration no longer has what it releases on {}", state.service());
            state.ended = Some(self.clock.now().wall);
            let saved = self.journal.save_rollout(&journaled(&state));
            self.note_journal(saved);
            let (service, message) = (state.service().clone(), format!("rollout {}: {}", state.name(), state.message));
            self.service_event(&service, "rolloutFailed", message, "daemon", None);
        }
    }
}

/// The newest rollout of each service that can go on or has ended.
fn newest_rollouts(journal: &Journal, config: &Config) -> Result<BTreeMap<Name, Engine>, StartError> {
    let mut engines = BTreeMap::new();
    for rollout in journal.rollouts()? {
        let state = match read_state(&rollout) {
            Ok(state) => state,
            Err(_) if rollout.ended.is_some() => continue,
            Err(error) => return Err(StartError::Rollout(error)),
        };
        if has_versions(config, &state) {
            let engine = Engine::new(state);
            engines.entry(engine.state.service().clone()).or_insert(engine);
        }
    }
    Ok(engines)
}

fn has_versions(config: &Config, state: &State) -> bool {
    let service = config.services.iter().find(|service| service.name == *state.service());
    let has = |name: &Name| service.is_some_and(|service| service.versions.iter().any(|version| version.name == *name));
    has(state.candidate()) && has(&state.stable)
}

/// What was applied last, or else what was to be applied first.
fn newest(known: &JournaledService) -> Option<&ServiceRecord> {
    known.applied.as_ref().or(known.intent.as_ref())
}

/// What the journal, or else the file, says of a service.
fn from_journal(service: &Service, known: Option<&JournaledService>) -> ServiceRecord {
    match known.and_then(newest) {
        Some(known) => held::carried_over(known, service).unwrap_or_else(|| held::of_file(known, service)),
        None => held::initial(service),
    }
}

/// Joins what the journal knows of a service and what the kernel holds of it.
fn reconcile(
    layout: &Layout,
    service: &Service,
    known: Option<&JournaledService>,
    running: Option<&State>,
    published: &[Published],
) -> Found {
    let record = layout.services[&service.name].clone();
    let id = layout.ids.service(&service.name);
    let found = published.iter().find(|found| Some(found.id) == id);
    let Some((found, places)) = found.and_then(|found| Some((found, places(layout, service, &record, found)?))) else {
        return Found { record: restored(record, service, running), event: None, buckets: None, journaled: None };
    };
    let buckets = Some(found.buckets.clone());
    let then = known.and_then(newest).filter(|known| known.file.is_some());
    let journaled = then.map(|known| in_places(known.clone(), places.clone()));
    let record = in_places(record, places.clone());
    let in_kernel = held::from_kernel(&record, service, &ownerships(&found.buckets), found.epoch, found.rollout);
    let said = held::said(service, &in_kernel.weights);
    let intent = known.and_then(|known| known.intent.as_ref());
    let is_found = |known: &ServiceRecord| {
        known.epoch == found.epoch
            && held::moved(known, &ServiceRecord { segments: known.segments.clone(), ..in_kernel.clone() }) == 0
    };
    let same = is_found(&record) && record.rollout == found.rollout;
    if running.is_some() {
        Found { record: if same { record } else { in_kernel }, event: None, buckets, journaled }
    } else if let Some(intent) = intent.filter(|intent| is_found(intent)).and_then(|i| held::carried_over(i, service)) {
        let event = Some(("weightsApplied", format!("{said} was applied before the restart")));
        Found { record: intent.clone(), event, buckets, journaled: Some(in_places(intent, places)) }
    } else if known.is_none() {
        let stable = held::heaviest(service, &in_kernel.weights);
        let event = Some(("weightsAdopted", format!("the journal knows nothing, the kernel has {said}")));
        Found { record: ServiceRecord { stable, ..in_kernel }, event, buckets, journaled }
    } else if same {
        Found { record, event: None, buckets, journaled }
    } else {
        let epoch = record.epoch.max(found.epoch) + 1;
        let now = held::said(service, &record.weights);
        let event = Some(match then.is_some_and(|known| held::carried_over(known, service).is_none()) {
            true => ("weightsApplied", format!("the file lacks a version that had weight: its own {now} applies")),
            false => ("weightsRestored", format!("the kernel had {said}, the journal's {now} is restored")),
        });
        Found { record: ServiceRecord { epoch, ..record }, event, buckets, journaled }
    }
}

/// Who owns which bucket of each segment in the kernel.
pub(super) fn ownerships(buckets: &WantedBuckets) -> Vec<Ownership> {
    match buckets {
        WantedBuckets::Split(split) => vec![Ownership::of_split(*split)],
        WantedBuckets::Cells(tables) => tables
            .iter()
            .map(|table| Ownership::of_owners(table.iter().map(|bucket| bucket.current()).collect()))
            .collect(),
    }
}

/// The places of the service's versions in the kernel, and for what it does not have those of the record. None where the
/// kernel's tables are about other versions.
fn places(layout: &Layout, service: &Service, record: &ServiceRecord, found: &Published) -> Option<BTreeMap<Name, u8>> {
    let mut places = BTreeMap::new();
    for (place, id) in (0..).zip(&found.versions).filter(|(_, id)| **id != VersionId::NONE) {
        let key = layout.ids.version_key(*id).filter(|key| key.service == service.name)?;
        places.insert(key.version.clone(), place);
    }
    for (name, place) in &record.places {
        if !places.contains_key(name) {
            let taken = |place: &u8| places.values().any(|used| used == place);
            let free =
                std::iter::once(*place).chain(0..grayxdp_common::cells::VERSIONS as u8).find(|place| !taken(place))?;
            places.insert(name.clone(), free);
        }
    }
    Some(places)
}

/// The same record with other places.
fn in_places(record: ServiceRecord, places: BTreeMap<Name, u8>) -> ServiceRecord {
    if places == record.places {
        return record;
    }
    let old = |place: u8| {
        let name = places.iter().find(|(_, known)| **known == place).map(|(name, _)| name);
        name.and_then(|name| record.places.get(name)).copied().unwrap_or(u8::MAX)
    };
    let old: Vec<u8> = (0..grayxdp_common::cells::VERSIONS as u8).map(old).collect();
    let mut renumbered = record.clone();
    renumbered.buckets = record.buckets.renumbered(&old);
    renumbered.segments.values_mut().for_each(|segment| segment.buckets = segment.buckets.renumbered(&old));
    ServiceRecord { places, ..renumbered }
}

/// What empty tables are given: what was applied last, and nothing of a candidate that was on its way out.
fn restored(record: ServiceRecord, service: &Service, running: Option<&State>) -> ServiceRecord {
    match running {
        Some(state) if state.restored_weight() < held::weight(&record, state.candidate()) => {
            let weight = state.restored_weight();
            let shares = [(state.stable.clone(), weight.complement()), (state.candidate().clone(), weight)];
            held::next(&record, service, shares.into(), &BTreeMap::new(), Some(Dealer::of(state)))
        }
        Some(_) | None => record,
    }
}
