//! Values of tables that have IPv6 addresses in them.

use super::Address6;
use crate::{map_value, records::NextHop};

/// An IPv6 prefix in the form that is quickest to test.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Prefix6 {
    /// The address, host bits zero.
    pub address: Address6,
    /// The mask.
    pub mask: Address6,
}

map_value!(Prefix6, size 32);

impl Prefix6 {
    /// Whether the prefix holds an address.
    #[inline(always)]
    #[must_use]
    pub const fn holds(&self, address: Address6) -> bool {
        let ([high, low], [mask_high, mask_low], [at, behind]) = (address.0, self.mask.0, self.address.0);
        high & mask_high == at && low & mask_low == behind
    }
}

/// Both ends of a backend's traffic: what [`crate::records::BackendRecord`] has no room for.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ends6 {
    /// The backend's address.
    pub address: Address6,
    /// The virtual address.
    pub virtual_address: Address6,
}

map_value!(Ends6, size 32);

/// Prefixes that [`Control6`] has room for.
pub const APART6: usize = 6;

/// What [`crate::records::Control`] says of IPv6: the same fields.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Control6 {
    /// Bits of the virtual addresses.
    pub addresses: AddressFilter6,
    /// A [`crate::records::ReplyWay`].
    pub reply_way: u32,
    /// How many of `apart` are in use.
    pub apart_len: u32,
    /// Where all other replies go with [`crate::records::ReplyWay::Gateway`].
    pub gateway: NextHop,
    /// Prefixes that do not go by the gateway.
    pub apart: [Prefix6; APART6],
    /// Outer sources of tunnels; a mask of 0: there are none.
    pub tunnels: Prefix6,
}

map_value!(Control6, size 256);

/// As [`crate::records::AddressFilter`]: one bit of 64 by the last bits of an address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AddressFilter6(pub u64);

map_value!(AddressFilter6, size 8);

impl AddressFilter6 {
    const fn bit(address: Address6) -> u64 {
        address.0[1] >> 56 & 63
    }

    /// The filter with one more address.
    #[must_use]
    pub const fn with(self, address: Address6) -> Self {
        Self(self.0 | 1 << Self::bit(address))
    }

    /// Whether an address may be in it.
    #[inline(always)]
    #[must_use]
    pub const fn may_hold(self, address: Address6) -> bool {
        self.0 >> Self::bit(address) & 1 != 0
    }
}

/// As [`crate::cells::PrefixKey`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrefixKey6 {
    /// [`crate::cells::DetailRecord::prefixes`].
    pub set: u32,
    /// The address, in four words as they lie in the packet.
    pub address: [u32; 4],
}

map_value!(PrefixKey6, size 20);

impl PrefixKey6 {
    /// Bits of a whole key.
    pub const BITS: u32 = 160;

    /// Of an address.
    #[inline(always)]
    #[must_use]
    pub const fn new(set: u32, address: Address6) -> Self {
        let [high, low] = address.0;
        // As they lie in memory on a little-endian machine.
        Self { set, address: [high as u32, (high >> 32) as u32, low as u32, (low >> 32) as u32] }
    }
}
