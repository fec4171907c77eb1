//! Attaching to interfaces: new links are pinned, left ones are kept or moved to this program without losing a packet.

use std::{collections::BTreeMap, ffi::CString, fs, path::PathBuf};

use aya::programs::{ProgramError, Xdp, XdpMode, links::FdLink, xdp::XdpLink};

use rtnetlink::{
    LinkUnspec,
    packet_route::link::{LinkAttribute, LinkXdp},
};

use super::{
    devices,
    pins::{self, GENERIC, NATIVE, Pins},
};
use crate::model::{
    api::{DETACHED, InterfaceStatus},
    config::{AttachMode, Interface},
    kernel::KernelError,
};

/// Interfaces that carry the program now.
#[derive(Default)]
pub(super) struct Links {
    attached: BTreeMap<u32, &'static str>,
}

impl Links {
    /// Attaches `program` to all interfaces, and takes left links off those that are not named.
    pub(super) fn attach(
        &mut self,
        program: &mut Xdp,
        pins: &Pins,
        interfaces: &[Interface],
    ) -> Result<(), KernelError> {
        let mut wanted = BTreeMap::new();
        for interface in interfaces {
            let index = index_of(&interface.name)?;
            if !self.attached.contains_key(&index) {
                devices::refuse_member(index, &interface.name)?;
            }
            wanted.insert(index, interface);
        }
        let mut left: BTreeMap<u32, pins::Left> =
            pins.links()?.into_iter().map(|left| (left.interface, left)).collect();
        let mut fresh = Vec::new();
        for (index, interface) in &wanted {
            let attached = match left.remove(index) {
                Some(link) => take_over(program, link, pins, interface),
                None => {
                    attach_anew(program, *index, pins, interface).inspect(|mode| fresh.push(pins.link(*index, mode)))
                }
            };
            match attached {
                Ok(mode) => drop(self.attached.insert(*index, mode)),
                Err(error) => {
                    take_off(&fresh);
                    return Err(error);
                }
            }
        }
        for link in left.into_values() {
            fs::remove_file(&link.path)
                .map_err(|error| KernelError(format!("the pin {} cannot be removed: {error}", link.path.display())))?;
            self.attached.remove(&link.interface);
        }
        Ok(())
    }

    /// How each interface is attached. A link lives by its pin, and on the interface for which it was made.
    pub(super) fn status(&self, pins: &Pins, interfaces: &[Interface]) -> Vec<InterfaceStatus> {
        let mode = |interface: &Interface| {
            let index = index_of(&interface.name).ok()?;
            self.attached.get(&index).copied().filter(|mode| pins.link(index, mode).exists())
        };
        let mode = |interface: &Interface| mode(interface).unwrap_or(DETACHED);
        interfaces
            .iter()
            .map(|interface| InterfaceStatus { name: interface.name.clone(), mode: mode(interface).to_owned() })
            .collect()
    }
}

/// Undoes what a start that fails has attached.
fn take_off(fresh: &[PathBuf]) {
    for pin in fresh {
        if let Err(error) = fs::remove_file(pin) {
            tracing::error!(pin = %pin.display(), %error, "an interface stays attached; remove this pin by hand");
        }
    }
}

/// Moves a left link to this program, or keeps it where it runs the very same one on the same maps.
fn take_over(
    program: &mut Xdp,
    left: pins::Left,
    pins: &Pins,
    interface: &Interface,
) -> Result<&'static str, KernelError> {
    let ours = program.info().map_err(|error| failed(interface, &error))?;
    let same = pins::program(left.program)
        .is_some_and(|running| running.tag() == ours.tag() && running.map_ids().ok() == ours.map_ids().ok());
    if !same {
        let link = XdpLink::try_from(pins::open_link(&left.path)?).map_err(|error| KernelError(error.to_string()))?;
        match program.attach_to_link(link) {
            Ok(id) => drop(program.take_link(id).map_err(|error| failed(interface, &error))?),
            Err(error) if is_gone(&error) => {
                // The device that the link was for is gone; its index serves another one now.
                fs::remove_file(&left.path).map_err(|error| KernelError(error.to_string()))?;
                return attach_anew(program, left.interface, pins, interface);
            }
            Err(error) => return Err(failed(interface, &error)),
        }
    }
    Ok(left.mode)
}

fn attach_anew(program: &mut Xdp, index: u32, pins: &Pins, interface: &Interface) -> Result<&'static str, KernelError> {
    let modes: &[XdpMode] = match interface.mode {
        AttachMode::Native => &[XdpMode::Driver],
        AttachMode::Generic => &[XdpMode::Skb],
        AttachMode::Auto => &[XdpMode::Driver, XdpMode::Skb],
    };
    let mut outcome = Err(KernelError(format!("{} was not attached", interface.name)));
    for mode in modes {
        match attach_pinned(program, index, pins, *mode, interface) {
            Ok(()) => return Ok(label(*mode)),
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

fn attach_pinned(
    program: &mut Xdp,
    index: u32,
    pins: &Pins,
    mode: XdpMode,
    interface: &Interface,
) -> Result<(), KernelError> {
    let id = program.attach_to_if_index(index, mode).map_err(|error| failed(interface, &error))?;
    let link = program.take_link(id).map_err(|error| failed(interface, &error))?;
    let Ok(link) = FdLink::try_from(link) else {
        take_off_netlink(index, mode);
        return Err(KernelError(format!(
            "{}: this kernel has no links for XDP, so the program would not outlive the daemon; grayxdp needs Linux 5.10",
            interface.name
        )));
    };
    link.pin(pins.link(index, label(mode)))
        .map(drop)
        .map_err(|error| KernelError(format!("{}: {error}", interface.name)))
}

/// Takes a program off that was attached by netlink, for want of links.
fn take_off_netlink(index: u32, mode: XdpMode) {
    let detached =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string());
    let detached = detached.and_then(|runtime| runtime.block_on(detach_by_netlink(index, mode)));
    if let Err(error) = detached {
        tracing::error!(%error, interface = index, "the program stays on the interface: `ip link set … xdp off`");
    }
}

async fn detach_by_netlink(index: u32, mode: XdpMode) -> Result<(), String> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    // `XDP_FLAGS_…_MODE` of linux/if_link.h.
    let flags = match mode {
        XdpMode::Default => 0,
        XdpMode::Skb => 1 << 1,
        XdpMode::Driver => 1 << 2,
        XdpMode::Hardware => 1 << 3,
    };
    let nothing = vec![LinkXdp::Fd(-1), LinkXdp::Flags(flags)];
    let message = LinkUnspec::new_with_index(index).append_extra_attribute(LinkAttribute::Xdp(nothing)).build();
    handle.link().set(message).execute().await.map_err(|error| error.to_string())
}

const fn label(mode: XdpMode) -> &'static str {
    match mode {
        XdpMode::Driver => NATIVE,
        XdpMode::Skb | XdpMode::Default | XdpMode::Hardware => GENERIC,
    }
}

/// The index of an interface in this network namespace.
pub(super) fn index_of(name: &str) -> Result<u32, KernelError> {
    let text = CString::new(name).map_err(|_| KernelError(format!("`{name}` is no interface name")))?;
    // SAFETY: the name is a terminated string.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => Err(KernelError(format!(
            "no interface `{name}` here: see `ip link`, mend `interfaces` in the configuration"
        ))),
        index => Ok(index),
    }
}

/// The name of an interface in this network namespace.
pub(super) fn name_of(index: u32) -> String {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the room that the call asks for.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    let text = (!found.is_null()).then(|| std::ffi::CStr::from_bytes_until_nul(&name).ok()).flatten();
    text.map_or_else(|| format!("interface {index}"), |name| name.to_string_lossy().into_owned())
}

fn is_gone(error: &ProgramError) -> bool {
    os_error(error) == Some(libc::ENOLINK)
}

fn os_error(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}

fn failed(interface: &Interface, error: &ProgramError) -> KernelError {
    let name = &interface.name;
    KernelError(match os_error(error) {
        Some(libc::EBUSY | libc::EEXIST) => format!(
            "{name}: another XDP program is attached already; take it off (`ip link set {name} xdp off`) or leave {name} out"
        ),
        Some(libc::EOPNOTSUPP) => format!("{name}: its driver has no native XDP; use `mode: generic` or `mode: auto`"),
        Some(libc::EPERM | libc::EACCES) => {
            format!("{name}: no right to attach: run as root, or with CAP_NET_ADMIN and CAP_BPF")
        }
        _ => format!("{name}: the program cannot be attached: {error}"),
    })
}
