//! Confusion matrices that are posted: what a model got right and wrong.

use std::{collections::BTreeMap, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Name, api::ChangeOptions};

/// Counts of a confusion matrix, each below 2⁵³; true negatives count for nothing that is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Matrix {
    /// Rightly said to be so.
    pub tp: u64,
    /// Wrongly said to be so.
    pub fp: u64,
    /// Wrongly said not to be so.
    pub r#fn: u64,
}

impl Matrix {
    /// The greatest count, plus one: beyond, JSON's numbers are not exact.
    pub const COUNTS: u64 = 1 << 53;
}

/// A version's matrix, as `v2=85/10/15`: true positives, false positives, false negatives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedMatrix {
    /// The version.
    pub version: Name,
    /// Its counts.
    pub matrix: Matrix,
}

/// A text that is no version's matrix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version with its counts; write VERSION=TP/FP/FN, as v2=85/10/15")]
pub struct NotAMatrix(String);

impl FromStr for NamedMatrix {
    type Err = NotAMatrix;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (version, counts) = text.split_once('=')?;
            let counts: Vec<u64> = counts.split('/').map(|count| count.parse().ok()).collect::<Option<_>>()?;
            let [tp, fp, r#fn] = counts[..] else { return None };
            Some(Self { version: version.parse().ok()?, matrix: Matrix { tp, fp, r#fn } })
        };
        read().ok_or_else(|| NotAMatrix(text.to_owned()))
    }
}

impl fmt::Display for NamedMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Matrix { tp, fp, r#fn } = self.matrix;
        write!(f, "{}={tp}/{fp}/{fn}", self.version)
    }
}

/// The quality of a rollout's models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PostedQuality {
    /// Which metric it is of; where the plan has only one whose values are posted, that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Name>,
    /// By version: the candidate, and stable where a `margin` is judged.
    pub matrices: BTreeMap<Name, Matrix>,
    /// Reason, dry run.
    #[serde(default)]
    pub options: ChangeOptions,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_read_as_it_is_written_and_nothing_else_is() {
        let read: NamedMatrix = "v2=85/10/15".parse().expect("a matrix");
        assert_eq!(read.matrix, Matrix { tp: 85, fp: 10, r#fn: 15 });
        assert_eq!(read.to_string(), "v2=85/10/15");
        for wrong in ["", "v2", "v2=", "v2=85/10", "v2=85/10/15/1", "v2=-1/0/0", "=1/2/3", "v2=1.5/2/3", "V 2=1/2/3"] {
            assert!(wrong.parse::<NamedMatrix>().is_err(), "{wrong}");
        }
    }
}
