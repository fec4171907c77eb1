//! Which of the program's object files this kernel takes.

use std::sync::OnceLock;

use aya::include_bytes_aligned;

use super::object::Purpose;

/// How the program changes words that several CPUs write, and reads the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// By compare-and-swap; by the clock of the last timer tick.
    Current,
    /// Under a lock; by the precise clock. For kernels before 5.12.
    Old,
}

static LIVE: &[u8] = include_bytes_aligned!(env!("GRAYXDP_OBJECT"));
static EXPLAINING: &[u8] = include_bytes_aligned!(env!("GRAYXDP_EXPLAINING_OBJECT"));
static TRACING: &[u8] = include_bytes_aligned!(env!("GRAYXDP_TRACING_OBJECT"));
static LIVE_OLD: &[u8] = include_bytes_aligned!(env!("GRAYXDP_OBJECT_OLD"));
static EXPLAINING_OLD: &[u8] = include_bytes_aligned!(env!("GRAYXDP_EXPLAINING_OBJECT_OLD"));

static TRACING_OLD: &[u8] = include_bytes_aligned!(env!("GRAYXDP_TRACING_OBJECT_OLD"));

impl Flavour {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::Current, Self::Old];

    /// What this kernel takes: asked once.
    pub(super) fn of_this_kernel() -> Self {
        static FOUND: OnceLock<Flavour> = OnceLock::new();
        *FOUND.get_or_init(|| if refuses_compare_and_swap() { Self::Old } else { Self::Current })
    }

    /// The object file, as compiled with this binary.
    pub(super) const fn object(self, purpose: Purpose) -> &'static [u8] {
        match (self, purpose) {
            (Self::Current, Purpose::Live) => LIVE,
            (Self::Current, Purpose::Explain) => EXPLAINING,
            (Self::Current, Purpose::Trace) => TRACING,
            (Self::Old, Purpose::Live) => LIVE_OLD,
            (Self::Old, Purpose::Explain) => EXPLAINING_OLD,
            (Self::Old, Purpose::Trace) => TRACING_OLD,
        }
    }

    /// What tests call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Current => "grayxdp",
            Self::Old => "grayxdp for old kernels",
        }
    }

    /// What takes the place of what the kernel lacks.
    pub(super) const fn note(self) -> Option<&'static str> {
        match self {
            Self::Current => None,
            Self::Old => Some(
                "this kernel is older than Linux 5.12: entries of flows are changed under a lock that all CPUs share, and the \
                 time of a packet costs more to read; everything else is the same",
            ),
        }
    }
}

/// Such kernels count maps as locked memory: a process may lock as much as it needs where it has the right to say so.
pub(super) fn lift_memory_limit() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the structure lives through the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } != 0 {
        tracing::debug!("the limit of locked memory stays as it is");
    }
}

/// Offers the kernel a program of one compare-and-swap. Rights that are missing show when the real program is loaded.
///
/// Linux 5.12 has it, by commit 5ffa25502b5a ("bpf: Add instructions for atomic_[cmp]xchg").
fn refuses_compare_and_swap() -> bool {
    const PROG_LOAD: libc::c_int = 5;
    const XDP: u32 = 6;
    // r0 = 0; *(r10 - 8) = 0; r1 = 1; cmpxchg(r10 - 8, r0, r1); r0 = XDP_PASS; exit
    static PROGRAM: [u64; 6] = [
        0x0000_0000_0000_00b7,
        0x0000_0000_fff8_0a7a,
        0x0000_0001_0000_01b7,
        0x0000_00f1_fff8_1adb,
        0x0000_0002_0000_00b7,
        0x0000_0000_0000_0095,
    ];
    static LICENCE: [u8; 4] = *b"GPL\0";
    let attributes =
        [u64::from(XDP) | (PROGRAM.len() as u64) << 32, PROGRAM.as_ptr() as u64, LICENCE.as_ptr() as u64, 0, 0, 0];
    let length = size_of_val(&attributes);
    // SAFETY: the attributes, with their size, live through the call, and what they point to for ever.
    let program = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, attributes.as_ptr(), length) };
    if program < 0 {
        return std::io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL);
    }
    // SAFETY: a descriptor that the kernel has just made, and nobody else knows.
    drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(program as i32) });
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flavour_has_an_object_file_of_its_own() {
        let files: Vec<_> =
            Purpose::ALL.into_iter().flat_map(|purpose| Flavour::ALL.map(|flavour| flavour.object(purpose))).collect();
        for (index, file) in files.iter().enumerate() {
            assert!(file.starts_with(b"\x7fELF") && !files[..index].contains(file));
        }
    }
}
