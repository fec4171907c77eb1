//! The slots of a version: which backend a flow goes to.

use crate::{SLOT_TABLE_LEN, map_value};

/// The slots of a version.
///
/// A table of at most 256 backends is *narrow*: a slot is one byte, an index into `backends`. Half the memory is
/// touched, which is what counts with many services. In a wide table a slot is two bytes, the backend's id.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotTable {
    /// Backend ids, in a narrow table.
    pub backends: [u16; NARROW_BACKENDS],
    /// Slots: two bytes each, or one byte each in the first half.
    pub slots: [u16; SLOT_TABLE_LEN],
}

map_value!(SlotTable, size 33_280);

/// Backends of a narrow table at most.
pub const NARROW_BACKENDS: usize = 256;

/// Where a slot table lies and how it is read.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct TableRef(pub u16);

map_value!(TableRef, size 2);

impl TableRef {
    const NARROW: u16 = 1 << 15;

    /// A table at an index below 32,768.
    #[must_use]
    pub const fn new(index: u16, is_narrow: bool) -> Self {
        Self((index & !Self::NARROW) | if is_narrow { Self::NARROW } else { 0 })
    }

    /// The table's index in its map.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        (self.0 & !Self::NARROW) as u32
    }

    /// Whether slots are bytes.
    #[inline(always)]
    #[must_use]
    pub const fn is_narrow(self) -> bool {
        self.0 & Self::NARROW != 0
    }
}

impl SlotTable {
    /// The table of a version's slots (backend ids, 0 for none), and whether it is narrow.
    #[cfg(feature = "user")]
    #[must_use]
    pub fn new(ids: &[u16]) -> (Self, bool) {
        let mut table = Self { backends: [0; NARROW_BACKENDS], slots: [0; SLOT_TABLE_LEN] };
        let mut is_used = std::vec![false; ids.iter().max().map_or(0, |&greatest| usize::from(greatest) + 1)];
        ids.iter().for_each(|&id| is_used[usize::from(id)] = true);
        let distinct: std::vec::Vec<usize> = (0..is_used.len()).filter(|&id| is_used[id]).collect();
        let is_narrow = distinct.len() <= NARROW_BACKENDS;
        if is_narrow {
            let mut locals = std::vec![0_u8; is_used.len()];
            for (local, &id) in distinct.iter().enumerate() {
                locals[id] = local as u8;
                table.backends[local] = id as u16;
            }
            let local = |id: &u16| locals[usize::from(*id)];
            for (word, pair) in table.slots.iter_mut().zip(ids.chunks(2)) {
                *word = u16::from_ne_bytes([local(&pair[0]), pair.get(1).map_or(0, local)]);
            }
        } else {
            for (slot, id) in table.slots.iter_mut().zip(ids) {
                *slot = *id;
            }
        }
        (table, is_narrow)
    }

    /// The first of a narrow table's backend ids if they follow one another; else 0.
    #[cfg(feature = "user")]
    #[must_use]
    pub fn first_backend(&self) -> u16 {
        let used =
            self.backends.iter().rposition(|&id| id != 0).map_or(&self.backends[..0], |last| &self.backends[..=last]);
        match used {
            [first, ..] if used.iter().zip(*first..).all(|(&id, expected)| id == expected) => *first,
            _ => 0,
        }
    }

    /// The backend id in a slot below [`crate::SLOTS`]; `first` is [`SlotTable::first_backend`].
    #[inline(always)]
    #[must_use]
    pub fn backend(&self, slot: u16, is_narrow: bool, first: u16) -> u16 {
        let slot = slot as usize & (SLOT_TABLE_LEN - 1);
        if !is_narrow {
            return self.slots[slot];
        }
        let bytes = core::ptr::from_ref(&self.slots).cast::<u8>();
        // SAFETY: the slot is below the number of words by the mask, and the table has twice as many bytes.
        let local = unsafe { bytes.add(slot).read() };
        if first == 0 { self.backends[local as usize] } else { first.wrapping_add(local as u16) }
    }
}

#[cfg(all(test, feature = "user"))]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn narrow_and_wide_tables_hold_what_they_were_made_from() {
        for backends in [1, 2, 255, 256, 257, 5_000] {
            let ids: std::vec::Vec<u16> = (0..crate::SLOTS).map(|slot| 7 + (slot % backends) as u16).collect();
            let (table, is_narrow) = SlotTable::new(&ids);
            assert_eq!(is_narrow, backends <= 256);
            assert_eq!(table.first_backend(), if is_narrow { 7 } else { 0 });
            for first in [0, table.first_backend()] {
                assert!((0..crate::SLOTS).all(|slot| table.backend(slot as u16, is_narrow, first) == ids[slot]));
            }
        }
        let with_a_gap: std::vec::Vec<u16> = (0..crate::SLOTS).map(|slot| [3, 4, 9][slot % 3]).collect();
        assert_eq!(SlotTable::new(&with_a_gap).0.first_backend(), 0);
        assert_eq!(SlotTable::new(&[0; 10]).0.first_backend(), 0);
    }
}
