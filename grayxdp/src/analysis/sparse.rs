//! Long lists of counts, most of them 0, in the journal: place and count of the others.

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

/// Writes the counts that are not 0.
pub(super) fn write<S: Serializer>(counts: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(counts.iter().enumerate().filter(|(_, count)| **count > 0))
}

/// Reads a list of `length`.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D, length: usize) -> Result<Vec<u64>, D::Error> {
    let mut counts = vec![0; length];
    for (place, count) in Vec::<(usize, u64)>::deserialize(deserializer)? {
        *counts.get_mut(place).ok_or_else(|| D::Error::custom(format!("no place {place} of {length}")))? = count;
    }
    Ok(counts)
}

/// Cells of clients.
pub(super) mod clients {
    use grayxdp_common::signals::CLIENT_CELLS;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(counts: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
        super::write(counts, serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
        super::read(deserializer, CLIENT_CELLS)
    }
}
