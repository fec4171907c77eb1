//! Simulates rollouts and writes the tables and pictures of `docs/statistics.md`.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Parser;
use grayxdp_tests::statistics::{
    page::replaced,
    picture::{Line, draw},
    tables::{MOST, NULL_ALPHA, Outcome, failing, null, null_table, own_noise, own_noise_table, power_table, slower},
    traffic::Share,
    trial::Tried,
};

/// Simulates rollouts, and says how often the judges are wrong and how fast they are right.
///
/// The exit status is 1 where a judge that claims to be valid at every look alarms too often.
#[derive(Parser)]
struct Options {
    /// Rollouts in which both versions are the same.
    #[arg(long, default_value_t = 2_000)]
    null: u32,
    /// Rollouts of each kind in which they are not.
    #[arg(long, default_value_t = 400)]
    power: u32,
    /// The page that gets the tables, with the pictures in a folder `pictures` beside it; else they are only printed.
    #[arg(long)]
    page: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let same = null(options.null);
    let noisy = own_noise(options.null);
    let (fails, fails_half) = (failing(Share::Ramp, options.power), failing(Share::Half, options.power));
    let (slow, slow_half) = (slower(Share::Ramp, options.power), slower(Share::Half, options.power));
    let times = [Tried::ConfidenceSequence, Tried::Asymptotic, Tried::Median, Tried::P99];
    let parts = [
        ("false alarms", null_table(&same)),
        ("own noise", own_noise_table(&noisy)),
        ("power of failures", power_table(&fails, &fails_half, &[Tried::CountEProcess])),
        ("power of times", power_table(&slow, &slow_half, &times)),
    ];
    for (name, part) in &parts {
        println!("{name}\n\n{part}");
    }
    if let Some(path) = &options.page {
        let read = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let page = parts.iter().try_fold(read, |page, (name, part)| replaced(&page, name, part))?;
        fs::write(path, page).with_context(|| path.display().to_string())?;
        let pictures = path.parent().unwrap_or(path).join("pictures");
        let all = Tried::ALL.map(|judge| Line { label: judge.label().to_owned(), outcome: &same, judge });
        draw(&pictures.join("false-alarms.svg"), &all, Some(NULL_ALPHA), 0.5)?;
        draw(&pictures.join("own-noise.svg"), &lines(&noisy, Tried::CountEProcess), Some(NULL_ALPHA), 0.5)?;
        draw(&pictures.join("power-of-failures.svg"), &lines(&fails, Tried::CountEProcess), None, 1.0)?;
        draw(&pictures.join("power-of-times.svg"), &lines(&slow, Tried::Median), None, 1.0)?;
    }
    let wrong: Vec<_> =
        Tried::ALL.into_iter().filter(|judge| judge.is_sequential() && same.alarmed(*judge) > MOST).collect();
    for judge in &wrong {
        eprintln!(
            "{} alarms in {:.2} % of rollouts, more than {:.1} %",
            judge.label(),
            same.alarmed(*judge) * 100.0,
            MOST * 100.0
        );
    }
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A line for each outcome.
fn lines(outcomes: &[Outcome], judge: Tried) -> Vec<Line<'_>> {
    outcomes.iter().map(|outcome| Line { label: outcome.what.clone(), outcome, judge }).collect()
}
