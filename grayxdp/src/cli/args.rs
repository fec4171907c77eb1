//! The words of the command line. Every command has an example in its help.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::RangedU64ValueParser};

mod backend;
mod past;
mod plan;
mod quality;
mod rollout;

use self::past::past;
pub(super) use self::{
    backend::{BackendArguments, BackendCommand},
    past::Past,
    plan::{Linting, PlanCommand, Simulation},
    quality::QualityCommand,
    rollout::RolloutCommand,
};
use crate::{
    cli::{demo::DemoArgs, trace::TraceArguments},
    model::{Name, Weight, api::ChangeOptions, config::Protocol},
};

/// Where the daemon listens unless the configuration says otherwise.
const DEFAULT_SOCKET: &str = "/run/grayxdp/grayxdp.sock";

/// Gradual release of services on Linux load-balancer hosts.
#[derive(Debug, Parser)]
#[command(name = "grayxdp", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(after_help = "Example:\n  grayxdp check grayxdp.yaml && grayxdp status")]
pub struct Arguments {
    /// The daemon's socket
    #[arg(long, global = true, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// How to answer: text, json or yaml; keys are the words of the files
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", hide_possible_values = true)]
    #[arg(default_value_t = Format::Text)]
    pub output: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The form of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs; followed and watched things are one object a line.
    Json,
    /// For files.
    Yaml,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground
    #[command(after_help = "Example:\n  grayxdp daemon --config /etc/grayxdp/grayxdp.yaml")]
    Daemon {
        /// The configuration
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check configurations and plans without a daemon
    #[command(after_help = "Example:\n  grayxdp check grayxdp.yaml plan.yaml")]
    Check {
        /// Files; one with `kind: Rollout` is a plan, any other a configuration
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Apply the changed configuration file, as a whole or not at all
    #[command(after_help = "Example:\n  grayxdp reload --diff\n  grayxdp reload --reset-weights recsys")]
    Reload {
        /// Only show what would change
        #[arg(long)]
        diff: bool,
        /// Set this service back to the weights of the file; may be repeated
        #[arg(long, value_name = "SERVICE")]
        reset_weights: Vec<Name>,
        /// Options of changes.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Show how everything stands: wanted, observed and live shares
    #[command(after_help = "Example:\n  grayxdp status -o json")]
    Status,
    /// Read or set weights
    #[command(subcommand, after_help = "Example:\n  grayxdp weights set recsys v1=90 v2=10")]
    Weights(WeightsCommand),
    /// Show what happened
    #[command(after_help = "Example:\n  grayxdp events -f --after 120")]
    Events {
        /// Go on showing events as they happen
        #[arg(short, long)]
        follow: bool,
        /// Number of the last event already seen
        #[arg(long, value_name = "N", default_value_t = 0)]
        after: u64,
        /// The newest N of them, at most 1000
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000))]
        limit: usize,
    },
    /// Show the way of a packet, by the loaded program and without side effects
    #[command(after_help = "Example:\n  grayxdp explain --src 198.51.100.7:40000 --dst 192.0.2.10:80")]
    Explain {
        /// The client's address and port
        #[arg(long, value_name = "A:P")]
        src: SocketAddr,
        /// The virtual address and port
        #[arg(long, value_name = "A:P")]
        dst: SocketAddr,
        /// tcp or udp
        #[arg(long, value_name = "PROTOCOL", default_value = "tcp", value_parser = protocol)]
        protocol: Protocol,
        /// DSCP of the first packet, 0 to 63
        #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=63))]
        dscp: u8,
        /// Only a packet of the flow in progress, not its first one
        #[arg(long, conflicts_with_all = ["dscp", "at"])]
        later: bool,
        /// Which version a new flow got then: 2026-11-21T09:00:00Z, or 90m for so long ago
        #[arg(long, value_name = "TIME", value_parser = past)]
        at: Option<Past>,
    },
    /// Show packets as they go, and what becomes of each; nothing of it costs anything when nobody looks
    #[command(
        after_help = "Example:\n  grayxdp trace --service recsys --host 198.51.100.7 -n 20\n  grayxdp trace --dropped"
    )]
    Trace(TraceArguments),
    /// Show backends, take flows off them, give them back
    #[command(
        subcommand,
        after_help = "Example:\n  grayxdp backend drain recsys v1/10.0.1.1:8080 --wait --timeout 30m"
    )]
    Backend(BackendCommand),
    /// Tell how well a rollout's models do
    #[command(subcommand, after_help = "Example:\n  grayxdp quality post recsys-v2 v1=80/15/20 v2=85/10/15")]
    Quality(QualityCommand),
    /// Drive releases
    #[command(subcommand, after_help = "Example:\n  grayxdp rollout start plan.yaml --wait --timeout 2h")]
    Rollout(RolloutCommand),
    /// Work on plans without a daemon
    #[command(subcommand, after_help = "Example:\n  grayxdp plan lint plan.yaml --config grayxdp.yaml")]
    Plan(PlanCommand),
    /// Take the program off all interfaces, remove its pins, and end the daemon
    #[command(after_help = "Example:\n  grayxdp detach --reason 'host leaves the fleet'")]
    Detach {
        /// The configuration with `pinDir`, needed only where no daemon runs and the pins are not at the usual place
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Options of changes.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Show two releases in a lab on this machine
    #[command(after_help = "Example:\n  grayxdp demo --duration 60s")]
    Demo(DemoArgs),
    /// Print the completions of a shell
    #[command(after_help = "Example:\n  grayxdp completions bash > /etc/bash_completion.d/grayxdp")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all pages into a folder
    #[command(after_help = "Example:\n  grayxdp man /usr/local/share/man/man1")]
    Man {
        /// The folder
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
    },
    /// Print the JSON Schema of a file
    #[command(hide = true, after_help = "Example:\n  grayxdp schema plan > plan.schema.json")]
    Schema {
        /// Which file
        file: SchemaOf,
    },
}

/// Reading and setting weights.
#[derive(Debug, Subcommand)]
pub enum WeightsCommand {
    /// Show the weights of one service, or of all
    #[command(after_help = "Example:\n  grayxdp weights get recsys")]
    Get {
        /// The service
        service: Option<Name>,
    },
    /// Set all weights of a service, in percent; versions left out get nothing
    #[command(after_help = "Example:\n  grayxdp weights set recsys v1=90 v2=10 --reason 'first look'")]
    Set {
        /// The service
        service: Name,
        /// Only of this segment
        #[arg(long, value_name = "SEGMENT")]
        segment: Option<Name>,
        /// Weights that sum to 100
        #[arg(required = true, value_name = "VERSION=PERCENT", value_parser = share)]
        weights: Vec<(Name, Weight)>,
        /// Options of changes.
        #[command(flatten)]
        change: ChangeArguments,
    },
}

/// Files with a JSON Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// The configuration.
    Config,
    /// The plan.
    Plan,
}

/// What goes with every change.
#[derive(Debug, Args)]
pub struct ChangeArguments {
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Say what would happen, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Refuse unless the service's epoch is N
    #[arg(long, value_name = "N")]
    if_epoch: Option<u64>,
    /// Override what can be overridden
    #[arg(long)]
    force: bool,
}

impl ChangeArguments {
    /// The same, as the daemon takes it.
    #[must_use]
    pub fn options(self) -> ChangeOptions {
        let Self { reason, dry_run, if_epoch, force } = self;
        ChangeOptions { reason, dry_run, if_epoch, force }
    }
}

/// Whether a command returns at once or at the end.
#[derive(Clone, Copy, Debug, Args)]
pub struct WaitArguments {
    /// Wait for the rollout's end, or until it waits for an operator (exit status 5)
    #[arg(long)]
    pub wait: bool,
    /// Wait no longer than this, such as 30m (exit status 4)
    #[arg(long, value_name = "D", requires = "wait", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
}

pub(super) fn protocol(text: &str) -> Result<Protocol, String> {
    [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .find(|protocol| protocol.label() == text)
        .ok_or_else(|| "use tcp or udp".to_owned())
}

fn share(text: &str) -> Result<(Name, Weight), String> {
    let (version, weight) = text.split_once('=').ok_or("use VERSION=PERCENT, such as v2=10")?;
    let version = version.parse().map_err(|cause: crate::model::name::NotAName| cause.to_string())?;
    let weight = weight.parse().map_err(|cause: crate::model::weight::NotAWeight| cause.to_string())?;
    Ok((version, weight))
}
