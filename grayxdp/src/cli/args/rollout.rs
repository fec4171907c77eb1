//! The words of `rollout`.

use std::path::PathBuf;

use clap::Subcommand;

use super::{ChangeArguments, WaitArguments};
use crate::model::Name;

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
