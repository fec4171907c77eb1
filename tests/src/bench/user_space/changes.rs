//! Weight changes, one after the other, and what the disk alone takes of each.

use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt as _, path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use grayxdp::model::{
    Weight,
    api::{ChangeOptions, Request, Response},
};

use super::{
    configuration::{VERSIONS, service_name},
    daemon::Daemon,
};
use crate::bench::figure::{Figure, Mark, quantile};

/// Measured changes.
const CHANGES: u16 = 400;
/// Services that are changed in turn.
const SERVICES: u16 = 10;

/// Time of a change from the request to the answer; the mark is that of all but the slowest hundredth.
pub(super) fn figures(daemon: &Daemon, path: &str, mark: Option<Mark>) -> Result<Vec<Figure>> {
    let times_ms = (0..CHANGES).map(|number| change_ms(daemon, number)).collect::<Result<Vec<_>>>()?;
    let slowest = Figure::once(format!("{path}: p99"), quantile(&times_ms, 0.99), "ms");
    let slowest = mark.map_or_else(|| slowest.clone(), |mark| slowest.clone().with_mark(mark));
    Ok(vec![Figure::once(format!("{path}: p50"), quantile(&times_ms, 0.5), "ms"), slowest])
}

/// Time of one `fdatasync` after a page was written to a file in a folder.
pub(super) fn fdatasync(folder: &Path) -> Result<Vec<Figure>> {
    let file = tempfile::tempfile_in(folder)?;
    let times_ms = (0..CHANGES).map(|number| written_out_ms(&file, number)).collect::<Result<Vec<_>>>()?;
    let figure =
        |name, part| Figure::once(format!("fdatasync of the same disk: {name}"), quantile(&times_ms, part), "ms");
    Ok(vec![figure("p50", 0.5), figure("p99", 0.99)])
}

fn change_ms(daemon: &Daemon, number: u16) -> Result<f64> {
    // Each turn through the services has a weight that none of them has yet.
    let weight = Weight::from_hundredths(1 + number / SERVICES).context("a weight")?;
    let mut weights = BTreeMap::new();
    for (name, weight) in VERSIONS.into_iter().zip([weight.complement(), weight]) {
        weights.insert(name.parse().context(name)?, weight);
    }
    let service = service_name((number % SERVICES) as u8).parse().context("a name")?;
    let request = Request::WeightsSet { service, weights, segment: None, options: ChangeOptions::default() };
    let start = Instant::now();
    let answer = daemon.request(&request)?;
    let time_ms = start.elapsed().as_secs_f64() * 1e3;
    ensure!(matches!(&answer, Response::Done(done) if done.changes.len() == 1), "no change, but {answer:?}");
    Ok(time_ms)
}

fn written_out_ms(file: &File, number: u16) -> Result<f64> {
    let page = [number as u8; 4_096];
    let start = Instant::now();
    file.write_all_at(&page, u64::from(number) * 4_096)?;
    file.sync_data()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
