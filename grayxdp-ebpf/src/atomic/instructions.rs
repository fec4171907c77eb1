//! By the machine's own instructions (Linux 5.12). `core`'s atomics lack them for this target, the intrinsics do not.

use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg, atomic_or};

/// Replaces a word if it still is `old`; whether it was.
#[inline(always)]
pub(crate) fn exchange(word: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: all callers give an aligned word of a map's value.
    let (found, _) = unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(word, old, new) };
    found == old
}

/// Sets bits of a word; the word before.
#[inline(always)]
pub(crate) fn or(word: *mut u64, bits: u64) -> u64 {
    // SAFETY: as for `exchange`.
    unsafe { atomic_or::<u64, u64, { SeqCst }>(word, bits) }
}
