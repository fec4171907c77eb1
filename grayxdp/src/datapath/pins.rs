//! Where maps and links are pinned, and finding what an earlier daemon left there.
//!
//! `<pin folder>/abi-<version>/maps-<n>/<map>` and `<pin folder>/abi-<version>/<mode>-<interface index>`. Maps that are made anew (larger)
//! get the next number; those of the program that the links run are the live ones.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use aya::{
    maps::MapInfo,
    programs::{
        ProgramInfo,
        links::{FdLink, PinnedLink},
        loaded_programs,
    },
};
use grayxdp_common::{ABI_VERSION, maps};

use crate::model::kernel::KernelError;

/// `f_type` of a BPF file system (`linux/magic.h`).
const BPF_FS_MAGIC: libc::__fsword_t = 0xcafe_4a11;

/// Mode of a link that the driver runs.
pub(super) const NATIVE: &str = "native";
/// Mode of a link that runs after the kernel has made a socket buffer.
pub(super) const GENERIC: &str = "generic";

/// The pin folder of this layout, held by one process at a time.
#[derive(Debug)]
pub(super) struct Pins {
    root: PathBuf,
    _lock: File,
}

/// A link that an earlier daemon pinned.
pub(super) struct Left {
    /// Interface index.
    pub(super) interface: u32,
    /// How it is attached.
    pub(super) mode: &'static str,
    /// The pin.
    pub(super) path: PathBuf,
    /// The program that it runs.
    pub(super) program: u32,
}

impl Pins {
    /// The pin folder, made where it is missing. A BPF file system must be mounted there or is mounted on its usual place.
    pub(super) fn open(folder: &Path) -> Result<Self, KernelError> {
        let failed = |error: io::Error| {
            KernelError(format!(
                "the pin folder {} cannot be used: {error}; run as root or make it writable",
                folder.display()
            ))
        };
        mount_if_missing(folder).map_err(failed)?;
        fs::create_dir_all(folder).map_err(failed)?;
        if !is_bpf_fs(folder).map_err(failed)? {
            return Err(KernelError(format!(
                "the pin folder {} is not on a BPF file system: `mount -t bpf bpf DIR`, or set `pinDir` to a folder on one",
                folder.display()
            )));
        }
        let lock = lock(folder)?;
        refuse_other_layouts(folder)?;
        let root = folder.join(format!("abi-{ABI_VERSION}"));
        fs::create_dir_all(&root).map_err(failed)?;
        Ok(Self { root, _lock: lock })
    }

    /// Whether anything of this layout is pinned under a folder.
    pub(super) fn exist(folder: &Path) -> bool {
        fs::read_dir(folder.join(format!("abi-{ABI_VERSION}"))).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// The pin of an interface's link.
    pub(super) fn link(&self, interface: u32, mode: &str) -> PathBuf {
        self.root.join(format!("{mode}-{interface}"))
    }

    /// Links left by an earlier daemon.
    pub(super) fn links(&self) -> Result<Vec<Left>, KernelError> {
        let mut links = Vec::new();
        for mode in [NATIVE, GENERIC] {
            for (interface, path) in self.numbered(&format!("{mode}-"))? {
                let link = open_link(&path)?;
                let info = link.info().map_err(|error| unreadable(&path, &error.to_string()))?;
                links.push(Left { interface, mode, path, program: info.program_id() });
            }
        }
        Ok(links)
    }

    /// Folders of maps, the oldest first.
    pub(super) fn map_folders(&self) -> Result<Vec<PathBuf>, KernelError> {
        Ok(self.numbered("maps-")?.into_iter().map(|(_, path)| path).collect())
    }

    /// A fresh folder for maps.
    pub(super) fn new_map_folder(&self) -> Result<PathBuf, KernelError> {
        let next = self.numbered("maps-")?.last().map_or(1, |(number, _)| number + 1);
        let folder = self.root.join(format!("maps-{next}"));
        fs::create_dir(&folder).map_err(|error| unreadable(&folder, &error.to_string()))?;
        Ok(folder)
    }

    fn numbered(&self, prefix: &str) -> Result<Vec<(u32, PathBuf)>, KernelError> {
        let entries = fs::read_dir(&self.root).map_err(|error| unreadable(&self.root, &error.to_string()))?;
        let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix(prefix)?.parse().ok();
        let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
        let mut numbered: Vec<_> = paths.filter_map(|path| Some((number(&path)?, path))).collect();
        numbered.sort();
        Ok(numbered)
    }

    /// Removes everything; links first, so that no packet meets a program without tables.
    pub(super) fn remove_all(&self) -> Result<(), KernelError> {
        for left in self.links()? {
            fs::remove_file(&left.path).map_err(|error| unreadable(&left.path, &error.to_string()))?;
        }
        for folder in self.map_folders()? {
            remove_maps(&folder)?;
        }
        fs::remove_dir(&self.root).map_err(|error| unreadable(&self.root, &error.to_string()))
    }

    /// Removes a folder of maps that no link ever worked on, and what is empty without it.
    pub(super) fn remove_unused(&self, maps: &Path) -> Result<(), KernelError> {
        remove_maps(maps)?;
        // It stays where it holds something.
        let _ = fs::remove_dir(&self.root);
        Ok(())
    }
}

/// Removes a folder of pinned maps.
pub(super) fn remove_maps(folder: &Path) -> Result<(), KernelError> {
    fs::remove_dir_all(folder).map_err(|error| unreadable(folder, &error.to_string()))
}

/// A pinned link, to be kept or updated.
pub(super) fn open_link(path: &Path) -> Result<FdLink, KernelError> {
    PinnedLink::from_pin(path).map(FdLink::from).map_err(|error| unreadable(path, &error.to_string()))
}

/// What the kernel says about a loaded program.
pub(super) fn program(id: u32) -> Option<ProgramInfo> {
    loaded_programs().filter_map(Result::ok).find(|info| info.id() == id)
}

/// Whether a program works on the maps of a folder.
pub(super) fn uses(program: &ProgramInfo, folder: &Path) -> bool {
    let control = MapInfo::from_pin(folder.join(maps::CONTROL)).ok().map(|info| info.id());
    let used = program.map_ids().ok().flatten().unwrap_or_default();
    control.is_some_and(|id| used.contains(&id))
}

/// Two daemons with one pin folder would each move the links to its own program.
fn lock(folder: &Path) -> Result<File, KernelError> {
    let unusable = |error: io::Error| unreadable(folder, &error.to_string());
    let opened = File::open(folder).map_err(unusable)?;
    match opened.try_lock() {
        Ok(()) => Ok(opened),
        Err(TryLockError::WouldBlock) => Err(KernelError(format!(
            "{}: another grayxdp daemon uses this pinDir; stop it, or give this one a pinDir of its own",
            folder.display()
        ))),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

fn refuse_other_layouts(folder: &Path) -> Result<(), KernelError> {
    let ours = format!("abi-{ABI_VERSION}");
    let entries = fs::read_dir(folder).map_err(|error| unreadable(folder, &error.to_string()))?;
    let names = entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok());
    match names.into_iter().find(|name| name.starts_with("abi-") && *name != ours) {
        Some(other) => Err(KernelError(format!(
            "{} holds pins of another layout ({other}, this is {ours}): run `grayxdp detach` with the version that made them",
            folder.display()
        ))),
        None => Ok(()),
    }
}

/// Mounts a BPF file system on the usual place if the pin folder lies there and none is mounted.
fn mount_if_missing(folder: &Path) -> io::Result<()> {
    let usual = Path::new("/sys/fs/bpf");
    if !folder.starts_with(usual) || !usual.exists() || is_bpf_fs(usual)? {
        return Ok(());
    }
    // SAFETY: all arguments are constant, terminated strings; no data is passed.
    let mounted =
        unsafe { libc::mount(c"bpf".as_ptr(), c"/sys/fs/bpf".as_ptr(), c"bpf".as_ptr(), 0, std::ptr::null()) };
    if mounted == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn is_bpf_fs(path: &Path) -> io::Result<bool> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let mut statistics = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path is terminated and the structure is large enough for the call to fill.
    if unsafe { libc::statfs(path.as_ptr(), statistics.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it filled the structure.
    Ok(unsafe { statistics.assume_init() }.f_type == BPF_FS_MAGIC)
}

fn unreadable(path: &Path, what: &str) -> KernelError {
    KernelError(format!("the pin {} cannot be used: {what}", path.display()))
}
