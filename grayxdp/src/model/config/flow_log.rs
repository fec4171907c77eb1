//! The flow log.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Name, Weight};

/// Where it is written which version and backend sampled flows went to: a line of JSON for each. The file is opened anew by a reload
/// or SIGHUP, for whoever rotates it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlowLog {
    /// Full path of the file; what is in it stays, lines are added.
    pub path: PathBuf,
    /// How many flows have a line, in percent, more than 0.
    pub sample: Weight,
    /// The services; all where it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Name>,
}

impl FlowLog {
    /// Whether flows of a service are written down.
    #[must_use]
    pub fn has(&self, service: &Name) -> bool {
        self.services.is_empty() || self.services.contains(service)
    }
}
