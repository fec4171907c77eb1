//! The one clock.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::model::time::Now;

/// Tells the time.
pub trait Clock: Send {
    /// Now, on both clocks.
    fn now(&self) -> Now;
}

/// The host's clocks: `CLOCK_BOOTTIME`, which also runs while the host sleeps, and the wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let since_start = |time: Timespec| {
            let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
            Duration::new(seconds, u32::try_from(time.tv_nsec).expect("less than a second"))
        };
        Now {
            monotonic: since_start(clock_gettime(ClockId::Boottime)),
            wall: since_start(clock_gettime(ClockId::Realtime)),
        }
    }
}
