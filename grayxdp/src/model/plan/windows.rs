//! When a rollout may go on: hours of the week in a named time zone.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// When a rollout may go on. Outside of it nothing advances; judging, rollback and fuse work always.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Windows {
    /// A zone of the IANA database: `Europe/Berlin`, `UTC`.
    pub time_zone: String,
    /// The windows, at least one.
    pub allow: Vec<Window>,
}

/// One window, every week.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// The days on which it begins; every day where they are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// Local time at which it begins: `"09:00"`.
    pub from: ClockTime,
    /// Local time at which it ends, on the next day where it is not after `from`: `"17:00"`, `"24:00"`.
    pub to: ClockTime,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// A local time of day in minutes, `0..=1440`. Written as `09:00`; `24:00` is the day's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClockTime(u16);

/// Text that is no [`ClockTime`].
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a time of day: use \"00:00\" to \"24:00\"")]
pub struct NotAClockTime(String);

impl ClockTime {
    /// Minutes since midnight.
    #[must_use]
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

impl FromStr for ClockTime {
    type Err = NotAClockTime;

    fn from_str(text: &str) -> Result<Self, NotAClockTime> {
        let number = |digits: &str| match digits.as_bytes() {
            [b'0'..=b'9', b'0'..=b'9'] => digits.parse::<u16>().ok(),
            _ => None,
        };
        let parsed = text.split_once(':').and_then(|(hours, minutes)| Some((number(hours)?, number(minutes)?)));
        let sound = parsed.filter(|(hours, minutes)| *minutes < 60 && (*hours < 24 || (*hours, *minutes) == (24, 0)));
        sound.map(|(hours, minutes)| Self(hours * 60 + minutes)).ok_or_else(|| NotAClockTime(text.to_owned()))
    }
}

impl fmt::Display for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Serialize for ClockTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClockTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for ClockTime {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ClockTime".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_four_digits() {
        assert_eq!("09:30".parse::<ClockTime>().map(ClockTime::minutes), Ok(570));
        assert_eq!("24:00".parse::<ClockTime>().map(ClockTime::minutes), Ok(1_440));
        for bad in ["9:30", "24:01", "12:60", "+9:00", "12", "25:00", ""] {
            assert!(bad.parse::<ClockTime>().is_err(), "{bad}");
        }
    }
}
