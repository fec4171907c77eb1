//! A daemon that has nothing to do but count.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};

use super::daemon::Daemon;
use crate::bench::figure::{Figure, Mark};

/// How long it settles before it counts as at rest.
const SETTLING: Duration = Duration::from_secs(3);
/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(20);

/// Memory and share of a core.
pub(super) fn figures(daemon: &mut Daemon) -> Result<Vec<Figure>> {
    thread::sleep(SETTLING);
    let before = cpu_time(daemon)?;
    thread::sleep(WATCHED);
    let share = (cpu_time(daemon)? - before).as_secs_f64() / WATCHED.as_secs_f64();
    let path = |what: &str| format!("daemon at rest, 100 services of 6 backends: {what}");
    Ok(vec![
        Figure::once(path("resident"), resident_mib(daemon, "VmRSS")?, "MiB").with_mark(Mark::AtMost(32.0)),
        Figure::once(path("of that its own"), resident_mib(daemon, "RssAnon")?, "MiB"),
        Figure::once(path("share of a core"), share * 100.0, "%").with_mark(Mark::AtMost(0.3)),
    ])
}

/// A line of `status`, which counts KiB.
fn resident_mib(daemon: &mut Daemon, field: &str) -> Result<f64> {
    let status = daemon.proc("status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).context(field.to_owned())?;
    let kib: f64 = line.split_whitespace().next().context("a number")?.parse()?;
    Ok(kib / 1_024.0)
}

/// CPU time of a process by its clock, which unlike `/proc` does not count in hundredths of a second.
fn cpu_time(daemon: &mut Daemon) -> Result<Duration> {
    let mut clock = 0;
    // SAFETY: the clock's number is written to a variable of this function.
    let found = unsafe { libc::clock_getcpuclockid(daemon.id()?, &raw mut clock) };
    ensure!(found == 0, "the daemon has no clock: {}", std::io::Error::from_raw_os_error(found));
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is written to a variable of this function.
    let read = unsafe { libc::clock_gettime(clock, &raw mut time) };
    ensure!(read == 0, "the daemon's clock cannot be read: {}", std::io::Error::last_os_error());
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}
