//! Values of the tables on the path of a packet. Addresses and ports lie as in the packet (network order).

mod backend;
mod routes;
mod slots;
mod target;

use crate::{
    BUCKETS,
    directory::Place,
    ids::{ServiceId, VersionId},
    ipv6::{Address6, Control6},
    map_value,
};

pub use backend::BackendRecord;
pub use routes::{BLOCKS, Route, RouteHeads, RouteKind};
pub use slots::{NARROW_BACKENDS, SlotTable, TableRef};
pub use target::{Target, TunnelKind};

/// Where a packet leaves: Ethernet addresses and interface.
///
/// Two 8-byte words, each written at once; a reader between the two writes of a change that also changes the
/// interface may send one packet to the old link with the new address, where nobody takes it.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct NextHop {
    /// The neighbour's Ethernet address and the first two bytes of the sending interface's, as they lie in the frame.
    pub head: u64,
    /// The last four bytes of the sending interface's Ethernet address, as they lie in the frame.
    pub tail: u32,
    /// The sending interface; 0: no next hop is known.
    pub interface: u32,
}

map_value!(NextHop, size 16);

impl core::fmt::Debug for NextHop {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("NextHop")
            .field("destination", &self.destination())
            .field("source", &self.source())
            .field("interface", &self.interface)
            .finish()
    }
}

impl NextHop {
    /// Nothing known: the packet is passed up rewritten, and the kernel finds the way.
    pub const UNKNOWN: Self = Self { head: 0, tail: 0, interface: 0 };

    /// From `source` at `interface` to `destination`, both Ethernet addresses.
    #[inline(always)]
    #[must_use]
    pub const fn new(destination: [u8; 6], source: [u8; 6], interface: u32) -> Self {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (destination, source);
        let head = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        Self { head, tail: u32::from_ne_bytes([i, j, k, l]), interface }
    }

    /// The neighbour's Ethernet address.
    #[must_use]
    pub const fn destination(&self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.head.to_ne_bytes();
        [a, b, c, d, e, f]
    }

    /// The sending interface's Ethernet address.
    #[must_use]
    pub const fn source(&self) -> [u8; 6] {
        let ([.., g, h], [i, j, k, l]) = (self.head.to_ne_bytes(), self.tail.to_ne_bytes());
        [g, h, i, j, k, l]
    }

    /// The two words that it is written as.
    #[must_use]
    pub const fn words(&self) -> [u64; 2] {
        let ([a, b, c, d], [e, f, g, h]) = (self.tail.to_ne_bytes(), self.interface.to_ne_bytes());
        [self.head, u64::from_ne_bytes([a, b, c, d, e, f, g, h])]
    }

    /// Whether it can be used.
    #[inline(always)]
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.interface != 0
    }
}

/// An IPv4 prefix in the form that is quickest to test.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Prefix {
    /// The address, host bits zero.
    pub address: u32,
    /// The mask.
    pub mask: u32,
}

map_value!(Prefix, size 8);

impl Prefix {
    /// Whether the prefix holds an address.
    #[inline(always)]
    #[must_use]
    pub const fn holds(&self, address: u32) -> bool {
        address & self.mask == self.address
    }
}

/// Prefixes that [`Control`] has room for.
pub const APART: usize = 6;

/// How replies leave.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyWay {
    /// By the routes map, then by the kernel's own tables.
    Routes = 0,
    /// By `Control::gateway`, but for what lies in `Control::apart`.
    Gateway = 1,
}

/// The root of everything: one value, read once a packet.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Control {
    /// The live directory. Written at once: it is the one write that switches everything.
    pub directory: Place,
    /// Tells hash keys apart without giving them away.
    pub key_fingerprint: u64,
    /// A [`ReplyWay`].
    pub reply_way: u32,
    /// How many of `apart` are in use.
    pub apart_len: u32,
    /// Prefixes that do not go by the gateway: on-link networks, this host's addresses, direct access.
    pub apart: [Prefix; APART],
    /// Where all other replies go with [`ReplyWay::Gateway`].
    pub gateway: NextHop,
    /// Log₂ of the sets of one directory in the directory map; set when the maps are made.
    pub region_log2: u64,
    /// Bits of the virtual addresses, so that most packets that are not ours are known after one look-up.
    pub addresses: AddressFilter,
    /// What the narrowest link of this host takes, in bytes of an IP packet: longer ones are looked at more closely.
    pub least_mtu: u64,
    /// Outer sources of tunnels; a mask of 0: there are none.
    pub tunnels: Prefix,
    /// Room for what comes later.
    pub reserved: u64,
    /// The same of IPv6.
    pub ipv6: Control6,
}

map_value!(Control, size 384);

/// A set of addresses that may say yes wrongly and never no: one bit of 64 by a hash of the address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AddressFilter(pub u64);

map_value!(AddressFilter, size 8);

impl AddressFilter {
    /// The first six bits of the last byte, on a little-endian machine: clients meet few of the bits that a handful of virtual
    /// addresses set, and nothing is cheaper.
    const fn bit(address: u32) -> u32 {
        address >> 26
    }

    /// The filter with one more address.
    #[must_use]
    pub const fn with(self, address: u32) -> Self {
        Self(self.0 | 1 << Self::bit(address))
    }

    /// Whether an address may be in it.
    #[inline(always)]
    #[must_use]
    pub const fn may_hold(self, address: u32) -> bool {
        self.0 >> Self::bit(address) & 1 != 0
    }
}

/// Which buckets of a service with at most two versions belong to the second: `threshold` of them from `offset` on, cyclic.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct Split {
    /// First bucket of the second version, `0..BUCKETS`.
    pub offset: u16,
    /// Buckets of the second version, `0..=BUCKETS`.
    pub threshold: u16,
}

map_value!(Split, size 4);

impl Split {
    /// The index (0 or 1) of the version that owns a bucket.
    #[inline(always)]
    #[must_use]
    pub const fn version_of(self, bucket: u16) -> usize {
        (bucket.wrapping_sub(self.offset) & (BUCKETS - 1) < self.threshold) as usize
    }
}

/// A service as the data path sees it. Never changed once a directory names it: a change is a new record.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceRecord {
    /// Who owns which bucket.
    pub split: Split,
    /// Each version's slot table.
    pub tables: [TableRef; 2],
    /// Each version's id.
    pub versions: [VersionId; 2],
    /// The service's id.
    pub service: ServiceId,
    /// `FLAG_…` bits.
    pub flags: u16,
    /// Rises with every applied change of weights.
    pub epoch: u64,
    /// Number of the rollout that applied this record; 0: none.
    pub rollout: u64,
    /// For a narrow table whose backend ids follow one another, the first of them: then a slot's byte is added to it. 0
    /// for any other table.
    pub first_backends: [u16; 2],
    /// Index of the [`crate::cells::DetailRecord`]; 0: the service is settled, and all above holds. With a detail record
    /// `split`, `tables`, `versions` and `first_backends` mean nothing.
    pub detail: u32,
    /// Flows whose [`crate::hash::FlowHash::sample`] is below this are followed: 0, none, to [`SAMPLE_ALL`].
    pub sample_rate: u16,
    /// Base place of the [`crate::signals::Signals`] of the service; the place of a version without segments is `version
    /// place` further on.
    pub signals: u16,
    /// Ticks for which a sampled flow is followed (`flowHorizon`).
    pub horizon_ticks: u32,
    /// Its virtual address, if that is one of IPv6: what tells it from another whose key is the same.
    pub address6: Address6,
}

/// The sample rate at which every flow is followed.
pub const SAMPLE_ALL: u16 = 1 << 15;

map_value!(ServiceRecord, size 64);

impl ServiceRecord {
    /// `affinity: client`: the flow hash leaves out ports.
    pub const FLAG_CLIENT_AFFINITY: u16 = 1;

    /// Unused record.
    pub const EMPTY: Self = Self {
        split: Split { offset: 0, threshold: 0 },
        tables: [TableRef(0); 2],
        versions: [VersionId::NONE; 2],
        service: ServiceId::NONE,
        flags: 0,
        epoch: 0,
        rollout: 0,
        first_backends: [0; 2],
        detail: 0,
        sample_rate: 0,
        signals: 0,
        horizon_ticks: 0,
        address6: Address6([0; 2]),
    };
}

/// An interface of this host.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct InterfaceRecord {
    /// Its Ethernet address.
    pub address: [u8; 6],
    /// The longest IP packet that it takes; 0: not known.
    pub mtu: u16,
    /// Its first IPv4 address; 0: none.
    pub ipv4: u32,
    /// [`Self::FLAG_TAKES_PACKETS`].
    pub flags: u32,
    /// Its first global IPv6 address, in four words; 0: none.
    pub ipv6: [u32; 4],
}

impl InterfaceRecord {
    /// The program may send packets out by it; by others, as a bridge, the kernel has to.
    pub const FLAG_TAKES_PACKETS: u32 = 1;
}

map_value!(InterfaceRecord, size 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_owns_exactly_its_threshold_of_buckets_wherever_it_begins() {
        for offset in [0, 1, 8_191, BUCKETS - 1] {
            for threshold in [0, 1, 819, BUCKETS / 2, BUCKETS - 1, BUCKETS] {
                let split = Split { offset, threshold };
                let owned = (0..BUCKETS).filter(|&bucket| split.version_of(bucket) == 1).count();
                assert_eq!(owned, usize::from(threshold), "{split:?}");
            }
        }
    }

    #[test]
    fn an_address_filter_never_denies_what_it_holds() {
        let held = |n: u32| n.wrapping_mul(0x0101_0307);
        let filter = (0..5).fold(AddressFilter::default(), |filter, n| filter.with(held(n)));
        assert!((0..5).all(|n| filter.may_hold(held(n))));
        let wrongly = (0..10_000).filter(|&n: &u32| filter.may_hold(n ^ 0x5a5a_0000)).count();
        assert!(wrongly < 1_000, "five of 64 bits: {wrongly} of 10,000");
    }

    #[test]
    fn raising_the_second_version_moves_only_the_extra_buckets() {
        let at = |threshold| Split { offset: 16_000, threshold };
        for (low, high) in [(0, 819), (819, 4_096), (4_096, 16_384)] {
            let moved =
                (0..BUCKETS).filter(|&bucket| at(low).version_of(bucket) != at(high).version_of(bucket)).count();
            let back = (0..BUCKETS).filter(|&bucket| at(low).version_of(bucket) > at(high).version_of(bucket)).count();
            assert_eq!((moved, back), (usize::from(high - low), 0));
        }
    }
}
