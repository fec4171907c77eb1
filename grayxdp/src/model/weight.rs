//! Weights: shares of new flows in percent.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A share of new flows in hundredths of a percent, `0..=10_000`. Written in percent with up to two decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Weight(u16);

/// A number that is no [`Weight`].
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
#[error("`{0}` is not a weight: use a percentage from 0 to 100 with at most two decimals")]
pub struct NotAWeight(String);

impl Weight {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Everything.
    pub const FULL: Self = Self(10_000);

    /// From hundredths of a percent, at most 10,000.
    #[must_use]
    pub const fn from_hundredths(hundredths: u16) -> Option<Self> {
        if hundredths <= Self::FULL.0 { Some(Self(hundredths)) } else { None }
    }

    /// Hundredths of a percent.
    #[must_use]
    pub const fn hundredths(self) -> u16 {
        self.0
    }

    /// The share, `0.0..=1.0`.
    #[must_use]
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / f64::from(Self::FULL.0)
    }

    /// What is left of 100 %.
    #[must_use]
    pub const fn complement(self) -> Self {
        Self(Self::FULL.0 - self.0)
    }

    /// From a percentage; refuses more than two decimals instead of rounding.
    ///
    /// # Errors
    /// [`NotAWeight`] outside 0 to 100 and for more than two decimals.
    pub fn from_percent(percent: f64) -> Result<Self, NotAWeight> {
        let hundredths = percent * 100.0;
        let whole = hundredths.round();
        let sound = (0.0..=10_000.0).contains(&whole) && (hundredths - whole).abs() < 1e-6;
        if sound { Ok(Self(whole as u16)) } else { Err(NotAWeight(percent.to_string())) }
    }
}

impl std::str::FromStr for Weight {
    type Err = NotAWeight;

    fn from_str(text: &str) -> Result<Self, NotAWeight> {
        let number = text.strip_suffix('%').unwrap_or(text);
        number.parse().map_err(|_| NotAWeight(text.to_owned())).and_then(Self::from_percent)
    }
}

impl fmt::Display for Weight {
    /// In percent, without the sign.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&(f64::from(self.0) / 100.0).to_string())
    }
}

impl Serialize for Weight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(100) {
            serializer.serialize_u16(self.0 / 100)
        } else {
            serializer.serialize_f64(f64::from(self.0) / 100.0)
        }
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).and_then(|percent| Self::from_percent(percent).map_err(serde::de::Error::custom))
    }
}

impl schemars::JsonSchema for Weight {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Weight".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "number", "minimum": 0, "maximum": 100, "multipleOf": 0.01})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_decimals_are_kept_and_a_third_is_refused() {
        assert_eq!("12.34".parse::<Weight>().map(Weight::hundredths), Ok(1_234));
        assert_eq!("5%".parse::<Weight>().map(Weight::hundredths), Ok(500));
        for bad in ["0.001", "100.01", "-1", "NaN", "x"] {
            assert!(bad.parse::<Weight>().is_err(), "{bad}");
        }
        assert_eq!("0.07".parse::<Weight>().expect("a weight").to_string(), "0.07");
    }
}
