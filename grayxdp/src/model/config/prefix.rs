//! IPv4 prefixes.

use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An IPv4 prefix, written `10.9.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    /// The address, host bits zero.
    pub address: Ipv4Addr,
    /// Leading bits that count, `0..=32`.
    pub length: u8,
}

/// Text that is no [`Prefix`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not an IPv4 prefix such as 10.9.0.0/16 (host bits must be zero)")]
pub struct NotAPrefix(String);

impl Prefix {
    /// Whether an address is within it.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let host = u32::MAX.checked_shr(u32::from(self.length)).unwrap_or(0);
        address.to_bits() & !host == self.address.to_bits()
    }
}

impl TryFrom<String> for Prefix {
    type Error = NotAPrefix;

    fn try_from(text: String) -> Result<Self, NotAPrefix> {
        let parse = || {
            let (address, length) = text.split_once('/')?;
            let (address, length) = (address.parse::<Ipv4Addr>().ok()?, length.parse::<u8>().ok()?);
            let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            (length <= 32 && address.to_bits() & host == 0).then_some(Self { address, length })
        };
        parse().ok_or(NotAPrefix(text.clone()))
    }
}

impl JsonSchema for Prefix {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Prefix".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^[0-9.]+/[0-9]{1,2}$"})
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        format!("{}/{}", prefix.address, prefix.length)
    }
}
