//! Shadow releases: the candidate sees copies of what stable is asked.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Name, Weight, config::duration};

/// Copies of UDP flows go to the candidate; its answers are timed, counted and thrown away. Clients are answered by stable alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shadow {
    /// How many flows are copied, in percent, more than 0; of each of them all datagrams.
    pub sample: Weight,
    /// How long, `1s..=365d`.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub duration: Duration,
    /// Names of the metrics that judge it; all where it is left out, none for `[]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Vec<Name>>,
}
