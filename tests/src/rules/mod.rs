//! The rules of the exception scheme as a model that can be read, with what goes wrong when one of them is left out.
//!
//! A [`World`] is one service: the program's part ([`World::syn`], [`World::packet`], …) and the daemon's ([`World::tick`],
//! [`World::reweigh`], …). Cells are few, so that much happens to each of them. A [`history`] sends flows through a world
//! while weights, backends, segments, the guard and the daemon change, and checks after every packet and between packets
//! that each live flow resolves to its own backend. [`Rule`] names the rules; a world leaves out one of them.
//!
//! Packets, times and places in the table come in from outside, so the same history can be run beside the real program.

pub mod cell;
mod daemon;
pub mod history;
mod program;
mod rule;
pub mod table;
mod way;
mod world;

pub use self::{
    program::{Answer, Kind, Later, Verdict, Why},
    rule::Rule,
    world::{Backend, Counts, Existing, Guard, Health, Instance, Member, Place, Setup, Tuple, Version, World},
};

/// Milliseconds of monotonic time.
pub type Millis = u64;
