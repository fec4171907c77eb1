//! A kernel that lacks something, for one process: a filter of system calls answers as that kernel would.

use std::{io, os::unix::process::CommandExt, process::Command};

const LINK_CREATE: u32 = 28;
/// Offsets in the kernel's `struct seccomp_data`.
const NUMBER: u32 = 0;
const FIRST_ARGUMENT: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };

/// `bpf(BPF_LINK_CREATE, …)` answers EINVAL, as kernels before 5.7 do; netlink attaches XDP there as before.
pub(crate) fn without_links(command: &mut Command) {
    let call = u32::try_from(libc::SYS_bpf).unwrap();
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let line = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let filter = [
        line(load, 0, 0, NUMBER),
        line(equal, 0, 3, call),
        line(load, 0, 0, FIRST_ARGUMENT),
        line(equal, 0, 1, LINK_CREATE),
        line(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
        line(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let mut filter = filter;
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: the program and its lines live through the call, which copies them; nothing is allocated.
        let installed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::from_ref(&program)) == 0
        };
        if installed { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec only the system calls above are made.
    unsafe { command.pre_exec(install) };
}
