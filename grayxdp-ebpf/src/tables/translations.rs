//! The maps of `full-nat`: flow table, seats, permits, pools, pieces.

use aya_ebpf::{macros::map, maps::Array};
use grayxdp_common::{
    fragments::PLACES,
    translations::{Pool, SEATS as WAYS, Translation},
};

use super::{MAPPABLE, constant};

#[map(name = "TRANSLATIONS")]
static TRANSLATIONS: Array<Translation> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "SEATS")]
static SEATS: Array<[u64; WAYS]> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "PERMITS")]
static PERMITS: Array<[u64; WAYS]> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "POOLS")]
static POOLS: Array<Pool> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "TRANSLATED_PIECES")]
static PIECES: Array<u64> = Array::with_max_entries(1, MAPPABLE);

/// The bits of a hash that choose an entry.
#[unsafe(no_mangle)]
static TRANSLATION_MASK: u32 = 0;
/// … a set of seats.
#[unsafe(no_mangle)]
static SEAT_MASK: u32 = 0;
/// … a set of permits.
#[unsafe(no_mangle)]
static PERMIT_MASK: u32 = 0;

/// The place of an entry, and the entry, at an index before the mask.
#[inline(always)]
pub(crate) fn translation(index: u32) -> Option<(u32, *mut Translation)> {
    let place = index & constant(&TRANSLATION_MASK);
    TRANSLATIONS.get_ptr_mut(place).map(|entry| (place, entry))
}

/// A set of seats and the number of its first one, at an index before the mask.
#[inline(always)]
pub(crate) fn seat_set(index: u32) -> Option<(u32, *mut u64)> {
    let set = index & constant(&SEAT_MASK);
    SEATS.get_ptr_mut(set).map(|words| (set * WAYS as u32, words.cast()))
}

/// A set of permits, at an index before the mask.
#[inline(always)]
pub(crate) fn permits(index: u32) -> Option<*mut u64> {
    PERMITS.get_ptr_mut(index & constant(&PERMIT_MASK)).map(|words| words.cast())
}

/// The pool of a service.
#[inline(always)]
pub(crate) fn pool(service: u16) -> Option<&'static Pool> {
    POOLS.get(u32::from(service))
}

/// Where the first piece of a datagram leaves its flow.
#[inline(always)]
pub(crate) fn piece_word(hash: u64) -> Option<*mut u64> {
    PIECES.get_ptr_mut(hash as u32 & (PLACES - 1))
}
