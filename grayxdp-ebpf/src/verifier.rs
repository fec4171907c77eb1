//! What keeps the compiler from knowing more than the kernel's verifier does.

/// A number of which the compiler does not know what is known of it here. Otherwise it leaves out a check that the verifier wants to see, or
/// makes it on another copy of the number: that the copies are equal, kernels before 6.12 forget when one lies on the stack.
#[inline(always)]
pub(crate) fn unknown(mut number: usize) -> usize {
    // SAFETY: a register is given its own value.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack, preserves_flags)) };
    number
}

/// Uses an argument that is of no use: without one the callers would not pass it, and the verifier wants to see it.
#[inline(always)]
pub(crate) fn keep(argument: u64) {
    // SAFETY: a register is given its own value.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) argument => _, options(nomem, nostack, preserves_flags)) };
}
