//! Time as pure parts see it: an argument.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One instant on both clocks. Durations come from `monotonic`; `wall` is for people and windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Now {
    /// Since an arbitrary start that is kept across daemon restarts, not across reboots (`CLOCK_BOOTTIME`).
    pub monotonic: Duration,
    /// Since the Unix epoch.
    pub wall: Duration,
}

/// An instant of the wall clock, given since the Unix epoch, as people read it.
#[must_use]
pub fn timestamp(wall: Duration) -> jiff::Timestamp {
    let seconds = i64::try_from(wall.as_secs()).unwrap_or(i64::MAX);
    let nanoseconds = i32::try_from(wall.subsec_nanos()).expect("less than a second");
    jiff::Timestamp::new(seconds, nanoseconds).unwrap_or(jiff::Timestamp::MAX)
}
