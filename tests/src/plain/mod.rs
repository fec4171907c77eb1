//! What must become of a frame, said plainly: a model of the program's rules, written from the design for the differential fuzz.
//!
//! It shares no code with the program but the place of a datagram's pieces in their table, which is a hash. It reads bytes by their
//! offsets in the standards, looks everything up in lists, and computes checksums from sums of what they cover. Settled services of one
//! backend each: choices need no hash.

mod answers;
mod drafts;
mod errors;
mod frames;
mod ledger;
mod model;
mod mutations;
mod neighbours;
mod pieces;
mod read;
mod rewrite;
mod sums;
mod traffic;
mod world;

pub use self::{
    frames::{Drawn, draw},
    ledger::{Counted, Ledger},
    model::{Judged, Model, Verdict},
    mutations::Mutation,
    sums::are_right,
    world::{Backend, Hop, Interface, Service, Way, World},
};
