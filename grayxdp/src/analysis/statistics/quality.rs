//! Precision, recall and F1 of a model, from its confusion matrix.
//!
//! C. J. van Rijsbergen: Information Retrieval, 2nd ed., 1979, chapter 7. What would be divided by nothing is undefined: no data. The interval of a
//! difference of F1 rests on the variance of F1 by the delta method (A. Agresti: Categorical Data Analysis, 3rd ed., 2013, §16.1).

use super::special::normal_upper;

/// What a model got right and wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Confusion {
    /// Rightly said to be so.
    pub tp: u64,
    /// Wrongly said to be so.
    pub fp: u64,
    /// Wrongly said not to be so.
    pub r#fn: u64,
}

impl Confusion {
    /// Right ones of those said to be so; none where nothing was.
    #[must_use]
    pub fn precision(self) -> Option<f64> {
        divided(self.tp, self.tp + self.fp)
    }

    /// Right ones of those that are so; none where nothing is.
    #[must_use]
    pub fn recall(self) -> Option<f64> {
        divided(self.tp, self.tp + self.r#fn)
    }

    /// 2·tp ÷ (2·tp + fp + fn); none of nothing.
    #[must_use]
    pub fn f1(self) -> Option<f64> {
        divided(2 * self.tp, 2 * self.tp + self.fp + self.r#fn)
    }

    /// Variance of F1. With t = tp ÷ (tp + fp + fn), binomial, F1 = 2t ÷ (1 + t), whose slope is 2 ÷ (1 + t)².
    fn variance(self) -> Option<f64> {
        let all = self.tp + self.fp + self.r#fn;
        let t = divided(self.tp, all)?;
        Some((2.0 / (1.0 + t).powi(2)).powi(2) * t * (1.0 - t) / all as f64)
    }
}

/// Where candidate's F1 − stable's lies with probability 1 − `alpha`; none where one is undefined.
#[must_use]
pub fn f1_difference(stable: Confusion, candidate: Confusion, alpha: f64) -> Option<(f64, f64)> {
    let difference = candidate.f1()? - stable.f1()?;
    let reach = normal_upper(alpha / 2.0) * (candidate.variance()? + stable.variance()?).sqrt();
    Some((difference - reach, difference + reach))
}

fn divided(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_around_the_difference_and_narrows_with_the_counts() {
        let (stable, candidate) = (Confusion { tp: 80, fp: 15, r#fn: 20 }, Confusion { tp: 85, fp: 10, r#fn: 15 });
        let (low, high) = f1_difference(stable, candidate, 0.05).expect("both are defined");
        // By hand: t = 80/115 and 85/110, slopes 2/(1+t)².
        let variance = |t: f64, n: f64| (2.0 / (1.0 + t).powi(2)).powi(2) * t * (1.0 - t) / n;
        let reach = 1.959_963_984_540_054 * (variance(80.0 / 115.0, 115.0) + variance(85.0 / 110.0, 110.0)).sqrt();
        assert!((f64::midpoint(low, high) - (170.0 / 195.0 - 160.0 / 195.0)).abs() < 1e-9);
        assert!(((high - low) / 2.0 - reach).abs() < 1e-9);
        assert_eq!(f1_difference(Confusion::default(), candidate, 0.05), None);
    }
}
