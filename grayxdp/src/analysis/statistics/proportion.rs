//! Two ratios of one planned look.
//!
//! The pooled z test; the interval of R. G. Newcombe (Interval estimation for the difference between independent proportions: comparison of eleven methods,
//! Statistics in Medicine 17, 1998, method 10) from E. B. Wilson's (JASA 22, 1927); for small counts R. A. Fisher's exact test (The logic of inductive
//! inference, JRSS 98, 1935), both sides: all tables that are no likelier than the one found.

use super::special::{ln_choose, normal_tail, normal_upper};

/// So many of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// So many …
    pub of: u64,
    /// … of so many; no less.
    pub all: u64,
}

impl Part {
    /// The ratio; none of nothing.
    #[must_use]
    pub fn ratio(self) -> Option<f64> {
        (self.all > 0).then(|| self.of as f64 / self.all as f64)
    }

    /// Where the ratio lies, `z` standard deviations wide; `0.0..=1.0`.
    #[must_use]
    pub fn wilson(self, z: f64) -> (f64, f64) {
        let Some(p) = self.ratio() else { return (0.0, 1.0) };
        let (n, square) = (self.all as f64, z * z);
        let middle = (p + square / (2.0 * n)) / (1.0 + square / n);
        let reach = z / (1.0 + square / n) * (p * (1.0 - p) / n + square / (4.0 * n * n)).sqrt();
        ((middle - reach).max(0.0), (middle + reach).min(1.0))
    }
}

/// z of stable − candidate and P(|Z| ≥ |z|) without a difference; none where the pooled ratio is 0 or 1.
#[must_use]
pub fn z_test(stable: Part, candidate: Part) -> Option<(f64, f64)> {
    let (p, q) = (stable.ratio()?, candidate.ratio()?);
    let (n, m) = (stable.all as f64, candidate.all as f64);
    let pooled = (stable.of + candidate.of) as f64 / (n + m);
    let error = (pooled * (1.0 - pooled) * (n.recip() + m.recip())).sqrt();
    let z = (p - q) / error;
    (error > 0.0).then(|| (z, 2.0 * normal_tail(z.abs())))
}

/// Where candidate − stable lies with probability 1 − `alpha`; none of nothing.
#[must_use]
pub fn newcombe(stable: Part, candidate: Part, alpha: f64) -> Option<(f64, f64)> {
    let (p, q) = (candidate.ratio()?, stable.ratio()?);
    let z = normal_upper(alpha / 2.0);
    let ((low, high), (stable_low, stable_high)) = (candidate.wilson(z), stable.wilson(z));
    let difference = p - q;
    Some((difference - (p - low).hypot(stable_high - q), difference + (high - p).hypot(q - stable_low)))
}

/// P of a table no likelier than this one without a difference.
#[must_use]
pub fn fisher(stable: Part, candidate: Part) -> f64 {
    let (failed, all) = (stable.of + candidate.of, stable.all + candidate.all);
    let log = |x: u64| ln_choose(candidate.all, x) + ln_choose(stable.all, failed - x) - ln_choose(all, failed);
    let possible = failed.saturating_sub(stable.all)..=failed.min(candidate.all);
    // Tables as likely as the one found must not fall to rounding.
    let found = log(candidate.of) + 1e-7;
    possible.map(log).filter(|log| *log <= found).map(f64::exp).sum::<f64>().min(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fishers_tea() {
        // The lady tastes three of four right: P of at least that on both sides is 34/70.
        let (four, other) = (Part { of: 3, all: 4 }, Part { of: 1, all: 4 });
        assert!((fisher(other, four) - 34.0 / 70.0).abs() < 1e-9);
        assert_eq!(z_test(Part { of: 0, all: 5 }, Part { of: 0, all: 5 }), None);
        assert_eq!(newcombe(Part { of: 0, all: 0 }, four, 0.05), None);
    }

    proptest! {
        #[test]
        fn swapping_the_sides_swaps_the_signs(a in 0_u64..50, b in 0_u64..50, more in 1_u64..50) {
            let (one, other) = (Part { of: a, all: 50 + more }, Part { of: b, all: 60 });
            let (z, back) = (z_test(one, other), z_test(other, one));
            if let (Some((z, p)), Some((back, p_back))) = (z, back) {
                prop_assert!((z + back).abs() < 1e-9 && (p - p_back).abs() < 1e-9);
            }
            let (low, high) = newcombe(one, other, 0.05).expect("ratios");
            let (low_back, high_back) = newcombe(other, one, 0.05).expect("ratios");
            prop_assert!((low + high_back).abs() < 1e-9 && (high + low_back).abs() < 1e-9 && low <= high);
            prop_assert!((fisher(one, other) - fisher(other, one)).abs() < 1e-9);
        }
    }
}
