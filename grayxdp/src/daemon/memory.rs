//! Memory that building tables took for a moment.

/// Gives it back to the kernel, where the allocator keeps it.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the function has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}
