//! Values with how often each occurred, in rising order: single values and the cells of a histogram are the same thing.

use grayxdp_common::signals::Histogram;

use crate::analysis::Distribution;

/// Values with how often each occurred, in rising order.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Sample(Vec<(f64, u64)>);

impl Sample {
    /// From single values in any order; what is not a number is left out.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        Self::grouped(values.into_iter().map(|value| (value, 1)))
    }

    /// From values with their counts, in any order; what is not a number is left out.
    #[must_use]
    pub fn grouped(values: impl IntoIterator<Item = (f64, u64)>) -> Self {
        let mut values: Vec<_> = values.into_iter().filter(|(value, count)| !value.is_nan() && *count > 0).collect();
        values.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        values.dedup_by(|(later, more), (earlier, count)| {
            let same = later == earlier;
            if same {
                *count += *more;
            }
            same
        });
        Self(values)
    }

    /// The middles of a histogram's cells, times `unit`.
    #[must_use]
    pub fn of_cells(distribution: &Distribution, unit: f64) -> Self {
        let cells = distribution.cells().iter().enumerate();
        Self::grouped(
            cells.map(|(cell, &count)| {
                (unit * (Histogram::lower(cell) + Histogram::lower(cell + 1)) as f64 / 2.0, count)
            }),
        )
    }

    /// Values and counts, rising.
    #[must_use]
    pub fn values(&self) -> &[(f64, u64)] {
        &self.0
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The mean; none without values.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.0.iter().map(|(value, times)| value * *times as f64).sum::<f64>() / count as f64)
    }

    /// The unbiased variance; none below two values.
    #[must_use]
    pub fn variance(&self) -> Option<f64> {
        let (mean, count) = (self.mean()?, self.count());
        let squares: f64 = self.0.iter().map(|(value, times)| (value - mean).powi(2) * *times as f64).sum();
        (count > 1).then(|| squares / (count - 1) as f64)
    }

    /// The `quantile` (`0.0..=1.0`), a straight line between neighbours (R. J. Hyndman, Y. Fan: Sample Quantiles in
    /// Statistical Packages, The American Statistician 50, 1996: their type 7, numpy's `linear`). None without values.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let place = quantile.clamp(0.0, 1.0) * self.count().checked_sub(1)? as f64;
        let (low, high) = (self.at(place.floor() as u64)?, self.at(place.ceil() as u64)?);
        Some(place.fract().mul_add(high - low, low))
    }

    /// The value of a rank, from 0.
    fn at(&self, rank: u64) -> Option<f64> {
        let mut before = 0;
        self.0
            .iter()
            .find(|(_, count)| {
                before += count;
                before > rank
            })
            .map(|(value, _)| *value)
    }
}
