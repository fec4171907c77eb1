//! The ring buffer by which the program tells what is rare and urgent: a thread waits for it and wakes the daemon.

use std::{
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    thread,
};

use aya::maps::{Map, MapData, MapError, RingBuf};
use grayxdp_common::maps;

use super::{opened, unreadable_map};
use crate::model::kernel::KernelError;

/// The waiting thread; it ends with this value.
pub(super) struct Events {
    _end: OwnedFd,
}

impl Events {
    /// Calls `wake` whenever something was told.
    pub(super) fn start(folder: &Path, wake: Box<dyn Fn() + Send>) -> Result<Self, KernelError> {
        let failed = |error: io::Error| KernelError(format!("the program's events cannot be read: {error}"));
        let ring: Result<RingBuf<MapData>, MapError> = Map::RingBuf(opened(folder, maps::EVENTS)?).try_into();
        let ring = ring.map_err(|error| unreadable_map(maps::EVENTS, &error))?;
        let (end, watched) = UnixStream::pair().map_err(failed)?;
        thread::Builder::new().name("events".into()).spawn(move || wait(ring, &watched, &*wake)).map_err(failed)?;
        Ok(Self { _end: end.into() })
    }
}

/// Waits until the other end of `end` is closed.
fn wait(mut ring: RingBuf<MapData>, end: &UnixStream, wake: &dyn Fn()) {
    let watched = |fd: i32| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    loop {
        let mut both = [watched(ring.as_raw_fd()), watched(end.as_raw_fd())];
        // SAFETY: the two structures live through the call, and their descriptors are open.
        let ready = unsafe { libc::poll(both.as_mut_ptr(), both.len() as libc::nfds_t, -1) };
        if ready < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            tracing::warn!(error = %io::Error::last_os_error(), "events of the program are seen at the next tick only");
            return;
        }
        if both[1].revents != 0 {
            return;
        }
        let mut told = false;
        while ring.next().is_some() {
            told = true;
        }
        if told {
            wake();
        }
    }
}
