//! Runs the tests and adds up what they say.

use std::{
    io::{BufRead, BufReader, IsTerminal, Write},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::{
    Purpose, lint,
    run::{cargo, run, stage},
    setup, vm,
};

/// Says how large the tests are to be; read by the tests' package alone.
const SIZE: &str = "GRAYXDP_TEST_SIZE";

/// The package whose tests need the real kernel and root.
const KERNEL_TESTS: &str = "grayxdp-tests";

/// How many tests passed, failed, were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// Adds others.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Reads a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; …`.
    fn of_line(line: &str) -> Option<Self> {
        let (_, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        let count =
            |word: &str| counts.split(';').find_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u64>().ok());
        Some(Self { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
    }

    /// The same; tests that were filtered out count as skipped.
    pub(crate) fn of_line_with_filtered(line: &str) -> Option<Self> {
        let counts = Self::of_line(line)?;
        let filtered = line.split(';').find_map(|part| part.trim().strip_suffix("filtered out")?.trim().parse().ok());
        Some(Self { skipped: counts.skipped + filtered.unwrap_or(0), ..counts })
    }

    /// What a runner that has ended counts: one that fails without a failed test is a failure.
    pub(crate) fn of_ended(self, succeeded: bool) -> Self {
        if succeeded || self.failed > 0 { self } else { Self { failed: 1, ..self } }
    }
}

/// Set-up, lints, all tests; the last line says how many passed.
pub(crate) fn test(arguments: &[String]) -> anyhow::Result<ExitCode> {
    stage("setup", || setup::setup(Purpose::Test))?;
    let mut counts = Counts::default();
    let linted = stage("lint", lint::lint);
    let plan = Plan { release: false, size: "quick", arguments };
    counts.add(stage("tests without root", || plan.without_root())?);
    counts.add(stage("tests on this kernel", || plan.on_this_kernel())?);
    if let Err(error) = linted {
        println!("error: lint: {error:#}");
        counts.failed += 1;
    }
    Ok(conclusion(counts))
}

/// All tests at full size, those on the kernel again and again for a while, then once on other kernels.
pub(crate) fn long(duration: Duration, arguments: &[String]) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    stage("setup", || setup::setup(Purpose::Test))?;
    let plan = Plan { release: true, size: "full", arguments };
    let mut counts = stage("tests without root", || plan.without_root())?;
    loop {
        counts.add(stage("tests on this kernel", || plan.on_this_kernel())?);
        if counts.failed > 0 || start.elapsed() >= duration {
            break;
        }
    }
    counts.add(vm::vm(&vm::Series::ALL)?);
    Ok(conclusion(counts))
}

/// How the tests are run.
struct Plan<'a> {
    release: bool,
    size: &'static str,
    arguments: &'a [String],
}

impl Plan<'_> {
    fn without_root(&self) -> anyhow::Result<Counts> {
        self.run(&["--workspace", "--exclude", KERNEL_TESTS])
    }

    /// The end-to-end tests start the binary, which cargo does not build for them.
    fn on_this_kernel(&self) -> anyhow::Result<Counts> {
        let mut build = cargo();
        build.args(["build", "--quiet", "--package", "grayxdp", "--bins"]).args(self.release.then_some("--release"));
        if let Err(error) = run(&mut build) {
            println!("error: {error:#}");
            return Ok(Counts { failed: 1, ..Counts::default() });
        }
        self.run(&["--package", KERNEL_TESTS])
    }

    fn run(&self, packages: &[&str]) -> anyhow::Result<Counts> {
        let mut command = cargo();
        command.args(["test", "--no-fail-fast"]).args(packages).args(self.release.then_some("--release"));
        command.args(self.arguments).env(SIZE, self.size);
        if std::io::stdout().is_terminal() {
            command.env("CARGO_TERM_COLOR", "always");
        }
        counted(&mut command, &mut std::io::stdout().lock())
    }
}

/// Runs a command, shows what it prints, and adds up its result lines.
fn counted(command: &mut Command, screen: &mut impl Write) -> anyhow::Result<Counts> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("the tests could not be started")?;
    let output = child.stdout.take().expect("it was asked for");
    let mut counts = Counts::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(screen, "{line}")?;
        if let Some(result) = Counts::of_line(&line) {
            counts.add(result);
        }
    }
    // What does not compile, or dies on the way, prints no result.
    Ok(counts.of_ended(child.wait()?.success()))
}

/// The last line, and the exit status that goes with it.
pub(crate) fn conclusion(counts: Counts) -> ExitCode {
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
    if counts.failed == 0 && counts.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_read_and_others_are_not() {
        let line = "test result: FAILED. 12 passed; 3 failed; 4 ignored; 0 measured; 5 filtered out; finished in 0.02s";
        assert_eq!(Counts::of_line(line), Some(Counts { passed: 12, failed: 3, skipped: 4 }));
        assert_eq!(Counts::of_line("test checksum::folds ... ok"), None);
    }

    #[test]
    fn a_runner_that_dies_without_a_result_counts_as_a_failure() {
        let printed = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured'; exit 101";
        let counts = counted(Command::new("sh").args(["-c", printed]), &mut Vec::new()).unwrap();
        assert_eq!(counts, Counts { passed: 2, failed: 1, skipped: 0 });
    }
}
