//! Copies of datagrams that the tracing program makes while a candidate is to see what stable is asked.

use crate::map_value;

/// Services whose datagrams can be asked for: one rate each, by service id; the rate of id 0 says that any is.
pub const SERVICES: u32 = 1 << 16;

/// The rate at which every flow's datagrams are copied.
pub const ALL: u32 = 1 << 15;

/// Bytes of a frame that are copied at most.
pub const LONGEST: u32 = 9_216;

/// What stands before the copy of a frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The hash that decided the way of the flow.
    pub hash: u64,
    /// The service.
    pub service: u32,
    /// Bytes of the frame, which stand behind this.
    pub length: u32,
}

map_value!(Copied, size 16);

/// Whether the datagrams of a flow are copied at a rate from 0, none, to [`ALL`]. Bits of the hash are mixed once more, so that
/// bucket and slot say nothing about it: Fibonacci hashing (D. E. Knuth: The Art of Computer Programming 3, section 6.4).
#[inline(always)]
#[must_use]
pub const fn is_copied(hash: u64, rate: u32) -> bool {
    ((hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 49) as u32) < rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_takes_its_part_of_the_flows_of_every_bucket() {
        // Hashes of one bucket: the upper half is the same.
        for bucket in [0_u64, 77, 16_383] {
            let hash = |n: u64| bucket << 50 | n.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
            let part = |rate: u32| (0..20_000).filter(|n| is_copied(hash(*n), rate)).count();
            assert_eq!((part(0), part(ALL)), (0, 20_000));
            // 10 % of 20,000, give or take five standard deviations of 42.
            let tenth = part(ALL / 10);
            assert!((1_788..=2_212).contains(&tenth), "bucket {bucket}: {tenth}");
        }
    }
}
