//! Atomic changes of map memory.

use core::intrinsics::{AtomicOrdering, atomic_cxchg};

/// Replaces a word if it is still what it was; says whether it did.
///
/// # Safety
/// `word` must be a valid, aligned word of a map.
#[inline(always)]
pub(crate) unsafe fn replace(word: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: the caller's contract.
    unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, old, new).1 }
}
