//! What the kernel program and user space must agree on, once: the ABI version, map names, keys and values,
//! ids, the flow hash, checksum arithmetic and the reasons for which a packet is dropped or passed up.
#![no_std]

#[cfg(feature = "user")]
extern crate std;

pub mod answers;
pub mod cells;
pub mod checksum;
pub mod copies;
pub mod counters;
pub mod directory;
pub mod exceptions;
pub mod explanation;
pub mod fragments;
pub mod guard;
pub mod hash;
pub mod histogram;
pub mod ids;
pub mod ipv6;
pub mod maps;
pub mod reason;
pub mod records;
pub mod signals;
pub mod trace;
pub mod translations;

/// Version of everything in this crate that both sides see: map layouts, hash, meaning of flags.
///
/// It is part of the folder name under which maps and links are pinned, so programs of two layouts never meet.
pub const ABI_VERSION: u32 = 7;

/// Buckets in a service's hash space.
pub const BUCKETS: u16 = 16_384;

/// Slots in a version's Maglev table; a prime, as the Maglev construction needs.
pub const SLOTS: usize = 16_381;

/// Elements stored for one slot table: [`SLOTS`] and padding, because the verifier's bound on a slot index is loose.
pub const SLOT_TABLE_LEN: usize = 16_384;

/// Asserts a type's size and alignment, and gives user space leave to copy it in and out of maps.
macro_rules! map_value {
    ($type:ty, size $size:expr) => {
        const _: () = assert!(size_of::<$type>() == $size);
        // SAFETY: the type is `repr(C)`, has no padding (its fields fill the asserted size) and every bit pattern is valid.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $type {}
    };
}
pub(crate) use map_value;
