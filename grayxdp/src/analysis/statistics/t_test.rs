//! Student's and Welch's t tests, the interval of a difference of means, and how large it is.
//!
//! Student (The probable error of a mean, Biometrika 6, 1908); B. L. Welch (The generalization of "Student's" problem when several different
//! population variances are involved, Biometrika 34, 1947) with Satterthwaite's degrees of freedom; J. Cohen: Statistical Power Analysis for the
//! Behavioral Sciences, 2nd ed., 1988, for d. Of one look that was planned; not for looking again and again.

use super::{
    sample::Sample,
    special::{student_two_sided, student_upper},
};

/// What a t test found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TTest {
    /// t.
    pub t: f64,
    /// Degrees of freedom.
    pub df: f64,
    /// P(|T| ≥ |t|) without a difference.
    pub p: f64,
    /// Difference of the means, first − second.
    pub difference: f64,
    /// Standard error of it.
    pub error: f64,
}

impl TTest {
    fn of(difference: f64, error: f64, df: f64) -> Option<Self> {
        let t = difference / error;
        (error > 0.0).then(|| Self { t, df, p: student_two_sided(t, df), difference, error })
    }

    /// Where the difference of the means lies with probability 1 − `alpha`.
    #[must_use]
    pub fn interval(&self, alpha: f64) -> (f64, f64) {
        let reach = student_upper(alpha / 2.0, self.df) * self.error;
        (self.difference - reach, self.difference + reach)
    }
}

/// The test that lets both have variances of their own. None below two values a side, or where no value differs from another.
#[must_use]
pub fn welch(first: &Sample, second: &Sample) -> Option<TTest> {
    let (n, m) = (first.count() as f64, second.count() as f64);
    let (a, b) = (first.variance()? / n, second.variance()? / m);
    let df = (a + b).powi(2) / (a.powi(2) / (n - 1.0) + b.powi(2) / (m - 1.0));
    TTest::of(first.mean()? - second.mean()?, (a + b).sqrt(), df)
}

/// The test that takes both variances for one. None as for [`welch`].
#[must_use]
pub fn student(first: &Sample, second: &Sample) -> Option<TTest> {
    let (n, m) = (first.count() as f64, second.count() as f64);
    let error = pooled_deviation(first, second)? * (n.recip() + m.recip()).sqrt();
    TTest::of(first.mean()? - second.mean()?, error, n + m - 2.0)
}

/// (second − first) ÷ the pooled standard deviation. None as for [`welch`].
#[must_use]
pub fn cohens_d(first: &Sample, second: &Sample) -> Option<f64> {
    let deviation = pooled_deviation(first, second)?;
    (deviation > 0.0).then(|| (second.mean().unwrap_or(0.0) - first.mean().unwrap_or(0.0)) / deviation)
}

fn pooled_deviation(first: &Sample, second: &Sample) -> Option<f64> {
    let (n, m) = (first.count() as f64, second.count() as f64);
    Some(((first.variance()? * (n - 1.0) + second.variance()? * (m - 1.0)) / (n + m - 2.0)).sqrt())
}

/// How large a difference is, by Cohen's d.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Below 0.2.
    Negligible,
    /// From 0.2.
    Small,
    /// From 0.5.
    Medium,
    /// From 0.8.
    Large,
}

impl Effect {
    /// Of a d.
    #[must_use]
    pub fn of(d: f64) -> Self {
        match d.abs() {
            d if d >= 0.8 => Self::Large,
            d if d >= 0.5 => Self::Medium,
            d if d >= 0.2 => Self::Small,
            _ => Self::Negligible,
        }
    }

    /// As people read it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Negligible => "negligible",
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_effect_has_cohens_names() {
        let named = [0.0, 0.19, -0.2, 0.49, 0.5, -0.79, 0.8, 3.0].map(|d| Effect::of(d).label());
        assert_eq!(named, ["negligible", "negligible", "small", "small", "medium", "medium", "large", "large"]);
    }

    #[test]
    fn what_does_not_vary_cannot_be_tested() {
        let (same, one) = (Sample::of([1.0, 1.0]), Sample::of([2.0]));
        assert_eq!((welch(&same, &same), student(&same, &same), cohens_d(&same, &same)), (None, None, None));
        assert_eq!((welch(&one, &same), student(&same, &one)), (None, None));
    }

    proptest! {
        #[test]
        fn units_and_order_do_not_matter(
            a in prop::collection::vec(-1e3..1e3_f64, 3..30), b in prop::collection::vec(-1e3..1e3_f64, 3..30),
            unit in 0.001..1_000.0_f64, zero in -1e3..1e3_f64,
        ) {
            let of = |values: &[f64], unit: f64, zero: f64| Sample::of(values.iter().map(|value| value * unit + zero));
            let (Some(found), Some(other)) = (
                welch(&of(&a, 1.0, 0.0), &of(&b, 1.0, 0.0)),
                welch(&of(&b, unit, zero), &of(&a, unit, zero)),
            ) else { return Ok(()) };
            prop_assert!((found.t + other.t).abs() < 1e-6 * found.t.abs().max(1.0) && (found.p - other.p).abs() < 1e-6);
            let (low, high) = found.interval(0.05);
            prop_assert_eq!(found.p < 0.05, low > 0.0 || high < 0.0);
        }
    }
}
