//! What the tracing program copies of packets beside a trace: datagrams for a candidate that is to see what stable is asked, and the
//! first packets of flows for the flow log.

use core::mem::offset_of;

use crate::{explanation::Explanation, map_value, trace::Traced};

/// Services of which copies can be asked for: an [`Asked`] each, by service id; that of id 0 says that any is.
pub const SERVICES: u32 = 1 << 16;

/// The rate at which every flow is copied.
pub const ALL: u32 = 1 << 15;

/// Bytes of a frame that are copied at most.
pub const LONGEST: u32 = 9_216;

/// What is asked for of a service.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Asked {
    /// The rate, of [`ALL`], of flows whose packets are copied whole.
    pub whole: u32,
    /// The rate of flows whose packets that may open a flow are told of, without their frame.
    pub first: u32,
}

map_value!(Asked, size 8);

/// What is told of a copied packet; its frame, as it left, stands behind it where it was copied whole. It is how [`Traced`] begins.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its way.
    pub explanation: Explanation,
    /// When it was handled: nanoseconds of monotonic time.
    pub time_ns: u64,
    /// Says nothing here.
    pub length: u32,
    /// Bytes of the frame that stand behind this; 0: none.
    pub length_out: u32,
}

map_value!(Copied, size 128 + 16);

const _: () = {
    assert!(offset_of!(Copied, explanation) == offset_of!(Traced, explanation));
    assert!(offset_of!(Copied, time_ns) == offset_of!(Traced, time_ns));
    assert!(offset_of!(Copied, length) == offset_of!(Traced, length));
    assert!(offset_of!(Copied, length_out) == offset_of!(Traced, length_out));
};

/// Whether a flow is copied at a rate from 0, none, to [`ALL`]. Bits of the hash are mixed once more, so that bucket and slot say
/// nothing about it: Fibonacci hashing (D. E. Knuth: The Art of Computer Programming 3, section 6.4).
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
