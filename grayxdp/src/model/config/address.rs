//! Backends as people name them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::config::{Backend, Service};

/// Address of a backend as people write it: with its port, or without where it keeps the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackendAddress {
    /// The address.
    pub address: IpAddr,
    /// Its own port.
    pub port: Option<u16>,
}

impl BackendAddress {
    /// Whether it means a backend of a service; without a port it means each of that address.
    #[must_use]
    pub fn means(self, service: &Service, backend: &Backend) -> bool {
        let own = service.backend_address(backend);
        self.address == own.address && (self.port.is_none() || self.port == own.port)
    }
}

/// Text that is no [`BackendAddress`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a backend such as 10.0.2.1:8080, 10.0.2.1 or [2001:db8::1]:8080")]
pub struct NotABackend(String);

impl FromStr for BackendAddress {
    type Err = NotABackend;

    fn from_str(text: &str) -> Result<Self, NotABackend> {
        let with_port = text.parse::<SocketAddr>().ok().map(|end| (end.ip(), Some(end.port())));
        let alone = || text.parse().ok().map(|address| (address, None));
        let (address, port) = with_port.or_else(alone).ok_or_else(|| NotABackend(text.to_owned()))?;
        Ok(Self { address, port })
    }
}

impl TryFrom<String> for BackendAddress {
    type Error = NotABackend;

    fn try_from(text: String) -> Result<Self, NotABackend> {
        text.parse()
    }
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            self.port.map_or_else(|| self.address.to_string(), |port| SocketAddr::new(self.address, port).to_string());
        f.pad(&text)
    }
}

impl From<BackendAddress> for String {
    fn from(backend: BackendAddress) -> Self {
        backend.to_string()
    }
}

impl JsonSchema for BackendAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BackendAddress".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^([0-9.]+(:[0-9]{1,5})?|[0-9a-fA-F:.]+|\\[[0-9a-fA-F:.]+\\]:[0-9]{1,5})$"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_of_both_families_are_read_as_they_are_written() {
        for text in ["10.0.2.1:8080", "10.0.2.1", "[2001:db8::1]:8080", "2001:db8::1"] {
            let backend: BackendAddress = text.parse().expect(text);
            assert_eq!((backend.to_string().as_str(), backend.port.is_some()), (text, text.ends_with(":8080")));
        }
        for text in ["10.0.2", "[2001:db8::1]", "2001:db8::1:8080:", "10.0.2.1:", "web"] {
            assert!(text.parse::<BackendAddress>().is_err(), "{text}");
        }
    }
}
