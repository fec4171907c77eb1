//! The third stage: the least change, a quadratic program.

use clarabel::{
    algebra::CscMatrix,
    solver::{DefaultSettingsBuilder, DefaultSolver, IPSolver, NonnegativeConeT, SolverStatus, ZeroConeT},
};

use super::{
    SAME, Segment,
    room::{Bounds, Room},
};

/// A segment without traffic counts as one with this share where changes are weighed: its answer is unique too.
const LEAST_SHARE: f64 = 1e-6;

/// How exactly it is solved; the smallest step of a weight is 1e-4.
const TOLERANCE: f64 = 1e-11;

/// Minimises `Σqᵢ(pᵢ−pᵢ⁰)²` within the bounds, with that total, no key segment ahead.
pub(super) fn least_change(segments: &[Segment], room: &Room, bounds: &Bounds, total: f64) -> Vec<f64> {
    let free: Vec<_> = (0..segments.len()).filter(|index| bounds.high[*index] - bounds.low[*index] > SAME).collect();
    let fixed: Vec<_> = bounds.low.iter().zip(&bounds.high).map(|(low, high)| f64::midpoint(*low, *high)).collect();
    let mut shares = match free.is_empty() {
        true => fixed,
        false => solved(segments, room, bounds, &free, &fixed, total).unwrap_or_else(|| between(room, bounds, total)),
    };
    for (index, candidate) in shares.iter_mut().enumerate() {
        let (low, high) = (bounds.low[index], bounds.high[index]);
        *candidate = candidate.clamp(low, high);
        if *candidate - low < SAME {
            *candidate = low;
        } else if high - *candidate < SAME {
            *candidate = high;
        }
    }
    for (key, other) in &room.pairs {
        shares[*key] = shares[*key].min(shares[*other]);
    }
    shares
}

/// What the solver finds. It may give up on numbers that it cannot scale.
fn solved(
    segments: &[Segment],
    room: &Room,
    bounds: &Bounds,
    free: &[usize],
    fixed: &[f64],
    total: f64,
) -> Option<Vec<f64>> {
    let column = |index: usize| free.iter().position(|free| *free == index);
    let count = free.len();
    let weight = |index: usize| segments[index].share.max(LEAST_SHARE);
    let settled: f64 = (0..segments.len())
        .filter(|index| column(*index).is_none())
        .map(|index| segments[index].share * fixed[index])
        .sum();
    // The first row is the total; then pᵢ ≤ high, −pᵢ ≤ −low, pₖ − pᵢ ≤ 0.
    let mut rows: Vec<(Vec<(usize, f64)>, f64)> = Vec::new();
    rows.push((free.iter().enumerate().map(|(at, index)| (at, segments[*index].share)).collect(), total - settled));
    for (at, index) in free.iter().enumerate() {
        rows.push((vec![(at, 1.0)], bounds.high[*index]));
        rows.push((vec![(at, -1.0)], -bounds.low[*index]));
    }
    for (key, other) in &room.pairs {
        if let (Some(key), Some(other)) = (column(*key), column(*other)) {
            rows.push((vec![(key, 1.0), (other, -1.0)], 0.0));
        }
    }
    let (mut at_row, mut at_column, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (row, (terms, _)) in rows.iter().enumerate() {
        for (column, value) in terms {
            at_row.push(row);
            at_column.push(*column);
            values.push(*value);
        }
    }
    let constraints = CscMatrix::new_from_triplets(rows.len(), count, at_row, at_column, values);
    let limits: Vec<_> = rows.iter().map(|(_, limit)| *limit).collect();
    let squares: Vec<_> = free.iter().map(|index| 2.0 * weight(*index)).collect();
    let diagonal: Vec<_> = (0..count).collect();
    let quadratic = CscMatrix::new_from_triplets(count, count, diagonal.clone(), diagonal, squares);
    let linear: Vec<_> = free.iter().map(|index| -2.0 * weight(*index) * segments[*index].previous).collect();
    let cones = [ZeroConeT(1), NonnegativeConeT(rows.len() - 1)];
    let settings = DefaultSettingsBuilder::default()
        .verbose(false)
        .tol_gap_abs(TOLERANCE)
        .tol_gap_rel(TOLERANCE)
        .tol_feas(TOLERANCE)
        .max_iter(200)
        .build()
        .ok()?;
    let mut solver = DefaultSolver::new(&quadratic, &linear, &constraints, &limits, &cones, settings).ok()?;
    solver.solve();
    let found = matches!(solver.solution.status, SolverStatus::Solved | SolverStatus::AlmostSolved);
    let exact = solver.solution.r_prim < SAME;
    (found || exact).then(|| {
        let mut shares = fixed.to_vec();
        for (index, value) in free.iter().zip(&solver.solution.x) {
            shares[*index] = *value;
        }
        shares
    })
}

/// The point with that total on the way from the least to the greatest allocation: right in total and spread.
fn between(room: &Room, bounds: &Bounds, total: f64) -> Vec<f64> {
    let (least, greatest) = (room.total_of(&bounds.low), room.total_of(&bounds.high));
    let part = if greatest > least { ((total - least) / (greatest - least)).clamp(0.0, 1.0) } else { 0.0 };
    bounds.low.iter().zip(&bounds.high).map(|(low, high)| low + part * (high - low)).collect()
}
