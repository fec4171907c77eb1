//! Routes to clients.

use super::NextHop;
use crate::map_value;

/// What a prefix of the routes map says about a reply.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// This host's own address or a prefix with direct access: the packet is not a reply of the service, it passes untouched.
    Untouched = 1,
    /// By `Route::next_hop`.
    Gateway = 2,
    /// The client itself is the neighbour: look it up.
    OnLink = 3,
    /// The kernel's own tables decide (several next hops, rules, …).
    Kernel = 4,
}

/// Value of the routes map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// A [`RouteKind`].
    pub kind: u32,
    /// Room for what comes later.
    pub reserved: u32,
    /// With [`RouteKind::Gateway`]; may be unknown still.
    pub next_hop: NextHop,
}

map_value!(Route, size 24);

/// Blocks of addresses that share their first sixteen bits.
pub const BLOCKS: usize = 1 << 16;

/// For each block the number of its route in the leaves map plus one; 0 where routes differ within the block, then the
/// routes map knows.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteHeads(pub [u16; BLOCKS]);

map_value!(RouteHeads, size 131_072);

impl RouteHeads {
    /// The block of an address as it lies in a packet.
    #[inline(always)]
    #[must_use]
    pub const fn block(address: u32) -> u16 {
        (u32::from_be(address) >> 16) as u16
    }
}
