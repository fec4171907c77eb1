//! The keyed hash of a flow, and what its two halves choose: the high half a bucket, the low half a slot.
//!
//! A keyed multiply-xorshift mix of two 64-bit words (the finaliser of SplitMix64 between keyed rounds). It is no
//! cryptographic hash: the key keeps an outsider from aiming flows at a bucket without seeing where they go, no more.

use crate::{BUCKETS, SLOTS};

/// The secret of a fleet of load balancers: hosts with the same key choose alike.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub [u64; 4]);

crate::map_value!(HashKey, size 32);

impl HashKey {
    /// A key from 32 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut words = [0; 4];
        let mut word = 0;
        while word < 4 {
            let mut octets = [0; 8];
            let mut octet = 0;
            while octet < 8 {
                octets[octet] = bytes[word * 8 + octet];
                octet += 1;
            }
            words[word] = u64::from_le_bytes(octets);
            word += 1;
        }
        Self(words)
    }
}

impl HashKey {
    /// A number that tells keys apart, for finding out that tables were made under another key.
    #[must_use]
    pub const fn fingerprint(&self) -> u64 {
        let flow = Flow { source: 0, destination: 0, source_port: 0, destination_port: 0, protocol: 255 };
        FlowHash::of(&flow, self).0 | 1
    }
}

impl core::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(secret)")
    }
}

/// A flow as the client sends it; addresses and ports as they lie in the packet (native loads of network-order bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow<A = u32> {
    /// The client's address.
    pub source: A,
    /// The virtual address.
    pub destination: A,
    /// The client's port; 0 with `affinity: client`.
    pub source_port: u16,
    /// The virtual port; 0 with `affinity: client`.
    pub destination_port: u16,
    /// The IP protocol.
    pub protocol: u8,
}

impl<A> Flow<A> {
    /// The flow with other ports: none with `affinity: client`.
    #[inline(always)]
    #[must_use]
    pub fn with_ports(self, source_port: u16, destination_port: u16) -> Self {
        Self { source_port, destination_port, ..self }
    }
}

impl Flow {
    /// A number below [`crate::records::SAMPLE_ALL`], independent of bucket and slot: a backend's packet, which needs
    /// neither, pays for one multiplication and not for the hash. The flow must have its ports, also with `affinity: client`.
    #[inline(always)]
    #[must_use]
    pub const fn sample(&self, key: &HashKey) -> u16 {
        let word = (self.source as u64) << 32 | (self.source_port as u64) << 16 | self.destination_port as u64;
        ((word ^ key.0[3]).wrapping_mul(0xa076_1d64_78bd_642f) >> 49) as u16
    }
}

/// Hash of a flow under a key.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowHash(pub u64);

impl FlowHash {
    /// Hashes a flow.
    #[inline(always)]
    #[must_use]
    pub const fn of(flow: &Flow, key: &HashKey) -> Self {
        let addresses = (flow.source as u64) | ((flow.destination as u64) << 32);
        let ports = (flow.source_port as u64) | ((flow.destination_port as u64) << 16) | ((flow.protocol as u64) << 32);
        let mut x = (addresses ^ key.0[0]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x ^= x >> 32;
        x = (x ^ ports ^ key.0[1]).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 29;
        x = (x ^ key.0[2]).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(x ^ (x >> 32))
    }

    /// The bucket, `0..BUCKETS`.
    #[inline(always)]
    #[must_use]
    pub const fn bucket(self) -> u16 {
        (self.0 >> (64 - BUCKETS.trailing_zeros())) as u16
    }

    /// The slot, `0..SLOTS`.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self) -> u16 {
        (((self.0 & 0xffff_ffff) * SLOTS as u64) >> 32) as u16
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{vec, vec::Vec};

    const KEY: HashKey =
        HashKey([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 0x0f1e_2d3c_4b5a_6978, 0x1122_3344_5566_7788]);

    fn flow(source: u32, source_port: u16) -> Flow {
        let destination = u32::from_ne_bytes([192, 0, 2, 10]);
        Flow { source, destination, source_port: source_port.to_be(), destination_port: 80_u16.to_be(), protocol: 6 }
    }

    /// Flows as they come in life: neighbours in address, in port, in both.
    fn families() -> [(&'static str, Vec<Flow>); 4] {
        let address = |n: u32| (0x0a00_0000 + n).to_be();
        [
            ("sequential ports of one client", (0..=u16::MAX).map(|port| flow(address(1), port)).collect()),
            ("sequential clients, one port", (0..1 << 18).map(|n| flow(address(n), 40_000)).collect()),
            (
                "512 clients × 512 ports",
                (0..1 << 18).map(|n| flow(address(n >> 9), 32_768 + (n & 511) as u16)).collect(),
            ),
            ("clients 256 apart", (0..1 << 18).map(|n| flow(address(n << 8), 50_000)).collect()),
        ]
    }

    /// χ² against equal cells, as a number of standard deviations from its mean (normal for many cells).
    fn chi_square_z(cells: &[u32]) -> f64 {
        let total: u64 = cells.iter().map(|&count| u64::from(count)).sum();
        let expected = total as f64 / cells.len() as f64;
        let chi: f64 = cells.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
        let freedom = (cells.len() - 1) as f64;
        (chi - freedom) / (2.0 * freedom).sqrt()
    }

    #[test]
    fn buckets_and_slots_are_uniform_for_sequential_flows() {
        for (name, flows) in families() {
            let mut buckets = vec![0; usize::from(BUCKETS) / 16];
            let mut slots = vec![0; 1024];
            for flow in &flows {
                let hash = FlowHash::of(flow, &KEY);
                buckets[usize::from(hash.bucket()) / 16] += 1;
                slots[usize::from(hash.slot()) * 1024 / SLOTS] += 1;
            }
            // 16,381 slots fall unevenly into 1,024 cells by less than 0.1 %; five deviations leave room for it.
            assert!(chi_square_z(&buckets).abs() < 5.0, "{name}: buckets {}", chi_square_z(&buckets));
            assert!(chi_square_z(&slots).abs() < 5.0, "{name}: slots {}", chi_square_z(&slots));
        }
    }

    #[test]
    fn bucket_and_slot_are_independent() {
        for (name, flows) in families() {
            let mut table = vec![0; 32 * 32];
            for flow in &flows {
                let hash = FlowHash::of(flow, &KEY);
                table[usize::from(hash.bucket() >> 9) * 32 + usize::from(hash.slot()) * 32 / SLOTS] += 1;
            }
            assert!(chi_square_z(&table).abs() < 5.0, "{name}: {}", chi_square_z(&table));
        }
    }

    #[test]
    fn another_key_is_another_choice() {
        let other = HashKey([1, 2, 3, 4]);
        let same = (0..10_000_u16)
            .filter(|&port| {
                FlowHash::of(&flow(9, port), &KEY).bucket() >> 7 == FlowHash::of(&flow(9, port), &other).bucket() >> 7
            })
            .count();
        // 128 cells: 78 expected, deviation 8.8.
        assert!((34..=122).contains(&same), "{same} of 10,000 flows fall into the same of 128 cells");
    }

    #[test]
    fn bucket_and_slot_stay_in_range_at_the_ends() {
        assert_eq!((FlowHash(0).bucket(), FlowHash(0).slot()), (0, 0));
        assert_eq!((FlowHash(u64::MAX).bucket(), usize::from(FlowHash(u64::MAX).slot())), (BUCKETS - 1, SLOTS - 1));
    }
}
