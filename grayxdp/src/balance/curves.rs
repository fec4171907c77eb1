//! Ramps: the candidate's weight over time.

/// The growth of an exponential ramp from one interval to the next where the plan names none.
pub const DEFAULT_GROWTH: f64 = 1.25;

/// A growth nearer to 1 than this is a straight line: the formula's quotient has no digits left there.
const FLAT: f64 = 1e-9;

/// The form of a ramp. Steps and equal batches are no curve: see the stages of a rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
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
}

impl Curve {
    /// The share at `tau`, `0.0..=1.0` of the duration, of a ramp of so many intervals.
    #[must_use]
    pub fn value(self, start: f64, end: f64, tau: f64, intervals: f64) -> f64 {
        let tau = tau.clamp(0.0, 1.0);
        let done = match self {
            Self::Linear => tau,
            Self::Cubic => tau * tau * (3.0 - 2.0 * tau),
            Self::Exponential { growth } => grown(growth, tau, intervals),
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

#[cfg(test)]
mod tests;
