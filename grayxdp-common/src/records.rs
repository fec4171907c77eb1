//! Values of the tables on the path of a packet. Addresses and ports lie as in the packet (network order).

mod routes;
mod slots;

use crate::{
    BUCKETS,
    checksum::Delta,
    directory::Place,
    ids::{ServiceId, VersionId},
    ipv6::{Address6, Control6, Ends6},
    map_value,
};

pub use routes::{BLOCKS, Route, RouteHeads, RouteKind};
pub use slots::{NARROW_BACKENDS, SlotTable, TableRef};

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
    /// Room for what comes later.
    pub reserved: [u64; 2],
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

/// A backend, with all that a rewrite in either direction needs.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BackendRecord {
    /// Its address.
    pub address: u32,
    /// The virtual address.
    pub virtual_address: u32,
    /// Its port; 0: the client's port is kept.
    pub port: u16,
    /// The virtual port; 0 where the client's is kept.
    pub virtual_port: u16,
    /// Id of its service.
    pub service: u16,
    /// Id of its version.
    pub version: u16,
    /// Where packets to it leave.
    pub next_hop: NextHop,
    /// To the IP header checksum on the way to the backend: address and time to live.
    pub forward_ip: Delta,
    /// To the TCP or UDP checksum on the way to the backend: address and port.
    pub forward_l4: Delta,
    /// To the IP header checksum on the way back: address and time to live.
    pub reverse_ip: Delta,
    /// To the TCP or UDP checksum on the way back: address and port.
    pub reverse_l4: Delta,
    /// `FLAG_…` bits. With the two fields behind it one word, which user space writes at once.
    pub flags: u16,
    /// As [`ServiceRecord::sample_rate`].
    pub sample_rate: u16,
    /// Index of the guard that counts its connect failures; 0: none.
    pub guard: u32,
    /// The service's epoch, for telling old marks from new; written in place.
    pub epoch: u64,
    /// Place of its version within the service: for the signals.
    pub place: u8,
    /// Room for what comes later.
    pub reserved: [u8; 7],
}

map_value!(BackendRecord, size 64);
// SAFETY-relevant layout: user space writes `next_hop` as two aligned words.
const _: () = assert!(core::mem::offset_of!(BackendRecord, next_hop) % 8 == 0);
// The same for `flags`, `sample_rate` and `guard`.
const _: () = assert!(core::mem::offset_of!(BackendRecord, flags) == 40);

impl BackendRecord {
    /// It failed its health checks or was disabled: no new flow goes to it.
    pub const FLAG_DOWN: u16 = 1;
    /// While it is down, packets of flows in progress are answered with RST (`onDown: reset`); else they go to it.
    pub const FLAG_RESETS: u16 = 1 << 1;
    /// Its service has exceptions: what it sends is looked up.
    pub const FLAG_WATCHED: u16 = 1 << 2;
    /// Its service has `affinity: client`.
    pub const FLAG_CLIENT_AFFINITY: u16 = 1 << 3;
    /// It belongs to the candidate of the guard.
    pub const FLAG_CANDIDATE: u16 = 1 << 4;
    /// It belongs to the stable version of the guard.
    pub const FLAG_STABLE: u16 = 1 << 5;
    /// Marks of the epoch before the present one still count.
    pub const FLAG_PREVIOUS_EPOCH: u16 = 1 << 6;
    /// The stable version of the guard has no backend that is up: the guard only raises an alarm.
    pub const FLAG_NO_STABLE: u16 = 1 << 7;
    /// Its service measures every handshake: answers to SYNs are looked up among the marks.
    pub const FLAG_MEASURES: u16 = 1 << 8;
    /// Its version's flows in progress end (`existingFlows: reset`): their next packet is answered with RST.
    pub const FLAG_ENDS: u16 = 1 << 9;
    /// Its version's flows in progress are chosen for anew (`existingFlows: move`, UDP).
    pub const FLAG_MOVES: u16 = 1 << 10;
    /// `quic: true`: what it sends marks a half-open entry as answered.
    pub const FLAG_QUIC: u16 = 1 << 11;

    /// The record of a backend; addresses and ports in network order, `port` 0 where the client's is kept.
    #[must_use]
    pub const fn new(service: ServiceId, version: VersionId, virtual_end: (u32, u16), end: (u32, u16)) -> Self {
        let (virtual_address, virtual_port) = virtual_end;
        let (address, port) = end;
        let virtual_port = if port == 0 { 0 } else { virtual_port };
        let there = Delta::replace32(virtual_address, address);
        let back = Delta::replace32(address, virtual_address);
        let ends = Self { address, virtual_address, port, virtual_port, ..Self::OF_NOBODY };
        Self { forward_ip: there.and(Delta::TTL_DECREMENT), reverse_ip: back.and(Delta::TTL_DECREMENT), ..ends }
            .of(service, version, there, back)
    }

    /// The record of a backend of IPv6, whose addresses are kept apart; `port` as for [`BackendRecord::new`].
    #[must_use]
    pub const fn new6(service: ServiceId, version: VersionId, ends: &Ends6, virtual_port: u16, port: u16) -> Self {
        let there = ends.virtual_address.replaced_by(ends.address);
        let back = ends.address.replaced_by(ends.virtual_address);
        let virtual_port = if port == 0 { 0 } else { virtual_port };
        Self { port, virtual_port, ..Self::OF_NOBODY }.of(service, version, there, back)
    }

    /// The same of a service and a version, with what the addresses do to a TCP or UDP checksum on either way.
    const fn of(self, service: ServiceId, version: VersionId, there: Delta, back: Delta) -> Self {
        Self {
            service: service.0,
            version: version.0,
            forward_l4: there.and(Delta::replace16(self.virtual_port, self.port)),
            reverse_l4: back.and(Delta::replace16(self.port, self.virtual_port)),
            ..self
        }
    }

    const OF_NOBODY: Self = Self {
        address: 0,
        virtual_address: 0,
        port: 0,
        virtual_port: 0,
        service: 0,
        version: 0,
        next_hop: NextHop::UNKNOWN,
        forward_ip: Delta::NONE,
        forward_l4: Delta::NONE,
        reverse_ip: Delta::NONE,
        reverse_l4: Delta::NONE,
        flags: 0,
        sample_rate: 0,
        guard: 0,
        epoch: 0,
        place: 0,
        reserved: [0; 7],
    };
}

/// An attached interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct InterfaceRecord {
    /// Its Ethernet address.
    pub address: [u8; 6],
    /// The longest IP packet that it takes; 0: not known.
    pub mtu: u16,
    /// Its first IPv4 address; 0: none.
    pub ipv4: u32,
    /// Its first global IPv6 address, in four words; 0: none.
    pub ipv6: [u32; 4],
}

map_value!(InterfaceRecord, size 28);

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
