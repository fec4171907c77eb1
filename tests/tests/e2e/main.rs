//! End to end: the real daemon and commands, real clients and servers, in a lab of namespaces.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod changes;
mod conflicts;
mod consistency;
mod direct;
mod elsewhere;
mod flow_log;
mod full_nat;
mod full_nat_changes;
mod fuse;
mod health;
mod hosts;
mod inputs;
mod intruders;
mod ipv6;
mod judged;
mod lifelines;
mod metrics;
mod neighbours;
mod old_kernel;
mod path_mtu;
mod protocols;
mod rollouts;
mod rollouts_restarted;
mod segments;
mod servers;
mod shadow;
mod split;
mod strategies;
mod survive;
mod trace;
mod ways;
