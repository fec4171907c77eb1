//! `grayxdp daemon`, and what is done in its place when none runs: the only place where the command line starts parts of
//! the daemon.

use std::path::Path;

use crate::{
    cli::{
        exit::{CliError, Exit},
        files,
    },
    model::api::{ChangeOptions, Done},
    telemetry,
};

/// Runs the daemon until it is told to end.
pub(super) fn run(config_file: &Path) -> Result<Exit, CliError> {
    telemetry::start_logging().map_err(|error| CliError::Input(error.to_string()))?;
    let _config = files::read_config(config_file)?;
    Err(CliError::Failed("this build has no daemon".to_owned()))
}

/// Takes the program off all interfaces and removes its pins where no daemon runs that could do so.
pub(super) fn offline_detach(options: &ChangeOptions) -> Result<Done, CliError> {
    let _dry_run = options.dry_run;
    Err(CliError::Failed("no daemon runs, and this build cannot detach without one".to_owned()))
}
