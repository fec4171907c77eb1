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

#[test]
fn the_articles_ramp_goes_10_18_28() {
    let curve = Curve::Exponential { growth: DEFAULT_GROWTH };
    let percent = |k: u32| (curve.value(0.1, 1.0, f64::from(k) / 6.0, 6.0) * 100.0).round();
    assert_eq!((0..=6).map(percent).collect::<Vec<_>>(), [10.0, 18.0, 28.0, 40.0, 56.0, 76.0, 100.0]);
}

#[test]
fn a_long_ramp_neither_overflows_nor_loses_its_ends() {
    let curve = Curve::Exponential { growth: 10.0 };
    let found: Vec<_> = [0.0, 0.5, 1.0].map(|tau| curve.value(0.0, 1.0, tau, 100_000.0)).into();
    assert_eq!(found, [0.0, 0.0, 1.0]);
}

proptest! {
    #[test]
    fn every_curve_begins_and_ends_where_it_should_and_never_turns(
        from in 0.0_f64..=1.0, to in 0.0_f64..=1.0, growth in 0.2_f64..4.0, intervals in 1_u32..500, kind in 0..3,
    ) {
        let curve = match kind {
            0 => Curve::Linear,
            1 => Curve::Cubic,
            _ => Curve::Exponential { growth },
        };
        let count = f64::from(intervals);
        let values: Vec<_> = (0..=intervals).map(|k| curve.value(from, to, f64::from(k) / count, count)).collect();
        prop_assert!((values[0] - from).abs() < 1e-12);
        prop_assert_eq!(values[values.len() - 1], to);
        for pair in values.windows(2) {
            let forth = if from <= to { pair[0] <= pair[1] + 1e-12 } else { pair[0] >= pair[1] - 1e-12 };
            prop_assert!(forth);
        }
    }
}
