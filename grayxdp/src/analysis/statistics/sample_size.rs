//! How many flows it takes to see a difference, and how small a difference a number of flows can show.
//!
//! Normal approximation with the pooled variance under the null hypothesis: J. L. Fleiss, B. Levin, M. C. Paik: Statistical Methods for Rates and
//! Proportions, 3rd ed., 2003, chapter 4. For the sequential judge: on average ln e grows per failure by the Kullback–Leibler divergence of the failures' split
//! (A. Wald: Sequential Analysis, 1947, §3.5).

use super::{
    count_e_process::GRID,
    special::{normal_upper, solve_rising},
};

/// Flows per version at which ratios `p` and `q` differ at level `alpha` (two-sided) with probability `power`; none where they are equal.
#[must_use]
pub fn per_version(p: f64, q: f64, alpha: f64, power: f64) -> Option<u64> {
    let needed = (deviation(p, q, alpha, power) / (p - q)).powi(2).ceil();
    (p != q && needed.is_finite()).then_some(needed as u64)
}

fn deviation(p: f64, q: f64, alpha: f64, power: f64) -> f64 {
    let middle = f64::midpoint(p, q);
    let null = (2.0 * middle * (1.0 - middle)).sqrt();
    let other = (p * (1.0 - p) + q * (1.0 - q)).sqrt();
    normal_upper(alpha / 2.0) * null + normal_upper(1.0 - power) * other
}

/// The least ratio above `p` that `flows` a version show at level `alpha` with probability `power`; 1 where none is.
#[must_use]
pub fn detectable(p: f64, flows: u64, alpha: f64, power: f64) -> f64 {
    let flows = flows as f64;
    solve_rising(flows.sqrt(), (p, 1.0), |q| -deviation(p, q, alpha, power) / (q - p) + 2.0 * flows.sqrt())
}

/// Failures of both versions after which the e-process of counts, against ρ ≤ `tolerated`, reaches 1/`alpha` on average where the
/// candidate fails `rho` times as often and has `share` of the flows; none where it never does.
#[must_use]
pub fn failures_until_alarm(tolerated: f64, rho: f64, share: f64, alpha: f64) -> Option<f64> {
    failures_until((tolerated, rho, share, alpha), |factor| tolerated * factor)
}

/// The same against ρ ≥ `detected`: failures until a pass where the candidate fails `rho` times as often.
#[must_use]
pub fn failures_until_pass(detected: f64, rho: f64, share: f64, alpha: f64) -> Option<f64> {
    failures_until((detected, rho, share, alpha), |factor| detected / factor)
}

fn failures_until((null, rho, share, alpha): (f64, f64, f64, f64), alternative: impl Fn(f64) -> f64) -> Option<f64> {
    let part = |rho: f64| rho * share / rho.mul_add(share, 1.0 - share);
    let (truth, null) = (part(rho), part(null));
    let growth = |factor: f64| {
        let other = part(alternative(factor));
        truth * (other / null).ln() + (1.0 - truth) * ((1.0 - other) / (1.0 - null)).ln()
    };
    let best = GRID.into_iter().map(growth).fold(f64::NEG_INFINITY, f64::max);
    (best > 0.0).then(|| (GRID.len() as f64 / alpha).ln() / best)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_seen_needs_no_number() {
        assert_eq!(per_version(0.01, 0.01, 0.05, 0.8), None);
        assert_eq!(failures_until_alarm(1.0, 1.0, 0.5, 0.05), None);
        // Twice as many failures at half of the flows: ln 500 ÷ (⅔ ln 4/3 + ⅓ ln ⅔), by hand.
        let expected = 500_f64.ln() / (2.0 / 3.0 * (4.0_f64 / 3.0).ln() + (2.0_f64 / 3.0).ln() / 3.0);
        assert!((failures_until_alarm(1.0, 2.0, 0.5, 0.01).expect("it is seen") - expected).abs() < 1e-9);
    }

    #[test]
    fn a_pass_comes_after_about_as_many_failures_as_are_foretold() {
        let expected = failures_until_pass(2.0, 1.0, 0.5, 0.01).expect("it comes");
        let mut process = super::super::count_e_process::CountEProcess::better_than(2.0);
        let mut failures = 0.0;
        while process.e() < 100.0 {
            process.take(0.5, 0.5, 0.5);
            failures += 1.0;
        }
        assert!((failures - expected).abs() <= 1.0 + expected * 0.1, "{failures} {expected}");
        assert_eq!(failures_until_pass(2.0, 2.0, 0.5, 0.01), None);
    }

    proptest! {
        #[test]
        fn the_detectable_ratio_is_the_one_that_needs_as_many(p in 0.001..0.3_f64, flows in 200_u64..1_000_000) {
            let q = detectable(p, flows, 0.05, 0.8);
            prop_assert!(q > p);
            if q < 0.99 {
                let needed = per_version(p, q, 0.05, 0.8).expect("they differ");
                prop_assert!(needed.abs_diff(flows) <= 2 + flows / 1_000_000, "{needed} {flows}");
            }
        }
    }
}
