//! `grayxdp daemon`, and what is done in its place when none runs: the only place where the command line starts parts of
//! the daemon.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use crate::{
    cli::{
        exit::{CliError, Exit},
        files,
    },
    control::{Listeners, Tokens, serve},
    daemon::{self, Setup, StartError},
    datapath::{Capacity, ClockSource, Datapath, Settings},
    model::{
        api::{ChangeOptions, Done},
        config::default_pin_dir,
        kernel::{Kernel, KernelError},
    },
    telemetry,
};

/// Threads of the API; the data path, the journal and the engines have one of their own.
const THREADS: usize = 2;

/// Runs the daemon until it is told to end.
pub(super) fn run(config_file: &Path) -> Result<Exit, CliError> {
    telemetry::start_logging().map_err(|error| CliError::Input(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    runtime.map_err(failed)?.block_on(run_until_told(config_file))
}

/// The socket comes first: where another daemon has it, nothing is touched.
async fn run_until_told(config_file: &Path) -> Result<Exit, CliError> {
    let reloads = daemon::reload_signal().map_err(failed)?;
    let told = daemon::stop_signal().map_err(failed)?;
    let config = files::read_config(config_file)?;
    let listeners = Listeners::bind(&config.control.socket, config.http.listen).await.map_err(failed)?;
    let pins_left = Datapath::is_left_in(&config.pin_dir);
    let daemon = daemon::start(config_file, pins_left, open).await.map_err(not_started)?;
    tracing::info!(socket = %config.control.socket.display(), http = %config.http.listen, "the daemon has started");
    let shutdown = CancellationToken::new();
    let served = tokio::spawn(serve(listeners, daemon.handle(), Tokens::new(config.http.tokens), shutdown.clone()));
    let ended = daemon.run(reloads, told).await;
    shutdown.cancel();
    served.await.map_err(failed)?;
    ended.map_err(failed)?;
    tracing::info!("the daemon has ended");
    Ok(Exit::Done)
}

/// Opens the data path with room for what is configured.
fn open(setup: &Setup<'_>) -> Result<Box<dyn Kernel>, KernelError> {
    let datapath = Datapath::open(Settings {
        pin_dir: setup.config.pin_dir.clone(),
        interfaces: setup.config.interfaces.clone(),
        hash_key: setup.hash_key,
        capacity: Capacity::of(setup.wanted)
            .with_room()
            .with_exceptions(setup.config.exceptions)
            .with_translations(setup.config.translations),
        clock: ClockSource::Monotonic,
    })?;
    Ok(Box::new(datapath))
}

fn not_started(error: StartError) -> CliError {
    let line = error.to_string();
    match error {
        StartError::File { .. } | StartError::Config(_) | StartError::Ids(_) => CliError::Input(line),
        StartError::Store(_) | StartError::Rollout(_) | StartError::Kernel(_) | StartError::Thread(_) => {
            CliError::Failed(line)
        }
    }
}

fn failed(error: impl ToString) -> CliError {
    CliError::Failed(error.to_string())
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
        changes.push(format!(
            "no daemon runs; the program leaves all interfaces, the pins in {} are removed",
            pin_dir.display()
        ));
    }
    Ok(Done { changes, dry_run: options.dry_run })
}
