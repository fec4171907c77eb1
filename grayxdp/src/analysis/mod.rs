//! Measuring and judging: from cumulative counters to one verdict with its numbers.
//!
//! The data path keeps no state for a connection, so `connectFailureRatio` is an estimate from three counters of a
//! version: SYNs, SYN-ACKs and refusals (RSTs with sequence number 0).
//!
//! - *Unanswered* connections are SYNs − SYN-ACKs. A SYN has [`ANSWER_TIME`] to be answered, so what is unanswered at an
//!   instant is the least value that this difference has in the `ANSWER_TIME` after it: answers that come late count,
//!   connections that never get one stay. Over a window that closed `ANSWER_TIME` ago,
//!   `ratio = growth of the unanswered ÷ SYNs = 1 − SYN-ACKs ÷ SYNs`, clamped to `0..=1`.
//! - *Refused* connections need no waiting: `refusals ÷ SYNs` over the newest window.
//!
//! The greater of both is the value. A window with too few SYNs says nothing; a pass needs the closed window.

pub mod histogram;
pub mod history;
pub mod measured;
pub mod threshold;
pub mod totals;

pub use histogram::{Distribution, Quantile};
pub use history::{ANSWER_TIME, History, Reading, Sample};
pub use measured::Measured;
pub use threshold::{View, judge, unmeasured, window};
pub use totals::Totals;
