//! Ramps: the candidate's weight over time.

use std::time::Duration;

use crate::model::Weight;

/// The growth of an exponential ramp from one interval to the next where the plan names none.
pub const DEFAULT_GROWTH: f64 = 1.25;

/// A growth nearer to 1 than this is a straight line: the formula's quotient has no digits left there.
const FLAT: f64 = 1e-9;

/// The form of a ramp.
#[derive(Clone, Debug, PartialEq)]
pub enum Curve {
    /// A straight line. It is what minimises `∫w′²`.
    Linear,
    /// `w₀+(w₁−w₀)(3τ²−2τ³)`, flat at both ends: what minimises `∫w″²` among the curves with `w′ = 0` there.
    Cubic,
    /// `w₀+(w₁−w₀)(gᵏ−1)/(gᴺ−1)` at interval `k` of `N`: every rise is `growth` times the one before.
    Exponential {
        /// Above 0; 1 is the straight line.
        growth: f64,
    },
    /// These weights, each held for the same time.
    Values(Vec<Weight>),
    /// This many equal batches, at least 1.
    Count(u32),
}

/// A ramp.
#[derive(Clone, Debug, PartialEq)]
pub struct Ramp {
    /// Its form.
    pub curve: Curve,
    /// The weight that it begins at; [`Curve::Values`] has its own.
    pub from: Weight,
    /// The weight that it ends at; [`Curve::Values`] has its own.
    pub to: Weight,
    /// How long it takes.
    pub duration: Duration,
    /// Time between two weights; the steps of [`Curve::Values`] and [`Curve::Count`] have their own.
    pub interval: Duration,
}

/// One weight of a ramp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// When, since the ramp's begin.
    pub at: Duration,
    /// The candidate's weight from then on.
    pub weight: Weight,
}

impl Curve {
    /// The share at `tau`, `0.0..=1.0` of the duration, of a ramp of so many intervals.
    #[must_use]
    pub fn value(&self, start: f64, end: f64, tau: f64, intervals: f64) -> f64 {
        let tau = tau.clamp(0.0, 1.0);
        let done = match self {
            Self::Linear => tau,
            Self::Cubic => tau * tau * (3.0 - 2.0 * tau),
            Self::Exponential { growth } => grown(*growth, tau, intervals),
            Self::Values(values) => return held(values, tau).map_or(end, Weight::ratio),
            Self::Count(count) => {
                let count = f64::from((*count).max(1));
                ((tau * count).floor() + 1.0).min(count) / count
            }
        };
        // In this form the last weight is `end` to the last bit.
        start * (1.0 - done) + end * done
    }
}

fn grown(growth: f64, tau: f64, intervals: f64) -> f64 {
    if (growth - 1.0).abs() < FLAT {
        return tau;
    }
    let rate = growth.ln() * intervals;
    match rate > 0.0 {
        // Divided by gᴺ, so that a long ramp does not overflow.
        true => ((rate * (tau - 1.0)).exp() - (-rate).exp()) / (1.0 - (-rate).exp()),
        false => (rate * tau).exp_m1() / rate.exp_m1(),
    }
}

fn held(values: &[Weight], tau: f64) -> Option<Weight> {
    let last = values.len().checked_sub(1)?;
    values.get(((tau * values.len() as f64) as usize).min(last)).copied()
}

impl Ramp {
    /// All weights of the ramp, the first at its begin. Between two of them the weight stays.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        match &self.curve {
            Curve::Values(values) => {
                let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
                (0..count)
                    .zip(values)
                    .map(|(index, weight)| Point { at: self.part(index, count), weight: *weight })
                    .collect()
            }
            Curve::Count(count) => {
                let count = (*count).max(1);
                let weight = |batch: u32| self.blend(f64::from(batch + 1) / f64::from(count));
                (0..count).map(|batch| Point { at: self.part(batch, count), weight: weight(batch) }).collect()
            }
            Curve::Linear | Curve::Cubic | Curve::Exponential { growth: _ } => {
                let count = self.intervals();
                let weight = |k: u32| {
                    let tau = f64::from(k) / f64::from(count);
                    rounded(self.curve.value(self.from.ratio(), self.to.ratio(), tau, f64::from(count)))
                };
                (0..=count).map(|k| Point { at: self.part(k, count), weight: weight(k) }).collect()
            }
        }
    }

    /// The number of intervals, `N`: the duration in whole intervals, the last of which may be shorter; at least 1.
    #[must_use]
    pub fn intervals(&self) -> u32 {
        let interval = self.interval.max(Duration::from_millis(1));
        u32::try_from(self.duration.as_nanos().div_ceil(interval.as_nanos())).unwrap_or(u32::MAX).max(1)
    }

    fn part(&self, index: u32, count: u32) -> Duration {
        self.duration.mul_f64(f64::from(index) / f64::from(count))
    }

    fn blend(&self, done: f64) -> Weight {
        rounded(self.from.ratio() * (1.0 - done) + self.to.ratio() * done)
    }
}

fn rounded(share: f64) -> Weight {
    let hundredths = (share * f64::from(Weight::FULL.hundredths())).round();
    // `as` saturates.
    Weight::from_hundredths(hundredths as u16).unwrap_or(Weight::FULL)
}

#[cfg(test)]
mod tests;
