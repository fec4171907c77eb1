//! IPv6 addresses, and what is made of them: the hash of a flow, keys of endpoints, values of tables.

mod tables;

use crate::{
    checksum::{Delta, fold},
    directory::EndpointKey,
    hash::{Flow, FlowHash, HashKey},
    map_value,
    signals::client_cell,
};

pub use tables::{APART6, AddressFilter6, Control6, Ends6, Prefix6, PrefixKey6};

/// An IPv6 address: its two halves as they lie in the packet (native loads of network-order bytes).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct Address6(pub [u64; 2]);

map_value!(Address6, size 16);

impl Address6 {
    /// Of its sixteen bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Self([u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])])
    }

    /// Its first byte.
    #[inline(always)]
    #[must_use]
    pub const fn first_byte(self) -> u8 {
        self.0[0].to_ne_bytes()[0]
    }

    /// Its one's complement sum, for checksums.
    #[inline(always)]
    #[must_use]
    pub const fn sum(self) -> u32 {
        fold(sum(self.0[0])) as u32 + fold(sum(self.0[1])) as u32
    }

    /// What putting another address in its place adds to the sum behind a checksum.
    #[inline(always)]
    #[must_use]
    pub const fn replaced_by(self, new: Self) -> Delta {
        Delta::replace16(fold(self.sum()), fold(new.sum()))
    }
}

/// The sum of the four 16-bit words of eight bytes.
#[inline(always)]
const fn sum(word: u64) -> u32 {
    (word & 0xffff) as u32 + (word >> 16 & 0xffff) as u32 + (word >> 32 & 0xffff) as u32 + (word >> 48) as u32
}

/// An address of either family, as far as flows are told apart by it.
pub trait Address: Copy + Eq {
    /// Hash of a flow under a key.
    fn hash(flow: &Flow<Self>, key: &HashKey) -> FlowHash;
    /// As [`Flow::sample`].
    fn sample(flow: &Flow<Self>, key: &HashKey) -> u16;
    /// The cell of a client, below [`crate::signals::CLIENT_CELLS`].
    fn cell(self) -> u8;
}

impl Address for u32 {
    #[inline(always)]
    fn hash(flow: &Flow, key: &HashKey) -> FlowHash {
        FlowHash::of(flow, key)
    }

    #[inline(always)]
    fn sample(flow: &Flow, key: &HashKey) -> u16 {
        flow.sample(key)
    }

    #[inline(always)]
    fn cell(self) -> u8 {
        client_cell(self)
    }
}

/// Set in the word of ports and protocol of an IPv6 flow, so that no flow of IPv4 is hashed from the same words.
const IS_IPV6: u64 = 1 << 40;

impl Address for Address6 {
    /// The mix of [`FlowHash::of`], with a round for each half of the client's address. The virtual address goes in as one
    /// word: hosts have few of them.
    #[inline(always)]
    fn hash(flow: &Flow<Self>, key: &HashKey) -> FlowHash {
        let [high, low] = flow.source.0;
        let [virtual_high, virtual_low] = flow.destination.0;
        let target = virtual_high.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ virtual_low;
        let ports = (flow.source_port as u64)
            | ((flow.destination_port as u64) << 16)
            | ((flow.protocol as u64) << 32)
            | IS_IPV6;
        let mut x = (high ^ key.0[0]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x ^= x >> 32;
        x = (x ^ low ^ key.0[3]).wrapping_mul(0xa076_1d64_78bd_642f);
        x ^= x >> 32;
        x = (x ^ ports ^ target ^ key.0[1]).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 29;
        x = (x ^ key.0[2]).wrapping_mul(0x94d0_49bb_1331_11eb);
        FlowHash(x ^ (x >> 32))
    }

    #[inline(always)]
    fn sample(flow: &Flow<Self>, key: &HashKey) -> u16 {
        let [high, low] = flow.source.0;
        let ports = ((flow.source_port as u64) << 16) | flow.destination_port as u64;
        let word = high.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ low ^ ports.wrapping_mul(0xe703_7ed1_a0b4_28db);
        ((word ^ key.0[3]).wrapping_mul(0xa076_1d64_78bd_642f) >> 49) as u16
    }

    #[inline(always)]
    fn cell(self) -> u8 {
        ((self.0[0] ^ self.0[1].rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
    }
}

/// Keys of IPv6 endpoints: a keyed hash, because an address does not fit beside a port into one word. Their lowest bit is
/// 0 and that of an IPv4 key 1, so the families are never confused; the next two say what a key is of. Two endpoints share a key
/// with a chance of 2^-60; the
/// addresses of services and backends are compared with the packet's all the same, and user space never makes two of one key.
impl EndpointKey {
    /// As [`EndpointKey::service`].
    #[inline(always)]
    #[must_use]
    pub const fn service6(address: Address6, port: u16, protocol: u8, key: &HashKey) -> Self {
        Self(endpoint(address, port, protocol, SERVICE6, key))
    }

    /// As [`EndpointKey::backend`].
    #[inline(always)]
    #[must_use]
    pub const fn backend6(address: Address6, port: u16, protocol: u8, key: &HashKey) -> Self {
        Self(endpoint(address, port, protocol, BACKEND6, key))
    }

    /// As [`EndpointKey::address`].
    #[inline(always)]
    #[must_use]
    pub const fn address6(address: Address6, key: &HashKey) -> Self {
        Self(endpoint(address, 0, 0, ADDRESS6, key))
    }

    /// Whether it is of an IPv6 virtual address as such.
    #[must_use]
    pub const fn is_address6(self) -> bool {
        self.0 & KIND6 == ADDRESS6
    }
}

/// What an IPv6 key is of; as in an IPv4 key the second bit says that it is a backend.
const SERVICE6: u64 = 0;
const BACKEND6: u64 = 2;
const ADDRESS6: u64 = 4;
const KIND6: u64 = 7;

#[inline(always)]
const fn endpoint(address: Address6, port: u16, protocol: u8, kind: u64, key: &HashKey) -> u64 {
    let [high, low] = address.0;
    let mut x = (high ^ key.0[1]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 32;
    x = (x ^ low ^ key.0[2]).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 29;
    let port = ((port as u64) << 16) | ((protocol as u64) << 8) | kind;
    x = (x ^ port ^ key.0[0]).wrapping_mul(0x94d0_49bb_1331_11eb);
    // 8: never 0, which is an empty seat. It costs one bit of the hash.
    ((x ^ (x >> 32)) & !KIND6) | 8 | kind
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{collections::BTreeSet, net::Ipv6Addr, vec, vec::Vec};

    use super::*;
    use crate::{BUCKETS, SLOTS};

    const KEY: HashKey =
        HashKey([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 0x0f1e_2d3c_4b5a_6978, 0x1122_3344_5566_7788]);

    fn address(text: &str, add: u128) -> Address6 {
        let start: Ipv6Addr = text.parse().expect("an address");
        Address6::from_bytes((u128::from(start) + add).to_be_bytes())
    }

    fn flow(source: Address6, port: u16) -> Flow<Address6> {
        let destination = address("2001:db8::10", 0);
        Flow { source, destination, source_port: port.to_be(), destination_port: 80_u16.to_be(), protocol: 6 }
    }

    /// Flows as they come in life: neighbours in interface identifier, in network, in port.
    fn families() -> [(&'static str, Vec<Flow<Address6>>); 4] {
        let base = "2001:db8:1::1";
        [
            ("ports of one client", (0..=u16::MAX).map(|port| flow(address(base, 0), port)).collect()),
            ("clients of one network", (0..1 << 17).map(|n| flow(address(base, n), 40_000)).collect()),
            ("one client a network", (0..1 << 17).map(|n| flow(address(base, n << 64), 40_000)).collect()),
            ("one client a site", (0..1 << 16).map(|n| flow(address(base, n << 80), 40_000)).collect()),
        ]
    }

    /// χ² against equal cells, as a number of standard deviations from its mean.
    fn chi_square_z(cells: &[u32]) -> f64 {
        let total: u64 = cells.iter().map(|&count| u64::from(count)).sum();
        let expected = total as f64 / cells.len() as f64;
        let chi: f64 = cells.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
        let freedom = (cells.len() - 1) as f64;
        (chi - freedom) / (2.0 * freedom).sqrt()
    }

    #[test]
    fn buckets_slots_and_samples_are_uniform_and_independent() {
        for (name, flows) in families() {
            let (mut buckets, mut slots, mut both, mut samples) =
                (vec![0; 1_024], vec![0; 1_024], vec![0; 1_024], vec![0; 256]);
            for flow in &flows {
                let hash = Address6::hash(flow, &KEY);
                let (bucket, slot) = (usize::from(hash.bucket()), usize::from(hash.slot()));
                buckets[bucket * 1_024 / usize::from(BUCKETS)] += 1;
                slots[slot * 1_024 / SLOTS] += 1;
                both[(bucket >> 9) * 32 + slot * 32 / SLOTS] += 1;
                samples[usize::from(Address6::sample(flow, &KEY)) >> 7] += 1;
            }
            for (what, cells) in [("buckets", buckets), ("slots", slots), ("both", both)] {
                assert!(chi_square_z(&cells).abs() < 5.0, "{name}: {what} {}", chi_square_z(&cells));
            }
            // One multiplication: sequential flows fall more evenly than chance, which does no harm; never much less.
            assert!(chi_square_z(&samples) < 5.0, "{name}: samples {}", chi_square_z(&samples));
        }
    }

    #[test]
    fn keys_of_endpoints_differ_and_are_none_of_ipv4() {
        let mut keys = BTreeSet::new();
        let mut count = 0;
        for n in 0..1_000 {
            for port in 0..20 {
                for at in [address("2001:db8::", n), address("fd00::1", n << 64)] {
                    for key in [EndpointKey::service6(at, port, 6, &KEY), EndpointKey::backend6(at, port, 6, &KEY)] {
                        assert_eq!(key.0 & 1, 0, "an IPv4 key is odd");
                        assert_ne!(key.0, 0, "an empty seat");
                        keys.insert(key.0);
                        count += 1;
                    }
                }
            }
        }
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn a_prefix_holds_what_lies_in_it() {
        let prefix = Prefix6 { address: address("2001:db8:7::", 0), mask: address("ffff:ffff:ffff::", 0) };
        assert!(prefix.holds(address("2001:db8:7::", 0)) && prefix.holds(address("2001:db8:7:ffff::9", 0)));
        assert!(!prefix.holds(address("2001:db8:8::", 0)));
        assert!(Prefix6::default().holds(address("::1", 0)), "everything");
    }

    #[test]
    fn replacing_an_address_equals_a_full_sum() {
        // RFC 1071, the long way.
        let full = |parts: &[Address6]| {
            let words = parts
                .iter()
                .flat_map(|part| part.0)
                .flat_map(|half| [half as u16, (half >> 16) as u16, (half >> 32) as u16, (half >> 48) as u16]);
            let mut sum: u64 = words.map(u64::from).sum();
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            !(sum as u16)
        };
        let other = address("2001:db8::77", 0);
        for n in 0..2_000_u128 {
            let (old, new) = (address("2001:db8:ffff::1", n << 33), address("fd12:3456:789a::", n * n));
            assert_eq!(old.replaced_by(new).apply(full(&[other, old])), full(&[other, new]));
        }
    }

    #[test]
    fn a_filter_never_denies_what_it_holds() {
        let held = |n: u128| address("2001:db8::", n * 7);
        let filter = (0..5).fold(AddressFilter6::default(), |filter, n| filter.with(held(n)));
        assert!((0..5).all(|n| filter.may_hold(held(n))));
        let wrongly = (0..10_000).filter(|n| filter.may_hold(address("2001:db8:1::", n * 3 + 1))).count();
        assert!(wrongly < 1_000, "five of 64 bits: {wrongly} of 10,000");
    }
}
