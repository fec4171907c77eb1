use std::time::Duration;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::balance::vectors;

/// A case of `curves.json`: either times with two curves, or a growth with the weights of its intervals.
#[derive(Debug, Deserialize)]
struct Case {
    start: f64,
    end: f64,
    duration: Option<f64>,
    #[serde(default)]
    at: Vec<f64>,
    linear: Option<Vec<f64>>,
    cubic: Option<Vec<f64>>,
    growth: Option<f64>,
    intervals: Option<f64>,
    exponential: Option<Vec<f64>>,
}

#[derive(Debug, Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[test]
fn vectors_of_curves() {
    let file: File = serde_json::from_value(vectors::read("curves.json")).expect("the form of curves.json");
    let mut compared = 0;
    let mut compare = |name: &str, expected: &[f64], found: Vec<f64>| {
        assert_eq!(expected.len(), found.len(), "{name}");
        for (k, (expected, found)) in expected.iter().zip(found).enumerate() {
            assert!((expected - found).abs() < 1e-6, "{name} {k}: {found}, not {expected}");
            compared += 1;
        }
    };
    for Case { start, end, duration, at, linear, cubic, growth, intervals, exponential } in file.cases {
        for (name, curve, expected) in [("linear", Curve::Linear, linear), ("cubic", Curve::Cubic, cubic)] {
            let Some(expected) = expected else { continue };
            let duration = duration.expect("a duration beside the times");
            compare(name, &expected, at.iter().map(|at| curve.value(start, end, at / duration, 1.0)).collect());
        }
        if let Some(expected) = exponential {
            let curve = Curve::Exponential { growth: growth.unwrap_or(DEFAULT_GROWTH) };
            let n = intervals.expect("a number of intervals beside the growth");
            let found = (0..expected.len()).map(|k| curve.value(start, end, k as f64 / n, n)).collect();
            compare("exponential", &expected, found);
        }
    }
    assert!(compared > 0, "no case was compared");
}

fn percent(weight: f64) -> Weight {
    Weight::from_percent(weight).expect("a weight")
}

fn ramp(curve: Curve, from: f64, to: f64) -> Ramp {
    let (duration, interval) = (Duration::from_secs(60 * 60), Duration::from_secs(10 * 60));
    Ramp { curve, from: percent(from), to: percent(to), duration, interval }
}

#[test]
fn the_articles_ramp_goes_10_18_28() {
    let points = ramp(Curve::Exponential { growth: DEFAULT_GROWTH }, 10.0, 100.0).points();
    let whole: Vec<_> = points.iter().map(|point| (point.weight.ratio() * 100.0).round()).collect();
    assert_eq!(whole, [10.0, 18.0, 28.0, 40.0, 56.0, 76.0, 100.0]);
    assert_eq!(points[6].at, Duration::from_secs(3_600));
}

#[test]
fn four_equal_batches_are_quarters_and_last_a_quarter_each() {
    let points = ramp(Curve::Count(4), 0.0, 100.0).points();
    let found: Vec<_> = points.iter().map(|point| (point.at.as_secs() / 60, point.weight)).collect();
    assert_eq!(found, [(0, percent(25.0)), (15, percent(50.0)), (30, percent(75.0)), (45, percent(100.0))]);
}

#[test]
fn given_values_are_held_for_equal_times() {
    let values: Vec<_> = [10.0, 30.0, 80.0, 100.0].map(percent).into();
    let points = ramp(Curve::Values(values.clone()), 0.0, 100.0).points();
    assert_eq!(points.iter().map(|point| point.weight).collect::<Vec<_>>(), values);
    assert_eq!(points[2].at, Duration::from_secs(1_800));
    let curve = Curve::Values(values);
    assert!((curve.value(0.0, 1.0, 0.49, 1.0) - 0.3).abs() < 1e-12);
    assert!((curve.value(0.0, 1.0, 1.0, 1.0) - 1.0).abs() < 1e-12);
}

#[test]
fn a_long_ramp_neither_overflows_nor_loses_its_ends() {
    let curve = Curve::Exponential { growth: 10.0 };
    let found: Vec<_> = [0.0, 0.5, 1.0].map(|tau| curve.value(0.0, 1.0, tau, 100_000.0)).into();
    assert_eq!(found, [0.0, 0.0, 1.0]);
}

proptest! {
    #[test]
    fn every_ramp_begins_and_ends_where_it_should_and_never_turns(
        from in 0_u16..=10_000, to in 0_u16..=10_000, growth in 0.2_f64..4.0, minutes in 1_u64..500, kind in 0..4,
    ) {
        let curve = match kind {
            0 => Curve::Linear,
            1 => Curve::Cubic,
            2 => Curve::Count(u32::try_from(minutes).expect("small")),
            _ => Curve::Exponential { growth },
        };
        let weight = |hundredths| Weight::from_hundredths(hundredths).expect("in range");
        let begins_at_from = kind != 2;
        let duration = Duration::from_secs(minutes * 60);
        let ramp = Ramp { curve, from: weight(from), to: weight(to), duration, interval: Duration::from_secs(90) };
        let points = ramp.points();
        if begins_at_from {
            prop_assert_eq!(points[0].weight, ramp.from);
        }
        prop_assert_eq!(points[points.len() - 1].weight, ramp.to);
        for pair in points.windows(2) {
            prop_assert!(pair[0].at < pair[1].at);
            let (one, other) = (pair[0].weight, pair[1].weight);
            let forth = if from <= to { one <= other } else { one >= other };
            prop_assert!(forth);
        }
    }
}
