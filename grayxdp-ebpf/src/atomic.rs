//! Atomic changes of words that several CPUs write.

#[cfg(not(feature = "old-kernels"))]
mod instructions;
#[cfg(feature = "old-kernels")]
mod locked;

#[cfg(not(feature = "old-kernels"))]
pub(crate) use self::instructions::{exchange, or};
#[cfg(feature = "old-kernels")]
pub(crate) use self::locked::{exchange, or};
