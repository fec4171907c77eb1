//! Shares: percentages to buckets, and where a service's second version begins.

use grayxdp_common::BUCKETS;

use crate::{
    balance::hash::hash,
    model::{Name, Weight, kernel::Split},
};

/// A share above zero that is too small to get a single bucket or slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("share number {index} is above zero and rounds to nothing")]
pub struct RoundsToNothing {
    /// Its place among the shares, from 0.
    pub index: usize,
}

/// Buckets of each version, by largest remainder; their sum is [`BUCKETS`]. Among equal remainders the earlier wins.
///
/// Weights count relative to their sum; where that is zero nobody gets a bucket.
///
/// # Errors
/// [`RoundsToNothing`] for a weight above zero that would get no bucket.
pub fn bucket_counts(weights: &[Weight]) -> Result<Vec<u16>, RoundsToNothing> {
    let weights: Vec<u16> = weights.iter().map(|weight| weight.hundredths()).collect();
    apportion_all(&weights, BUCKETS)
}

/// The split of a service with one or two versions, weights in the order of the file.
///
/// # Panics
/// With more than two weights.
#[must_use]
pub fn split(weights: &[Weight], offset: u16) -> Split {
    assert!(weights.len() <= 2, "a split is between at most two versions");
    let hundredths: Vec<u16> = weights.iter().map(|weight| weight.hundredths()).collect();
    let threshold = apportion(&hundredths, BUCKETS).get(1).copied().unwrap_or(0);
    Split { offset, threshold }
}

/// First bucket of a service's second version during a rollout, `0..BUCKETS`: not always the same clients go first.
///
/// A function of names alone, so all hosts of a fleet deal alike.
#[must_use]
pub fn offset(service: &Name, rollout: Option<&Name>) -> u16 {
    let seed = rollout.map_or(0, |rollout| hash(rollout.as_str().as_bytes(), 0));
    (hash(service.as_str().as_bytes(), seed) >> (u64::BITS - BUCKETS.trailing_zeros())) as u16
}

/// [`apportion`] that refuses a share above zero that would get nothing.
pub(super) fn apportion_all(shares: &[u16], total: u16) -> Result<Vec<u16>, RoundsToNothing> {
    let counts = apportion(shares, total);
    match shares.iter().zip(&counts).position(|(&share, &count)| share > 0 && count == 0) {
        Some(index) => Err(RoundsToNothing { index }),
        None => Ok(counts),
    }
}

/// Parts of `total` in proportion to `shares`, by largest remainder (Hamilton's method).
#[must_use]
pub fn apportion(shares: &[u16], total: u16) -> Vec<u16> {
    let sum: u64 = shares.iter().copied().map(u64::from).sum();
    if sum == 0 {
        return vec![0; shares.len()];
    }
    let exact = |share: u16| u64::from(share) * u64::from(total);
    let mut counts: Vec<u16> = shares.iter().map(|&share| (exact(share) / sum) as u16).collect();
    let given: u64 = counts.iter().copied().map(u64::from).sum();
    let left = usize::try_from(u64::from(total) - given).expect("fewer parts are left than there are shares");
    let mut by_remainder: Vec<usize> = (0..shares.len()).collect();
    by_remainder.sort_by_key(|&index| std::cmp::Reverse(exact(shares[index]) % sum));
    for &index in by_remainder.iter().take(left) {
        counts[index] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn weights(hundredths: &[u16]) -> Vec<Weight> {
        hundredths.iter().map(|&number| Weight::from_hundredths(number).expect("at most 100 %")).collect()
    }

    #[test]
    fn largest_remainders_get_the_buckets_that_are_left() {
        // 16384 × 10 % = 1638.4, × 90 % = 14745.6: the second has the larger remainder.
        assert_eq!(bucket_counts(&weights(&[1_000, 9_000])), Ok(vec![1_638, 14_746]));
        // 5461.13, 5461.13, 5461.74 for 33.33, 33.33, 33.34 (× 1.6384).
        assert_eq!(bucket_counts(&weights(&[3_333, 3_333, 3_334])), Ok(vec![5_461, 5_461, 5_462]));
        assert_eq!(bucket_counts(&weights(&[10_000, 0])), Ok(vec![16_384, 0]));
        // The smallest weight there is: 1.6384 buckets.
        assert_eq!(bucket_counts(&weights(&[9_999, 1])), Ok(vec![16_382, 2]));
    }

    #[test]
    fn equal_remainders_favour_the_earlier_share() {
        assert_eq!(apportion(&[1, 1, 1], 7), [3, 2, 2]);
        assert_eq!(apportion(&[1, 1, 1, 1], 6), [2, 2, 1, 1]);
    }

    #[test]
    fn a_share_that_rounds_to_nothing_is_refused_and_a_zero_share_is_not() {
        // 100 × 1 / 301 = 0.33 and 100 × 300 / 301 = 99.67: the remainder goes to the second.
        assert_eq!(apportion_all(&[1, 300], 100), Err(RoundsToNothing { index: 0 }));
        assert_eq!(apportion_all(&[0, 300], 100), Ok(vec![0, 100]));
        assert_eq!(apportion_all(&[0, 0], 100), Ok(vec![0, 0]));
    }

    #[test]
    fn a_single_version_owns_all_buckets() {
        assert_eq!(split(&[Weight::FULL], 77), Split { offset: 77, threshold: 0 });
        assert_eq!(split(&[Weight::ZERO, Weight::FULL], 77), Split { offset: 77, threshold: BUCKETS });
    }

    #[test]
    fn offsets_spread_over_rollouts_and_services() {
        for service in ["recsys", "a", "b"] {
            let service: Name = service.parse().expect("a name");
            let mut cells = [0_u32; 64];
            for rollout in 0..64_000 {
                let rollout: Name = format!("release-{rollout}").parse().expect("a name");
                cells[usize::from(offset(&service, Some(&rollout))) * 64 / usize::from(BUCKETS)] += 1;
            }
            // 1,000 expected in each, deviation 31.4: five of them.
            assert!(cells.iter().all(|cell| (843..=1_157).contains(cell)), "{service}: {cells:?}");
        }
        let firsts: std::collections::BTreeSet<u16> =
            (0..1_000).map(|n| offset(&format!("service-{n}").parse().expect("a name"), None)).collect();
        // 1,000 draws of 16,384: 970 different ones expected.
        assert!(firsts.len() > 940, "{}", firsts.len());
    }

    proptest! {
        #[test]
        fn every_bucket_is_given_once_and_no_share_is_off_by_one(
            shares in prop::collection::vec(0_u16..=10_000, 1..9), total in 1_u16..=BUCKETS,
        ) {
            let sum: u64 = shares.iter().copied().map(u64::from).sum();
            prop_assume!(sum > 0);
            let counts = apportion(&shares, total);
            prop_assert_eq!(counts.iter().copied().map(u64::from).sum::<u64>(), u64::from(total));
            for (&share, &count) in shares.iter().zip(&counts) {
                let exact = f64::from(share) * f64::from(total) / sum as f64;
                prop_assert!((f64::from(count) - exact).abs() < 1.0, "{} for {}", count, exact);
            }
        }

        #[test]
        fn a_greater_weight_never_has_fewer_buckets(low in 0_u16..=10_000, high in 0_u16..=10_000) {
            prop_assume!(low <= high);
            let second = |hundredths: u16| split(&weights(&[10_000 - hundredths, hundredths]), 0).threshold;
            prop_assert!(second(low) <= second(high));
            prop_assert_eq!(second(low) + split(&weights(&[low, 10_000 - low]), 0).threshold, BUCKETS);
        }
    }
}
