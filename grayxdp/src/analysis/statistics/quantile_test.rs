//! Latency quantiles of the candidate against those of stable, from histograms, at every look.
//!
//! The candidate's quantile is at most r times stable's where its flows exceed r·x no more often than stable's exceed x, x being
//! stable's quantile. x is taken from looks before, so the flows of a look are two binomial counts with nothing chosen after
//! the fact; against "not more often" stands the e-value of R. Turner, A. Ly, P. Grünwald (Generic E-variables for exact sequential k-sample tests
//! that allow for optional stopping, J. Statistical Planning and Inference 230, 2024):
//!
//! ```text
//! (pₐ/p₀)ˣ ((1−pₐ)/(1−p₀))ⁿ⁻ˣ · (p_b/p₀)ʸ ((1−p_b)/(1−p₀))ᵐ⁻ʸ,   p₀ = (n·pₐ + m·p_b) ÷ (n + m)
//! ```
//!
//! p_b as seen before, pₐ with the odds of p_b times an alternative; multiplied over looks and strata for each alternative, then
//! averaged. Flows that went out of sight before x count against what is to be shown.
//!
//! [`band`] is where a quantile lies: the number of values up to the true quantile is binomial, so ranks at which the mixture of Robbins
//! (Beta prior around the quantile) stays below 1/α bound it at every look (S. R. Howard, A. Ramdas: Sequential estimation of quantiles
//! with applications to A/B testing and best-arm identification, Bernoulli 28, 2022).

use grayxdp_common::signals::{HISTOGRAM_CELLS, Histogram};
use serde::{Deserialize, Serialize};
use statrs::function::beta::ln_beta;

use super::special::log_mean_exp;
use crate::analysis::Distribution;

/// Alternatives: how many times the odds of a slow flow.
const ODDS: [f64; 6] = [1.1, 1.25, 1.5, 2.0, 3.0, 6.0];

/// How many alternatives the e-process is averaged over.
pub const ALTERNATIVES: usize = ODDS.len();

/// How much of what was known at a look is still believed at the next.
const REMEMBERED: f64 = 0.95;

/// Values of stable that are needed to know where its quantile is.
const LEARNED: f64 = 20.0;

/// What a look has of one version.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Values.
    pub values: &'a Distribution,
    /// What flows that went out of sight had reached by then.
    pub censored: &'a Distribution,
}

impl Seen<'_> {
    fn count(&self) -> u64 {
        self.values.count() + self.censored.count()
    }

    /// Flows known to reach a cell, and flows that may have.
    fn reach(&self, cell: usize) -> (u64, u64) {
        let from = |distribution: &Distribution| distribution.cells()[cell.min(HISTOGRAM_CELLS)..].iter().sum::<u64>();
        let known = from(self.values) + from(self.censored);
        (known, from(self.values) + self.censored.count())
    }
}

/// Two e-processes: against "at most `tolerated` times stable's quantile", and against "at least `detected` times".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuantileTest {
    quantile: f64,
    tolerated: f64,
    detected: f64,
    worse: [f64; ODDS.len()],
    better: [f64; ODDS.len()],
    /// Stable's values by cell, older ones counting less; censored ones in the cell that they reached.
    recent: Vec<f64>,
}

impl QuantileTest {
    /// Nothing seen yet. The quantile is above 0 and below 1, the ratios above 0.
    #[must_use]
    pub fn new(quantile: f64, tolerated: f64, detected: f64) -> Self {
        let (worse, better) = ([0.0; ODDS.len()], [0.0; ODDS.len()]);
        Self { quantile, tolerated, detected, worse, better, recent: vec![0.0; HISTOGRAM_CELLS] }
    }

    /// Takes one look at one stratum; `against` where nothing of it may speak for a pass.
    pub fn take(&mut self, candidate: Seen<'_>, stable: Seen<'_>, against: bool) {
        if let Some((edge, slow)) = self.edge() {
            let value = Histogram::lower(edge) as f64;
            let up_to = (0..HISTOGRAM_CELLS).rfind(|&cell| Histogram::lower(cell) as f64 <= value * self.detected);
            let (above, up_to) = (up_from(value * self.tolerated), up_to.unwrap_or(0));
            let counts = (candidate.count(), stable.count());
            for (index, odds) in ODDS.into_iter().enumerate() {
                let exceeding = (candidate.reach(above).0, stable.reach(edge).1);
                self.worse[index] += log_e(exceeding, counts, (with_odds(slow, odds), slow));
                let exceeding = (candidate.reach(up_to).1, stable.reach(edge).0);
                let log = log_e(exceeding, counts, (with_odds(slow, odds.recip()), slow));
                self.better[index] += if against { log.min(0.0) } else { log };
            }
        }
        let cells = stable.values.cells().iter().zip(stable.censored.cells());
        self.recent.iter_mut().zip(cells).for_each(|(recent, (values, censored))| {
            *recent = recent.mul_add(REMEMBERED, (values + censored) as f64);
        });
    }

    /// The begin of a cell that is nearest to stable's quantile, and the part of its values from there on.
    fn edge(&self) -> Option<(usize, f64)> {
        let all: f64 = self.recent.iter().sum();
        if all < LEARNED {
            return None;
        }
        let (mut below, mut before) = (0.0, 0.0);
        let cell = self.recent.iter().position(|count| {
            before = below;
            below += count;
            below >= all * self.quantile
        })?;
        let slow = |below: f64| ((all - below + 0.5) / (all + 1.0)).clamp(1e-6, 1.0 - 1e-6);
        let off = |slow: f64| (slow / (1.0 - self.quantile)).ln().abs();
        let (first, next) = (slow(before), slow(below));
        Some(if off(first) < off(next) { (cell, first) } else { (cell + 1, next) })
    }

    /// ln e against "the candidate's quantile is at most `tolerated` times stable's".
    #[must_use]
    pub fn log_e_worse(&self) -> f64 {
        log_mean_exp(self.worse.iter().copied())
    }

    /// ln e against "the candidate's quantile is at least `detected` times stable's".
    #[must_use]
    pub fn log_e_better(&self) -> f64 {
        log_mean_exp(self.better.iter().copied())
    }
}

/// The first cell that begins at a value or above it.
fn up_from(value: f64) -> usize {
    (0..HISTOGRAM_CELLS).find(|&cell| Histogram::lower(cell) as f64 >= value).unwrap_or(HISTOGRAM_CELLS)
}

fn with_odds(part: f64, odds: f64) -> f64 {
    odds * part / (odds - 1.0).mul_add(part, 1.0)
}

/// ln of the e-value of two binomial counts; 0 where a side has nothing.
fn log_e((x, y): (u64, u64), (n, m): (u64, u64), (own, others): (f64, f64)) -> f64 {
    if n == 0 || m == 0 {
        return 0.0;
    }
    let ([x, y], [n, m]) = ([x, y].map(|count| count as f64), [n, m].map(|count| count as f64));
    let null = n.mul_add(own, m * others) / (n + m);
    let log = |part: f64, of: f64, p: f64| part * (p / null).ln() + (of - part) * ((1.0 - p) / (1.0 - null)).ln();
    log(x, n, own) + log(y, m, others)
}

/// Where a quantile lies at level `alpha` at every look, in the histogram's unit; no upper end where too many values are
/// out of sight or too few are there. None without values.
#[must_use]
pub fn band(seen: Seen<'_>, quantile: f64, alpha: f64) -> Option<(f64, Option<f64>)> {
    let count = seen.count();
    if count == 0 {
        return None;
    }
    let belief = 1.0 / quantile.min(1.0 - quantile);
    let (a, b, n) = (quantile * belief, (1.0 - quantile) * belief, count as f64);
    let log_e = |rank: u64| {
        let (below, above) = (rank as f64, n - rank as f64);
        ln_beta(below + a, above + b) - ln_beta(a, b) - below * quantile.ln() - above * (1.0 - quantile).ln()
    };
    let (middle, goal) = (((n * quantile).round() as u64).min(count), -alpha.ln());
    // It falls up to the middle and rises behind it.
    let least = partition((0, middle), |rank| log_e(rank) < goal);
    let most = partition((middle, count), |rank| log_e(rank) >= goal);
    let most = if log_e(most) >= goal { most.saturating_sub(1) } else { most };
    let low = cell_of(least, |cell| seen.values.cells()[cell] + seen.censored.cells()[cell]);
    let high = cell_of(most + 1, |cell| seen.values.cells()[cell]);
    let low = if least == 0 { 0.0 } else { low.map_or(0.0, |cell| Histogram::lower(cell) as f64) };
    Some((low, high.map(|cell| Histogram::lower(cell + 1) as f64)))
}

/// The first number of a range, both ends included, at which something that is false and then true is true; its end where it never is.
fn partition((mut low, mut high): (u64, u64), is_true: impl Fn(u64) -> bool) -> u64 {
    while low < high {
        let middle = low.midpoint(high);
        if is_true(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// The cell in which the value of a rank lies, from 1.
fn cell_of(rank: u64, count: impl Fn(usize) -> u64) -> Option<usize> {
    let mut before = 0;
    (0..HISTOGRAM_CELLS).find(|&cell| {
        before += count(cell);
        before >= rank
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Distribution {
        let mut distribution = Distribution::default();
        values.into_iter().for_each(|value| distribution.record(value));
        distribution
    }

    const MS: u64 = 1_000_000;

    /// Looks at 100 flows a side, stable's spread evenly over 10 to 20 ms, the candidate's times `slower`.
    fn looked(slower: f64, looks: u64, test: QuantileTest) -> QuantileTest {
        let none = Distribution::default();
        (0..looks).fold(test, |mut test, look| {
            let values = (0..100).map(|value| 10 * MS + (value * 37 + look) % 100 * MS / 10);
            let stable = of(values.clone());
            let candidate = of(values.map(|value| (value as f64 * slower) as u64));
            test.take(Seen { values: &candidate, censored: &none }, Seen { values: &stable, censored: &none }, false);
            test
        })
    }

    #[test]
    fn a_slower_candidate_alarms_and_one_as_fast_passes() {
        let test = || QuantileTest::new(0.9, 1.0, 2.0);
        assert!(looked(1.3, 30, test()).log_e_worse() > 100_f64.ln());
        assert!(looked(1.0, 30, test()).log_e_worse() < 0.0);
        assert!(looked(1.0, 30, test()).log_e_better() > 100_f64.ln());
        assert!(looked(2.5, 30, test()).log_e_better() < 0.0);
        assert!(looked(1.3, 30, QuantileTest::new(0.9, 1.5, 3.0)).log_e_worse() < 0.0, "1.5 times is tolerated");
    }

    #[test]
    fn a_candidate_of_which_nothing_comes_back_does_not_pass() {
        let none = Distribution::default();
        let mut test = looked(1.0, 10, QuantileTest::new(0.9, 1.0, 2.0));
        let before = test.log_e_better();
        for _ in 0..20 {
            let (stable, lost) = (of((0..100).map(|value| 10 * MS + value * MS / 10)), of((0..100).map(|_| MS)));
            test.take(Seen { values: &none, censored: &lost }, Seen { values: &stable, censored: &none }, false);
        }
        assert!(test.log_e_better() < before && test.log_e_worse() < 0.0, "neither can be said");
        for _ in 0..20 {
            let (stable, late) = (of((0..100).map(|value| 10 * MS + value * MS / 10)), of((0..100).map(|_| 40 * MS)));
            test.take(Seen { values: &none, censored: &late }, Seen { values: &stable, censored: &none }, false);
        }
        assert!(test.log_e_worse() > 100_f64.ln(), "they were seen to take longer than stable's quantile");
    }

    #[test]
    fn after_a_gap_nothing_speaks_for_a_pass() {
        let mut test = looked(1.0, 2, QuantileTest::new(0.9, 1.0, 2.0));
        let (before, none) = (test.better, Distribution::default());
        let both = of((0..100).map(|value| 10 * MS + value * MS / 10));
        test.take(Seen { values: &both, censored: &none }, Seen { values: &both, censored: &none }, true);
        assert!(test.better.iter().zip(before).all(|(now, before)| *now <= before));
    }

    proptest! {
        #[test]
        fn its_mean_is_at_most_one_while_slow_flows_are_no_more_frequent(
            n in 1_u64..12, m in 1_u64..12, q in 0.0..=1.0_f64, part in 0.0..=1.0_f64, slow in 0.001..0.9_f64, odds in 0_usize..6,
        ) {
            let mass = |n: u64, x: u64, p: f64| {
                super::super::special::ln_choose(n, x).exp() * p.powi(x as i32) * (1.0 - p).powi((n - x) as i32)
            };
            let mean = |own: f64, p: f64| -> f64 {
                let outcomes = (0..=n).flat_map(|x| (0..=m).map(move |y| (x, y)));
                outcomes.map(|(x, y)| mass(n, x, p) * mass(m, y, q) * log_e((x, y), (n, m), (own, slow)).exp()).sum()
            };
            prop_assert!(mean(with_odds(slow, ODDS[odds]), q * part) <= 1.0 + 1e-9);
            prop_assert!(mean(with_odds(slow, ODDS[odds].recip()), q + part * (1.0 - q)) <= 1.0 + 1e-9);
        }

        #[test]
        fn the_band_holds_the_quantile_of_the_values_and_narrows(
            values in prop::collection::vec(MS..1_000 * MS, 50..400), quantile in 0.1..0.95_f64,
        ) {
            let none = Distribution::default();
            let (one, many) = (of(values.iter().copied()), of(values.iter().flat_map(|value| [*value; 20])));
            let (low, high) = band(Seen { values: &one, censored: &none }, quantile, 0.05).expect("values");
            let mut sorted = values;
            sorted.sort_unstable();
            let found = sorted[((sorted.len() as f64 * quantile) as usize).min(sorted.len() - 1)] as f64;
            prop_assert!(low <= found && high.is_none_or(|high| found <= high));
            let (tight_low, tight_high) = band(Seen { values: &many, censored: &none }, quantile, 0.05).expect("values");
            prop_assert!(tight_low >= low && high.is_none_or(|high| tight_high.is_some_and(|tight| tight <= high)));
        }
    }

    #[test]
    fn a_band_has_no_upper_end_in_the_censored_mass() {
        let (values, censored) = (of((0..800).map(|_| 10 * MS)), of((0..200).map(|_| 5 * MS)));
        let seen = Seen { values: &values, censored: &censored };
        let (low, high) = band(seen, 0.95, 0.05).expect("values");
        assert!(low <= 10.0 * MS as f64 && high.is_none(), "{low} {high:?}");
        assert!(band(seen, 0.5, 0.05).expect("values").1.is_some());
        assert_eq!(
            band(Seen { values: &Distribution::default(), censored: &Distribution::default() }, 0.5, 0.05),
            None
        );
    }
}
