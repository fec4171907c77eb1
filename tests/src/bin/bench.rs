//! Measures what grayxdp costs: packets, the lab, user space.

use std::{path::PathBuf, thread};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use grayxdp_tests::bench::{
    cases, curves, figure,
    harness::{self, Harness},
    latency, picture,
    report::{self, Row},
    run::{self, Effort},
    simulation, throughput, user_space,
};
use serde_json::Value;

/// Measures what grayxdp costs; needs root.
///
/// The exit status is 0 also where a mark is missed; it is 1 where something else was measured than intended.
#[derive(Parser)]
struct Options {
    /// Measure only this.
    #[arg(long, value_enum)]
    only: Option<Section>,
    /// Of the packet path measure only cases whose path holds this, and the baselines.
    #[arg(long)]
    path: Option<String>,
    /// Print an array of objects.
    #[arg(long)]
    json: bool,
    /// Rounds of the packet path; the median is shown.
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// Timed packets of each case of the packet path in a round.
    #[arg(long, default_value_t = 1_000_000)]
    runs: u32,
    /// Rounds of the lab; the median is shown.
    #[arg(long, default_value_t = 5)]
    lab_rounds: usize,
    /// Draw the curves into this folder.
    #[arg(long)]
    pictures: Option<PathBuf>,
    /// The CPU that packets are sent and forwarded on.
    #[arg(long, default_value_t = 1)]
    cpu: usize,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// Nanoseconds of each path of the program.
    Packets,
    /// Nanoseconds against numbers of services, backends, source prefixes and flows.
    Curves,
    /// Packets a second between namespaces, against nftables and a plain redirect.
    Lab,
    /// The daemon: at rest, changes, reloads, memory.
    UserSpace,
    /// A simulated fortnight; needs no root.
    Simulation,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let mut objects = Vec::new();
    for section in Section::value_variants() {
        if options.only.is_none_or(|only| only == *section) {
            objects.extend(measure(*section, &options)?);
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&objects)?);
    }
    Ok(())
}

/// Measures a part, prints it as a table unless objects are asked for, and gives its objects.
fn measure(section: Section, options: &Options) -> Result<Vec<Value>> {
    let (table, objects) = match section {
        Section::Packets => {
            let (rows, memory) = on_own_cpu(options.cpu, || Ok((packets(options)?, latency::figures())))?;
            let Value::Array(mut objects) = serde_json::to_value(&rows)? else { unreachable!("a list is an array") };
            objects.extend(memory.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?);
            (format!("{}\n{}", report::table(&rows), figure::table(&memory)), Value::Array(objects))
        }
        Section::Curves => {
            let curves = on_own_cpu(options.cpu, || curves::all(effort(options)))?;
            for curve in options.pictures.iter().flat_map(|folder| curves.iter().map(move |curve| (folder, curve))) {
                picture::draw(curve.1, curve.0)?;
            }
            (curves::table(&curves), serde_json::to_value(&curves)?)
        }
        Section::Lab => {
            let figures = on_own_cpu(options.cpu, || throughput::figures(options.lab_rounds))?;
            (figure::table(&figures), serde_json::to_value(&figures)?)
        }
        Section::UserSpace => {
            let figures = user_space::figures()?;
            (figure::table(&figures), serde_json::to_value(&figures)?)
        }
        Section::Simulation => {
            let figures = on_own_cpu(options.cpu, simulation::figures)?;
            (figure::table(&figures), serde_json::to_value(&figures)?)
        }
    };
    if !options.json {
        println!("{table}");
    }
    Ok(serde_json::from_value(objects)?)
}

fn packets(options: &Options) -> Result<Vec<Row>> {
    let mut harness = Harness::new(&cases::nat())?;
    let mut cases = cases::all(&mut harness)?;
    if let Some(path) = &options.path {
        cases.retain(|case| case.mark.is_none() || case.path.contains(path.as_str()));
    }
    run::measure(&mut harness, &cases, effort(options))
}

fn effort(options: &Options) -> Effort {
    Effort { rounds: options.rounds, runs: options.runs }
}

/// Runs a closure on a thread that is kept on one CPU; the threads and programs that it starts are kept there too.
fn on_own_cpu<T: Send>(cpu: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            harness::pin_thread(cpu)?;
            work()
        });
        pinned.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
