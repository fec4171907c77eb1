//! What finds a packet's segment: sets of source prefixes in the trie, and classes.
//!
//! A set is written under a number of its own beside the live one and becomes the live one with the record that names it.
//! It is emptied once no packet can read it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use aya::maps::{MapError, lpm_trie::Key};
use grayxdp_common::cells::{PORTS, PrefixKey, PrefixValue, SegmentClass, SlotState};

use super::{
    Memory, TablesError,
    entries::raw,
    places::{Kind, Places},
    staging::Stage,
};
use crate::model::kernel::{CellStamps, ServiceId, WantedPrefix, WantedSegments, same};

/// Errors of the kernel that mean that a trie is full.
const FULL: [i32; 2] = [libc::ENOSPC, libc::ENOMEM];

/// Bits of the set's number in a key.
const SET_BITS: u32 = 32;

/// A set that the live records do not name any more.
pub(super) struct LeavingSet {
    /// The grace period after which nothing reads it.
    pub(super) ticket: u64,
    /// Its service.
    pub(super) service: ServiceId,
    /// Its number.
    pub(super) set: u32,
    /// What is in it; none where another process wrote it.
    pub(super) prefixes: Option<Arc<[WantedPrefix]>>,
}

/// Length and address of a prefix, without the bits behind its length.
type Network = (u8, u32);

fn key(set: u32, length: u8, address: Ipv4Addr) -> Key<PrefixKey> {
    Key::new(SET_BITS + u32::from(length.min(32)), PrefixKey { set, address: raw(address) })
}

fn network(prefix: &WantedPrefix) -> Network {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.length.min(32))).unwrap_or(0);
    (prefix.length, prefix.address.to_bits() & mask)
}

impl Stage<'_> {
    /// The classes: those that there are if they are the same, else new ones.
    pub(super) fn classes(&mut self, segments: &WantedSegments) -> Result<u32, TablesError> {
        if let Some(detail) = self.before.and_then(|before| before.detail)
            && detail.classes_len == segments.classes.len() as u32
        {
            let source = self.sources.as_ref().and_then(|service| service.segments.as_ref());
            let is_same = match source {
                Some(source) => same(&source.classes, &segments.classes),
                None => (detail.classes..).zip(segments.classes.iter()).try_fold(true, |same, (index, class)| {
                    Ok::<_, TablesError>(same && self.memory.classes.get(&index, 0)?.0[..] == class[..])
                })?,
            };
            if is_same {
                return Ok(detail.classes);
            }
        }
        let first = self.pools.take(Kind::Classes, segments.classes.len() as u32, self.fresh)?;
        for (index, class) in (first..).zip(segments.classes.iter()) {
            let mut bytes = [0; PORTS * 128];
            bytes.copy_from_slice(class);
            self.memory.classes.set(index, SegmentClass(bytes), 0)?;
        }
        Ok(first)
    }

    /// The set of prefixes: the one that there is if it is the same, else a new one; 0 where there are none.
    pub(super) fn prefixes(&mut self, segments: &WantedSegments) -> Result<u32, TablesError> {
        if segments.prefixes.is_empty() {
            return Ok(0);
        }
        if let Some(set) = self.before.and_then(|before| before.detail).map(|detail| detail.prefixes)
            && set != 0
        {
            let source = self.sources.as_ref().and_then(|service| service.segments.as_ref());
            let is_same = match source {
                Some(source) => same(&source.prefixes, &segments.prefixes),
                None => self.memory.holds_set(set, &segments.prefixes)?,
            };
            if is_same {
                return Ok(set);
            }
        }
        let set = self.pools.take(Kind::PrefixSets, 1, self.fresh)?;
        for prefix in segments.prefixes.iter() {
            let value =
                PrefixValue { current: prefix.current, home: prefix.home, state: prefix.state.0, ..Default::default() };
            let inserted = self.memory.prefixes.insert(&key(set, prefix.length, prefix.address), value, 0);
            inserted.map_err(
                |error| if is_full(&error) { TablesError::Full("more source prefixes") } else { error.into() },
            )?;
        }
        Ok(set)
    }
}

impl Memory {
    fn holds_set(&self, set: u32, wanted: &[WantedPrefix]) -> Result<bool, TablesError> {
        let mut held = BTreeMap::new();
        for entry in self.prefixes.iter() {
            let (key, value) = entry?;
            if key.data().set == set {
                let address = u32::from_be(key.data().address);
                let length = (key.prefix_len() - SET_BITS) as u8;
                held.insert((length, address), (value.current, value.home, value.state));
            }
        }
        let wanted: BTreeMap<_, _> =
            wanted.iter().map(|prefix| (network(prefix), (prefix.current, prefix.home, prefix.state.0))).collect();
        Ok(held == wanted)
    }

    /// Removes all prefixes of sets that nothing names, as after a daemon that was killed in the middle of a change.
    pub(super) fn sweep_sets(&mut self, named: &Places) -> Result<(), TablesError> {
        let keys: Vec<_> = self.prefixes.keys().collect::<Result<_, MapError>>()?;
        for key in keys.iter().filter(|key| !named.contains(&(Kind::PrefixSets, key.data().set))) {
            self.prefixes.remove(key)?;
        }
        Ok(())
    }

    /// Removes a set's prefixes and returns the stamps that were not taken yet, by prefix.
    pub(super) fn empty_set(&mut self, leaving: &LeavingSet) -> Result<Vec<(Network, PrefixValue)>, TablesError> {
        let keys = match &leaving.prefixes {
            Some(prefixes) => {
                prefixes.iter().map(|prefix| key(leaving.set, prefix.length, prefix.address)).collect::<Vec<_>>()
            }
            None => {
                let keys = self.prefixes.keys().collect::<Result<Vec<_>, MapError>>()?;
                keys.into_iter().filter(|key| key.data().set == leaving.set).collect()
            }
        };
        let mut stamped = Vec::new();
        for key in keys {
            match self.prefixes.get(&key, 0) {
                Ok(value) if SlotState(value.state).has(SlotState::UNSETTLED) && is_stamped(&value) => {
                    let length = (key.prefix_len() - SET_BITS) as u8;
                    stamped.push(((length, u32::from_be(key.data().address)), value));
                }
                Ok(_) => {}
                Err(MapError::KeyNotFound) => continue,
                Err(error) => return Err(error.into()),
            }
            self.prefixes.remove(&key)?;
        }
        Ok(stamped)
    }

    /// Takes the stamps of a set's unsettled prefixes.
    pub(super) fn take_prefix_stamps(
        &mut self,
        set: u32,
        prefixes: &[WantedPrefix],
        stamps: &mut CellStamps<u32>,
    ) -> Result<(), TablesError> {
        let unsettled = (0..).zip(prefixes).filter(|(_, prefix)| prefix.state.has(SlotState::UNSETTLED));
        for (index, prefix) in unsettled {
            let key = key(set, prefix.length, prefix.address);
            let value = self.prefixes.get(&key, 0)?;
            if !is_stamped(&value) {
                continue;
            }
            // A stamp set between the two calls is lost, so what was stamped in any way counts as seen.
            self.prefixes.insert(&key, PrefixValue { seen: 0, deferred: 0, refused: 0, ..value }, 0)?;
            note(stamps, index, &value);
        }
        Ok(())
    }
}

/// Enters the stamps of a prefix.
pub(super) fn note(stamps: &mut CellStamps<u32>, index: u32, value: &PrefixValue) {
    stamps.seen.push(index);
    stamps.deferred.extend((value.deferred != 0).then_some(index));
    stamps.refused.extend((value.refused != 0).then_some(index));
}

/// The index of each prefix by its network.
pub(super) fn indices(prefixes: &[WantedPrefix]) -> BTreeMap<Network, u32> {
    (0..).zip(prefixes).map(|(index, prefix)| (network(prefix), index)).collect()
}

/// Prefixes that stand twice in a list, which a trie would not tell apart.
pub(super) fn has_doubles(prefixes: &[WantedPrefix]) -> bool {
    let networks: BTreeSet<_> = prefixes.iter().map(network).collect();
    networks.len() != prefixes.len()
}

const fn is_stamped(value: &PrefixValue) -> bool {
    value.seen | value.deferred | value.refused != 0
}

fn is_full(error: &MapError) -> bool {
    let MapError::SyscallError(error) = error else { return false };
    error.io_error.raw_os_error().is_some_and(|code| FULL.contains(&code))
}
