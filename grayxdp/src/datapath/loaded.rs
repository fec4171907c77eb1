//! Everything that belongs to one set of maps: made, taken over, filled.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::offset_of,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{Map, MapError},
};
use aya_log::EbpfLogger;
use grayxdp_common::{hash::HashKey, maps, records::Control};

use super::{
    Settings,
    counters::CounterMaps,
    explain::Explainer,
    kernel_error,
    lapsed::Lapsed,
    lasting, mappable, mapped,
    next_hops::NextHops,
    object::{self, Purpose},
    opened,
    pins::{self, Pins},
    sweep::Sweeper,
    tables::{Live, Memory, PoolMaps, PrefixMaps, Tables, TablesError},
    translated::TranslationSweeper,
    unreadable_map,
};
use crate::model::kernel::{BackendId, KernelError, Observed, ServiceId, Wanted};

/// How long a start or a reload waits for next hops before packets go by the kernel.
const NEXT_HOPS_LIMIT: Duration = Duration::from_secs(2);

/// Everything that belongs to one set of maps.
pub(super) struct Loaded {
    pub(super) folder: PathBuf,
    pub(super) live: Ebpf,
    pub(super) explainer: Explainer,
    pub(super) tables: Arc<Mutex<Tables>>,
    pub(super) counters: CounterMaps,
    /// What the program has to say; rare.
    pub(super) log: Mutex<EbpfLogger<&'static dyn log::Log>>,
    pub(super) next_hops: NextHops,
    pub(super) sweeper: Sweeper,
    pub(super) translations: TranslationSweeper,
    pub(super) lapsed: Lapsed,
    /// Maps whose content was copied from smaller ones.
    pub(super) copied: Vec<&'static str>,
}

impl Loaded {
    /// New maps in a folder of their own, but for what stays of those `before` that they replace.
    pub(super) fn new(pins: &Pins, settings: &Settings, before: Option<&Self>) -> Result<Self, KernelError> {
        let folder = pins.new_map_folder()?;
        let made = Self::make(folder.clone(), settings, before);
        if made.is_err()
            && let Err(error) = pins::remove_maps(&folder)
        {
            tracing::warn!(%error, "a folder of unfinished maps stays behind");
        }
        made
    }

    fn make(folder: PathBuf, settings: &Settings, before: Option<&Self>) -> Result<Self, KernelError> {
        let region_log2 = Some(settings.capacity.region_log2());
        let Some(before) = before else { return Self::open_in(folder, settings, region_log2, BTreeMap::new()) };
        let copied = lasting::keep(&before.folder, &folder, settings.capacity)?;
        let inherited = before.tables().live().clone();
        let made = Self { copied, ..Self::open_in(folder, settings, region_log2, inherited)? };
        lasting::copy(&before.folder, &made.folder, &made.copied)?;
        Ok(made)
    }

    /// Maps that are there.
    pub(super) fn open(folder: PathBuf, settings: &Settings) -> Result<Self, KernelError> {
        Self::open_in(folder, settings, None, BTreeMap::new())
    }

    fn open_in(
        folder: PathBuf,
        settings: &Settings,
        new_region_log2: Option<u8>,
        inherited: BTreeMap<ServiceId, Live>,
    ) -> Result<Self, KernelError> {
        let mut live = object::load(&folder, settings, Purpose::Live)?;
        let explainer = Explainer::load(&folder, settings)?;
        let memory = memory(&folder, settings.hash_key)?;
        let fingerprint = settings.hash_key.fingerprint();
        if let Some(region_log2) = new_region_log2 {
            memory.control.store(0, offset_of!(Control, region_log2), u64::from(region_log2));
            memory.control.store(0, offset_of!(Control, key_fingerprint), fingerprint);
        }
        let control = memory.control.read(0);
        if control.key_fingerprint != fingerprint {
            return Err(KernelError(
                "the kernel's tables were made under another hash key: restore the key file, or run `grayxdp detach` first".into(),
            ));
        }
        let tables = Tables::adopt(memory, control.region_log2 as u8, inherited).map_err(kernel_error)?;
        let tables = Arc::new(Mutex::new(tables));
        let counters = CounterMaps::open(&folder)?;
        let next_hops = NextHops::start(Arc::clone(&tables), &folder)?;
        let log = EbpfLogger::init(&mut live)
            .map_err(|error| KernelError(format!("the program's messages cannot be read: {error}")))?;
        Ok(Self {
            live,
            explainer,
            tables,
            counters,
            log: Mutex::new(log),
            next_hops,
            sweeper: Sweeper::new(mappable(&folder, maps::EXCEPTIONS)?),
            translations: TranslationSweeper::new(
                mappable(&folder, maps::TRANSLATIONS)?,
                mappable(&folder, maps::SEATS)?,
            ),
            lapsed: Lapsed::new(mappable(&folder, maps::MARKS)?, mappable(&folder, maps::FLOWS)?),
            copied: Vec::new(),
            folder,
        })
    }

    /// Takes over what came to smaller maps while these took their place, once no packet meets those any more.
    pub(super) fn take_late(&self, smaller: &Self) -> Result<(), KernelError> {
        let (tables, mut smaller) = (self.tables(), smaller.tables());
        smaller.wait_for_readers();
        if self.copied.contains(&maps::STAMPS) {
            tables.add_stamps_of(&smaller).map_err(kernel_error)?;
        }
        if self.copied.contains(&maps::GUARDS) {
            tables.add_latches_of(&smaller).map_err(kernel_error)?;
        }
        Ok(())
    }

    /// Pins the maps where somebody removed their pins: they live on as long as the daemon has them open.
    pub(super) fn pin_again(&mut self) -> Result<(), KernelError> {
        let failed = |error: &dyn std::fmt::Display| {
            KernelError(format!("the pin folder {} cannot be made again: {error}", self.folder.display()))
        };
        std::fs::create_dir_all(&self.folder).map_err(|error| failed(&error))?;
        for (name, map) in self.live.maps().filter(|(name, _)| maps::PINNED.contains(name)) {
            map.pin(self.folder.join(name)).map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    /// Publishes; counters of backends that are not `known` begin at zero.
    pub(super) fn publish(&mut self, wanted: &Wanted, known: &BTreeSet<BackendId>) -> Result<(), TablesError> {
        let backends = wanted.services.iter().flat_map(|service| &service.versions).flat_map(|v| &v.backends);
        let before: BTreeSet<_> = self.tables().backend_ids().collect();
        let fresh: Vec<_> = backends.map(|backend| backend.id).filter(|id| !before.contains(id)).collect();
        for id in fresh.iter().filter(|id| !known.contains(id)) {
            self.counters.clear(*id).map_err(|error| TablesError::Counters(error.0))?;
        }
        self.tables().publish(wanted)?;
        self.next_hops.set_direct_access(wanted.direct_access.clone());
        if !fresh.is_empty() {
            self.next_hops.refresh(NEXT_HOPS_LIMIT);
        }
        Ok(())
    }

    pub(super) fn observe(&mut self, now: Duration) -> Result<Observed, TablesError> {
        let mut tables = self.tables.lock().expect("no holder panics");
        tables.pass_time(now);
        self.lapsed.sweep(&tables, now)?;
        let stamps = tables.take_stamps()?;
        let sweep = self.sweeper.go_on(&mut tables, now)?;
        let translations = self.translations.go_on(&tables, now)?;
        let (places, translation_places) = (self.sweeper.places(), self.translations.places());
        Ok(Observed { stamps, sweep, places, translations, translation_places })
    }

    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().expect("no holder panics")
    }
}

fn memory(folder: &Path, hash_key: HashKey) -> Result<Memory, KernelError> {
    let (guards, stamps, signals) =
        (mappable(folder, maps::GUARDS)?, mappable(folder, maps::STAMPS)?, mappable(folder, maps::SIGNALS)?);
    let unreadable = |error: MapError| KernelError(format!("a map is not of its kind: {error}"));
    Ok(Memory {
        control: mapped(folder, maps::CONTROL)?,
        directory: mapped(folder, maps::DIRECTORY)?,
        services: mapped(folder, maps::SERVICES)?,
        details: mapped(folder, maps::DETAILS)?,
        backends: mapped(folder, maps::BACKENDS)?,
        slots: Map::Array(opened(folder, maps::SLOTS)?).try_into().map_err(unreadable)?,
        buckets: Map::Array(opened(folder, maps::BUCKETS)?).try_into().map_err(unreadable)?,
        states: Map::Array(opened(folder, maps::SLOT_STATES)?).try_into().map_err(unreadable)?,
        classes: Map::Array(opened(folder, maps::CLASSES)?).try_into().map_err(unreadable)?,
        prefixes: PrefixMaps {
            ipv4: Map::LpmTrie(opened(folder, maps::PREFIXES)?).try_into().map_err(unreadable)?,
            ipv6: Map::LpmTrie(opened(folder, maps::PREFIXES6)?).try_into().map_err(unreadable)?,
        },
        ends: mapped(folder, maps::ENDS6)?,
        targets: mapped(folder, maps::TARGETS)?,
        pools: PoolMaps::new(mapped(folder, maps::POOLS)?, mappable(folder, maps::TRANSLATIONS)?),
        hash_key,
        stamps,
        guards,
        signals,
        cpus: aya::util::nr_cpus().map_err(|(_, error)| unreadable_map("cpu/possible", &error))? as u32,
    })
}
