//! What the daemon costs, and how long it takes: at rest, to change a weight, to publish a large configuration, to come
//! back after a crash.

mod changes;
mod configuration;
mod daemon;
mod memory;
mod publishing;
mod rest;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use self::{configuration::Shape, daemon::Daemon};
use crate::bench::figure::{Figure, Mark};

/// A folder in memory, where writing a file out costs nothing.
const IN_MEMORY: &str = "/dev/shm";

/// The usual configuration: 100 services of two versions with three backends each.
const USUAL: Shape = Shape { services: 100, backends: 3, generation: 0 };
/// A large one: 50 backends each.
const LARGE: Shape = Shape { backends: 50, ..USUAL };

/// Measures all of it.
///
/// # Errors
/// No rights, no room, or a daemon that does not do what it is asked.
pub fn figures() -> Result<Vec<Figure>> {
    let disk = beside_this_program()?;
    let mut figures = Vec::new();
    let mut daemon = Daemon::start(&disk, USUAL)?;
    figures.extend(rest::figures(&mut daemon)?);
    figures.extend(changes::fdatasync(&disk)?);
    figures.extend(changes::figures(&daemon, "weight change, request to answer, journal on disk", None)?);
    figures.push(adoption(&mut daemon, "killed and started again, to the first answer: 100 services of 6 backends")?);
    figures.push(reload(&daemon, "reload, 100 services of 6 backends to 100, tables made larger", LARGE)?);
    let another = Shape { generation: 1, ..LARGE };
    figures.push(reload(&daemon, "reload, 100 services of 100 backends, one of each version replaced", another)?);
    figures.push(adoption(&mut daemon, "killed and started again, to the first answer: 100 services of 100 backends")?);
    drop(daemon);

    let in_memory = Daemon::start(Path::new(IN_MEMORY), USUAL)?;
    let mark = Some(Mark::AtMost(5.0));
    figures.extend(changes::figures(&in_memory, "weight change, request to answer, journal in memory", mark)?);
    drop(in_memory);
    figures.extend(publishing::figures(LARGE)?);
    figures.extend(memory::figures(USUAL)?);
    Ok(figures)
}

fn adoption(daemon: &mut Daemon, path: &str) -> Result<Figure> {
    let rounds = (0..3).map(|_| daemon.kill_and_start()).collect::<Result<Vec<_>>>()?;
    let rounds: Vec<_> = rounds.into_iter().map(|time| time.as_secs_f64() * 1e3).collect();
    Ok(Figure::median(path, &rounds, "ms"))
}

fn reload(daemon: &Daemon, path: &str, shape: Shape) -> Result<Figure> {
    Ok(Figure::once(path, daemon.reload(shape)?.as_secs_f64() * 1e3, "ms"))
}

/// The folder that this program was built into: on a disk, unlike folders of temporary files on some machines.
fn beside_this_program() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().context("a program lies in a folder")?.to_owned())
}
