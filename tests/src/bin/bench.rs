//! Measures what one packet costs on each path of the program.

use anyhow::Result;
use clap::Parser;
use grayxdp_tests::bench::{
    cases,
    harness::{self, Harness},
    report,
    run::{self, Effort},
};

/// Measures what one packet costs on each path of the program; needs root.
///
/// The exit status is 0 also where a mark is missed; it is 1 where a program took another path than intended.
#[derive(Parser)]
struct Options {
    /// Print an array of objects.
    #[arg(long)]
    json: bool,
    /// Rounds; the median is shown.
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// Timed packets of each case in a round.
    #[arg(long, default_value_t = 1_000_000)]
    runs: u32,
    /// The CPU to run on.
    #[arg(long, default_value_t = 1)]
    cpu: usize,
}

fn main() -> Result<()> {
    let options = Options::parse();
    harness::pin_thread(options.cpu)?;
    let mut harness = Harness::new(&cases::nat())?;
    let cases = cases::all(&mut harness)?;
    let rows = run::measure(&mut harness, &cases, Effort { rounds: options.rounds, runs: options.runs })?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", report::table(&rows));
    }
    Ok(())
}
