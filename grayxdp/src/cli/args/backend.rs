//! The words of `backend`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::ChangeArguments;
use crate::model::{Name, api::BackendName};

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
