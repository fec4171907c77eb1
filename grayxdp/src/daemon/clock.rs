//! The one clock.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::model::time::Now;

/// Tells the time.
pub trait Clock: Send {
    /// Now, on both clocks.
    fn now(&self) -> Now;

    /// The monotonic time that the data path reads (`CLOCK_MONOTONIC`), which stands still while the host sleeps.
    fn kernel(&self) -> Duration {
        self.now().monotonic
    }
}

/// The host's clocks: `CLOCK_BOOTTIME`, which also runs while the host sleeps, and the wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now {
            monotonic: since_start(clock_gettime(ClockId::Boottime)),
            wall: since_start(clock_gettime(ClockId::Realtime)),
        }
    }

    fn kernel(&self) -> Duration {
        since_start(clock_gettime(ClockId::Monotonic))
    }
}

/// The host's monotonic time.
pub(super) fn monotonic() -> Duration {
    SystemClock.now().monotonic
}

fn since_start(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).expect("less than a second"))
}
