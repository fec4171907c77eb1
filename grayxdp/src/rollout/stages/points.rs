//! The points of a ramp: one at its begin, one after every interval, the last at its end. A point at 0 % is none.

use std::time::Duration;

use crate::{
    balance::curves,
    model::{
        Weight,
        plan::{Curve, Ramp},
    },
};

/// How many points there are, at least 1.
pub(in crate::rollout) fn count(ramp: &Ramp) -> u32 {
    match ramp.curve {
        Curve::Step if ramp.values.is_empty() => ramp.count.unwrap_or(1).max(1),
        Curve::Step => u32::try_from(ramp.values.len()).unwrap_or(u32::MAX),
        Curve::Linear | Curve::Cubic | Curve::Exponential => intervals(ramp) + 1 - skipped(ramp),
    }
}

/// The weight of a point.
pub(in crate::rollout) fn weight(ramp: &Ramp, index: u32) -> Weight {
    let whole = intervals(ramp);
    let (form, tau) = match ramp.curve {
        Curve::Step if ramp.values.is_empty() => (curves::Curve::Linear, f64::from(index + 1) / f64::from(count(ramp))),
        Curve::Step => return ramp.values.get(index as usize).or(ramp.values.last()).copied().unwrap_or_default(),
        Curve::Linear => (curves::Curve::Linear, f64::from(index + skipped(ramp)) / f64::from(whole)),
        Curve::Cubic => (curves::Curve::Cubic, f64::from(index + skipped(ramp)) / f64::from(whole)),
        Curve::Exponential => {
            let growth = ramp.growth.unwrap_or(curves::DEFAULT_GROWTH);
            (curves::Curve::Exponential { growth }, f64::from(index + skipped(ramp)) / f64::from(whole))
        }
    };
    let share = form.value(ramp.from.ratio(), ramp.to.ratio(), tau, f64::from(whole));
    // `as` saturates.
    let hundredths = (share * f64::from(Weight::FULL.hundredths())).round() as u16;
    Weight::from_hundredths(hundredths).unwrap_or(Weight::FULL)
}

/// How long the ramp stays at a point: until the next one is due.
pub(in crate::rollout) fn dwell(ramp: &Ramp, index: u32) -> Duration {
    match ramp.curve {
        Curve::Step => ramp.duration / count(ramp),
        Curve::Linear | Curve::Cubic | Curve::Exponential => {
            let whole = intervals(ramp);
            let at = |interval: u32| ramp.interval.saturating_mul(interval).min(ramp.duration);
            let interval = index + skipped(ramp);
            let due = at(interval.saturating_add(1)) - at(interval);
            // The first of all has the time of the point at 0 %.
            if interval >= whole {
                Duration::ZERO
            } else if index == 0 {
                due + at(interval)
            } else {
                due
            }
        }
    }
}

/// The number of intervals: the last may be shorter.
fn intervals(ramp: &Ramp) -> u32 {
    let interval = ramp.interval.max(Duration::from_millis(1));
    u32::try_from(ramp.duration.as_nanos().div_ceil(interval.as_nanos())).unwrap_or(u32::MAX).max(1)
}

/// Points at 0 % before the first that exposes something: nothing could be measured there.
fn skipped(ramp: &Ramp) -> u32 {
    u32::from(ramp.from == Weight::ZERO)
}
