//! Under a lock that all CPUs share, for kernels that refuse the instructions. Of two packets that change a word at once one comes
//! first, as with the instructions. User space does not know the lock: what it changes between the read and the write of a packet
//! is overwritten by a word that is younger than what it saw, and it looks again with its next sweep.

use aya_ebpf::{
    bindings::bpf_spin_lock,
    btf_maps::Array,
    helpers::{bpf_spin_lock, bpf_spin_unlock},
    macros::btf_map,
};

#[repr(C)]
struct Lock {
    lock: bpf_spin_lock,
}

#[btf_map]
static LOCK: Array<Lock, 1> = Array::new();

/// Replaces a word if it still is `old`; whether it was.
#[inline(always)]
pub(crate) fn exchange(word: *mut u64, old: u64, new: u64) -> bool {
    under_lock(|| {
        // SAFETY: all callers give an aligned word of a map's value.
        let found = unsafe { word.read_volatile() };
        if found == old {
            // SAFETY: as above.
            unsafe { word.write_volatile(new) }
        }
        found == old
    })
    .unwrap_or(false)
}

/// Sets bits of a word; the word before.
#[inline(always)]
pub(crate) fn or(word: *mut u64, bits: u64) -> u64 {
    under_lock(|| {
        // SAFETY: as for `exchange`.
        let found = unsafe { word.read_volatile() };
        // SAFETY: as for `exchange`.
        unsafe { word.write_volatile(found | bits) };
        found
    })
    .unwrap_or(bits)
}

/// Does something while no other CPU does such a thing. The kernel allows no call meanwhile.
#[inline(always)]
fn under_lock<T>(work: impl FnOnce() -> T) -> Option<T> {
    let lock = LOCK.get_ptr_mut(0)?;
    // SAFETY: the lock of a map's value, and given back below.
    unsafe { bpf_spin_lock(&raw mut (*lock).lock) };
    let result = work();
    // SAFETY: as above.
    unsafe { bpf_spin_unlock(&raw mut (*lock).lock) };
    Some(result)
}
