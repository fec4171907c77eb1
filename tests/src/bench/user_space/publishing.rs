//! A large configuration from its parsed form to the tables that packets meet, without daemon and journal.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use grayxdp::{
    balance::{AppliedSplit, IdTable, Pools},
    config,
    datapath::{Capacity, ClockSource, Datapath, Settings},
    model::kernel::{Kernel as _, Split},
};

use super::configuration::Shape;
use crate::{
    bench::figure::{Figure, Mark},
    host,
    subject::KEY,
};

/// Times that every table is replaced.
const ROUNDS: u8 = 5;

/// Builds and switches to everything at once, then replaces one backend of every version some times.
pub(super) fn figures(shape: Shape) -> Result<Vec<Figure>> {
    host::host(&[])?.run(|| figures_here(shape))
}

fn figures_here(shape: Shape) -> Result<Vec<Figure>> {
    let mut ids = IdTable::default();
    let mut builder = Builder::default();
    let (mut datapath, mut first_ms) = (None, 0.0);
    let (mut built_ms, mut switched_ms, mut all_ms) = (Vec::new(), Vec::new(), Vec::new());
    for generation in 0..=ROUNDS {
        let (wanted, built) = builder.build(Shape { generation, ..shape }, &mut ids)?;
        let is_first = datapath.is_none();
        let datapath = match &mut datapath {
            Some(datapath) => datapath,
            none => none.insert(Datapath::open(Settings {
                pin_dir: Path::new("/sys/fs/bpf/grayxdp").to_owned(),
                interfaces: Vec::new(),
                hash_key: KEY,
                capacity: Capacity::of(&wanted).with_room(),
                clock: ClockSource::Monotonic,
            })?),
        };
        let start = Instant::now();
        datapath.publish(&wanted)?;
        let switched = start.elapsed();
        if is_first {
            first_ms = ms(built + switched);
        } else {
            built_ms.push(ms(built));
            switched_ms.push(ms(switched));
            all_ms.push(ms(built + switched));
        }
    }
    let path = |what: &str| format!("100 services of 100 backends, one of each version replaced: {what}");
    let mark = Mark::AtMost(150.0);
    Ok(vec![
        Figure::once("100 services of 100 backends, into empty tables: built and switched", first_ms, "ms")
            .with_mark(mark),
        Figure::median(path("built"), &built_ms, "ms"),
        Figure::median(path("switched"), &switched_ms, "ms"),
        Figure::median(path("both"), &all_ms, "ms").with_mark(mark),
    ])
}

/// Turns configurations into what the kernel is to hold, as the daemon does.
#[derive(Default)]
struct Builder {
    pools: Pools,
    epoch: u64,
}

impl Builder {
    fn build(&mut self, shape: Shape, ids: &mut IdTable) -> Result<(grayxdp::model::kernel::Wanted, Duration)> {
        let config = config::load_config(&shape.configuration(Path::new("/nowhere")), "the benchmark")?;
        self.epoch += 1;
        let applied = AppliedSplit { split: Split { offset: 0, threshold: 0 }, epoch: self.epoch, rollout: 0 };
        let start = Instant::now();
        ids.assign(&config)?;
        self.pools = Pools::build(&config, ids, &self.pools);
        let wanted = self.pools.wanted(&config, ids, &|_| applied);
        Ok((wanted, start.elapsed()))
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
