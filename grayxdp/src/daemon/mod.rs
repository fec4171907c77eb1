//! What joins the parts. One thread owns the data path, the journal and the engines ([`owner`]); everybody else holds a
//! [`Handle`] to it. [`start`] brings it up, [`Daemon::run`] watches over it until it is told to end. The kernel goes on
//! forwarding in every case but `detach`.

mod admission;
mod backends;
mod clock;
mod engine;
mod explain;
mod flow_log;
mod guards;
mod handle;
mod headers;
mod held;
mod layout;
mod memory;
mod meter;
mod metrics;
mod names;
mod outside;
mod owner;
mod past;
mod quality;
mod reload;
mod replacing;
mod rollouts;
mod sampling;
mod settle;
mod shadow;
mod shares;
mod signals;
mod start;
mod status;
mod strata;
mod trace;
mod view;
mod weights;

#[cfg(test)]
mod tests;

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot, watch},
};

pub use clock::{Clock, SystemClock};
pub use handle::Handle;
pub use start::{Setup, StartError, read_config};

use crate::{
    health::{self, Targets},
    model::{
        api::{ChangeOptions, Request, Response},
        kernel::{CopySink, Kernel, KernelError},
    },
    providers::{self, Datagram, Errand, ShadowTargets},
};

/// Findings of health checks that may wait for the owner; those who check wait where there are more.
const HEALTH_QUEUE: usize = 64;

/// Answers from outside that may wait for the owner; those who ask wait where there are more.
const OUTSIDE_QUEUE: usize = 64;

/// Time between two ticks.
const TICK: Duration = Duration::from_secs(1);

/// A daemon that has started: tables published, program attached.
#[derive(Debug)]
pub struct Daemon {
    handle: Handle,
    targets: watch::Receiver<Targets>,
    asked: watch::Receiver<providers::Targets>,
    errands: mpsc::UnboundedReceiver<Errand>,
    shadowed: watch::Receiver<ShadowTargets>,
    datagrams: mpsc::Receiver<Datagram>,
    ended: oneshot::Receiver<()>,
}

/// Why a running daemon ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The owner's thread panicked.
    #[error("the thread that owns the data path died; the kernel forwards as before: restart the daemon")]
    OwnerDied,
    /// Signals cannot be received.
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
}

/// Starts the daemon on a configuration file. `open` makes the data path; `pins_left` says that one was left behind by
/// an earlier run, whose hash key must then still be there.
///
/// # Errors
/// One line on what keeps it from starting. Nothing is attached then that was not before.
pub async fn start<Open>(config_path: &Path, pins_left: bool, open: Open) -> Result<Daemon, StartError>
where
    Open: FnOnce(&Setup<'_>) -> Result<Box<dyn Kernel>, KernelError> + Send + 'static,
{
    start_with_clock(config_path.to_owned(), Box::new(SystemClock), pins_left, open).await
}

async fn start_with_clock<Open>(
    config_path: PathBuf,
    clock: Box<dyn Clock>,
    pins_left: bool,
    open: Open,
) -> Result<Daemon, StartError>
where
    Open: FnOnce(&Setup<'_>) -> Result<Box<dyn Kernel>, KernelError> + Send + 'static,
{
    let (handle, messages) = handle::channel();
    let waker = handle.waker();
    let (checks, targets) = watch::channel(Targets::default());
    let (asking, asked) = watch::channel(providers::Targets::default());
    let (sending, errands) = mpsc::unbounded_channel();
    let (shadowing, shadowed) = watch::channel(ShadowTargets::default());
    let (to_shadows, datagrams) = providers::shadow_queue(shadowed.clone());
    let (naming, names) = watch::channel(None);
    let to_log = flow_log::flow_sink(names);
    let copies: CopySink = Arc::new(move |copied| {
        to_log(&copied);
        to_shadows(copied);
    });
    let (started, start) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let work = move || match owner::Owner::start(&config_path, clock, pins_left, open) {
        Ok(mut owner) => {
            if started.send(Ok(())).is_ok() {
                owner.wake_by_events(waker);
                owner.begin_checks(checks);
                owner.begin_asking(asking, sending);
                owner.begin_flow_log(naming);
                owner.begin_shadows(shadowing, copies);
                handle::serve(owner, messages);
                // Nobody waits where the process is ending.
                let _ = end.send(());
            }
        }
        Err(error) => {
            // Nobody waits where the process is ending.
            let _ = started.send(Err(error));
        }
    };
    let spawned = std::thread::Builder::new().name("owner".to_owned()).spawn(work);
    spawned.map_err(|error| StartError::Thread(error.to_string()))?;
    start.await.unwrap_or_else(|_| Err(StartError::Thread("it died while it started".to_owned())))?;
    Ok(Daemon { handle, targets, asked, errands, shadowed, datagrams, ended })
}

impl Daemon {
    /// The way to ask it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Keeps it going: ticks, reloads when told by `reloads`. Returns when `shutdown` does, or after `detach`.
    ///
    /// # Errors
    /// [`DaemonError`]; the process is to end with it.
    pub async fn run(mut self, mut reloads: Signal, shutdown: impl Future<Output = ()>) -> Result<(), DaemonError> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let (reports, mut health) = mpsc::channel(HEALTH_QUEUE);
        // It ends when the owner does, and with this function.
        let checks = health::run(self.targets.clone(), reports);
        let (reports, mut measured) = mpsc::channel(OUTSIDE_QUEUE);
        let asking = providers::run(self.asked.clone(), reports);
        let (telling, mut told) = mpsc::channel(OUTSIDE_QUEUE);
        let delivery = providers::deliver(self.errands, telling);
        let shadow = providers::shadow(self.shadowed.clone(), self.datagrams, shadow::most_files(), clock::monotonic);
        tokio::pin!(shutdown, checks, asking, delivery, shadow);
        let (mut checking, mut is_asking, mut delivers, mut shadows) = (true, true, true, true);
        loop {
            tokio::select! {
                end = &mut self.ended => return end.map_err(|_| DaemonError::OwnerDied),
                () = &mut checks, if checking => checking = false,
                Some(report) = health.recv(), if checking => self.handle.health(report).await,
                () = &mut asking, if is_asking => is_asking = false,
                Some(report) = measured.recv(), if is_asking => self.handle.measured(report).await,
                () = &mut delivery, if delivers => delivers = false,
                () = &mut shadow, if shadows => shadows = false,
                Some(outcome) = told.recv(), if delivers => self.handle.told(outcome).await,
                _ = ticks.tick() => self.handle.tick(),
                _ = reloads.recv() => reload(&self.handle).await,
                () = &mut shutdown => {
                    self.handle.stop().await;
                    return self.ended.await.map_err(|_| DaemonError::OwnerDied);
                }
            }
        }
    }
}

/// SIGHUP. To be asked for before anything else: one that comes earlier ends the process, one that comes while the daemon
/// starts is a reload afterwards.
///
/// # Errors
/// [`DaemonError::Signals`].
pub fn reload_signal() -> Result<Signal, DaemonError> {
    signal(SignalKind::hangup()).map_err(DaemonError::Signals)
}

/// Resolves at SIGTERM or SIGINT.
///
/// # Errors
/// [`DaemonError::Signals`].
pub fn stop_signal() -> Result<impl Future<Output = ()>, DaemonError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn reload(handle: &Handle) {
    let request = Request::Reload { diff: false, reset_weights: Vec::new(), options: ChangeOptions::default() };
    let response = match handle.request(request, "SIGHUP").await {
        Ok(response) => response,
        Err(error) => return tracing::error!("not reloaded: {error}"),
    };
    let Response::Done(done) = response else {
        return tracing::error!("a reload was answered with something else: a fault of grayxdp");
    };
    tracing::info!("reloaded: {} changes", done.changes.len());
}
