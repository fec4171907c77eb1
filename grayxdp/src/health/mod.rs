//! Active health checks: which backends answer. [`Streak`] is the core, pure; [`run`] is the shell that asks.
//!
//! Every backend is asked from this host at its own address, so the answer does not pass through the program's rewriting.
//! A backend changes sides after `fall` bad or `rise` good answers in a row; only changes, and changed errors, are told.

mod check;
mod runner;
mod streak;

pub use check::{Check, ask};
pub use runner::{Report, Target, Targets, run};
pub use streak::Streak;
