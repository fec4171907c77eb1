//! Choosing: shares to buckets, backends to slots, names to ids. Pure.

pub mod allocation;
pub mod assignment;
pub mod cells;
pub mod curves;
mod hash;
pub mod ids;
pub mod maglev;
pub mod moment;
pub mod ownership;
pub mod segments;
pub mod shares;
#[cfg(test)]
pub(crate) mod vectors;
pub mod wanted;

pub use assignment::{Assignment, Gone, Home, HomePool, Looks, SegmentTarget, Target, View};
pub use cells::{CellState, Cells, Owner, Policy, Pressure, Settled, Turn};
pub use ids::{IdTable, IdsExhausted};
pub use maglev::{SlotBackend, slot_counts, slot_table};
pub use moment::{Moment, Span};
pub use ownership::{Ownership, Share};
pub use segments::{HomeSource, Rule, Sources};
pub use shares::{RoundsToNothing, bucket_counts, offset, split};
pub use wanted::{AppliedSplit, Pools, wanted};
