//! The directory: a hash table that user space places so that every key has a seat, and the kernel only reads.
//!
//! A set is one cache line of four keys and four values. User space searches a seed under which no set overflows; a
//! look-up is one multiply, one line and at most four comparisons. Several directories lie in one map; a [`Place`]
//! names one of them in a single word, so that exchanging a directory is one write.

/// Keys in one set.
pub const WAYS: usize = 4;

/// One cache line of a directory.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DirectorySet {
    /// Keys; 0 is an empty seat.
    pub keys: [u64; WAYS],
    /// What stands behind the key of the same index.
    pub values: [u64; WAYS],
}

crate::map_value!(DirectorySet, size 64);

/// An address, port and protocol as a directory key, apart for the two directions; never 0.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey(pub u64);

impl EndpointKey {
    /// A service's endpoint; address and port as they lie in the packet (native loads of network-order bytes).
    #[inline(always)]
    #[must_use]
    pub const fn service(address: u32, port: u16, protocol: u8) -> Self {
        Self(((address as u64) << 32) | ((port as u64) << 16) | ((protocol as u64) << 8) | 1)
    }

    /// A backend's endpoint, in the same form.
    #[inline(always)]
    #[must_use]
    pub const fn backend(address: u32, port: u16, protocol: u8) -> Self {
        Self(Self::service(address, port, protocol).0 | 2)
    }

    /// The key that stands for a virtual address as such, whatever the port.
    #[inline(always)]
    #[must_use]
    pub const fn address(address: u32) -> Self {
        Self::service(address, 0, 0)
    }
}

/// Where a directory lies and how it hashes: `seed` (32 bits), first set (24 bits), log₂ of the number of sets (8 bits).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Place(pub u64);

crate::map_value!(Place, size 8);

impl Place {
    /// A directory of 2^`sets_log2` sets (1 ≤ `sets_log2` ≤ 24) that begins at set `base` (below 2^24).
    #[must_use]
    pub const fn new(seed: u32, base: u32, sets_log2: u8) -> Self {
        Self((seed as u64) | ((base as u64 & 0xff_ffff) << 32) | ((sets_log2 as u64) << 56))
    }

    /// First set.
    #[inline(always)]
    #[must_use]
    pub const fn base(self) -> u32 {
        ((self.0 >> 32) & 0xff_ffff) as u32
    }

    /// Log₂ of the number of sets.
    #[inline(always)]
    #[must_use]
    pub const fn sets_log2(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// The set of the map in which a key sits if it is there at all. A place of 0 names no directory.
    #[inline(always)]
    #[must_use]
    pub const fn set_of(self, key: EndpointKey) -> u32 {
        let mixed = (key.0 ^ (key.0 >> 31) ^ self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.base() + (mixed >> ((64 - self.sets_log2() as u32) & 63)) as u32
    }
}

/// What the value behind a service's endpoint or a virtual address says. Behind a backend's endpoint stands its id.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Entry(pub u64);

impl Entry {
    /// The VIP is also an address of this host: what is for no service is the host's own.
    pub const LOCAL_ADDRESS: u64 = 1 << 32;
    /// ARP requests for the VIP are answered.
    pub const ANNOUNCE: u64 = 1 << 33;

    /// A service of `full-nat`, in the index of its record: no record has such an index, so that those who look for one go on as the
    /// program for this mode, and nobody else pays for the question.
    pub const FULL_NAT: u64 = 1 << 31;
    /// The address is a virtual one of a service of `full-nat`, or of its pool.
    pub const TRANSLATES: u64 = 1 << 34;
    /// The address is one of a pool of `full-nat`.
    pub const POOL: u64 = 1 << 35;

    const PORT_CLASS_SHIFT: u32 = 40;

    /// The same entry for one of several ports: its class below [`crate::cells::PORTS`].
    #[must_use]
    pub const fn with_port_class(self, class: u8) -> Self {
        Self(self.0 | ((class as u64) << Self::PORT_CLASS_SHIFT))
    }

    /// Class of the port.
    #[inline(always)]
    #[must_use]
    pub const fn port_class(self) -> u8 {
        (self.0 >> Self::PORT_CLASS_SHIFT) as u8 & (crate::cells::PORTS as u8 - 1)
    }

    /// The entry of an endpoint: its service record's index.
    #[must_use]
    pub const fn service(record: u32) -> Self {
        Self(record as u64)
    }

    /// The entry of a virtual address: the id of a service there, for counting, and flags.
    #[must_use]
    pub const fn address(service: crate::ids::ServiceId, flags: u64) -> Self {
        Self(service.0 as u64 | flags)
    }

    /// The index or id; of a service of `full-nat` one that no map has.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0 as u32
    }

    /// The index of the service record, whatever the mode.
    #[inline(always)]
    #[must_use]
    pub const fn record(self) -> u32 {
        (self.0 & (Self::FULL_NAT - 1)) as u32
    }

    /// Whether a flag is set.
    #[inline(always)]
    #[must_use]
    pub const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }
}
