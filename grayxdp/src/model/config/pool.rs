//! Pools of source addresses of services with `forwarding: full-nat`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::prefix::{Prefix, width};

/// One address, or all of a prefix: `10.1.0.250` or `10.1.0.240/29`, `fd00::5` or `fd00::100/124`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PoolRange(pub Prefix);

/// Text that is no [`PoolRange`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is neither an address such as 10.1.0.250 nor a prefix such as 10.1.0.240/29 (host bits must be zero)")]
pub struct NotARange(String);

impl PoolRange {
    /// How many addresses it has; [`u128::MAX`] for more than fit.
    #[must_use]
    pub fn len(self) -> u128 {
        1_u128.checked_shl(u32::from(width(self.0.address) - self.0.length)).unwrap_or(u128::MAX)
    }

    /// Whether it has none: it always has.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// Its addresses, the first `limit` of them.
    pub fn addresses(self, limit: usize) -> impl Iterator<Item = IpAddr> {
        let count = u128::min(self.len(), limit as u128);
        (0..count).map(move |index| match self.0.address {
            IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() + index as u32).into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() + index).into(),
        })
    }
}

impl TryFrom<String> for PoolRange {
    type Error = NotARange;

    fn try_from(text: String) -> Result<Self, NotARange> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(Prefix { address, length: width(address) }));
        }
        Prefix::try_from(text.clone()).map(Self).map_err(|_| NotARange(text))
    }
}

impl From<PoolRange> for String {
    fn from(range: PoolRange) -> Self {
        let prefix = range.0;
        if prefix.length == width(prefix.address) { prefix.address.to_string() } else { prefix.into() }
    }
}

impl JsonSchema for PoolRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PoolRange".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^[0-9a-fA-F.:]+(/[0-9]{1,3})?$"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> PoolRange {
        text.to_owned().try_into().expect("a range")
    }

    #[test]
    fn a_range_is_an_address_or_all_of_a_prefix() {
        let list = |text: &str| range(text).addresses(9).map(|address| address.to_string()).collect::<Vec<_>>();
        assert_eq!(list("10.1.0.250"), ["10.1.0.250"]);
        assert_eq!(list("10.1.0.252/30"), ["10.1.0.252", "10.1.0.253", "10.1.0.254", "10.1.0.255"]);
        assert_eq!(list("fd00::fffe/127"), ["fd00::fffe", "fd00::ffff"]);
        assert_eq!((list("10.0.0.0/8").len(), range("10.0.0.0/8").len(), range("::/0").len()), (9, 1 << 24, u128::MAX));
    }

    #[test]
    fn a_range_is_written_as_it_was_read() {
        for text in ["10.1.0.250", "10.1.0.240/29", "fd00::5", "fd00::100/124"] {
            assert_eq!(String::from(range(text)), text);
        }
        for text in ["10.1.0.241/29", "10.1.0.300", "lo", "", "10.1.0.1/33"] {
            assert!(PoolRange::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
