//! What people read: from answers to text. Pure.

mod backends;
mod change;
mod event;
mod explained;
mod rollout;
mod signals;
mod status;
mod traced;
mod weights;

#[cfg(test)]
pub(crate) mod samples;

pub(super) use backends::backends;
pub(super) use change::done;
pub(super) use event::event;
pub(super) use explained::explained;
pub(super) use rollout::{list as rollouts, progress_line, tree as rollout};
pub(super) use status::status;
pub(super) use traced::traced;
pub(super) use weights::{Shares, shares_of, weights};

/// A share as `94.8 %`, or `-` where there is none.
fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

/// An instant to the second: `2026-03-01 09:00:00Z`.
pub(crate) fn instant(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}
