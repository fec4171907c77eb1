//! The words of `plan`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Work on plans without a daemon.
#[derive(Debug, Subcommand)]
pub enum PlanCommand {
    /// Check a plan, also against the configuration where one is given
    #[command(after_help = "Example:\n  grayxdp plan lint plan.yaml --config grayxdp.yaml --rate 200")]
    Lint(Linting),
    /// Run a plan under a virtual clock against simulated traffic
    #[command(
        after_help = "Example:\n  grayxdp plan simulate plan.yaml --config grayxdp.yaml --traffic traffic.yaml --svg weights.svg"
    )]
    Simulate(Simulation),
}

/// What is to be checked of a plan.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Linting {
    /// The plan
    pub file: PathBuf,
    /// The configuration with the plan's service
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The traffic and stable's answers, as `plan simulate` takes them: to see what the steps can show, and how long a pass takes
    #[arg(short, long, value_name = "FILE")]
    pub traffic: Option<PathBuf>,
    /// New flows a second, in place of the file's
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
}

/// What is to be simulated.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Simulation {
    /// The plan
    pub file: PathBuf,
    /// The configuration with the plan's service
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The traffic, the answers and the incidents
    #[arg(short, long, value_name = "FILE")]
    pub traffic: Option<PathBuf>,
    /// New flows a second, in place of the file's
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// The part of its connections that the candidate refuses, 0 to 1, in place of the file's
    #[arg(long, value_name = "RATIO")]
    pub failures: Option<f64>,
    /// Of the random numbers, in place of the file's
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Draw the weights into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}
