//! Notices Ctrl-C and a request to end, so that the demo takes itself down in order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

/// How long an interruption may go unnoticed.
const NOTICE: Duration = Duration::from_millis(50);

/// Whether the demo was asked to end.
#[derive(Debug)]
pub(super) struct Interrupt {
    set: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens for Ctrl-C, `SIGTERM` and the end of the terminal from now on.
    pub(super) fn install() -> anyhow::Result<Self> {
        let set = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut signals = {
            let _entered = runtime.enter();
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
                .into_iter()
                .map(signal)
                .collect::<Result<Vec<_>, _>>()
                .context("signals cannot be listened for")?
        };
        let noticed = Arc::clone(&set);
        thread::spawn(move || {
            runtime.block_on(async {
                let waiting = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
                futures::future::select_all(waiting).await;
                noticed.store(true, Ordering::Relaxed);
            });
        });
        Ok(Self { set })
    }

    /// Whether the demo was asked to end.
    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::Relaxed)
    }

    /// Sleeps.
    ///
    /// # Errors
    /// The demo was asked to end.
    pub(super) fn sleep(&self, duration: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + duration;
        loop {
            if self.is_set() {
                bail!("interrupted");
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(NOTICE));
        }
    }
}
