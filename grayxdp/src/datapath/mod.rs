//! The kernel side: loading, adopting, publishing, counting, explaining, next hops. The only place that knows aya.

mod announce;
mod capacity;
mod counters;
mod directory;
mod explain;
mod grace;
mod links;
mod mapped;
mod next_hops;
mod object;
mod pins;
mod tables;

use std::{
    collections::BTreeMap,
    mem::offset_of,
    net::SocketAddrV4,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{Array, Map, MapData},
};
use aya_log::EbpfLogger;
use grayxdp_common::{
    hash::HashKey,
    maps,
    records::{Control, SlotTable},
};

pub use self::capacity::Capacity;
use self::{
    counters::CounterMaps,
    explain::Explainer,
    links::Links,
    mapped::Mapped,
    next_hops::NextHops,
    object::{Fit, Purpose},
    pins::Pins,
    tables::{Memory, Tables},
};
use crate::model::{
    api::InterfaceStatus,
    config::{Interface, Protocol},
    kernel::{
        BackendId, Counters, GuardStatus, HeldSlots, Kernel, KernelError, Latch, Observed, Published, Question,
        ServiceId, SignalKey, Signals, Wanted, Way,
    },
};

/// How long a start or a reload waits for next hops before packets go by the kernel.
const NEXT_HOPS_LIMIT: Duration = Duration::from_secs(2);

/// What the data path is opened with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where maps and links are pinned; on a BPF file system.
    pub pin_dir: PathBuf,
    /// Interfaces to attach to, in the calling thread's network namespace.
    pub interfaces: Vec<Interface>,
    /// The flow hash's key.
    pub hash_key: HashKey,
    /// What the maps must have room for.
    pub capacity: Capacity,
    /// Where the program gets the time from.
    pub clock: ClockSource,
}

/// Where the program gets the time from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClockSource {
    /// The kernel's monotonic clock.
    #[default]
    Monotonic,
    /// [`Datapath::set_clock`]: for tests of what time does.
    Manual,
}

/// The loaded program, its tables, its links, and the thread that keeps next hops fresh.
pub struct Datapath {
    settings: Settings,
    pins: Pins,
    loaded: Loaded,
    links: Links,
    /// Maps that this start made and nothing is attached to yet.
    unused: Option<PathBuf>,
}

/// Everything that belongs to one set of maps.
struct Loaded {
    folder: PathBuf,
    live: Ebpf,
    explainer: Explainer,
    tables: Arc<Mutex<Tables>>,
    counters: CounterMaps,
    /// What the program has to say; rare.
    log: Mutex<EbpfLogger<&'static dyn log::Log>>,
    next_hops: NextHops,
}

impl Datapath {
    /// Loads the program on the tables that an earlier daemon left, or on new ones. Attaches nothing.
    ///
    /// # Errors
    /// No rights, no BPF file system, a kernel too old, pins of another layout or under another hash key.
    pub fn open(settings: Settings) -> Result<Self, KernelError> {
        for interface in &settings.interfaces {
            links::index_of(&interface.name)?;
        }
        let pins = Pins::open(&settings.pin_dir)?;
        let (loaded, unused) = match adoptable(&pins, settings.capacity)? {
            Some(folder) => (Loaded::open(folder, &settings)?, None),
            None => {
                let loaded = Loaded::new(&pins, &settings)?;
                let folder = loaded.folder.clone();
                (loaded, Some(folder))
            }
        };
        Ok(Self { settings, pins, loaded, links: Links::default(), unused })
    }

    /// Whether tables of an earlier daemon lie in a pin folder.
    #[must_use]
    pub fn is_left_in(pin_dir: &Path) -> bool {
        Pins::exist(pin_dir)
    }

    /// Takes the program off all interfaces and removes every pin, without a daemon.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove(pin_dir: &Path) -> Result<(), KernelError> {
        Pins::open(pin_dir)?.remove_all()
    }

    /// The live program, for test runs.
    ///
    /// # Errors
    /// An object file that is broken.
    pub fn program(&mut self) -> Result<&mut aya::programs::Xdp, KernelError> {
        object::program(&mut self.loaded.live)
    }

    /// Sets the time of a program with [`ClockSource::Manual`], for the live and the explaining instance.
    ///
    /// # Errors
    /// What could not be written.
    pub fn set_clock(&mut self, monotonic: Duration) -> Result<(), KernelError> {
        let nanoseconds = monotonic.as_nanos() as u64;
        object::set_clock(&mut self.loaded.live, nanoseconds)?;
        self.loaded.explainer.set_clock(nanoseconds)
    }

    /// The folder of the pinned maps, for tests that look into them.
    #[must_use]
    pub fn map_folder(&self) -> &Path {
        &self.loaded.folder
    }

    fn attach_to(&mut self, interfaces: &[Interface]) -> Result<(), KernelError> {
        let program = object::program(&mut self.loaded.live)?;
        self.links.attach(program, &self.pins, interfaces)?;
        self.unused = None;
        self.remove_old_maps()?;
        let announced = self.loaded.tables().announced();
        for interface in interfaces {
            let index = links::index_of(&interface.name)?;
            self.loaded.next_hops.announce(index, announced.clone());
        }
        Ok(())
    }

    /// Makes larger maps, publishes into them and moves the links there: counters begin anew.
    fn grow(&mut self, wanted: &Wanted) -> Result<(), KernelError> {
        let before = self.settings.capacity;
        self.settings.capacity = Capacity::of(wanted).with_room();
        let grown = self.move_to_new_maps(wanted);
        if grown.is_err() {
            self.settings.capacity = before;
        }
        grown
    }

    fn move_to_new_maps(&mut self, wanted: &Wanted) -> Result<(), KernelError> {
        let mut larger = Loaded::new(&self.pins, &self.settings)?;
        larger.publish(wanted)?;
        let old = std::mem::replace(&mut self.loaded, larger);
        tracing::info!(from = %old.folder.display(), to = %self.loaded.folder.display(), "making the kernel's tables larger");
        if self.pins.links()?.is_empty() {
            if let Some(unused) = &mut self.unused {
                pins::remove_maps(unused)?;
                unused.clone_from(&self.loaded.folder);
            }
            return Ok(());
        }
        let moved = self.attach();
        if moved.is_err() {
            // The links that moved go back to the old tables, and the larger ones are dropped with their folder.
            self.loaded = old;
            self.attach()?;
        }
        moved
    }

    /// Removes maps that no link's program works on any more.
    fn remove_old_maps(&self) -> Result<(), KernelError> {
        for folder in self.pins.map_folders()? {
            if folder != self.loaded.folder {
                pins::remove_maps(&folder)?;
            }
        }
        Ok(())
    }
}

impl Loaded {
    /// New maps in a folder of their own.
    fn new(pins: &Pins, settings: &Settings) -> Result<Self, KernelError> {
        let folder = pins.new_map_folder()?;
        let opened = Self::open_in(folder.clone(), settings, Some(settings.capacity.region_log2()));
        if opened.is_err()
            && let Err(error) = pins::remove_maps(&folder)
        {
            tracing::warn!(%error, "a folder of unfinished maps stays behind");
        }
        opened
    }

    /// Maps that are there.
    fn open(folder: PathBuf, settings: &Settings) -> Result<Self, KernelError> {
        Self::open_in(folder, settings, None)
    }

    fn open_in(folder: PathBuf, settings: &Settings, new_region_log2: Option<u8>) -> Result<Self, KernelError> {
        let mut live = object::load(&folder, settings, Purpose::Live)?;
        let explainer = Explainer::load(&folder, settings)?;
        let memory = memory(&folder)?;
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
        let tables = Tables::adopt(memory, control.region_log2 as u8)
            .map_err(|error| KernelError(format!("a thread cannot be started: {error}")))?;
        let tables = Arc::new(Mutex::new(tables));
        let counters = CounterMaps::open(&folder)?;
        let next_hops = NextHops::start(Arc::clone(&tables), &folder)?;
        let log = EbpfLogger::init(&mut live)
            .map_err(|error| KernelError(format!("the program's messages cannot be read: {error}")))?;
        Ok(Self { folder, live, explainer, tables, counters, log: Mutex::new(log), next_hops })
    }

    /// Pins the maps where somebody removed their pins: they live on as long as the daemon has them open.
    fn pin_again(&mut self) -> Result<(), KernelError> {
        let failed = |error: &dyn std::fmt::Display| {
            KernelError(format!("the pin folder {} cannot be made again: {error}", self.folder.display()))
        };
        std::fs::create_dir_all(&self.folder).map_err(|error| failed(&error))?;
        for (name, map) in self.live.maps().filter(|(name, _)| maps::PINNED.contains(name)) {
            map.pin(self.folder.join(name)).map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    fn publish(&mut self, wanted: &Wanted) -> Result<(), KernelError> {
        let fresh: Vec<BackendId> = {
            let mut tables = self.tables();
            let before: std::collections::BTreeSet<_> = tables.backend_ids().collect();
            let ids =
                wanted.services.iter().flat_map(|service| &service.versions).flat_map(|version| &version.backends);
            let fresh: Vec<_> = ids.map(|backend| backend.id).filter(|id| !before.contains(id)).collect();
            drop(tables);
            for id in &fresh {
                self.counters.clear(*id)?;
            }
            tables = self.tables();
            tables.publish(wanted).map_err(|error| KernelError(error.to_string()))?;
            fresh
        };
        self.next_hops.set_direct_access(wanted.direct_access.clone());
        if !fresh.is_empty() {
            self.next_hops.refresh(NEXT_HOPS_LIMIT);
        }
        Ok(())
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().expect("no holder panics")
    }
}

impl Kernel for Datapath {
    fn publish(&mut self, wanted: &Wanted) -> Result<(), KernelError> {
        if self.loaded.tables().has_room_for(wanted) { self.loaded.publish(wanted) } else { self.grow(wanted) }
    }

    fn published(&self) -> Result<Vec<Published>, KernelError> {
        Ok(self.loaded.tables().published())
    }

    fn counters(&self) -> Result<Counters, KernelError> {
        self.loaded.log.lock().expect("no holder panics").flush();
        let tables = self.loaded.tables();
        self.loaded.counters.read(tables.backend_ids(), tables.service_ids())
    }

    fn explain(
        &mut self,
        source: SocketAddrV4,
        destination: SocketAddrV4,
        protocol: Protocol,
        question: Question,
    ) -> Result<Way, KernelError> {
        self.loaded.explainer.explain(source, destination, protocol, question)
    }

    fn observe(&mut self, _now: Duration) -> Result<Observed, KernelError> {
        Ok(Observed::default())
    }

    fn held_slots(&self) -> Result<Vec<HeldSlots>, KernelError> {
        Ok(Vec::new())
    }

    fn signals(&self) -> Result<BTreeMap<SignalKey, Box<Signals>>, KernelError> {
        Ok(BTreeMap::new())
    }

    fn guards(&self) -> Vec<GuardStatus> {
        Vec::new()
    }

    fn renew_lease(&mut self, _service: ServiceId, _until: Duration) {}

    fn clear_latch(&mut self, _service: ServiceId, _latch: Latch) {}

    fn on_event(&mut self, _wake: Box<dyn Fn() + Send>) -> Result<(), KernelError> {
        Ok(())
    }

    fn attach(&mut self) -> Result<(), KernelError> {
        let interfaces = self.settings.interfaces.clone();
        self.attach_to(&interfaces)
    }

    fn mend(&mut self) -> Result<(), KernelError> {
        if !self.loaded.folder.exists() {
            self.loaded.pin_again()?;
        }
        let mut interfaces = self.settings.interfaces.clone();
        interfaces.retain(|interface| links::index_of(&interface.name).is_ok());
        self.attach_to(&interfaces)?;
        self.settings.interfaces.iter().try_for_each(|interface| links::index_of(&interface.name).map(drop))
    }

    fn interfaces(&self) -> Vec<InterfaceStatus> {
        self.links.status(&self.pins, &self.settings.interfaces)
    }

    fn is_resolved(&self, backend: BackendId) -> bool {
        self.loaded.tables().is_resolved(backend)
    }

    fn detach(&mut self) -> Result<(), KernelError> {
        self.links = Links::default();
        self.unused = None;
        self.pins.remove_all()
    }
}

/// A start that did not get as far as attaching leaves nothing behind.
impl Drop for Datapath {
    fn drop(&mut self) {
        if let Some(folder) = self.unused.take()
            && let Err(error) = self.pins.remove_unused(&folder)
        {
            tracing::warn!(%error, "maps that nothing uses stay behind");
        }
    }
}

/// The folder of maps to go on with: the one that the attached program works on, else the newest complete one.
fn adoptable(pins: &Pins, need: Capacity) -> Result<Option<PathBuf>, KernelError> {
    let running: Vec<_> = pins.links()?.iter().filter_map(|left| pins::program(left.program)).collect();
    let mut folders = pins.map_folders()?;
    if !running.is_empty() {
        folders.retain(|folder| running.iter().any(|program| pins::uses(program, folder)));
    }
    let Some(folder) = folders.pop() else { return Ok(None) };
    match object::check_pins(&folder, need)? {
        Fit::Fits => Ok(Some(folder)),
        Fit::TooSmall | Fit::Incomplete => Ok(None),
    }
}

fn memory(folder: &Path) -> Result<Memory, KernelError> {
    Ok(Memory {
        control: mapped(folder, maps::CONTROL)?,
        directory: mapped(folder, maps::DIRECTORY)?,
        services: mapped(folder, maps::SERVICES)?,
        slots: slots(folder)?,
        backends: mapped(folder, maps::BACKENDS)?,
    })
}

fn slots(folder: &Path) -> Result<Array<MapData, SlotTable>, KernelError> {
    let data = MapData::from_pin(folder.join(maps::SLOTS));
    let slots = data.and_then(|data| Map::Array(data).try_into());
    slots.map_err(|error| KernelError(format!("the map {} cannot be read: {error}", maps::SLOTS)))
}

fn mapped<T: aya::Pod>(folder: &Path, name: &str) -> Result<Mapped<T>, KernelError> {
    let failed = |error: &dyn std::fmt::Display| KernelError(format!("the map {name} cannot be read: {error}"));
    let data = MapData::from_pin(folder.join(name)).map_err(|error| failed(&error))?;
    let entries = data.info().map_err(|error| failed(&error))?.max_entries();
    Mapped::new(data.fd().as_fd(), entries).map_err(|error| failed(&error))
}
