//! Where the packets of a backend go that keep their virtual endpoint.

use super::NextHop;
use crate::{ipv6::Address6, map_value};

/// What is around the packets of a backend.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelKind {
    /// Nothing: the packet leaves as it is.
    None = 0,
    /// A header of IPv4.
    Ipv4 = 1,
    /// A header of IPv6.
    Ipv6 = 2,
}

/// A backend whose packets keep their virtual endpoint (`dsr`, `ipip`), beside its [`super::BackendRecord`].
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Target {
    /// Its own address; one of IPv4 as `::ffff:a.b.c.d`.
    pub address: Address6,
    /// The outer source of a tunnel, but for the bits of `spread`; one of IPv4 in the same way.
    pub source: Address6,
    /// Where packets of a tunnel leave. That of any other backend is in its record, where a tunnel has none.
    pub next_hop: NextHop,
    /// A [`TunnelKind`].
    pub tunnel: u32,
    /// Bits of the last word of the outer source that each flow fills by its hash, as they lie in the packet.
    pub spread: u32,
    /// The longest packet that fits into the tunnel, in bytes; 0: not known.
    pub mtu: u32,
    /// The longest outer packet that the way there takes, as the configuration says, in bytes; 0: it does not.
    pub way_mtu: u32,
}

map_value!(Target, size 64);
// SAFETY-relevant layout: user space writes `next_hop` as two aligned words.
const _: () = assert!(core::mem::offset_of!(Target, next_hop) % 8 == 0);
