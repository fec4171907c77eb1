//! Figures that are no cost of a packet: each with a unit of its own.

use std::fmt::Write as _;

use serde::Serialize;

use crate::bench::report::median;

/// What a figure is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mark {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

/// One measured figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What was measured.
    pub path: String,
    /// The median of all rounds, or the figure itself.
    pub value: f64,
    /// Unit of `value`.
    pub unit: &'static str,
    /// Half of the spread between the least and the greatest round; none where there was one round.
    pub spread: Option<f64>,
    /// The value to reach; none where the figure is shown for comparison only.
    #[serde(serialize_with = "bound")]
    pub mark: Option<Mark>,
    /// Whether it does; none without a mark.
    pub met: Option<bool>,
}

impl Figure {
    /// A figure that was measured once.
    #[must_use]
    pub fn once(path: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { path: path.into(), value, unit, spread: None, mark: None, met: None }
    }

    /// The median of some rounds.
    ///
    /// # Panics
    /// If there was no round.
    #[must_use]
    pub fn median(path: impl Into<String>, rounds: &[f64], unit: &'static str) -> Self {
        let (least, most) = rounds.iter().fold((f64::MAX, f64::MIN), |(l, m), &value| (l.min(value), m.max(value)));
        Self { spread: Some((most - least) / 2.0), ..Self::once(path, median(rounds), unit) }
    }

    /// The same with a mark.
    #[must_use]
    pub fn with_mark(self, mark: Mark) -> Self {
        let met = match mark {
            Mark::AtMost(most) => self.value <= most,
            Mark::AtLeast(least) => self.value >= least,
        };
        Self { mark: Some(mark), met: Some(met), ..self }
    }
}

/// The value below which this part of all values lies, by nearest rank.
///
/// # Panics
/// If there is no value or `part` is not within `0.0..=1.0`.
#[must_use]
pub fn quantile(values: &[f64], part: f64) -> f64 {
    assert!(!values.is_empty() && (0.0..=1.0).contains(&part), "a quantile is one of some values");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted[rank.saturating_sub(1)]
}

/// The figures as an aligned table.
#[must_use]
pub fn table(figures: &[Figure]) -> String {
    let widest = figures.iter().map(|figure| figure.path.chars().count()).max().unwrap_or(0);
    let mut text =
        format!("{:widest$}  {:>9}  {:8}  {:>7}  {:<3}  {:>7}\n", "path", "value", "unit", "mark", "met", "spread");
    for Figure { path, value, unit, spread, mark, met } in figures {
        let mark = mark.map_or_else(|| "-".to_owned(), |mark| mark.to_string());
        let met = met.map_or("-", |met| if met { "yes" } else { "no" });
        let spread = spread.map_or_else(|| "-".to_owned(), |spread| format!("±{spread:.2}"));
        writeln!(text, "{path:widest$}  {value:>9.2}  {unit:8}  {mark:>7}  {met:<3}  {spread:>7}")
            .expect("writing to a string cannot fail");
    }
    text
}

impl std::fmt::Display for Mark {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(most) => write!(out, "≤ {most}"),
            Self::AtLeast(least) => write!(out, "≥ {least}"),
        }
    }
}

fn bound<S: serde::Serializer>(mark: &Option<Mark>, serializer: S) -> Result<S::Ok, S::Error> {
    mark.map(|mark| match mark {
        Mark::AtMost(bound) | Mark::AtLeast(bound) => bound,
    })
    .serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_value_of_its_rank() {
        let values: Vec<f64> = (1..=300).rev().map(f64::from).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99), quantile(&values, 1.0)), (150.0, 297.0, 300.0));
    }

    #[test]
    fn a_mark_is_met_from_its_own_side() {
        let met = |mark| Figure::once("a path", 2.0, "ms").with_mark(mark).met;
        assert_eq!((met(Mark::AtMost(2.0)), met(Mark::AtMost(1.9))), (Some(true), Some(false)));
        assert_eq!((met(Mark::AtLeast(2.0)), met(Mark::AtLeast(2.1))), (Some(true), Some(false)));
    }
}
