//! Distributions in the log-linear cells of the data path, and their quantiles, censored values included.

use grayxdp_common::signals::{HISTOGRAM_CELLS, Histogram};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::analysis::sparse;

/// How many values lie in each cell; see [`Histogram`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution(Vec<u64>);

impl Serialize for Distribution {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        sparse::write(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        sparse::read(deserializer, HISTOGRAM_CELLS).map(Self)
    }
}

impl Default for Distribution {
    fn default() -> Self {
        Self(vec![0; HISTOGRAM_CELLS])
    }
}

/// A quantile, as far as it can be known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantile {
    /// It is this; off by at most 6.25 %.
    At(f64),
    /// It is above this: too many values are only known to be greater than something.
    Above(f64),
}

impl Quantile {
    /// The value, or what it is above.
    #[must_use]
    pub const fn least(self) -> f64 {
        match self {
            Self::At(value) | Self::Above(value) => value,
        }
    }
}

impl Distribution {
    /// From the counts of all cells.
    ///
    /// # Panics
    /// If there are not [`HISTOGRAM_CELLS`] of them.
    #[must_use]
    pub fn from_cells(cells: Vec<u64>) -> Self {
        assert_eq!(cells.len(), HISTOGRAM_CELLS, "a histogram has as many cells as the data path's");
        Self(cells)
    }

    /// Adds what another holds.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(own, more)| *own += more);
    }

    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.0[Histogram::cell(value)] += 1;
    }

    /// Counts values that are known to lie in a cell.
    ///
    /// # Panics
    /// If there is no such cell.
    pub fn add_at(&mut self, cell: usize, values: u64) {
        self.0[cell] += values;
    }

    /// The counts of all cells.
    #[must_use]
    pub fn cells(&self) -> &[u64] {
        &self.0
    }

    pub(super) fn cells_mut(&mut self) -> &mut [u64] {
        &mut self.0
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The sum of all values, each taken as the middle of its cell.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.0.iter().enumerate().map(|(cell, &count)| count as f64 * middle(cell)).sum()
    }

    /// How many values lie below a bound, which should be the begin of a cell.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        self.0
            .iter()
            .enumerate()
            .take_while(|(cell, _)| Histogram::lower(cell + 1) <= bound)
            .map(|(_, count)| count)
            .sum()
    }

    /// The `quantile` (`0.0..=1.0`) of the values, where of the `censored` ones it is only known that they are greater than
    /// what is recorded: the product-limit estimate (E. L. Kaplan, P. Meier: Nonparametric Estimation from Incomplete
    /// Observations, JASA 53, 1958), straight lines within a cell. None without values.
    #[must_use]
    pub fn quantile(&self, quantile: f64, censored: &Self) -> Option<Quantile> {
        let mut at_risk = self.count() + censored.count();
        if at_risk == 0 {
            return None;
        }
        let (mut surviving, wanted) = (1.0, 1.0 - quantile.clamp(0.0, 1.0));
        let mut last = 0.0;
        for (cell, (&events, &lost)) in self.0.iter().zip(&censored.0).enumerate() {
            if events > 0 {
                let after = surviving * (1.0 - events as f64 / at_risk as f64);
                // A rounding error must not push the last quantile out of the last cell.
                if after <= wanted + 1e-12 {
                    let part = ((surviving - wanted) / (surviving - after)).clamp(0.0, 1.0);
                    let (low, high) = (Histogram::lower(cell) as f64, Histogram::lower(cell + 1) as f64);
                    return Some(Quantile::At(low + part * (high - low)));
                }
                surviving = after;
            }
            if events + lost > 0 {
                last = Histogram::lower(cell) as f64;
            }
            at_risk -= events + lost;
        }
        Some(Quantile::Above(last))
    }
}

fn middle(cell: usize) -> f64 {
    (Histogram::lower(cell) + Histogram::lower(cell + 1)) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Distribution {
        let mut distribution = Distribution::default();
        values.iter().for_each(|&value| distribution.record(value));
        distribution
    }

    #[test]
    fn a_censored_value_counts_as_one_that_may_be_greater() {
        let ms = |ms: u64| ms * 1_000_000;
        // By hand: of ten, one goes out of sight at 20 ms. After the nine at 10 ms nothing is known: 0.9 is the most.
        let (nine, one) = (of(&[ms(10); 9]), of(&[ms(20)]));
        assert!(matches!(nine.quantile(0.9, &one), Some(Quantile::At(_))));
        let Some(Quantile::Above(above)) = nine.quantile(0.99, &one) else { panic!("0.99 cannot be known") };
        assert!((above - ms(20) as f64).abs() < ms(20) as f64 * 0.125);
        // Lost at 5 ms, before anything came: it says nothing about who answers when.
        let early = nine.quantile(0.99, &of(&[ms(5)]));
        assert!(matches!(early, Some(Quantile::At(at)) if (at - ms(10) as f64).abs() < ms(10) as f64 * 0.125));
        assert_eq!(Distribution::default().quantile(0.5, &Distribution::default()), None);
    }

    #[test]
    fn counts_below_a_bound_are_those_of_whole_cells() {
        let distribution = of(&[1 << 20, (1 << 21) - 1, 1 << 21, 1 << 30]);
        assert_eq!((distribution.below(1 << 21), distribution.below(1 << 31), distribution.below(0)), (2, 4, 0));
    }

    proptest! {
        /// Against the sorted values themselves.
        #[test]
        fn a_quantile_is_off_by_no_more_than_its_cell(
            mut values in prop::collection::vec(1_024_u64..1 << 37, 1..200), quantile in 0.0..=1.0_f64,
        ) {
            let found = of(&values).quantile(quantile, &Distribution::default());
            values.sort_unstable();
            let rank = ((quantile * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1] as f64;
            let Some(Quantile::At(found)) = found else { return Err(TestCaseError::fail("known")) };
            prop_assert!((found - exact).abs() <= exact * 0.126, "{found} {exact}");
        }
    }
}
