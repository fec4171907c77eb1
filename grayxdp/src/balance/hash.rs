//! The hash that places backends and offsets. Part of what a fleet must agree on: another one moves flows.

/// Hashes bytes under a seed: FNV-1a, then the finaliser of SplitMix64, because FNV alone leaves neighbours together.
pub(super) fn hash(bytes: &[u8], seed: u64) -> u64 {
    let folded = bytes.iter().fold(0xcbf2_9ce4_8422_2325 ^ mix(seed), |state, &byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(folded)
}

/// One step of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
const fn mix(input: u64) -> u64 {
    let x = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mix_agrees_with_the_published_generator() {
        // First output of the reference implementation (Vigna, splitmix64.c) for seeds 0 and 1234567.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(1_234_567), 6_457_827_717_110_365_317);
    }
}
