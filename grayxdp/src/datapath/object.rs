//! Loading an instance of the program, with maps of its own or with pinned ones whose shape was checked.

use std::path::Path;

use aya::{
    Ebpf, EbpfError, EbpfLoader, VerifierLogLevel,
    maps::{Array, MapData, MapError, MapInfo, ProgramArray},
    programs::{ProgramError, Xdp},
};
use grayxdp_common::{cells, exceptions, guard, ipv6, maps, records, signals, translations};

use super::{Capacity, ClockSource, Settings, flavour::Flavour};
use crate::model::kernel::KernelError;

/// What an instance is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Traffic.
    Live,
    /// Saying what it would do.
    Explain,
    /// Traffic, and saying what becomes of it.
    Trace,
}

impl Purpose {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Live, Self::Explain, Self::Trace];

    /// What an instance for it is called behind the program's name.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Live => "",
            Self::Explain => ", explaining",
            Self::Trace => ", tracing",
        }
    }
}

/// Loads an instance whose maps are pinned in `folder`: those there are used, missing ones are made.
pub(super) fn load(folder: &Path, settings: &Settings, purpose: Purpose) -> Result<Ebpf, KernelError> {
    let Settings { capacity, hash_key, clock, .. } = settings;
    let manual_clock = u32::from(*clock == ClockSource::Manual);
    let bytes = Flavour::of_this_kernel().object(purpose);
    // Pinned maps keep the size that they were made with.
    let entries = |name: &str| -> Result<u32, KernelError> {
        let path = folder.join(name);
        if path.exists() {
            return Ok(MapInfo::from_pin(&path).map_err(|error| stale(&path, &error.to_string()))?.max_entries());
        }
        let made = capacity.entries().into_iter().find(|(made, _)| *made == name);
        Ok(made.map(|(_, entries)| entries).expect("every map has a capacity"))
    };
    let [sets, marks, flows] = [entries(maps::EXCEPTIONS)?, entries(maps::MARKS)?, entries(maps::FLOWS)?];
    let [places, seats, permits] = [entries(maps::TRANSLATIONS)?, entries(maps::SEATS)?, entries(maps::PERMITS)?];
    let globals = [
        ("MANUAL_CLOCK", manual_clock),
        ("EXCEPTION_MASK", sets - 1),
        ("MARK_MASK", marks - 1),
        ("FLOW_MASK", flows - 1),
        ("TRANSLATION_MASK", places - 1),
        ("SEAT_MASK", seats - 1),
        ("PERMIT_MASK", permits - 1),
        ("CPUS", capacity.cpus),
    ];
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::STATS);
    loader.override_global("HASH_KEY", hash_key, true);
    for (name, value) in &globals {
        loader.override_global(name, value, true);
    }
    let is_shared = |name: &&&str| purpose == Purpose::Live || **name != maps::PROGRAMS;
    let paths: Vec<_> = maps::PINNED.iter().filter(is_shared).map(|name| (*name, folder.join(name))).collect();
    for (name, path) in &paths {
        loader.map_pin_path(name, path.as_path());
    }
    for (name, entries) in capacity.entries() {
        loader.map_max_entries(name, entries);
    }
    let mut object = loader.load(bytes).map_err(|error| loading_failed(&error))?;
    for (index, name) in (0..).zip(maps::NEXT) {
        let next = named(&mut object, name)?;
        next.load().map_err(|error| program_failed(&error))?;
        let next = next.fd().and_then(|fd| Ok(fd.try_clone()?)).map_err(|error| program_failed(&error))?;
        let programs = object.map_mut(maps::PROGRAMS).expect("the object file has the map");
        let programs: Result<ProgramArray<&mut MapData>, MapError> = programs.try_into();
        programs
            .and_then(|mut programs| programs.set(index, &next, 0))
            .map_err(|error| KernelError(format!("the program {name} cannot be put behind the first: {error}")))?;
    }
    program(&mut object)?.load().map_err(|error| program_failed(&error))?;
    leave_memory(bytes);
    Ok(object)
}

/// Lets the kernel take back the memory of an object file that was read: it is in the file still.
fn leave_memory(bytes: &'static [u8]) {
    const PAGE: usize = 4_096;
    let start = bytes.as_ptr().align_offset(PAGE);
    let len = bytes.len().saturating_sub(start) / PAGE * PAGE;
    // SAFETY: whole pages of a constant, which the kernel reads from the file again where they are asked for.
    let _ = unsafe {
        libc::madvise(bytes.as_ptr().add(start.min(bytes.len())).cast_mut().cast(), len, libc::MADV_DONTNEED)
    };
}

/// Sets the time of an instance with a manual clock.
pub(super) fn set_clock(object: &mut Ebpf, nanoseconds: u64) -> Result<(), KernelError> {
    let map = object.map_mut(maps::CLOCK).expect("the object file has the map");
    let clock: Result<Array<&mut MapData, u64>, MapError> = map.try_into();
    clock
        .and_then(|mut clock| clock.set(0, nanoseconds, 0))
        .map_err(|error| KernelError(format!("the program's clock cannot be set: {error}")))
}

/// The program of an instance.
pub(super) fn program(object: &mut Ebpf) -> Result<&mut Xdp, KernelError> {
    named(object, maps::PROGRAM)
}

fn named<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, KernelError> {
    let program = object.program_mut(name).expect("the object file has the program");
    program.try_into().map_err(|error: ProgramError| KernelError(format!("the object file is broken: {error}")))
}

/// The shape of a map: type, key and value size, flags; entries are at least what is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    kind: u32,
    key: u32,
    value: u32,
    flags: u32,
}

const ARRAY: u32 = 2;
const HASH: u32 = 1;
const PROGRAM_ARRAY: u32 = 3;
const PER_CPU_ARRAY: u32 = 6;
const LPM_TRIE: u32 = 11;
const RING_BUFFER: u32 = 27;
const MAPPABLE: u32 = 1 << 10;
const NO_PREALLOC: u32 = 1;

/// The shape that this binary's program expects of a map.
fn expected(name: &str) -> Shape {
    use grayxdp_common::{counters, directory::DirectorySet};
    let array = |value: usize| Shape { kind: ARRAY, key: 4, value: value as u32, flags: MAPPABLE };
    let per_cpu = |value: usize| Shape { kind: PER_CPU_ARRAY, key: 4, value: value as u32, flags: 0 };
    let hash = |value: usize| Shape { kind: HASH, key: 4, value: value as u32, flags: 0 };
    match name {
        maps::CONTROL => array(size_of::<records::Control>()),
        maps::DIRECTORY => array(size_of::<DirectorySet>()),
        maps::SERVICES => array(size_of::<records::ServiceRecord>()),
        maps::SLOTS => array(size_of::<records::SlotTable>()),
        maps::BACKENDS => array(size_of::<records::BackendRecord>()),
        maps::COUNTERS => per_cpu(size_of::<counters::BackendCounters>()),
        maps::REASONS => per_cpu(size_of::<counters::ReasonCounters>()),
        maps::NEIGHBOURS => hash(size_of::<records::NextHop>()),
        maps::INTERFACES => hash(size_of::<records::InterfaceRecord>()),
        maps::ROUTE_HEADS => array(size_of::<records::RouteHeads>()),
        maps::ROUTE_LEAVES => array(size_of::<records::Route>()),
        maps::LOG => Shape { kind: RING_BUFFER, key: 0, value: 0, flags: 0 },
        maps::BUCKETS => array(size_of::<cells::BucketTable>()),
        maps::SLOT_STATES => array(size_of::<cells::SlotStates>()),
        maps::STAMPS => array(size_of::<cells::Stamps>()),
        maps::DETAILS => array(size_of::<cells::DetailRecord>()),
        maps::CLASSES => array(size_of::<cells::SegmentClass>()),
        maps::GUARDS => array(size_of::<guard::Guard>()),
        maps::EXCEPTIONS => array(size_of::<exceptions::ExceptionSet>()),
        maps::EXCEPTION_COUNTERS => per_cpu(size_of::<signals::ExceptionCounters>()),
        maps::MARKS => array(size_of::<signals::Mark>()),
        maps::FLOWS => array(size_of::<signals::FlowSample>()),
        maps::SIGNALS => array(size_of::<signals::Signals>()),
        maps::FRAGMENTS => array(size_of::<u64>()),
        maps::ENDS6 => array(size_of::<ipv6::Ends6>()),
        maps::TARGETS => array(size_of::<records::Target>()),
        maps::TRANSLATIONS => array(size_of::<translations::Translation>()),
        maps::SEATS | maps::PERMITS => array(size_of::<[u64; translations::SEATS]>()),
        maps::POOLS => array(size_of::<translations::Pool>()),
        maps::TRANSLATED_PIECES => array(size_of::<u64>()),
        maps::NEIGHBOURS6 => Shape { key: 16, ..hash(size_of::<records::NextHop>()) },
        maps::ROUTES6 => {
            Shape { kind: LPM_TRIE, key: 20, value: size_of::<records::Route>() as u32, flags: NO_PREALLOC }
        }
        maps::PREFIXES6 => {
            Shape { kind: LPM_TRIE, key: 24, value: size_of::<cells::PrefixValue>() as u32, flags: NO_PREALLOC }
        }
        maps::PROGRAMS => Shape { kind: PROGRAM_ARRAY, key: 4, value: 4, flags: 0 },
        maps::EVENTS => Shape { kind: RING_BUFFER, key: 0, value: 0, flags: 0 },
        maps::PREFIXES => {
            Shape { kind: LPM_TRIE, key: 12, value: size_of::<cells::PrefixValue>() as u32, flags: NO_PREALLOC }
        }
        maps::ROUTES => Shape { kind: LPM_TRIE, key: 8, value: size_of::<records::Route>() as u32, flags: NO_PREALLOC },
        other => unreachable!("no map is named {other}"),
    }
}

/// Whether the pinned maps of a folder can serve.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// As they are; where they are too small, they grow with the next publishing.
    Usable,
    /// A pin is missing: an earlier start did not get far.
    Incomplete,
}

/// Checks the pinned maps of a folder against what this binary expects.
///
/// # Errors
/// A map of another layout, which nothing here would have made.
pub(super) fn check_pins(folder: &Path, need: Capacity) -> Result<Fit, KernelError> {
    for (name, _) in need.entries() {
        let path = folder.join(name);
        if !path.exists() {
            return Ok(Fit::Incomplete);
        }
        let info = MapInfo::from_pin(&path).map_err(|error| stale(&path, &error.to_string()))?;
        let found = shape_of(&info).map_err(|error| stale(&path, &error.to_string()))?;
        if found != expected(name) {
            return Err(stale(&path, &format!("it is {found:?}, not {:?}", expected(name))));
        }
    }
    Ok(Fit::Usable)
}

fn shape_of(info: &MapInfo) -> Result<Shape, MapError> {
    let kind = info.map_type()? as u32;
    Ok(Shape { kind, key: info.key_size(), value: info.value_size(), flags: info.map_flags() })
}

fn stale(path: &Path, what: &str) -> KernelError {
    KernelError(format!(
        "the pin {} is not of this layout ({what}): run `grayxdp detach` with the version that made it, or remove {}",
        path.display(),
        path.parent().unwrap_or(path).display()
    ))
}

fn loading_failed(error: &EbpfError) -> KernelError {
    let text = error.to_string();
    if is_denied(error) {
        return KernelError(
            "no right to load the program: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON".into(),
        );
    }
    KernelError(format!("the kernel's tables could not be made: {}", first_line(&text)))
}

fn program_failed(error: &ProgramError) -> KernelError {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        if io_error.kind() == std::io::ErrorKind::PermissionDenied && verifier_log.to_string().trim().is_empty() {
            return KernelError(
                "no right to load the program: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON".into(),
            );
        }
        let log = verifier_log.to_string();
        tracing::debug!(verifier_log = log, "verifier");
        let why = last_word(&log).map(|word| format!(": {word}")).unwrap_or_default();
        return KernelError(format!(
            "this kernel refuses the program ({io_error}{why}): grayxdp needs Linux 5.10 or newer; GRAYXDP_LOG=debug shows more"
        ));
    }
    KernelError(format!("the program could not be loaded: {}", first_line(&error.to_string())))
}

/// What the verifier said last, before its statistics.
fn last_word(log: &str) -> Option<&str> {
    const STATISTICS: [&str; 3] = ["processed ", "verification time ", "stack depth "];
    let is_word = |line: &&str| !line.is_empty() && !STATISTICS.iter().any(|figures| line.starts_with(figures));
    log.lines().rev().map(str::trim).find(is_word)
}

fn is_denied(error: &EbpfError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(this) = cause {
        if this
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| matches!(io.raw_os_error(), Some(libc::EPERM | libc::EACCES)))
        {
            return true;
        }
        cause = this.source();
    }
    false
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_reason_is_the_line_before_its_statistics() {
        let log =
            "func#0 @0\nR3 unbounded memory access\nverification time 9 usec\nstack depth 16\nprocessed 4 insns\n\n";
        assert_eq!(last_word(log), Some("R3 unbounded memory access"));
        assert_eq!(last_word("processed 4 insns"), None);
    }
}
