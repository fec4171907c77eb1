//! Failures of the candidate against those of stable: an e-process for counts, valid at every look.
//!
//! Given the shares of flows, a failure is the candidate's with probability q(ρ) = ρπ ÷ (ρπ + 1 − π), where π is the candidate's
//! share of the flows of its stratum and ρ how many times as often its flows fail. For one alternative ρ against ρ₀ the
//! likelihood ratio of a stratum with x failures of the candidate and y of stable is
//!
//! ```text
//! (q(ρ) / q(ρ₀))ˣ · ((1 − q(ρ)) / (1 − q(ρ₀)))ʸ
//! ```
//!
//! Ratios of strata are multiplied, each with its own π, for every ρ alone; their mean over ρ (equal weights) is the e-process:
//! the method of mixtures of H. Robbins (Statistical methods related to the law of the iterated logarithm, Annals of
//! Mathematical Statistics 41, 1970), conditional on the number of events as in A. Wald: Sequential Analysis, 1947, §6.5.
//!
//! It holds for binomial counts too, however large the ratios: with failure probabilities p and ρ₀p the mean of a factor is at most
//! exp(p·(ρ₀nₓ(a − 1) + nᵧ(b − 1))) = 1. And it holds for the whole null hypothesis ρ ≤ ρ₀ (ρ ≥ ρ₀), since every factor falls
//! when ρ goes the other way. What both versions have in common, as an incident or a slow morning, is in both counts of a look.

use serde::{Deserialize, Serialize};

use super::special::log_mean_exp;

/// Alternatives as multiples of what is tolerated.
pub const GRID: [f64; 5] = [1.5, 2.0, 3.0, 5.0, 10.0];

/// The e-process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CountEProcess {
    null: f64,
    alternatives: Vec<Alternative>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alternative {
    rho: f64,
    log_ratio: f64,
}

impl CountEProcess {
    /// Against ρ ≤ `null` (or ρ ≥ `null`), with alternatives that are all above (or all below) it.
    #[must_use]
    pub fn new(null: f64, alternatives: &[f64]) -> Self {
        let alternatives = alternatives.iter().map(|&rho| Alternative { rho, log_ratio: 0.0 }).collect();
        Self { null, alternatives }
    }

    /// Against ρ ≤ `tolerated`: it grows where the candidate is worse.
    #[must_use]
    pub fn worse_than(tolerated: f64) -> Self {
        Self::new(tolerated, &GRID.map(|factor| tolerated * factor))
    }

    /// Against ρ ≥ `detected`: it grows where the candidate is better than that.
    #[must_use]
    pub fn better_than(detected: f64) -> Self {
        Self::new(detected, &GRID.map(|factor| detected / factor))
    }

    /// Takes what a stratum had at a look: the candidate's share of its flows, and failures of both, not below 0. A share
    /// that is not between 0 and 1 compares nothing and changes nothing.
    pub fn take(&mut self, share: f64, candidate: f64, stable: f64) {
        let logs = self.logs(share, candidate, stable);
        self.alternatives.iter_mut().zip(logs).for_each(|(own, log)| own.log_ratio += log);
    }

    /// The same, but only where it makes the e-process less: what may speak against it and not for it.
    pub fn take_against(&mut self, share: f64, candidate: f64, stable: f64) {
        let logs = self.logs(share, candidate, stable);
        self.alternatives.iter_mut().zip(logs).for_each(|(own, log)| own.log_ratio += log.min(0.0));
    }

    fn logs(&self, share: f64, candidate: f64, stable: f64) -> Vec<f64> {
        if !(share > 0.0 && share < 1.0) {
            return vec![0.0; self.alternatives.len()];
        }
        let part = |rho: f64| rho * share / rho.mul_add(share, 1.0 - share);
        let null = part(self.null);
        let log = |rho: f64| {
            let other = part(rho);
            candidate.max(0.0) * (other / null).ln() + stable.max(0.0) * ((1.0 - other) / (1.0 - null)).ln()
        };
        self.alternatives.iter().map(|alternative| log(alternative.rho)).collect()
    }

    /// ln e.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        log_mean_exp(self.alternatives.iter().map(|alternative| alternative.log_ratio))
    }

    /// e; it may be infinite.
    #[must_use]
    pub fn e(&self) -> f64 {
        self.log_e().exp()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// P(x of n), by the recursion of Pascal's triangle.
    fn binomial(n: usize, p: f64) -> Vec<f64> {
        (0..n).fold(vec![1.0], |before, _| {
            let mut after = vec![0.0; before.len() + 1];
            for (x, mass) in before.iter().enumerate() {
                after[x] += mass * (1.0 - p);
                after[x + 1] += mass * p;
            }
            after
        })
    }

    /// The mean of e over everything that can happen at one look of two binomial counts.
    fn mean(process: &CountEProcess, (of, p): (usize, f64), (others, q): (usize, f64)) -> f64 {
        let share = of as f64 / (of + others) as f64;
        let mut sum = 0.0;
        for (x, px) in binomial(of, p).into_iter().enumerate() {
            for (y, py) in binomial(others, q).into_iter().enumerate() {
                let mut process = process.clone();
                process.take(share, x as f64, y as f64);
                sum += px * py * process.e();
            }
        }
        sum
    }

    proptest! {
        #[test]
        fn its_mean_is_at_most_one_for_whatever_is_tolerated_and_however_often_flows_fail(
            of in 1_usize..12, others in 1_usize..12, q in 0.0..0.5_f64, null in 1.0..2.0_f64, part in 0.0..=1.0_f64,
        ) {
            let worse = mean(&CountEProcess::worse_than(null), (of, q * null * part), (others, q));
            prop_assert!(worse <= 1.0 + 1e-9, "{worse}");
            let p = (q * null + part * (1.0 - q * null)).min(1.0);
            let better = mean(&CountEProcess::better_than(null), (of, p), (others, q));
            prop_assert!(better <= 1.0 + 1e-9, "{better}");
        }

        #[test]
        fn the_order_of_looks_and_their_division_do_not_matter(
            looks in prop::collection::vec((0.01..0.99_f64, 0_u32..20, 0_u32..20), 1..10),
        ) {
            let take = |process: &mut CountEProcess, (share, x, y): (f64, u32, u32)| {
                process.take(share, f64::from(x), f64::from(y));
            };
            let (mut forward, mut backward) = (CountEProcess::worse_than(1.0), CountEProcess::worse_than(1.0));
            looks.iter().for_each(|look| take(&mut forward, *look));
            for (share, x, y) in looks.iter().rev() {
                take(&mut backward, (*share, *x, 0));
                take(&mut backward, (*share, 0, *y));
            }
            prop_assert!((forward.log_e() - backward.log_e()).abs() < 1e-9);
        }

        #[test]
        fn a_failure_of_the_candidate_raises_it_and_one_of_stable_lowers_it(
            share in 0.01..0.99_f64, x in 0_u32..50, y in 0_u32..50,
        ) {
            let e = |x: u32, y: u32| {
                let mut process = CountEProcess::worse_than(1.5);
                process.take(share, f64::from(x), f64::from(y));
                process.log_e()
            };
            prop_assert!(e(x + 1, y) > e(x, y) && e(x, y + 1) < e(x, y));
        }
    }

    #[test]
    fn without_a_share_on_both_sides_nothing_is_compared() {
        for share in [0.0, 1.0, f64::NAN] {
            let mut process = CountEProcess::worse_than(1.0);
            process.take(share, 5.0, 5.0);
            assert_eq!(process.log_e(), 0.0, "{share}");
        }
    }

    #[test]
    fn what_may_only_speak_against_it_never_raises_it() {
        let mut process = CountEProcess::better_than(2.0);
        process.take_against(0.5, 0.0, 40.0);
        assert_eq!(process.log_e(), 0.0);
        process.take_against(0.5, 40.0, 0.0);
        assert!(process.log_e() < -5.0);
    }
}
