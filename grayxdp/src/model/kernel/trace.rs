//! Looking at packets as they go: what is asked of the program, and what it tells.

pub use grayxdp_common::trace::Traced;

use crate::model::{
    config::{Prefix, Protocol},
    kernel::ServiceId,
};

/// Which packets the program is to tell of: those that fit all that is said here.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TraceQuestion {
    /// Where they come from.
    pub source: Option<Prefix>,
    /// Whom they are for.
    pub destination: Option<Prefix>,
    /// Either of both.
    pub host: Option<Prefix>,
    /// Port of either end.
    pub port: Option<u16>,
    /// Their protocol.
    pub protocol: Option<Protocol>,
    /// The service that they are of.
    pub service: Option<ServiceId>,
    /// Only what the program drops.
    pub only_dropped: bool,
    /// Also what is no service's.
    pub also_others: bool,
    /// How many.
    pub count: u64,
}

/// What the program told since it was read last.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TraceRead {
    /// Packets in the order in which they were told of.
    pub packets: Vec<Traced>,
    /// How many more the program would tell of.
    pub remaining: u64,
    /// Whether the program still tells: not where the links were given another one meanwhile.
    pub goes_on: bool,
}
