//! Means of the candidate against those of stable, at every look.
//!
//! With π the candidate's share of a look's values, `S = Σ (1 − π)·x − Σ π·r·y` has mean `W·(mean − r·mean of stable)`, `W = Σ nₓnᵧ ÷ n`,
//! whatever both had in common at that look. For values within a known range (empirical Bernstein):
//!
//! ```text
//! exp(λ·(S − E S) ÷ B − ψ(λ)·V ÷ B²),  ψ(λ) = −ln(1 − λ) − λ,  0 ≤ λ < 1
//! ```
//!
//! is a supermartingale, V the squares of each term's distance from what was known before the look, B the greatest that distance can be
//! (S. R. Howard, A. Ramdas, J. McAuliffe, J. Sekhon: Time-uniform, nonparametric, nonasymptotic confidence sequences, Annals of Statistics 49, 2021,
//! theorem 4; I. Waudby-Smith, A. Ramdas: Estimating means of bounded random variables by betting, JRSS B 86, 2024). Equal
//! weights over λ = ½, ¼, …. Without a range the law of large numbers has to do, and the result is labelled so: the normal mixture of
//! H. Robbins (1970) with V estimated, an *asymptotic* confidence sequence (I. Waudby-Smith, D. Arbour, R. Sinha, E. H. Kennedy, A. Ramdas:
//! Time-uniform central limit theory and asymptotic confidence sequences, Annals of Statistics 52, 2024). Its first values only set the scale.

use serde::{Deserialize, Serialize};

use super::{
    sample::Sample,
    special::{log_mean_exp, normal_tail, solve_rising},
};

/// λ = 2⁻¹ … 2⁻¹⁶.
pub const LAMBDAS: i32 = 16;

/// Values on either side that only set the scale where there is no range.
const SCALING: u64 = 50;

/// The weight `W` at which the asymptotic sequence is tightest.
pub const TIGHTEST: f64 = 1_000.0;

/// The difference of the candidate's mean and `ratio` × stable's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeanDifference {
    ratio: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range: Option<(f64, f64)>,
    /// S.
    sum: f64,
    /// V.
    squares: f64,
    /// W.
    weight: f64,
    candidate: Known,
    stable: Known,
    /// V ÷ W of the first values; none until they are there, and where there is a range.
    scale: Option<f64>,
}

/// What is known of a side's mean.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
struct Known {
    count: u64,
    sum: f64,
}

impl Known {
    fn mean(self, otherwise: f64) -> f64 {
        if self.count > 0 { self.sum / self.count as f64 } else { otherwise }
    }

    fn take(&mut self, sample: &Sample) {
        self.count += sample.count();
        self.sum += sample.values().iter().map(|(value, count)| value * *count as f64).sum::<f64>();
    }
}

impl MeanDifference {
    /// Nothing seen yet. Values outside `range` count as its nearer end.
    #[must_use]
    pub fn new(ratio: f64, range: Option<(f64, f64)>) -> Self {
        let (candidate, stable) = (Known::default(), Known::default());
        Self { ratio, range, sum: 0.0, squares: 0.0, weight: 0.0, candidate, stable, scale: None }
    }

    /// Whether it rests on the law of large numbers.
    #[must_use]
    pub const fn is_asymptotic(&self) -> bool {
        self.range.is_none()
    }

    /// Takes the values of one look at one stratum.
    pub fn take(&mut self, candidate: &Sample, stable: &Sample) {
        let (candidate, stable) = (self.clipped(candidate), self.clipped(stable));
        let (own, others) = (candidate.count() as f64, stable.count() as f64);
        if own > 0.0 && others > 0.0 {
            let share = own / (own + others);
            let middle = self.range.map(|(low, high)| f64::midpoint(low, high));
            let mut side = |sample: &Sample, factor: f64, known: Known| {
                let expected = known.mean(middle.or(sample.mean()).unwrap_or(0.0));
                for &(value, count) in sample.values() {
                    self.sum += factor * value * count as f64;
                    self.squares += (factor * (value - expected)).powi(2) * count as f64;
                }
            };
            side(&candidate, 1.0 - share, self.candidate);
            side(&stable, -share * self.ratio, self.stable);
            self.weight += own * others / (own + others);
        }
        self.candidate.take(&candidate);
        self.stable.take(&stable);
        let ready = self.candidate.count.min(self.stable.count) >= SCALING;
        if self.range.is_none() && self.scale.is_none() && ready && self.squares > 0.0 {
            self.scale = Some(self.squares / self.weight);
            (self.sum, self.squares, self.weight) = (0.0, 0.0, 0.0);
        }
    }

    fn clipped(&self, sample: &Sample) -> Sample {
        match self.range {
            Some((low, high)) => {
                Sample::grouped(sample.values().iter().map(|(value, count)| (value.clamp(low, high), *count)))
            }
            None => sample.clone(),
        }
    }

    /// Means of the candidate and of stable over all values; none without values.
    #[must_use]
    pub fn means(&self) -> Option<(f64, f64)> {
        (self.candidate.count > 0 && self.stable.count > 0).then(|| (self.candidate.mean(0.0), self.stable.mean(0.0)))
    }

    /// ln e against "the candidate's mean is at most `ratio` × stable's".
    #[must_use]
    pub fn log_e_above(&self) -> f64 {
        self.log_e(self.sum)
    }

    /// ln e against "the candidate's mean is at least `ratio` × stable's".
    #[must_use]
    pub fn log_e_below(&self) -> f64 {
        self.log_e(-self.sum)
    }

    /// Where the candidate's mean − `ratio` × stable's lies, at level `alpha` at every look; none before there is anything to say.
    #[must_use]
    pub fn interval(&self, alpha: f64) -> Option<(f64, f64)> {
        if self.weight <= 0.0 {
            return None;
        }
        let reach = match self.bound() {
            Some(bound) => {
                let most = bound * (self.weight * 2.0 + 1.0) * 4.0 / alpha;
                solve_rising((2.0 / alpha).ln(), (0.0, most), |sum| self.bernstein(sum, bound))
            }
            None => {
                let prior = self.scale? * TIGHTEST;
                let whole = self.squares + prior;
                (whole * ((whole / prior).ln() - 2.0 * alpha.ln())).sqrt()
            }
        };
        Some(((self.sum - reach) / self.weight, (self.sum + reach) / self.weight))
    }

    fn log_e(&self, sum: f64) -> f64 {
        match (self.bound(), self.scale) {
            (Some(bound), _) => self.bernstein(sum, bound),
            (None, Some(scale)) => {
                let prior = scale * TIGHTEST;
                let whole = self.squares + prior;
                let one_sided = 2.0 * normal_tail(-sum / whole.sqrt());
                sum * sum / (2.0 * whole) + 0.5 * (prior / whole).ln() + one_sided.max(f64::MIN_POSITIVE).ln()
            }
            (None, None) => 0.0,
        }
    }

    /// The greatest distance of a term from what was known before.
    fn bound(&self) -> Option<f64> {
        self.range.map(|(low, high)| (high - low) * self.ratio.max(1.0))
    }

    fn bernstein(&self, sum: f64, bound: f64) -> f64 {
        log_mean_exp((1..=LAMBDAS).map(|power| {
            let lambda = 0.5_f64.powi(power);
            let psi = -(-lambda).ln_1p() - lambda;
            lambda * sum / bound - psi * self.squares / bound.powi(2)
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every outcome of one look at which each value is 1 with probability `p`, else 0: the mean of e.
    fn mean_e(process: &MeanDifference, of: u64, others: u64, (p, q): (f64, f64)) -> f64 {
        let mass = |n: u64, x: u64, p: f64| {
            super::super::special::ln_choose(n, x).exp() * p.powi(x as i32) * (1.0 - p).powi((n - x) as i32)
        };
        let sample = |n: u64, x: u64| Sample::grouped([(1.0, x), (0.0, n - x)]);
        let mut sum = 0.0;
        for (x, y) in (0..=of).flat_map(|x| (0..=others).map(move |y| (x, y))) {
            let mut process = process.clone();
            process.take(&sample(of, x), &sample(others, y));
            sum += mass(of, x, p) * mass(others, y, q) * process.log_e_above().exp();
        }
        sum
    }

    proptest! {
        #[test]
        fn its_mean_is_at_most_one_while_the_mean_is_tolerated(
            of in 1_u64..10, others in 1_u64..10, q in 0.0..=0.5_f64, ratio in 0.5..2.0_f64, part in 0.0..=1.0_f64,
            before in 0.0..=1.0_f64,
        ) {
            let mut process = MeanDifference::new(ratio, Some((0.0, 1.0)));
            (process.candidate, process.stable) = (Known { count: 1, sum: before }, Known { count: 1, sum: 1.0 - before });
            let mean = mean_e(&process, of, others, ((q * ratio * part).min(1.0), q));
            prop_assert!(mean <= 1.0 + 1e-9, "{mean}");
        }

        #[test]
        fn what_both_versions_share_changes_nothing(shift in -50.0..50.0_f64, own in 1_usize..20, others in 1_usize..20) {
            let values = |count: usize, shift: f64| Sample::of((0..count).map(|value| value as f64 + shift));
            let of = |shift: f64| {
                let mut process = MeanDifference::new(1.0, Some((-100.0, 100.0)));
                process.take(&values(own, shift), &values(others, shift));
                process.sum
            };
            prop_assert!((of(0.0) - of(shift)).abs() < 1e-6);
        }
    }

    fn seen(range: Option<(f64, f64)>, shift: f64) -> MeanDifference {
        let mut process = MeanDifference::new(1.0, range);
        for look in 0..100 {
            let values = |shift: f64| Sample::of((0..40).map(|value| f64::from((value * 7 + look) % 10) + shift));
            process.take(&values(shift), &values(0.0));
        }
        process
    }

    #[test]
    fn the_interval_holds_the_difference_and_the_alarm_agrees_with_it() {
        for range in [Some((0.0, 20.0)), None] {
            let (low, high) = seen(range, 1.0).interval(0.05).expect("values");
            assert!(low > 0.0 && low < 1.0 && high > 1.0 && high < 2.0, "{low} {high}");
            assert!(seen(range, 1.0).log_e_above() > 20_f64.ln() && seen(range, 0.0).log_e_above() < 20_f64.ln());
            assert!(seen(range, -1.0).log_e_below() > 20_f64.ln());
            assert_eq!(seen(range, 0.0).is_asymptotic(), range.is_none());
            let wider = seen(range, 1.0).interval(0.001).expect("values");
            assert!(wider.0 < low && wider.1 > high);
        }
        assert_eq!(MeanDifference::new(1.0, None).interval(0.05), None);
    }
}
