//! An upper bound of a ratio that holds at every look at once.
//!
//! Against "the ratio is p or more" stands the likelihood of all smaller ratios, weighted by Jeffreys' Beta(½, ½) cut off at p:
//!
//! ```text
//! e(p) = B(x + ½, n − x + ½) · I_p(x + ½, n − x + ½)  /  ( B(½, ½) · I_p(½, ½) · pˣ · (1 − p)ⁿ⁻ˣ )
//! ```
//!
//! with x failures in n flows and I the regularised incomplete beta function; the bound is the p with e(p) = 1/α. The mixture is
//! of H. Robbins (Annals of Mathematical Statistics 41, 1970); that a test for each p gives an interval valid at every look: D. A. Darling,
//! H. Robbins: Confidence sequences for mean, variance, and median, PNAS 58, 1967; S. R. Howard et al.: Time-uniform, nonparametric,
//! nonasymptotic confidence sequences, Annals of Statistics 49, 2021. Flows may have different ratios: what is rejected is that
//! every one of them had p or more.

use statrs::function::beta::{beta_reg, ln_beta};

use super::special::solve_rising;

/// Where the prior's mass lies: Jeffreys'.
const PRIOR: f64 = 0.5;

/// ln e(p) against "every flow failed with probability `ratio` or more".
#[must_use]
pub fn log_e_below(failures: u64, flows: u64, ratio: f64) -> f64 {
    if !(ratio > 0.0 && ratio < 1.0) || flows == 0 {
        return 0.0;
    }
    let (x, rest) = (failures.min(flows) as f64, flows.saturating_sub(failures) as f64);
    let cut = beta_reg(x + PRIOR, rest + PRIOR, ratio) / beta_reg(PRIOR, PRIOR, ratio);
    let mixture = ln_beta(x + PRIOR, rest + PRIOR) - ln_beta(PRIOR, PRIOR) + cut.ln();
    mixture - x * ratio.ln() - rest * (-ratio).ln_1p()
}

/// The bound at level `alpha`: 1 without flows.
#[must_use]
pub fn upper(failures: u64, flows: u64, alpha: f64) -> f64 {
    if flows == 0 || failures >= flows {
        return 1.0;
    }
    let found = failures as f64 / flows as f64;
    solve_rising(-alpha.ln(), (found, 1.0), |ratio| log_e_below(failures, flows, ratio))
}

/// Whether the bound at level `alpha` lies below a ratio: what [`upper`] says, without looking for the bound itself.
#[must_use]
pub fn is_below(failures: u64, flows: u64, ratio: f64, alpha: f64) -> bool {
    let is_above_found = (failures as f64) < ratio * flows as f64;
    failures < flows && is_above_found && log_e_below(failures, flows, ratio) > -alpha.ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_failures_it_is_what_the_integral_gives_by_hand() {
        // ∫₀ᵖ (1 − q)ⁿ dq/√(q(1 − q)) ÷ ∫₀ᵖ dq/√(q(1 − q)), for n = 1: 1 − ½·(1 − sin 2θ / 2θ) with p = sin² θ.
        let p = 0.3_f64;
        let theta = p.sqrt().asin();
        let expected = (0.5 + (2.0 * theta).sin() / (4.0 * theta)) / (1.0 - p);
        assert!((log_e_below(0, 1, p).exp() - expected).abs() < 1e-9);
    }

    #[test]
    fn a_ratio_is_above_the_bound_where_the_bound_says_so() {
        for flows in [0, 1, 50, 3_000, 1_000_000] {
            for failures in [0, 1, flows / 1_000, flows / 10, flows] {
                for ratio in [1e-6, 0.000_9, 0.001, 0.02, 0.12, 0.5] {
                    let found = upper(failures, flows, 0.01);
                    assert_eq!(
                        is_below(failures, flows, ratio, 0.01),
                        found < ratio,
                        "{failures} of {flows}: {found}, {ratio}"
                    );
                }
            }
        }
    }

    #[test]
    fn ten_thousand_flows_without_a_failure_are_below_a_thousandth() {
        assert!(upper(0, 10_000, 0.01) < 0.001);
        assert!(upper(0, 2_000, 0.01) > 0.001);
        assert!((upper(100, 100_000, 0.01) - 0.001).abs() < 0.000_6);
        assert_eq!((upper(0, 0, 0.01), upper(9, 5, 0.01)), (1.0, 1.0));
    }

    proptest! {
        #[test]
        fn its_mean_is_at_most_one_where_the_ratio_is_no_less(flows in 1_u64..40, ratio in 0.01..0.9_f64, more in 0.0..1.0_f64) {
            let p = ratio + more * (1.0 - ratio);
            let mass = |x: u64| super::super::special::ln_choose(flows, x).exp() * p.powi(x as i32) * (1.0 - p).powi((flows - x) as i32);
            let mean: f64 = (0..=flows).map(|x| mass(x) * log_e_below(x, flows, ratio).exp()).sum();
            prop_assert!(mean <= 1.0 + 1e-9, "{mean}");
        }

        #[test]
        fn more_failures_raise_it_and_more_flows_lower_it(failures in 0_u64..50, flows in 60_u64..5_000, alpha in 0.001..0.2_f64) {
            let bound = upper(failures, flows, alpha);
            prop_assert!(bound > failures as f64 / flows as f64);
            prop_assert!(upper(failures + 1, flows, alpha) > bound);
            prop_assert!(upper(failures, flows * 2, alpha) < bound);
            prop_assert!(upper(failures, flows, alpha / 2.0) > bound);
        }
    }
}
