//! `grayxdp trace` in the API.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    Name,
    api::Explained,
    config::{Prefix, Protocol},
};

/// Which packets are asked for: those that fit all that is said here.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TraceFilter {
    /// Where they come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Prefix>,
    /// Whom they are for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Prefix>,
    /// Either of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Prefix>,
    /// Port of either end, `1..=65535`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// TCP or UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The service that they are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
    /// Only what the program drops.
    pub dropped: bool,
    /// Also what is no service's, and passes.
    pub all: bool,
}

/// What a trace told since it was asked last.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TraceBatch {
    /// Number of the trace, to ask it for more.
    pub id: u64,
    /// Packets in the order in which the program told of them.
    pub packets: Vec<TracedPacket>,
    /// Packets that it told of while nobody read fast enough.
    pub lost: u64,
    /// Why there is no more; none while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

/// One packet and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TracedPacket {
    /// When it came.
    pub time: jiff::Timestamp,
    /// Where it came in.
    pub interface: String,
    /// As it came.
    pub packet: Headers,
    /// What became of it, and why.
    pub way: Explained,
    /// As it left; none where it was dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Headers>,
}

/// What stands at the beginning of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Headers {
    /// Source: address, and port where there is one.
    pub source: String,
    /// Destination: address, and port where there is one.
    pub destination: String,
    /// `tcp`, `udp`, `icmp`, `arp`, or the number of the protocol or EtherType.
    pub protocol: String,
    /// TCP flags as tcpdump writes them: `S`, `S.`, `P.`, `F.`, `R`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<String>,
    /// Time to live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
    /// Bytes of the frame.
    pub length: u32,
    /// The first 96 bytes of the frame, hexadecimal.
    pub bytes: String,
}

/// For how long a trace waits for packets at most.
pub const MAX_TRACE_TIME: Duration = Duration::from_secs(600);
/// Most packets of one trace.
pub const MAX_TRACE_COUNT: u64 = 100_000;
