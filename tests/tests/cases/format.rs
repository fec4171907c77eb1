//! The form of a file of cases. `docs/cases.md` says what each field means.

use std::{collections::BTreeMap, net::IpAddr};

use grayxdp::model::config::{Affinity, Forwarding, Prefix, Protocol};
use grayxdp_tests::{bench::case::verdict, host};
use serde::Deserialize;

/// A file: a host, configurations, cases.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct File {
    /// One line about all its cases.
    pub(crate) about: String,
    /// Lines of `ip` behind those of [`host::host`].
    pub(crate) host: Vec<String>,
    #[serde(default)]
    pub(crate) direct_access: Vec<Prefix>,
    pub(crate) exception_sets_log2: u32,
    /// Log₂ of the places of the flow table of `full-nat`.
    #[serde(default)]
    pub(crate) translations_log2: Option<u32>,
    /// Words of the hash key that the expected choices were made with.
    #[serde(default)]
    pub(crate) hash_key: Vec<String>,
    pub(crate) configurations: BTreeMap<String, Vec<Service>>,
    pub(crate) cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) vip: IpAddr,
    pub(crate) ports: Vec<u16>,
    pub(crate) protocol: Protocol,
    pub(crate) forwarding: Forwarding,
    #[serde(default)]
    pub(crate) source_pool: Vec<IpAddr>,
    #[serde(default)]
    pub(crate) affinity: Affinity,
    #[serde(default)]
    pub(crate) announce: bool,
    #[serde(default)]
    pub(crate) quic: bool,
    /// By place.
    pub(crate) versions: Vec<Version>,
    /// Either this or `buckets`.
    pub(crate) split: Option<Split>,
    /// One for each segment; all buckets of a segment are alike.
    #[serde(default)]
    pub(crate) buckets: Vec<Bucket>,
    pub(crate) segments: Option<Segments>,
    pub(crate) instance: Option<Instance>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) backends: Vec<Backend>,
    pub(crate) slots: Slots,
    #[serde(default)]
    pub(crate) existing_flows: ExistingFlows,
    /// The version that takes over while this one's pool is empty.
    pub(crate) failover: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ExistingFlows {
    #[default]
    Stay,
    Reset,
    Move,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Backend {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    /// 0 where the client's port is kept.
    pub(crate) port: u16,
    pub(crate) state: State,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum State {
    Up,
    Draining,
    DownReset,
    DownKeep,
}

/// Patterns of backends, repeated over all slots; none is no backend.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Slots {
    pub(crate) current: Vec<Option<String>>,
    pub(crate) home: Option<Vec<Option<String>>>,
    #[serde(default)]
    pub(crate) looks: bool,
    #[serde(default)]
    pub(crate) pins: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Split {
    pub(crate) offset: u16,
    pub(crate) threshold: u16,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Bucket {
    pub(crate) current: String,
    pub(crate) home: String,
    #[serde(default)]
    pub(crate) looks: bool,
    #[serde(default)]
    pub(crate) pins: bool,
    #[serde(default)]
    pub(crate) differs: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Segments {
    pub(crate) prefixes: Vec<SourcePrefix>,
    pub(crate) classes: Vec<Class>,
    pub(crate) by_dscp: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SourcePrefix {
    pub(crate) prefix: Prefix,
    /// Class of new flows.
    pub(crate) current: u16,
    /// Class of flows without an entry.
    pub(crate) home: u16,
}

/// The segment of a class, but for what later and later rules say.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Class {
    pub(crate) segment: u8,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) port: Option<u16>,
    pub(crate) dscp: Option<u8>,
    pub(crate) segment: u8,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Instance {
    pub(crate) backend: String,
    pub(crate) segment: u8,
}

/// What a case is about, where it begins, and what happens.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) configuration: String,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum Step {
    /// A packet comes in.
    Send(Packet),
    /// Time passes.
    WaitMs(u64),
    /// Another configuration takes effect.
    Publish(String),
}

impl Step {
    pub(crate) fn packet(&self) -> Option<&Packet> {
        match self {
            Self::Send(packet) => Some(packet),
            Self::WaitMs(_) | Self::Publish(_) => None,
        }
    }
}

/// A packet and what must become of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Packet {
    /// Where it comes in.
    pub(crate) interface: Link,
    #[serde(rename = "in")]
    pub(crate) input: Frame,
    pub(crate) verdict: Verdict,
    /// Where it leaves.
    pub(crate) to: Option<Link>,
    #[serde(rename = "out")]
    pub(crate) output: Option<Output>,
    /// All that it adds to the counters.
    #[serde(default)]
    pub(crate) counted: Counted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Link {
    Near,
    Far,
}

impl Link {
    pub(crate) const fn index(self) -> u32 {
        match self {
            Self::Near => host::NEAR,
            Self::Far => host::FAR,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Verdict {
    Drop,
    Pass,
    Tx,
    Redirect,
}

impl Verdict {
    /// What the program returns for it.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Drop => verdict::DROP,
            Self::Pass => verdict::PASS,
            Self::Tx => verdict::TX,
            Self::Redirect => verdict::REDIRECT,
        }
    }
}

/// Bytes of a frame, written in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Frame(pub(crate) Vec<u8>);

impl TryFrom<String> for Frame {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let byte = |pair: &[u8]| {
            let digits = std::str::from_utf8(pair).ok().filter(|digits| digits.len() == 2)?;
            u8::from_str_radix(digits, 16).ok()
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes.map(Self).ok_or(format!("`{text}` is no frame"))
    }
}

/// A frame as it leaves or passes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Output {
    /// As it came.
    Unchanged,
    Frame(Frame),
}

impl TryFrom<String> for Output {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "unchanged" { Ok(Self::Unchanged) } else { Frame::try_from(text).map(Self::Frame) }
    }
}

/// Counts by name of what they belong to, then by what is counted; what is not named is zero.
pub(crate) type Counts = BTreeMap<String, BTreeMap<String, u64>>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Counted {
    /// By service.
    #[serde(default)]
    pub(crate) reasons: Counts,
    /// By backend.
    #[serde(default)]
    pub(crate) backends: Counts,
    /// What the exception table had to do, by service.
    #[serde(default)]
    pub(crate) exceptions: Counts,
}
