//! `grayxdp daemon`, and what is done in its place when none runs: the only place where the command line starts parts of
//! the daemon.

use std::path::Path;

use crate::{
    cli::{
        exit::{CliError, Exit},
        files,
    },
    datapath::Datapath,
    model::{
        api::{ChangeOptions, Done},
        config::default_pin_dir,
    },
    telemetry,
};

/// Runs the daemon until it is told to end.
pub(super) fn run(config_file: &Path) -> Result<Exit, CliError> {
    telemetry::start_logging().map_err(|error| CliError::Input(error.to_string()))?;
    let _config = files::read_config(config_file)?;
    Err(CliError::Failed("this build has no daemon".to_owned()))
}

/// Takes the program off all interfaces and removes its pins where no daemon runs that could do so.
///
/// Without a configuration the pins are where they are by default.
pub(super) fn offline_detach(config_file: Option<&Path>, options: &ChangeOptions) -> Result<Done, CliError> {
    let pin_dir = match config_file {
        Some(file) => files::read_config(file)?.pin_dir,
        None => default_pin_dir(),
    };
    let mut changes = Vec::new();
    if Datapath::is_left_in(&pin_dir) {
        if !options.dry_run {
            Datapath::remove(&pin_dir).map_err(|error| CliError::Failed(error.to_string()))?;
        }
        changes
            .push(format!("no daemon runs; the program leaves all interfaces, and {} is removed", pin_dir.display()));
    }
    Ok(Done { changes, dry_run: options.dry_run })
}
