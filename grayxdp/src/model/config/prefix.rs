//! Prefixes of addresses.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A prefix of either family, written `10.9.0.0/16` or `2001:db8:7::/48`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    /// The address, host bits zero.
    pub address: IpAddr,
    /// Leading bits that count, `0..=32`; of IPv6 `0..=128`.
    pub length: u8,
}

/// Text that is no [`Prefix`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a prefix such as 10.9.0.0/16 or 2001:db8:7::/48 (host bits must be zero)")]
pub struct NotAPrefix(String);

impl Prefix {
    /// Whether an address is within it; none of the other family is.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.holds(Self { address, length: width(address) })
    }
}

impl TryFrom<String> for Prefix {
    type Error = NotAPrefix;

    fn try_from(text: String) -> Result<Self, NotAPrefix> {
        let parse = || {
            let (address, length) = text.split_once('/')?;
            let prefix = Self { address: address.parse().ok()?, length: length.parse().ok()? };
            let is_prefix = prefix.length <= width(prefix.address) && prefix.network() == prefix.address;
            is_prefix.then_some(prefix)
        };
        parse().ok_or(NotAPrefix(text.clone()))
    }
}

impl JsonSchema for Prefix {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Prefix".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$"})
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        format!("{}/{}", prefix.address, prefix.length)
    }
}

impl Prefix {
    /// Its address without the bits behind its length.
    #[must_use]
    pub fn network(self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.length.min(32))).unwrap_or(0);
                std::net::Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.length.min(128))).unwrap_or(0);
                std::net::Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        }
    }

    /// Whether it holds another, or is it; none holds one of the other family.
    #[must_use]
    pub fn holds(self, inner: Self) -> bool {
        let cut = Self { length: self.length, ..inner };
        self.length <= inner.length
            && self.address.is_ipv4() == inner.address.is_ipv4()
            && cut.network() == self.network()
    }
}

/// Bits of an address.
#[must_use]
pub const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        Prefix::try_from(text.to_owned()).expect(text)
    }

    #[test]
    fn a_prefix_holds_what_lies_in_it_and_nothing_of_the_other_family() {
        let holds = |outer: &str, inner: &str| prefix(outer).holds(prefix(inner));
        assert!(
            holds("10.0.0.0/8", "10.9.0.0/16")
                && holds("10.9.0.0/16", "10.9.0.0/16")
                && holds("0.0.0.0/0", "9.9.9.9/32")
        );
        assert!(holds("2001:db8::/32", "2001:db8:7::/48") && holds("::/0", "2001:db8::1/128"));
        assert!(!holds("10.9.0.0/16", "10.0.0.0/8") && !holds("2001:db8:7::/48", "2001:db8::/32"));
        assert!(
            !holds("0.0.0.0/0", "::/0") && !holds("::/0", "10.0.0.0/8") && !holds("2001:db8::/32", "2001:db9::/32")
        );
    }
}
