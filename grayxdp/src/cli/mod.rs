//! The command line: parses, asks the daemon, shows what it answers.

mod args;
mod backend;
mod daemon;
pub mod demo;
mod exit;
mod files;
mod output;
mod pages;
mod picture;
mod remote;
mod report;
mod show;
mod simulate;
mod table;
mod trace;
mod watch;

use std::{ffi::OsString, future::Future, process::ExitCode};

use clap::Parser;

pub use args::{Arguments, Command, Format};
pub use exit::{CliError, Exit};

use crate::control::Client;
use args::{PlanCommand, SchemaOf};
use output::{Output, complain};
use remote::Remote;

/// Runs the command line and says how it ended.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return explain_usage(&error),
    };
    match run(arguments) {
        Ok(status) => status,
        Err(error) => {
            match &error {
                CliError::OutputClosed => {}
                CliError::Input(line) | CliError::Failed(line) | CliError::TimedOut(line) => complain(line),
            }
            error.exit().into()
        }
    }
}

/// Help goes to standard output as it is; a usage error is one line.
fn explain_usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && has_complaint(error) {
        complain(&exit::usage_line(error));
        return Exit::WrongInput.into();
    }
    match error.print() {
        Ok(()) if error.use_stderr() => Exit::WrongInput.into(),
        // A reader that has gone is no fault.
        Ok(()) | Err(_) => Exit::Done.into(),
    }
}

/// Whether something is wrong; a command without its subcommand gets its help instead.
fn has_complaint(error: &clap::Error) -> bool {
    error.kind() != clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let Arguments { socket, output, command } = arguments;
    let output = Output::new(output);
    let remote = Remote { client: Client::new(socket), output };
    let exit = match command {
        Command::Daemon { config } => daemon::run(&config)?,
        Command::Check { files } => files::check(&files, output)?,
        Command::Plan(PlanCommand::Lint(asked)) => files::lint(&asked, output)?,
        Command::Plan(PlanCommand::Simulate(simulation)) => simulate::run(&simulation, output)?,
        Command::Schema { file: SchemaOf::Config } => pages::print(&crate::config::config_schema())?,
        Command::Schema { file: SchemaOf::Plan } => pages::print(&crate::config::plan_schema())?,
        Command::Completions { shell } => pages::completions(shell)?,
        Command::Man { folder } => pages::manual(folder.as_deref())?,
        Command::Demo(arguments) => {
            return demo::run(arguments).map_err(|error| CliError::Failed(format!("{error:#}")));
        }
        Command::Status => block_on(remote.status())??,
        Command::Weights(command) => block_on(remote.weights(command))??,
        Command::Reload { diff, reset_weights, change } => {
            block_on(remote.reload(diff, reset_weights, change.options()))??
        }
        Command::Events { follow, after, limit } => block_on(watch::events(&remote, after, limit, follow))??,
        Command::Explain { src, dst, protocol, dscp, later, at } => {
            block_on(remote.explain((src, dst, protocol), dscp, later, at.map(args::Past::instant)))??
        }
        Command::Trace(arguments) => block_on(trace::run(&remote, arguments))??,
        Command::Backend(command) => block_on(backend::run(&remote, command))??,
        Command::Quality(command) => block_on(remote.quality(command))??,
        Command::Rollout(command) => block_on(remote.rollout(command))??,
        Command::Detach { config, change } => block_on(remote.detach(config.as_deref(), change.options()))??,
    };
    Ok(exit.into())
}

/// Runs what speaks with the daemon.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map(|runtime| runtime.block_on(work))
        .map_err(|cause| CliError::Failed(format!("the system gives no event queue: {cause}")))
}

#[cfg(test)]
mod tests;
