//! Reference figures by scipy and statsmodels, reproduced: every case and every field of the files in `tests/vectors`, or in the
//! folder that `GRAYXDP_VECTORS` names. They agree to 1e-6, p-values that are found by iteration to 1e-4.

#[path = "vectors/statistics.rs"]
mod statistics;

use std::path::PathBuf;

use serde::{Deserialize, de::DeserializeOwned};

/// How far figures may be apart, relative to the expected one.
const EXACT: f64 = 1e-6;
/// The same of p-values that are found by iteration.
const ITERATIVE: f64 = 1e-4;

/// A file: every field is known, or the test fails.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<Case> {
    #[serde(rename = "about")]
    _about: String,
    cases: Vec<Case>,
}

/// The cases of a file, at least one.
fn cases<Case: DeserializeOwned>(file: &str) -> Vec<Case> {
    let ours = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    let folder = std::env::var_os("GRAYXDP_VECTORS").map_or(ours, PathBuf::from);
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let read: File<Case> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(!read.cases.is_empty(), "{} has no cases", path.display());
    read.cases
}

/// Two figures are the same up to `tolerance`.
#[track_caller]
fn near(found: f64, expected: f64, tolerance: f64, what: &str) {
    let apart = (found - expected).abs();
    assert!(apart <= tolerance * expected.abs() || apart <= 1e-12, "{what}: {found}, not {expected}");
}

/// Two figures that may be undefined.
#[track_caller]
fn near_or_none(found: Option<f64>, expected: Option<f64>, what: &str) {
    match (found, expected) {
        (Some(found), Some(expected)) => near(found, expected, EXACT, what),
        (found, expected) => assert_eq!(found, expected, "{what}"),
    }
}
