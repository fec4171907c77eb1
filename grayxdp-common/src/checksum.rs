//! Internet checksum arithmetic: differences that are computed once and applied to each packet (RFC 1624, equation 3).
//!
//! Checksums and the words that they cover are taken as they lie in memory (native loads of network-order bytes):
//! the one's complement sum does not depend on byte order (RFC 1071, section 2).

/// What replacing some 16-bit words adds to the one's complement sum behind a checksum.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Delta(pub u16);

impl Delta {
    /// Nothing replaced.
    pub const NONE: Self = Self(0);

    /// The time to live lowered by one; its byte comes first in its 16-bit word, the protocol's second.
    pub const TTL_DECREMENT: Self = Self(!u16::from_ne_bytes([1, 0]));

    /// One 16-bit word replaced by another, both as they lie in memory.
    #[inline(always)]
    #[must_use]
    pub const fn replace16(old: u16, new: u16) -> Self {
        Self(fold(!old as u32 + new as u32))
    }

    /// Four bytes (an IPv4 address) replaced, both as they lie in memory.
    #[inline(always)]
    #[must_use]
    pub const fn replace32(old: u32, new: u32) -> Self {
        let old = !old;
        Self(fold((old & 0xffff) + (old >> 16) + (new & 0xffff) + (new >> 16)))
    }

    /// Both replacements.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(fold(self.0 as u32 + other.0 as u32))
    }

    /// The checksum after the replacement.
    #[inline(always)]
    #[must_use]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold((!checksum) as u32 + self.0 as u32)
    }

    /// The checksum of a UDP datagram after the replacement; 0 means "none" there and stays, and is never made (RFC 768).
    #[inline(always)]
    #[must_use]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => 0xffff,
            other => other,
        }
    }
}

/// Folds a sum of up to 65,536 words into 16 bits with end-around carry.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksum of RFC 1071, computed the long way from bytes.
    fn full(words: &[u16]) -> u16 {
        let mut sum: u64 = words.iter().map(|&word| u64::from(word)).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn replacing_any_word_equals_a_full_recomputation() {
        for old in 0..=u16::MAX {
            for (other, new) in [(0x4500, 0), (1, 0xffff), (0xbeef, old.wrapping_add(1)), (0x8000, !old), (7, old)] {
                let before = full(&[other, old]);
                assert_eq!(
                    Delta::replace16(old, new).apply(before),
                    full(&[other, new]),
                    "{other:#x} {old:#x} → {new:#x}"
                );
            }
        }
    }

    #[test]
    fn every_checksum_under_one_replacement_equals_a_full_recomputation() {
        for other in 1..=u16::MAX {
            for (old, new) in [(0x1234, 0x5678), (0, 0xffff), (0xffff, 0), (0x00ff, 0xff00)] {
                let before = full(&[other, old]);
                assert_eq!(
                    Delta::replace16(old, new).apply(before),
                    full(&[other, new]),
                    "{other:#x} {old:#x} → {new:#x}"
                );
            }
        }
    }

    #[test]
    fn deltas_of_address_port_and_ttl_add_up() {
        let header = [0x0045_u16, 0x3c00, 0x1c46, 0x0040, 0x0640, 0x10ac, 0x630a, 0x10ac, 0x0c0a];
        let before = full(&header);
        let mut after = header;
        (after[7], after[8]) = (0x000a, 0x0201);
        after[4] -= 1; // the time to live is the word's first byte in memory
        let address = Delta::replace32(0x0c0a_10ac, 0x0201_000a);
        if cfg!(target_endian = "little") {
            assert_eq!(address.and(Delta::TTL_DECREMENT).apply(before), full(&after));
        }
    }

    #[test]
    fn udp_without_checksum_stays_without_and_none_is_made() {
        assert_eq!(Delta::replace16(1, 2).apply_udp(0), 0);
        for checksum in 1..=u16::MAX {
            for new in [0_u16, 1, 0x7fff, 0xffff] {
                assert_ne!(Delta::replace16(0x1234, new).apply_udp(checksum), 0);
            }
        }
    }
}
