//! Builds, checks, measures and shows grayxdp: `cargo xtask --help`.

mod dist;
mod layers;
mod lint;
mod run;
mod setup;
mod test;
mod vm;
#[expect(dead_code, reason = "what only the build scripts of other packages use")]
mod xdp;

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};

use crate::run::{cargo, run, workspace};

/// Everything that is done with this repository besides `cargo build`.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Finds what building or testing needs, and installs what is missing.
    Setup {
        /// What for.
        #[arg(long = "for", value_enum, default_value_t = Purpose::Test)]
        purpose: Purpose,
    },
    /// Builds the XDP program and everything else.
    Build {
        /// Optimised.
        #[arg(long)]
        release: bool,
    },
    /// Checks form, lints, layers, and that the XDP program compiles without a warning.
    Lint,
    /// Sets up, lints and runs all tests.
    Test {
        /// For the test runner, as `checksum` or `-- --nocapture`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Runs the same tests at full size, optimised.
    Long {
        /// Repeats the tests on the real kernel until this much time is over, as `30m`.
        #[arg(long, value_parser = duration, default_value = "0s")]
        duration: Duration,
        /// For the test runner.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Runs the packet tests on other kernels, in virtual machines.
    Vm {
        /// Which kernels.
        #[arg(long, value_name = "KERNEL", default_value = "all")]
        kernel: vm::Kernels,
    },
    /// Measures what packets cost, packets a second in the lab, and the daemon.
    Bench {
        /// For the benchmark, as `--only lab` or `--json`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Simulates rollouts: how often the judges are wrong, and how fast they are right; writes `docs/statistics.md`.
    Statistics {
        /// For the simulation, as `--null 200`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Shows a release in a lab of namespaces.
    Demo {
        /// For `grayxdp demo`, as `--duration 60s` or `--json`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Packs a static binary with its documents.
    Dist,
}

/// What a machine is set up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// To compile.
    Build,
    /// To compile, lint and test.
    Test,
    /// To compile and measure.
    Bench,
    /// To compile, and to test on other kernels.
    Vm,
}

fn main() -> ExitCode {
    match carry_out(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Setup { purpose } => setup::setup(purpose)?,
        Command::Build { release } => {
            setup::setup(Purpose::Build)?;
            run(cargo().args(["build", "--workspace"]).args(release.then_some("--release")))?;
        }
        Command::Lint => {
            setup::setup(Purpose::Test)?;
            lint::lint()?;
        }
        Command::Test { arguments } => return test::test(&arguments),
        Command::Long { duration, arguments } => return test::long(duration, &arguments),
        Command::Vm { kernel } => return Ok(test::conclusion(vm::vm(&kernel.series())?)),
        Command::Bench { arguments } => {
            setup::setup(Purpose::Bench)?;
            run(cargo().args(["build", "--quiet", "--package", "grayxdp", "--release"]))?;
            run(cargo()
                .args(["run", "--quiet", "--package", "grayxdp-tests", "--release", "--bin", "bench", "--"])
                .args(arguments))?;
        }
        Command::Statistics { arguments } => {
            setup::setup(Purpose::Build)?;
            run(cargo()
                .args(["run", "--quiet", "--package", "grayxdp-tests", "--release", "--bin", "statistics", "--"])
                .args(["--page", "docs/statistics.md"])
                .args(arguments)
                .current_dir(workspace()))?;
        }
        Command::Demo { arguments } => return demo(&arguments),
        Command::Dist => dist::dist()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the binary and hands over to its demo; the exit status is the demo's.
fn demo(arguments: &[String]) -> anyhow::Result<ExitCode> {
    setup::setup(Purpose::Build)?;
    run(cargo().args(["build", "--quiet", "--package", "grayxdp", "--release"]))?;
    let mut demo = std::process::Command::new(run::target().join("release/grayxdp"));
    let status = demo.arg("demo").args(arguments).current_dir(workspace()).status()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Reads `90s`, `30m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as 90s, 30m or 2h");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().map(|count| Duration::from_secs(count * seconds)).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(duration("30m"), Ok(Duration::from_secs(1_800)));
        for wrong in ["", "s", "30", "3d", "-1s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
