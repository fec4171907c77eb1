//! Time as cells keep it: four bytes an instant.

use std::time::Duration;

/// An instant of the monotonic clock in quarters of a second, rounded down; also before the clock's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i32);

/// Quarters of a second in a second.
const PARTS: u128 = 4;

impl Moment {
    /// Longer ago than any timeout.
    pub const LONG_AGO: Self = Self(i32::MIN / 2);

    /// Of a monotonic time.
    #[must_use]
    pub fn of(monotonic: Duration) -> Self {
        Self(quarters(monotonic, 0))
    }

    /// Whether more than `span` has passed since `earlier`. Never too early: what rounding hides counts as not passed.
    #[must_use]
    pub fn is_past(self, earlier: Self, span: Span) -> bool {
        self.0.saturating_sub(earlier.0) > span.0
    }
}

/// A duration in quarters of a second, rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(i32);

impl Span {
    /// Of a duration.
    #[must_use]
    pub fn of(duration: Duration) -> Self {
        Self(quarters(duration, 1_000 - 1))
    }

    /// Whether all of it lies between two instants.
    #[must_use]
    pub const fn is_over(self, begin: Moment, now: Moment) -> bool {
        now.0.saturating_sub(begin.0) >= self.0
    }
}

fn quarters(duration: Duration, spare: u128) -> i32 {
    i32::try_from((duration.as_millis() * PARTS + spare) / 1_000).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_passed_never_too_early() {
        let at = |milliseconds| Moment::of(Duration::from_millis(milliseconds));
        let minute = Span::of(Duration::from_secs(60));
        assert!(!at(60_249).is_past(at(0), minute));
        assert!(at(60_250).is_past(at(0), minute));
        assert!(!at(60_300).is_past(at(249).max(at(250)), minute));
        assert!(at(1).is_past(Moment::LONG_AGO, Span::of(Duration::from_secs(400 * 86_400))));
        assert_eq!(Span::of(Duration::from_millis(1)), Span(1));
    }
}
