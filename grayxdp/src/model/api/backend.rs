//! Backends in the API: their names, what is done to them, how they stand.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Name, api::Totals, config::BackendAddress};

/// A backend of a service as operators name it: `v1/10.0.1.1:8080`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackendName {
    /// The version.
    pub version: Name,
    /// Its address; without a port where there is only one of that address.
    pub address: BackendAddress,
}

/// Text that is no [`BackendName`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a backend: use VERSION/ADDRESS, such as v1/10.0.1.1:8080")]
pub struct NotABackendName(String);

impl FromStr for BackendName {
    type Err = NotABackendName;

    fn from_str(text: &str) -> Result<Self, NotABackendName> {
        let parts =
            text.split_once('/').and_then(|(version, address)| Some((version.parse().ok()?, address.parse().ok()?)));
        let (version, address) = parts.ok_or_else(|| NotABackendName(text.to_owned()))?;
        Ok(Self { version, address })
    }
}

impl TryFrom<String> for BackendName {
    type Error = NotABackendName;

    fn try_from(text: String) -> Result<Self, NotABackendName> {
        text.parse()
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.version, self.address)
    }
}

impl From<BackendName> for String {
    fn from(name: BackendName) -> Self {
        name.to_string()
    }
}

impl JsonSchema for BackendName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BackendName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^[a-z0-9-]+/[0-9.]+(:[0-9]{1,5})?$"})
    }
}

/// What an operator does to backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BackendAction {
    /// No new flows; those in progress go on.
    Drain,
    /// No flows: those in progress end as `onDown` says.
    Disable,
    /// New flows again, if its health checks are well.
    Enable,
}

/// Whether a backend takes flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Availability {
    /// New ones too.
    Up,
    /// Those in progress only.
    Draining,
    /// None.
    Down,
}

impl Availability {
    /// The name in files, metrics and what people read.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Down => "down",
        }
    }
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendStatus {
    /// `10.0.1.1:8080`; without a port where the client's is kept.
    pub address: BackendAddress,
    /// Relative weight.
    pub weight: u16,
    /// Slots of 16,381 that new flows have; 0 where it takes none.
    pub slots: u16,
    /// Whether its next hop is resolved.
    pub resolved: bool,
    /// Whether it takes flows.
    pub state: Availability,
    /// Why it does not take all flows: one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when it is in this state, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<jiff::Timestamp>,
    /// Why the last health check failed; none where it did not, and where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_error: Option<String>,
    /// Where it takes no new flows: whether no flow is left that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<bool>,
    /// Traffic.
    pub totals: Totals,
}

/// One backend and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedBackend {
    /// The service.
    pub service: Name,
    /// The version.
    pub version: Name,
    /// How it stands.
    #[serde(flatten)]
    pub backend: BackendStatus,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_named_by_version_and_address() {
        for good in ["v1/10.0.1.1:8080", "v1/10.0.1.1"] {
            assert_eq!(good.parse::<BackendName>().expect("a backend").to_string(), good);
        }
        for bad in ["v1", "10.0.1.1:8080", "v1/10.0.1", "v1/10.0.1.1:99999", "V1/10.0.1.1", "v1/a/10.0.1.1"] {
            assert!(bad.parse::<BackendName>().is_err(), "{bad}");
        }
    }
}
