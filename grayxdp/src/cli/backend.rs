//! `backend`: which backends take flows, and changing that.

use std::time::{Duration, Instant};

use crate::{
    cli::{
        args::{BackendArguments, BackendCommand},
        exit::{CliError, Exit},
        remote::{Remote, unexpected},
    },
    model::{
        Name,
        api::{BackendAction, BackendName, ListedBackend, Request, Response},
    },
};

/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Runs one of the commands.
pub(super) async fn run(remote: &Remote, command: BackendCommand) -> Result<Exit, CliError> {
    match command {
        BackendCommand::List { service } => remote.ask(Request::BackendList { service }).await,
        BackendCommand::Disable { which } => remote.ask(change(which, BackendAction::Disable)).await,
        BackendCommand::Enable { which } => remote.ask(change(which, BackendAction::Enable)).await,
        BackendCommand::Drain { which, wait, timeout } => {
            let (service, backends) = (which.service.clone(), which.backends.clone());
            let response = remote.client.request(&change(which, BackendAction::Drain)).await?;
            let only_asked = matches!(&response, Response::Done(done) if done.dry_run);
            if wait && !only_asked {
                until_drained(remote, &service, &backends, timeout).await
            } else {
                remote.show(&response)?;
                Ok(Exit::Done)
            }
        }
    }
}

fn change(which: BackendArguments, action: BackendAction) -> Request {
    let BackendArguments { service, backends, change } = which;
    Request::BackendChange { service, backends, action, options: change.options() }
}

/// Waits until none of them has a flow left, and shows them then.
async fn until_drained(
    remote: &Remote,
    service: &Name,
    backends: &[BackendName],
    timeout: Option<Duration>,
) -> Result<Exit, CliError> {
    let begin = Instant::now();
    loop {
        let listed = list(remote, service).await?;
        let is_meant = |listed: &ListedBackend| backends.iter().any(|meant| means(meant, listed));
        let meant: Vec<_> = listed.into_iter().filter(is_meant).collect();
        // One that was enabled again, or removed, is not waited for any more.
        let busy: Vec<_> = meant.iter().filter(|listed| listed.backend.drained == Some(false)).collect();
        if busy.is_empty() {
            remote.show(&Response::Backends(meant))?;
            return Ok(Exit::Done);
        }
        if let Some(timeout) = timeout.filter(|timeout| begin.elapsed() >= *timeout) {
            let said: Vec<_> = busy.iter().map(|busy| format!("{}/{}", busy.version, busy.backend.address)).collect();
            let (said, timeout) = (said.join(", "), humantime::format_duration(timeout));
            return Err(CliError::TimedOut(format!("{said} still has flows after {timeout}; it stays drained")));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn list(remote: &Remote, service: &Name) -> Result<Vec<ListedBackend>, CliError> {
    let response = remote.client.request(&Request::BackendList { service: Some(service.clone()) }).await?;
    let Response::Backends(listed) = response else { return Err(unexpected(&response)) };
    Ok(listed)
}

/// Whether a name is that of a listed backend.
fn means(meant: &BackendName, listed: &ListedBackend) -> bool {
    let own = listed.backend.address;
    let same_port = meant.address.port.is_none() || meant.address.port == own.port;
    meant.version == listed.version && meant.address.address == own.address && same_port
}
