//! Who is asked outside: Prometheus, HTTP servers and programs for values, webhooks and notifications with news, and the
//! candidate of a shadow release with copies. Each is
//! asked by a task of its own with a time limit, so one that hangs delays nothing else.

mod command;
mod courier;
mod document;
mod http;
mod prometheus;
mod runner;
mod secret;
mod shadow;
mod web;

pub use courier::{Errand, Outcome, Outlet, Told, Whose, deliver};
pub use runner::{Key, Report, Target, Targets, run};
pub use secret::read as read_secret;
pub use shadow::{Counts, Datagram, ShadowBackend, ShadowTarget, ShadowTargets, shadow, shadow_queue};
pub use web::{Failure, Post, Web, post};
