//! Memory of the kernel's tables, as the kernel itself counts it.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use anyhow::{Context, Result};
use aya::maps::MapData;
use grayxdp::{
    balance::{AppliedSplit, IdTable, wanted},
    config,
    datapath::{Capacity, ClockSource, Datapath, Settings},
    model::kernel::Kernel as _,
};
use grayxdp_common::maps;

use super::configuration::Shape;
use crate::{
    bench::figure::{Figure, Mark},
    host,
    subject::KEY,
};

/// The tables that lead from an endpoint to a backend's number; the other maps are of backends, counters and routes.
const OF_TABLES: [&str; 3] = [maps::SLOTS, maps::SERVICES, maps::DIRECTORY];

/// Divides the tables of a configuration by the versions that they have room for, and by those that there are.
pub(super) fn figures(shape: Shape) -> Result<Vec<Figure>> {
    host::host(&[])?.run(|| figures_here(shape))
}

fn figures_here(shape: Shape) -> Result<Vec<Figure>> {
    let config = config::load_config(&shape.configuration(Path::new("/nowhere")), "the benchmark")?;
    let mut ids = IdTable::default();
    ids.assign(&config)?;
    let wanted = wanted(&config, &ids, &|_| AppliedSplit { epoch: 1, ..AppliedSplit::default() });
    let capacity = Capacity::of(&wanted);
    let settings = Settings {
        pin_dir: Path::new("/sys/fs/bpf/grayxdp").to_owned(),
        interfaces: Vec::new(),
        hash_key: KEY,
        capacity: capacity.with_room(),
        clock: ClockSource::Monotonic,
    };
    let mut datapath = Datapath::open(settings)?;
    datapath.publish(&wanted)?;
    let kib = |names: &[&str]| -> Result<f64> {
        let sizes = names.iter().map(|name| map_kib(&datapath.map_folder().join(name)));
        Ok(sizes.collect::<Result<Vec<_>>>()?.iter().sum())
    };
    let tables = kib(&OF_TABLES)?;
    let with_room = f64::from(capacity.with_room().versions);
    let path = |what: &str| format!("kernel memory, 100 services of 6 backends: {what}");
    let mark = Mark::AtMost(40.0);
    Ok(vec![
        Figure::once(path("all maps"), kib(&maps::PINNED)? / 1_024.0, "MiB"),
        Figure::once(path("slot tables by versions with room"), kib(&[maps::SLOTS])? / with_room, "KiB")
            .with_mark(mark),
        Figure::once(path("tables by versions configured"), tables / f64::from(capacity.versions), "KiB")
            .with_mark(mark),
    ])
}

/// What a map takes: `memlock` of its descriptor.
fn map_kib(pin: &Path) -> Result<f64> {
    let map = MapData::from_pin(pin)?;
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd()))?;
    let bytes = about.lines().find_map(|line| line.strip_prefix("memlock:")).context("the kernel counts no memory")?;
    Ok(bytes.trim().parse::<f64>()? / 1_024.0)
}
