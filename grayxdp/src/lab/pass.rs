//! A program that passes every packet, for the far ends of veths.
//!
//! A veth delivers what the other end transmits by XDP only to an end that has a program of its own. Two instructions are
//! loaded with the system call itself, so that the lab needs neither a compiler nor a loader.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use super::{LabError, Namespace};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// Attach to the driver.
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// `r0 = XDP_PASS; exit`.
static PROGRAM: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
static LICENCE: [u8; 4] = *b"GPL\0";

/// Attributes of `BPF_PROG_LOAD`, as far as they are needed.
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

/// Attributes of `BPF_LINK_CREATE`, as far as they are needed.
#[repr(C)]
struct Link {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// Keeps the program attached; it is taken off when dropped.
#[derive(Debug)]
pub(super) struct Pass {
    _link: OwnedFd,
}

impl Pass {
    /// Attaches the program to an interface of a namespace, by its driver.
    pub(super) fn attach(namespace: &Namespace, interface: &str) -> Result<Self, LabError> {
        namespace
            .run(|| attach_here(interface))
            .map(|link| Self { _link: link })
            .map_err(|error| LabError::system(format!("attach a program to {}:{interface}", namespace.name()), error))
    }
}

fn attach_here(interface: &str) -> io::Result<OwnedFd> {
    let name = std::ffi::CString::new(interface).expect("names of interfaces hold no NUL");
    // SAFETY: the name is a C string that lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    let program = bpf(
        BPF_PROG_LOAD,
        &Load {
            kind: BPF_PROG_TYPE_XDP,
            instruction_count: 2,
            instructions: PROGRAM.as_ptr() as u64,
            licence: LICENCE.as_ptr() as u64,
            log_level: 0,
            log_bytes: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
            name: *b"lab_pass\0\0\0\0\0\0\0\0",
            interface: 0,
            expected_attach_type: BPF_XDP,
        },
    )?;
    let program_number = u32::try_from(program.as_raw_fd()).expect("descriptors are not negative");
    bpf(
        BPF_LINK_CREATE,
        &Link { program: program_number, interface: index, attach_type: BPF_XDP, flags: XDP_FLAGS_DRV_MODE },
    )
}

/// The system call; both commands used here return a descriptor.
fn bpf<A>(command: libc::c_long, attributes: &A) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are as long as said, laid out as the kernel's union for this command, and what they point
    // to is static; the kernel reads them only during the call.
    let returned = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<A>()) };
    let descriptor = libc::c_int::try_from(returned).expect("descriptors are small");
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made and that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
