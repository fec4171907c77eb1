//! Figures of a run and how they are shown.

use std::fmt::Write as _;

use serde::Serialize;

/// One line of the benchmark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The path of the packet through the program.
    pub path: String,
    /// Number of flows.
    pub flows: u64,
    /// Cost of one packet without the wrapper: the median of all rounds.
    pub net_ns: f64,
    /// Against the row's baseline.
    pub ratio: f64,
    /// The ratio to stay at or below; none where the row is shown for comparison only.
    pub mark: Option<f64>,
    /// Whether it does; none without a mark.
    pub met: Option<bool>,
    /// Half of the spread between the best and the worst round.
    #[serde(skip)]
    pub noise_ns: f64,
}

impl Row {
    /// A row from the net cost of each round and the baseline's median.
    ///
    /// # Panics
    /// If there was no round.
    #[must_use]
    pub fn new(path: &str, flows: u64, rounds_ns: &[f64], baseline_ns: f64, mark: Option<f64>) -> Self {
        let net_ns = median(rounds_ns);
        let (least, most) =
            rounds_ns.iter().fold((f64::MAX, f64::MIN), |(least, most), &net| (least.min(net), most.max(net)));
        let ratio = net_ns / baseline_ns;
        let met = mark.map(|mark| ratio <= mark);
        Self { path: path.to_owned(), flows, net_ns, ratio, mark, met, noise_ns: (most - least) / 2.0 }
    }

    /// The noise in the unit of the ratio.
    #[must_use]
    pub fn spread(&self) -> f64 {
        self.noise_ns * self.ratio / self.net_ns
    }
}

/// The middle value; the mean of both where their number is even.
///
/// # Panics
/// If there is no value.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    assert!(!values.is_empty(), "a median needs a value");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// The rows as an aligned table.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let widest = rows.iter().map(|row| row.path.chars().count()).max().unwrap_or(0);
    let mut text = format!(
        "{:widest$}  {:>13}  {:>7}  {:>6}  {:>5}  {:<3}  {:>6}\n",
        "path", "flows", "net ns", "ratio", "mark", "met", "noise"
    );
    for row in rows {
        let mark = row.mark.map_or_else(|| "-".to_owned(), |mark| format!("{mark:.2}"));
        let met = row.met.map_or("-", |met| if met { "yes" } else { "no" });
        writeln!(
            text,
            "{:widest$}  {:>13}  {:>7.1}  {:>6.2}  {mark:>5}  {met:<3}  ±{:>5.1}",
            row.path, row.flows, row.net_ns, row.ratio, row.noise_ns
        )
        .expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_one_wild_round() {
        assert_eq!(median(&[3.0, 1.0, 900.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_row_meets_its_mark_when_the_ratio_is_not_above_it() {
        let row = |mark| Row::new("a path", 1, &[20.0, 20.0, 22.0], 20.0, Some(mark)).met;
        assert_eq!((row(1.0), row(0.99)), (Some(true), Some(false)));
    }
}
