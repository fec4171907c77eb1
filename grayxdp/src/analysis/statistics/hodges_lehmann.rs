//! By how much the values of one side lie above those of the other: the median of all differences.
//!
//! J. L. Hodges, E. L. Lehmann: Estimates of location based on rank tests, Annals of Mathematical Statistics 34, 1963. Shown, never judged.

use super::sample::Sample;

/// The median of second − first over all pairs; none where a side has no values.
#[must_use]
pub fn hodges_lehmann(first: &Sample, second: &Sample) -> Option<f64> {
    let pairs = second.values().iter().flat_map(|(y, m)| first.values().iter().map(move |(x, n)| (y - x, n * m)));
    Sample::grouped(pairs).quantile(0.5)
}
