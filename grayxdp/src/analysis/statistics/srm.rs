//! Sample-ratio mismatch: whether new flows went to the versions as the buckets say.
//!
//! Sequential: M. Lindon, A. Malek: Anytime-valid inference for multinomial count data, NeurIPS 2022: the likelihood of the flows under shares
//! that are themselves Dirichlet around the expected ones, ÷ that under the expected ones; a martingale under these. Strata
//! (segment, epoch) have shares of their own; their e-values are multiplied. For a closed window Pearson's χ² is shown: R. Fabijan et
//! al.: Diagnosing sample ratio mismatch in online controlled experiments, KDD 2019.

use statrs::function::gamma::ln_gamma;

use super::special::chi_square_tail;

/// Level of the alarm.
pub const ALPHA: f64 = 0.001;

/// How many flows the belief in the expected shares is worth.
const CONCENTRATION: f64 = 100.0;

/// ln e of a stratum: flows by version, and the shares that its buckets have, above 0 and with the sum 1.
#[must_use]
pub fn log_e(observed: &[u64], shares: &[f64]) -> f64 {
    let all: u64 = observed.iter().sum();
    let term = |(&flows, &share): (&u64, &f64)| {
        let (flows, belief) = (flows as f64, CONCENTRATION * share);
        ln_gamma(belief + flows) - ln_gamma(belief) - flows * share.ln()
    };
    let parts: f64 = observed.iter().zip(shares).map(term).sum();
    ln_gamma(CONCENTRATION) - ln_gamma(CONCENTRATION + all as f64) + parts
}

/// χ² of a closed window, and P(χ² at least that) under the expected shares.
#[must_use]
pub fn chi_square(observed: &[u64], shares: &[f64]) -> (f64, f64) {
    let (all, whole) = (observed.iter().sum::<u64>() as f64, shares.iter().sum::<f64>());
    let term = |(&flows, &share): (&u64, &f64)| {
        let expected = all * share / whole;
        (flows as f64 - expected).powi(2) / expected
    };
    let square: f64 = observed.iter().zip(shares).map(term).sum();
    (square, chi_square_tail(square, observed.len().saturating_sub(1) as f64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_split_as_expected_says_nothing_and_one_of_the_articles_alarms() {
        assert!(log_e(&[50_000, 50_000], &[0.5, 0.5]) < 0.0);
        // 600 : 400 where 50 : 50 is meant.
        assert!(log_e(&[600, 400], &[0.5, 0.5]) > -ALPHA.ln());
        assert!(log_e(&[9_512, 488], &[0.95, 0.05]) < 0.0);
    }

    proptest! {
        #[test]
        fn its_mean_is_one_under_the_expected_shares(flows in 1_u64..60, share in 0.02..0.98_f64) {
            let mass = |x: u64| {
                super::super::special::ln_choose(flows, x).exp() * share.powi(x as i32) * (1.0 - share).powi((flows - x) as i32)
            };
            let mean: f64 = (0..=flows).map(|x| mass(x) * log_e(&[x, flows - x], &[share, 1.0 - share]).exp()).sum();
            prop_assert!((mean - 1.0).abs() < 1e-6, "{mean}");
        }

        #[test]
        fn the_order_of_versions_does_not_matter(one in 0_u64..10_000, other in 0_u64..10_000, share in 0.02..0.98_f64) {
            let shares = [share, 1.0 - share];
            prop_assert!((log_e(&[one, other], &shares) - log_e(&[other, one], &[shares[1], shares[0]])).abs() < 1e-6);
        }
    }
}
