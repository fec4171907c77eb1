//! grayxdp: gradual release of services on Linux load-balancer hosts.
//!
//! The layers, each using only those above it: `model`; `config`, `balance`, `analysis`; `rollout` (all pure); `datapath`,
//! `health`, `providers`, `store`, `telemetry` (the outside world); `daemon`; `control`; `cli`. `lab` builds the namespaces of the demo and the tests.

pub mod analysis;
pub mod balance;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod datapath;
pub mod health;
pub mod lab;
pub mod model;
pub mod providers;
pub mod rollout;
pub mod store;
pub mod telemetry;
