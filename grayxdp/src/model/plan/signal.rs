//! Signals of the data path as a plan names them, and their limits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::config::{Forwarding, Protocol};

/// A signal of the data path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KernelSignal {
    /// Which.
    pub signal: Signal,
    /// Of `connect` and `firstByte`: which quantile, above 0 and below 1; the median where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantile: Option<f64>,
}

/// Signals of the data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Signal {
    /// Failed ÷ attempted connections of the candidate (UDP: unanswered ÷ followed flows).
    ConnectFailureRatio,
    /// Time from SYN to SYN-ACK, in seconds; a quantile.
    Connect,
    /// Time from the client's first payload to the backend's, in seconds; a quantile.
    FirstByte,
    /// Followed connections that a RST of either side ended ÷ those that ended.
    ResetRatio,
    /// Handshakes that nothing answered ÷ those whose end is known.
    SynTimeoutRatio,
    /// Repeated segments ÷ segments with payload.
    RetransmitRatio,
    /// Mean payload of a flow in both directions, in bytes.
    BytesPerFlow,
    /// New flows a second.
    FlowsPerSecond,
    /// Followed connections in which a side took no more data for a while ÷ followed connections.
    ZeroWindowRatio,
}

/// What a signal is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A part of a whole, `0.0..=1.0`.
    Ratio,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// So many a second.
    PerSecond,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ConnectFailureRatio,
        Self::Connect,
        Self::FirstByte,
        Self::ResetRatio,
        Self::SynTimeoutRatio,
        Self::RetransmitRatio,
        Self::BytesPerFlow,
        Self::FlowsPerSecond,
        Self::ZeroWindowRatio,
    ];

    /// What it is measured in.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::Connect | Self::FirstByte => Unit::Seconds,
            Self::BytesPerFlow => Unit::Bytes,
            Self::FlowsPerSecond => Unit::PerSecond,
            Self::ConnectFailureRatio
            | Self::ResetRatio
            | Self::SynTimeoutRatio
            | Self::RetransmitRatio
            | Self::ZeroWindowRatio => Unit::Ratio,
        }
    }

    /// Whether it is a quantile of a distribution.
    #[must_use]
    pub const fn has_quantile(self) -> bool {
        matches!(self.unit(), Unit::Seconds)
    }

    /// Whether single flows have a value of it, of which less is better.
    #[must_use]
    pub const fn is_of_flows(self) -> bool {
        match self {
            Self::ConnectFailureRatio | Self::Connect | Self::FirstByte | Self::ResetRatio => true,
            Self::SynTimeoutRatio
            | Self::RetransmitRatio
            | Self::BytesPerFlow
            | Self::FlowsPerSecond
            | Self::ZeroWindowRatio => false,
        }
    }

    /// Whether it is a part of flows that went wrong.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        match self {
            Self::ConnectFailureRatio | Self::ResetRatio | Self::SynTimeoutRatio | Self::ZeroWindowRatio => true,
            Self::Connect | Self::FirstByte | Self::RetransmitRatio | Self::BytesPerFlow | Self::FlowsPerSecond => {
                false
            }
        }
    }

    /// Whether the data path can see it of flows of a protocol. Where answers do not come by, only what clients open is seen, and of
    /// UDP not even that: nothing of a single datagram tells that it is the first.
    #[must_use]
    pub const fn is_measured(self, protocol: Protocol, forwarding: Forwarding) -> bool {
        if !forwarding.sees_answers() {
            return matches!((protocol, self), (Protocol::Tcp, Self::FlowsPerSecond));
        }
        match (protocol, self) {
            (Protocol::Tcp, _) => true,
            (
                Protocol::Udp,
                Self::ConnectFailureRatio | Self::FirstByte | Self::BytesPerFlow | Self::FlowsPerSecond,
            ) => true,
            (
                Protocol::Udp,
                Self::Connect
                | Self::ResetRatio
                | Self::SynTimeoutRatio
                | Self::RetransmitRatio
                | Self::ZeroWindowRatio,
            ) => false,
        }
    }

    /// Its name in plans.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ConnectFailureRatio => "connectFailureRatio",
            Self::Connect => "connect",
            Self::FirstByte => "firstByte",
            Self::ResetRatio => "resetRatio",
            Self::SynTimeoutRatio => "synTimeoutRatio",
            Self::RetransmitRatio => "retransmitRatio",
            Self::BytesPerFlow => "bytesPerFlow",
            Self::FlowsPerSecond => "flowsPerSecond",
            Self::ZeroWindowRatio => "zeroWindowRatio",
        }
    }
}

/// Plain limits, in the signal's unit; a bound that is left out does not bind. At least one is given. A bound in seconds
/// may also be written as a duration: `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ThresholdRange {
    /// Least value that passes.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bound")]
    #[schemars(with = "Option<Bound>")]
    pub min: Option<f64>,
    /// Greatest value that passes.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bound")]
    #[schemars(with = "Option<Bound>")]
    pub max: Option<f64>,
}

impl ThresholdRange {
    /// Whether nothing is limited.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.min.is_none() && self.max.is_none()
    }
}

/// A bound as it is written.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used: [`BoundVisitor`] reads it, and can say what is wrong")]
pub(super) enum Bound {
    Number(f64),
    Duration(String),
}

pub(super) fn bound<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    value(deserializer).map(Some)
}

pub(super) fn value<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    deserializer.deserialize_any(BoundVisitor)
}

/// Reads a number, or a duration as its seconds.
struct BoundVisitor;

impl serde::de::Visitor<'_> for BoundVisitor {
    type Value = f64;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a number or a duration such as 250ms")
    }

    fn visit_f64<E>(self, number: f64) -> Result<f64, E> {
        Ok(number)
    }

    fn visit_u64<E>(self, number: u64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_i64<E>(self, number: i64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<f64, E> {
        let duration =
            humantime::parse_duration(text).map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))?;
        Ok(duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_number_or_a_duration() {
        let range: ThresholdRange = serde_json::from_str(r#"{"min": 0.5, "max": "250ms"}"#).expect("limits");
        assert_eq!((range.min, range.max), (Some(0.5), Some(0.25)));
        let again: ThresholdRange =
            serde_json::from_str(&serde_json::to_string(&range).expect("JSON")).expect("what it wrote");
        assert_eq!(again, range);
        assert!(serde_json::from_str::<ThresholdRange>(r#"{"max": "soon"}"#).is_err());
    }

    #[test]
    fn what_needs_an_answer_is_not_seen_where_answers_do_not_come_by() {
        let seen = |protocol, forwarding| {
            let seen = Signal::ALL.into_iter().filter(|signal| signal.is_measured(protocol, forwarding));
            seen.map(Signal::label).collect::<Vec<_>>()
        };
        assert_eq!(seen(Protocol::Tcp, Forwarding::Nat).len(), Signal::ALL.len());
        assert_eq!(
            seen(Protocol::Udp, Forwarding::Nat),
            ["connectFailureRatio", "firstByte", "bytesPerFlow", "flowsPerSecond"]
        );
        assert_eq!(seen(Protocol::Tcp, Forwarding::Dsr), ["flowsPerSecond"]);
        assert_eq!(seen(Protocol::Udp, Forwarding::Dsr), [""; 0]);
    }

    #[test]
    fn a_signal_is_written_as_its_label() {
        for signal in Signal::ALL {
            assert_eq!(serde_json::to_value(signal).expect("JSON"), signal.label());
        }
    }
}
