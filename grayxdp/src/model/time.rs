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
