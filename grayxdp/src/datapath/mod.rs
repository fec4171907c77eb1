//! The kernel side: loading, adopting, publishing, counting, explaining, next hops. The only place that knows aya.

mod announce;
mod capacity;
mod copies;
mod counters;
mod defaults;
mod devices;
mod directory;
mod entry_life;
mod events;
mod explain;
mod flavour;
mod grace;
mod lapsed;
mod lasting;
mod links;
mod loaded;
mod mapped;
mod next_hops;
mod object;
mod pins;
mod signals;
mod sweep;
mod tables;
mod trace;
mod translated;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use aya::maps::MapData;
use grayxdp_common::hash::HashKey;

pub use self::capacity::Capacity;
use self::{
    events::Events,
    flavour::Flavour,
    links::Links,
    loaded::Loaded,
    mapped::{Mappable, Mapped},
    object::Fit,
    pins::Pins,
    tables::TablesError,
    trace::Tracer,
};
use crate::model::{
    api::InterfaceStatus,
    config::{Interface, Protocol},
    kernel::{
        BackendId, CopySink, Counters, GuardStatus, HeldSlots, Kernel, KernelError, Latch, Observed, Published,
        Question, ServiceId, SignalKey, Signals, TraceQuestion, TraceRead, Wanted, WantedCopies, Way,
    },
};

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
    /// The thread that waits for events; their map stays the same when others are made larger.
    events: Option<Events>,
    /// What the links run in place of the live program, while somebody looks at packets or has them copied.
    tracer: Option<Tracer>,
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
        if let Some(note) = Flavour::of_this_kernel().note() {
            tracing::warn!("{note}");
            flavour::lift_memory_limit();
        }
        let (loaded, unused) = match adoptable(&pins, settings.capacity)? {
            Some(folder) => {
                let loaded = Loaded::open(folder, &settings)?;
                let (wanted, held) = (settings.capacity.exception_places(), loaded.sweeper.places());
                if wanted != held {
                    tracing::info!(wanted, held, "the exception table keeps its size until `grayxdp detach`");
                }
                (loaded, None)
            }
            None => {
                let loaded = Loaded::new(&pins, &settings, None)?;
                let folder = loaded.folder.clone();
                (loaded, Some(folder))
            }
        };
        Ok(Self { settings, pins, loaded, links: Links::default(), unused, events: None, tracer: None })
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

    /// The object files of the program, and what each is called.
    #[must_use]
    pub fn objects() -> Vec<(String, &'static [u8])> {
        let of = |flavour: Flavour| {
            object::Purpose::ALL
                .map(|purpose| (format!("{}{}", flavour.name(), purpose.word()), flavour.object(purpose)))
        };
        Flavour::ALL.into_iter().flat_map(of).collect()
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
        if let Some(tracer) = &mut self.tracer {
            tracer.set_clock(nanoseconds)?;
        }
        self.loaded.explainer.set_clock(nanoseconds)
    }

    /// The program that traces, for test runs; none where nobody traces.
    ///
    /// # Errors
    /// An object file that is broken.
    pub fn tracing_program(&mut self) -> Option<Result<&mut aya::programs::Xdp, KernelError>> {
        self.tracer.as_mut().map(Tracer::program)
    }

    /// The interfaces that are there.
    fn present_interfaces(&self) -> Vec<Interface> {
        let mut interfaces = self.settings.interfaces.clone();
        interfaces.retain(|interface| links::index_of(&interface.name).is_ok());
        interfaces
    }

    /// What [`Kernel::explain`] says of a packet as it comes in.
    ///
    /// # Errors
    /// What could not be run.
    pub fn explain_frame(&mut self, frame: &[u8]) -> Result<Way, KernelError> {
        self.loaded.explainer.explain_frame(frame)
    }

    /// The folder of the pinned maps, for tests that look into them.
    #[must_use]
    pub fn map_folder(&self) -> &Path {
        &self.loaded.folder
    }

    /// Asks the instance that traces and copies for something; the links run it from then on.
    fn ask_tracer(&mut self, ask: impl FnOnce(&mut Tracer) -> Result<(), KernelError>) -> Result<(), KernelError> {
        if let Some(tracer) = &mut self.tracer {
            return ask(tracer);
        }
        let mut tracer = Tracer::load(&self.loaded.folder, &self.settings)?;
        ask(&mut tracer)?;
        let interfaces = self.present_interfaces();
        if let Err(error) = self.links.attach(tracer.program()?, &self.pins, &interfaces) {
            self.attach_to(&interfaces)?;
            return Err(error);
        }
        self.tracer = Some(tracer);
        Ok(())
    }

    fn attach_to(&mut self, interfaces: &[Interface]) -> Result<(), KernelError> {
        let program = object::program(&mut self.loaded.live)?;
        self.links.attach(program, &self.pins, interfaces)?;
        self.tracer = None;
        trace::forget_programs(&self.loaded.folder)?;
        self.unused = None;
        self.remove_old_maps()?;
        let announced = self.loaded.tables().announced();
        for interface in interfaces {
            let index = links::index_of(&interface.name)?;
            self.loaded.next_hops.announce(index, announced.clone());
        }
        Ok(())
    }

    /// Makes larger maps, publishes into them and moves the links there. What belongs to flows stays as it is.
    fn grow(&mut self, wanted: &Wanted, need: Capacity) -> Result<(), KernelError> {
        let before = self.settings.capacity;
        let Capacity { exception_sets_log2, marks_log2, flows_log2, translations_log2, .. } = before;
        // What once had flows keeps its table.
        let translates = before.translates || need.translates;
        self.settings.capacity =
            Capacity { exception_sets_log2, marks_log2, flows_log2, translations_log2, translates, ..need };
        let grown = self.move_to_new_maps(wanted);
        if grown.is_err() {
            self.settings.capacity = before;
        }
        grown
    }

    fn move_to_new_maps(&mut self, wanted: &Wanted) -> Result<(), KernelError> {
        if !self.loaded.folder.exists() {
            self.loaded.pin_again()?;
        }
        let mut larger = Loaded::new(&self.pins, &self.settings, Some(&self.loaded))?;
        let known = self.loaded.tables().backend_ids().collect();
        if let Err(error) = larger.publish(wanted, &known) {
            pins::remove_maps(&larger.folder)?;
            return Err(KernelError(error.to_string()));
        }
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
            return moved;
        }
        self.loaded.take_late(&old)
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

impl Kernel for Datapath {
    fn publish(&mut self, wanted: &Wanted) -> Result<(), KernelError> {
        let need = || Capacity::of(wanted).with_room();
        if !self.loaded.tables().has_room_for(wanted) {
            tables::check(wanted).map_err(kernel_error)?;
            return self.grow(wanted, need());
        }
        match self.loaded.publish(wanted, &BTreeSet::new()) {
            // There is room, but not in one piece.
            Err(TablesError::Full(_)) => self.grow(wanted, need().with_longer_runs()),
            other => other.map_err(kernel_error),
        }
    }

    fn published(&self) -> Result<Vec<Published>, KernelError> {
        self.loaded.tables().published().map_err(kernel_error)
    }

    fn counters(&self) -> Result<Counters, KernelError> {
        self.loaded.log.lock().expect("no holder panics").flush();
        let tables = self.loaded.tables();
        self.loaded.counters.read(tables.backend_ids(), tables.service_ids())
    }

    fn explain(
        &mut self,
        source: SocketAddr,
        destination: SocketAddr,
        protocol: Protocol,
        question: Question,
    ) -> Result<Way, KernelError> {
        self.loaded.explainer.explain(source, destination, protocol, question)
    }

    fn observe(&mut self, now: Duration) -> Result<Observed, KernelError> {
        self.loaded.observe(now).map_err(kernel_error)
    }

    fn held_slots(&self) -> Result<Vec<HeldSlots>, KernelError> {
        self.loaded.tables().held_slots().map_err(kernel_error)
    }

    fn signals(&self, of: Option<ServiceId>) -> Result<BTreeMap<SignalKey, Box<Signals>>, KernelError> {
        signals::read(&self.loaded.tables(), of).map_err(kernel_error)
    }

    fn guards(&self) -> Vec<GuardStatus> {
        self.loaded.tables().guards()
    }

    fn renew_lease(&mut self, service: ServiceId, until: Duration) {
        self.loaded.tables().renew_lease(service, until);
    }

    fn clear_latch(&mut self, service: ServiceId, latch: Latch) {
        self.loaded.tables().clear_latch(service, latch);
    }

    fn on_event(&mut self, wake: Box<dyn Fn() + Send>) -> Result<(), KernelError> {
        self.events = Some(Events::start(&self.loaded.folder, wake)?);
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
        self.attach_to(&self.present_interfaces())?;
        self.settings.interfaces.iter().try_for_each(|interface| links::index_of(&interface.name).map(drop))
    }

    fn start_trace(&mut self, question: &TraceQuestion) -> Result<(), KernelError> {
        self.ask_tracer(|tracer| tracer.ask(question))
    }

    fn read_trace(&mut self) -> Result<TraceRead, KernelError> {
        self.tracer.as_mut().map_or_else(|| Ok(TraceRead::default()), Tracer::read)
    }

    fn end_trace(&mut self) -> Result<(), KernelError> {
        match &mut self.tracer {
            None => Ok(()),
            Some(tracer) if tracer.copies() => tracer.ask_nothing(),
            Some(_) => self.attach_to(&self.present_interfaces()),
        }
    }

    fn copy(&mut self, asked: &WantedCopies, sink: &CopySink) -> Result<(), KernelError> {
        if !asked.is_empty() {
            return self.ask_tracer(|tracer| tracer.copy(asked, sink));
        }
        match &mut self.tracer {
            None => Ok(()),
            Some(tracer) if tracer.tells() => tracer.copy(asked, sink),
            Some(_) => self.attach_to(&self.present_interfaces()),
        }
    }

    fn interfaces(&self) -> Vec<InterfaceStatus> {
        self.links.status(&self.pins, &self.settings.interfaces)
    }

    fn notes(&self) -> Vec<String> {
        let of_kernel = Flavour::of_this_kernel().note().map(str::to_owned);
        let by_kernel = self.loaded.tables().interfaces_of_kernel().into_iter().map(|index| {
            let name = links::name_of(index);
            format!("packets to backends behind {name} go by the kernel: a device of its kind takes none from XDP")
        });
        of_kernel.into_iter().chain(by_kernel).collect()
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
        Fit::Usable => Ok(Some(folder)),
        Fit::Incomplete => Ok(None),
    }
}

fn kernel_error(error: TablesError) -> KernelError {
    KernelError(error.to_string())
}

/// A pinned map.
fn opened(folder: &Path, name: &str) -> Result<MapData, KernelError> {
    MapData::from_pin(folder.join(name)).map_err(|error| unreadable_map(name, &error))
}

/// A pinned map, all of it mapped.
fn mapped<T: aya::Pod>(folder: &Path, name: &str) -> Result<Mapped<T>, KernelError> {
    let (data, entries) = with_entries(folder, name)?;
    Mapped::new(data.fd().as_fd(), entries).map_err(|error| unreadable_map(name, &error))
}

/// A pinned map, to be seen through windows.
fn mappable<T: aya::Pod>(folder: &Path, name: &str) -> Result<Mappable<T>, KernelError> {
    let (data, entries) = with_entries(folder, name)?;
    Ok(Mappable::new(data, entries))
}

fn with_entries(folder: &Path, name: &str) -> Result<(MapData, u32), KernelError> {
    let data = opened(folder, name)?;
    let entries = data.info().map_err(|error| unreadable_map(name, &error))?.max_entries();
    Ok((data, entries))
}

fn unreadable_map(name: &str, error: &dyn std::fmt::Display) -> KernelError {
    KernelError(format!("the map {name} cannot be read: {error}"))
}
