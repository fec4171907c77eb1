//! Whether values of one side tend to be greater: the rank sum test.
//!
//! H. B. Mann, D. R. Whitney: On a test of whether one of two random variables is stochastically larger than the other, Annals of Mathematical
//! Statistics 18, 1947; the normal approximation with ties and continuity: E. L. Lehmann: Nonparametrics, 1975, §1.2 – 1.4. Of one planned look.

use super::{sample::Sample, special::normal_tail};

/// What the test found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannWhitney {
    /// Pairs in which the first side's value is the greater one; equal ones count one half.
    pub u_first: f64,
    /// P of a U as far from the middle without a difference, both sides.
    pub p: f64,
    /// Probability that a value of the second side is greater than one of the first, equal ones one half.
    pub second_greater: f64,
}

/// The test. None where a side has no values, or no value differs from another.
#[must_use]
pub fn mann_whitney(first: &Sample, second: &Sample) -> Option<MannWhitney> {
    let (n, m) = (first.count() as f64, second.count() as f64);
    let all = Sample::grouped(first.values().iter().chain(second.values()).copied());
    let (mut others, mut below, mut u_first) = (second.values().iter().peekable(), 0.0, 0.0);
    for &(value, count) in first.values() {
        while let Some((_, less)) = others.next_if(|(other, _)| *other < value) {
            below += *less as f64;
        }
        let equal = others.peek().filter(|(other, _)| *other == value).map_or(0.0, |(_, equal)| *equal as f64);
        u_first += count as f64 * (below + equal / 2.0);
    }
    let ties: f64 = all.values().iter().map(|(_, count)| *count as f64).map(|count| count.powi(3) - count).sum();
    let deviation = (n * m / 12.0 * ((n + m + 1.0) - ties / ((n + m) * (n + m - 1.0)))).sqrt();
    if n * m == 0.0 || deviation.is_nan() || deviation <= 0.0 {
        return None;
    }
    let z = (u_first.max(n * m - u_first) - n * m / 2.0 - 0.5) / deviation;
    Some(MannWhitney { u_first, p: (2.0 * normal_tail(z)).min(1.0), second_greater: 1.0 - u_first / (n * m) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn u_counts_pairs_and_nothing_but_the_order_matters(
            a in prop::collection::vec(0_u32..20, 1..20), b in prop::collection::vec(0_u32..20, 1..20),
        ) {
            let of = |values: &[u32], power: i32| Sample::of(values.iter().map(|value| f64::from(*value).powi(power)));
            let pairs = || a.iter().flat_map(|x| b.iter().map(move |y| (x, y)));
            let by_hand: f64 = pairs().map(|(x, y)| if x > y { 1.0 } else if x == y { 0.5 } else { 0.0 }).sum();
            let Some(found) = mann_whitney(&of(&a, 1), &of(&b, 1)) else { return Ok(()) };
            let (cubed, swapped) = (mann_whitney(&of(&a, 3), &of(&b, 3)), mann_whitney(&of(&b, 1), &of(&a, 1)));
            prop_assert!((found.u_first - by_hand).abs() < 1e-9);
            prop_assert_eq!(Some(found), cubed);
            prop_assert!(swapped.is_some_and(|swapped| (swapped.p - found.p).abs() < 1e-12));
        }
    }
}
