//! Whether failures come one by one: the 256 cells of clients.
//!
//! *Dispersion* is Pearson's χ² of the failures over the cells ÷ its degrees of freedom, each cell expecting its attempts × the
//! version's ratio (P. McCullagh, J. A. Nelder: Generalized Linear Models, 1989, §4.5). It is 1 for failures that have nothing to do
//! with each other, and about m where a client fails m times in a row. Counts divided by it make a likelihood of counts that
//! come in clusters (R. W. M. Wedderburn: Quasi-likelihood functions, Biometrika 61, 1974).

/// Above this, counts are divided by the dispersion.
pub const NOTABLE: f64 = 1.5;

/// Dispersion of failures over cells; none where nothing failed or everything did.
#[must_use]
pub fn dispersion(attempts: &[u64], failures: &[u64]) -> Option<f64> {
    let cells = || attempts.iter().zip(failures).map(|(&of, &failed)| (of.max(failed) as f64, failed as f64));
    let (all, failed) = cells().fold((0.0, 0.0), |(all, sum), (of, failed)| (all + of, sum + failed));
    let used = cells().filter(|(of, _)| *of > 0.0).count();
    let ratio = failed / all;
    if used < 2 || !(ratio > 0.0 && ratio < 1.0) {
        return None;
    }
    let term = |(of, failed): (f64, f64)| (failed - of * ratio).powi(2) / (of * ratio * (1.0 - ratio));
    let square: f64 = cells().filter(|(of, _)| *of > 0.0).map(term).sum();
    Some(square / (used - 1) as f64)
}

/// What counts are divided by: the dispersion where it is [`NOTABLE`], else 1.
#[must_use]
pub fn divisor(dispersion: Option<f64>) -> f64 {
    dispersion.filter(|dispersion| *dispersion > NOTABLE).unwrap_or(1.0)
}

/// Failures of a look with each cell's capped, so that no client decides alone: at `cap` and `cap` times what the cell's
/// attempts would give at the ratio of all other cells. Where many fail, all count; a plain cap would cut the version with
/// more flows first, and blame the other.
#[must_use]
pub fn capped(attempts: &[u64], failures: &[u64], cap: u32) -> f64 {
    let (all, failed): (u64, u64) = (attempts.iter().sum(), failures.iter().sum());
    let cells = attempts.iter().zip(failures).filter(|(_, failures)| **failures > 0);
    cells
        .map(|(&own, &own_failed)| {
            let others = all.saturating_sub(own).max(1) as f64;
            let ratio = (failed - own_failed) as f64 / others;
            (own_failed as f64).min(f64::from(cap) * (1.0 + own as f64 * ratio.min(1.0)))
        })
        .sum()
}

/// The cell with over half of at least ten failures, and its part of them.
#[must_use]
pub fn dominant(failures: &[u64]) -> Option<(usize, f64)> {
    let (cell, part) = greatest(failures)?;
    (failures.iter().sum::<u64>() >= 10).then_some((cell, part))
}

/// The cell with over half of the failures, and its part of them.
fn greatest(failures: &[u64]) -> Option<(usize, f64)> {
    let all: u64 = failures.iter().sum();
    let (cell, &most) = failures.iter().enumerate().max_by_key(|(_, failed)| **failed)?;
    (most * 2 > all).then(|| (cell, most as f64 / all as f64))
}

/// The ratio of failures of all cells but the one that has over half of them; none where no cell has, or where that one has over
/// half of the attempts, too: behind one address may be many clients.
#[must_use]
pub fn ratio_of_others(attempts: &[u64], failures: &[u64]) -> Option<f64> {
    let (cell, _) = greatest(failures)?;
    let sum = |counts: &[u64]| counts.iter().sum::<u64>() - counts[cell];
    let (of, failed) = (sum(attempts), sum(failures));
    (of > 0 && of >= attempts[cell]).then(|| failed as f64 / of as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clusters_of_three_are_three_times_as_dispersed() {
        // 48 of 256 cells with one failure each, then 16 with three: by hand, 100 attempts a cell, p = 48/25,600.
        let attempts = vec![100; 256];
        let with =
            |cells: usize, failed: u64| (0..256).map(|cell| if cell < cells { failed } else { 0 }).collect::<Vec<_>>();
        let single = dispersion(&attempts, &with(48, 1)).expect("failures");
        let threes = dispersion(&attempts, &with(16, 3)).expect("failures");
        let by_hand = |cells: f64, failed: f64| {
            let p = 48.0 / 25_600.0;
            (cells * (failed - 100.0 * p).powi(2) + (256.0 - cells) * (100.0 * p).powi(2))
                / (100.0 * p * (1.0 - p))
                / 255.0
        };
        assert!((single - by_hand(48.0, 1.0)).abs() < 1e-9 && (threes - by_hand(16.0, 3.0)).abs() < 1e-9);
        assert!(single < 1.0 && (2.5..3.2).contains(&threes), "{single} {threes}");
        assert_eq!((divisor(Some(single)), divisor(Some(threes)), divisor(None)), (1.0, threes, 1.0));
        assert_eq!(dispersion(&attempts, &[0; 256]), None);
    }

    #[test]
    fn one_client_counts_no_more_than_the_cap_and_many_count_whole() {
        let mut failures = vec![0; 256];
        failures[7] = 500;
        let mut attempts = vec![100; 256];
        attempts[7] = 600;
        assert_eq!(capped(&attempts, &failures, 3), 3.0);
        assert_eq!(dominant(&failures), Some((7, 1.0)));
        // Everybody fails 40 of 100: nothing is cut.
        assert_eq!(capped(&[100; 256], &[40; 256], 3), 40.0 * 256.0);
        assert_eq!(dominant(&[40; 256]), None);
        assert_eq!(dominant(&[9, 0]), None, "nine failures name nobody");
        assert_eq!(ratio_of_others(&[30, 100, 100], &[9, 1, 0]), Some(0.005));
        assert_eq!(ratio_of_others(&[40, 100], &[5, 5]), None, "no cell has over half");
        assert_eq!(ratio_of_others(&[40, 0], &[5, 0]), None, "there are no others");
        assert_eq!(ratio_of_others(&[400, 20], &[50, 0]), None, "most clients come from one address");
    }

    proptest! {
        #[test]
        fn capping_only_takes_away_and_a_higher_cap_takes_less(
            cells in prop::collection::vec((0_u64..100, 0_u64..100), 256), cap in 1_u32..10,
        ) {
            let (attempts, failures): (Vec<_>, Vec<_>) = cells.into_iter().unzip();
            let (low, high) = (capped(&attempts, &failures, cap), capped(&attempts, &failures, cap + 1));
            prop_assert!(low <= high && high <= failures.iter().sum::<u64>() as f64);
        }
    }
}
