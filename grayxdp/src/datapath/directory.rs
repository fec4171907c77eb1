//! Building a directory: a seed under which every key finds a seat in its set. Pure.

use grayxdp_common::directory::{DirectorySet, EndpointKey, Place, WAYS};

/// Seeds tried before giving up; with at most one key for four sets a few are enough.
const SEEDS: u32 = 4_096;

/// Log₂ of the sets that a directory of this many keys gets: four sets a key, so that a seed is found soon.
pub(super) fn sets_log2(keys: usize) -> u8 {
    (keys.max(4) * 4).next_power_of_two().trailing_zeros() as u8
}

/// Seats all entries in 2^`sets_log2` sets that begin at `base`; none where no seed seats them all.
pub(super) fn build(entries: &[(EndpointKey, u64)], base: u32, sets_log2: u8) -> Option<(Place, Vec<DirectorySet>)> {
    (1..=SEEDS).find_map(|seed| {
        let place = Place::new(seed.wrapping_mul(0x9e37_79b1), base, sets_log2);
        seat(entries, place).map(|sets| (place, sets))
    })
}

fn seat(entries: &[(EndpointKey, u64)], place: Place) -> Option<Vec<DirectorySet>> {
    let mut sets = vec![DirectorySet::default(); 1 << place.sets_log2()];
    for (key, value) in entries {
        let set = &mut sets[(place.set_of(*key) - place.base()) as usize];
        let seat = (0..WAYS).find(|&way| set.keys[way] == 0)?;
        (set.keys[seat], set.values[seat]) = (key.0, *value);
    }
    Some(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(n: u32) -> Vec<(EndpointKey, u64)> {
        (0..n)
            .map(|i| {
                (EndpointKey::backend((0x0a00_0000 + i / 4).to_be(), (8_000 + (i % 4) as u16).to_be(), 6), u64::from(i))
            })
            .collect()
    }

    fn find(place: Place, sets: &[DirectorySet], key: EndpointKey) -> Option<u64> {
        let set = &sets[(place.set_of(key) - place.base()) as usize];
        set.keys.iter().position(|&seated| seated == key.0).map(|way| set.values[way])
    }

    #[test]
    fn every_key_is_found_with_its_value_and_no_other_is() {
        for n in [0, 1, 5, 100, 1_000, 20_000, 60_000] {
            let entries = keys(n);
            let (place, sets) = build(&entries, 64, sets_log2(entries.len())).expect("a seed is found");
            for (key, value) in &entries {
                assert_eq!(find(place, &sets, *key), Some(*value));
                assert_eq!(find(place, &sets, EndpointKey(key.0 ^ 2)), None);
            }
        }
    }

    #[test]
    fn too_many_keys_for_the_sets_are_refused() {
        assert!(build(&keys(100), 0, 4).is_none());
    }
}
