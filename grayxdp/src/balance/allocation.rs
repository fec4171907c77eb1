//! Allocation: which share of new flows the candidate gets in each segment, so that the total comes to a target.
//!
//! Three stages, each within the optimum of the one before: the total as near to the target as caps let it; then the smallest
//! spread `max p − min p`; then the least `Σqᵢ(pᵢ−pᵢ⁰)²`, which makes the answer unique.
//!
//! The first two are found without a solver. Bounds and "a key segment is never ahead" make the feasible points with
//! `s ≤ pᵢ ≤ t` a lattice: it has a least and a greatest element, whose totals depend on `s` and on `t` alone. So the total that
//! can be reached is that of the greatest element, and the smallest spread is between the greatest `s` whose least element
//! does not exceed the total and the smallest `t` whose greatest element reaches it. Every answer of that spread has exactly
//! this `s` and this `t`, which are plain bounds for the third stage, a quadratic program.

mod room;
mod solve;
mod walk;

#[cfg(test)]
mod tests;

use room::Room;
pub use walk::{Goal, Part, SubStep, Unreachable, Walk, walk};

/// Shares nearer to each other than this are the same: a ten-thousandth of the smallest step of a weight.
pub(super) const SAME: f64 = 1e-8;

/// A segment, as allocation sees it. All are shares, `0.0..=1.0`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// Its part of all new flows, `q`; those of all segments make 1.
    pub share: f64,
    /// The candidate's share in it now, `p⁰`.
    pub previous: f64,
    /// By how much that may change, `r`.
    pub max_step: f64,
    /// Whether it may never be ahead of the segments that are not key.
    pub key: bool,
}

/// An allocation.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// The candidate's share in each segment, in the order given.
    pub shares: Vec<f64>,
    /// The candidate's share of all new flows.
    pub total: f64,
    /// The greatest share less the smallest.
    pub spread: f64,
    /// What kept the total from the target, or segments from the level of the others.
    pub binding: Vec<Cap>,
}

/// A limit that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cap {
    /// The segment of that index may not change by more at once.
    MaxStep(usize),
    /// The key segment of that index may not be ahead of the others.
    Key(usize),
    /// All segments together may not grow by more at once.
    MaxTotalStep,
}

/// Brings the total as near to `target` as it goes. `max_total_step` bounds its growth; falling has no such bound. Nobody
/// moves against the direction, and staying where all are is always allowed.
#[must_use]
pub fn allocate(segments: &[Segment], target: f64, max_total_step: f64) -> Allocation {
    let room = Room::new(segments, target);
    let total = room.total(target, max_total_step);
    let level = room.level(total);
    let bounds = room.between(level);
    let shares = solve::least_change(segments, &room, &bounds, total);
    let reached = room.total_of(&shares);
    let spread = |shares: &[f64]| {
        let (least, greatest) = shares
            .iter()
            .fold((1.0_f64, 0.0_f64), |(least, greatest), share| (least.min(*share), greatest.max(*share)));
        (greatest - least).max(0.0)
    };
    let binding = room.binding(&shares, level, (total, target, max_total_step));
    Allocation { spread: spread(&shares), total: reached, binding, shares }
}
