//! The words of the command line. Every command has an example in its help.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::RangedU64ValueParser};

use crate::{
    cli::{demo::DemoArgs, trace::TraceArguments},
    model::{
        Name, Weight,
        api::{BackendName, ChangeOptions},
        config::Protocol,
    },
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

/// Driving releases.
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// List all rollouts, the newest first
    #[command(after_help = "Example:\n  grayxdp rollout list")]
    List,
    /// Start the rollout of a plan
    #[command(after_help = "Example:\n  grayxdp rollout start plan.yaml --wait --timeout 2h")]
    Start {
        /// The plan
        #[arg(value_name = "PLAN")]
        plan: PathBuf,
        /// Options of changes.
        #[command(flatten)]
        change: ChangeArguments,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArguments,
    },
    /// Show what happened in a rollout, with who and why
    #[command(after_help = "Example:\n  grayxdp rollout history recsys-v2")]
    History {
        /// The rollout
        name: Name,
        /// Which run of that name; the newest where it is left out
        #[arg(long, value_name = "N")]
        number: Option<u64>,
    },
    /// Write a report of a rollout
    #[command(after_help = "Example:\n  grayxdp rollout report recsys-v2 --html --file report.html")]
    Report {
        /// The rollout
        name: Name,
        /// Which run of that name; the newest where it is left out
        #[arg(long, value_name = "N")]
        number: Option<u64>,
        /// One HTML file with pictures, in place of Markdown
        #[arg(long)]
        html: bool,
        /// Into this file, in place of the output
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Show one rollout
    #[command(after_help = "Example:\n  grayxdp rollout get recsys-v2 -w")]
    Get {
        /// The rollout
        name: Name,
        /// Go on showing it until it ends
        #[arg(short, long)]
        watch: bool,
    },
    /// Stop advancing; judging goes on and may still roll back
    #[command(after_help = "Example:\n  grayxdp rollout pause recsys-v2 --reason 'incident 42'")]
    Pause {
        /// The rollout
        name: Name,
        /// Options of changes.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Go on after a pause or a freeze
    #[command(after_help = "Example:\n  grayxdp rollout resume recsys-v2")]
    Resume {
        /// The rollout
        name: Name,
        /// Options of changes.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// End the current pause
    #[command(after_help = "Example:\n  grayxdp rollout promote recsys-v2 --full --wait")]
    Promote {
        /// The rollout
        name: Name,
        /// Skip to 100 %
        #[arg(long)]
        full: bool,
        /// Options of changes.
        #[command(flatten)]
        change: ChangeArguments,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArguments,
    },
    /// Begin a rollout anew that was rolled back or failed; clears what fuse and lease latched
    #[command(after_help = "Example:\n  grayxdp rollout retry recsys-v2 --reason 'port was closed' --wait")]
    Retry {
        /// The rollout
        name: Name,
        /// Options of changes.
        #[command(flatten)]
        change: ChangeArguments,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArguments,
    },
    /// Go one step back, and on from there
    #[command(after_help = "Example:\n  grayxdp rollout back recsys-v2 --reason 'latency rises'")]
    Back {
        /// The rollout
        name: Name,
        /// Options of changes.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Stay as it is until resumed; judging goes on
    #[command(after_help = "Example:\n  grayxdp rollout freeze recsys-v2")]
    Freeze {
        /// The rollout
        name: Name,
        /// Options of changes.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Make this pause and later ones shorter
    #[command(after_help = "Example:\n  grayxdp rollout accelerate recsys-v2")]
    Accelerate {
        /// The rollout
        name: Name,
        /// Options of changes.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Give all new flows back to the version that was stable before a promotion
    #[command(after_help = "Example:\n  grayxdp rollout undo recsys-v2 --reason 'orders fell' --wait")]
    Undo {
        /// The rollout
        name: Name,
        /// Options of changes.
        #[command(flatten)]
        change: ChangeArguments,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArguments,
    },
    /// Put another plan in place of a running rollout's; what is exposed does not jump
    #[command(after_help = "Example:\n  grayxdp rollout apply plan.yaml --dry-run")]
    Apply {
        /// The plan, of the same name
        #[arg(value_name = "PLAN")]
        plan: PathBuf,
        /// Options of changes.
        #[command(flatten)]
        change: ChangeArguments,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArguments,
    },
    /// Give all new flows back to the stable version
    #[command(after_help = "Example:\n  grayxdp rollout abort recsys-v2 --reason 'wrong build' --wait")]
    Abort {
        /// The rollout
        #[arg(required_unless_present = "all")]
        name: Option<Name>,
        /// All rollouts that run
        #[arg(long, conflicts_with_all = ["name", "wait"])]
        all: bool,
        /// Options of changes.
        #[command(flatten)]
        change: ChangeArguments,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArguments,
    },
}

/// Backends.
#[derive(Debug, Subcommand)]
pub enum BackendCommand {
    /// Show how backends stand, and why
    #[command(after_help = "Example:\n  grayxdp backend list recsys")]
    List {
        /// Only those of this service
        service: Option<Name>,
    },
    /// Give backends no new flows; those in progress go on
    #[command(after_help = "Example:\n  grayxdp backend drain recsys v1/10.0.1.1:8080 --wait --timeout 30m")]
    Drain {
        /// Which.
        #[command(flatten)]
        which: BackendArguments,
        /// Wait until no flow is left
        #[arg(long)]
        wait: bool,
        /// Wait no longer than this, such as 30m (exit status 4)
        #[arg(long, value_name = "D", requires = "wait", value_parser = humantime::parse_duration)]
        timeout: Option<Duration>,
    },
    /// Give backends no flows at all; those in progress end as `onDown` says
    #[command(after_help = "Example:\n  grayxdp backend disable recsys v1/10.0.1.1:8080 --reason 'disk is full'")]
    Disable {
        /// Which.
        #[command(flatten)]
        which: BackendArguments,
    },
    /// Give backends new flows again
    #[command(after_help = "Example:\n  grayxdp backend enable recsys v1/10.0.1.1:8080")]
    Enable {
        /// Which.
        #[command(flatten)]
        which: BackendArguments,
    },
}

/// Which backends a change is about.
#[derive(Debug, Args)]
pub struct BackendArguments {
    /// The service
    pub service: Name,
    /// The backends
    #[arg(required = true, value_name = "VERSION/ADDRESS")]
    pub backends: Vec<BackendName>,
    /// Options of changes.
    #[command(flatten)]
    pub change: ChangeArguments,
}

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

/// A time that has passed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Past {
    /// At an instant.
    At(jiff::Timestamp),
    /// So long ago.
    Ago(std::time::Duration),
}

impl Past {
    /// The instant, counted from now.
    #[must_use]
    pub fn instant(self) -> jiff::Timestamp {
        match self {
            Self::At(instant) => instant,
            Self::Ago(ago) => jiff::Timestamp::now().checked_sub(ago).unwrap_or(jiff::Timestamp::MIN),
        }
    }
}

fn past(text: &str) -> Result<Past, String> {
    let instant = text.parse().map(Past::At).ok();
    let ago = || humantime::parse_duration(text).map(Past::Ago).ok();
    instant
        .or_else(ago)
        .ok_or_else(|| "use an instant such as 2026-11-21T09:00:00Z, or so long ago such as 90m".to_owned())
}

fn share(text: &str) -> Result<(Name, Weight), String> {
    let (version, weight) = text.split_once('=').ok_or("use VERSION=PERCENT, such as v2=10")?;
    let version = version.parse().map_err(|cause: crate::model::name::NotAName| cause.to_string())?;
    let weight = weight.parse().map_err(|cause: crate::model::weight::NotAWeight| cause.to_string())?;
    Ok((version, weight))
}
