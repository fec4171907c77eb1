//! Measuring and judging: from cumulative counts to one verdict with its numbers.
//!
//! `connectFailureRatio` rests on the handshakes that left a mark in the data path: begun, opened, refused.
//!
//! - A handshake has [`ANSWER_TIME`] to be answered, so what is unanswered at an instant is the least value that begun −
//!   opened has in the `ANSWER_TIME` after it: answers that come late count, handshakes that never get one stay. Over a
//!   window that closed `ANSWER_TIME` ago, `ratio = growth of the unanswered ÷ begun`, clamped to `0..=1`.
//! - *Refused* handshakes need no waiting: `refused ÷ begun` over the newest window.
//!
//! The greater of both is the value. A window with too few handshakes says nothing; a pass needs the closed window. All other
//! signals are read over the closed window: see [`signal`].

pub mod comparison;
pub mod histogram;
pub mod history;
pub mod measured;
mod model_quality;
pub mod outside;
pub mod planning;
mod quotient;
mod said;
pub mod sampling;
pub mod signal;
mod sparse;
pub mod statistics;
pub mod strata;
pub mod threshold;
pub mod totals;
pub mod trial;

pub use comparison::{Comparison, Look};
pub use histogram::{Distribution, Quantile};
pub use history::{ANSWER_TIME, History, Reading, Sample};
pub use measured::Measured;
pub use outside::{Answer, Measurement};
pub use strata::{Strata, Stratum};
pub use threshold::{View, judge, unmeasured, window};
pub use totals::Totals;
pub use trial::{Outcome, Trial, TrialFinding};
