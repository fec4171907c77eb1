//! What finds a packet's segment: sets of source prefixes in the trie, and classes.
//!
//! A set is written under a number of its own beside the live one and becomes the live one with the record that names it.
//! It is emptied once no packet can read it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use aya::maps::{LpmTrie, MapData, MapError, lpm_trie::Key};
use grayxdp_common::{
    cells::{PORTS, PrefixKey, PrefixValue, SegmentClass, SlotState},
    ipv6::{Address6, PrefixKey6},
};

use super::{
    Memory, TablesError,
    entries::{address6, raw, raw6},
    places::{Kind, Places},
    staging::Stage,
};
use crate::model::config::Prefix;
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

/// Length and address of a prefix, without the bits behind its length; the one of all sources is of IPv4 here.
type Network = (u8, IpAddr);

/// Where a prefix lies: its set, and the very prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    set: u32,
    length: u8,
    address: IpAddr,
}

/// A prefix in a set of a family; the empty one, which is of all sources, has none of its own.
fn at(set: u32, prefix: &WantedPrefix, is_ipv4: bool) -> At {
    let address = match (prefix.length, is_ipv4) {
        (0, true) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        (0, false) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => prefix.address,
    };
    At { set, length: prefix.length, address }
}

impl At {
    fn network(self) -> Network {
        if self.length == 0 { (0, IpAddr::V4(Ipv4Addr::UNSPECIFIED)) } else { (self.length, self.address) }
    }
}

fn network(prefix: &WantedPrefix) -> Network {
    if prefix.length == 0 {
        return (0, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    }
    (prefix.length, Prefix { address: prefix.address, length: prefix.length }.network())
}

/// The tries of both families. A set lies in one of them.
pub(in crate::datapath) struct PrefixMaps {
    pub(in crate::datapath) ipv4: LpmTrie<MapData, PrefixKey, PrefixValue>,
    pub(in crate::datapath) ipv6: LpmTrie<MapData, PrefixKey6, PrefixValue>,
}

fn key4(at: At, address: Ipv4Addr) -> Key<PrefixKey> {
    Key::new(SET_BITS + u32::from(at.length.min(32)), PrefixKey { set: at.set, address: raw(address) })
}

fn key6(at: At, address: Ipv6Addr) -> Key<PrefixKey6> {
    Key::new(SET_BITS + u32::from(at.length.min(128)), PrefixKey6::new(at.set, raw6(address)))
}

impl PrefixMaps {
    fn get(&self, at: At) -> Result<PrefixValue, MapError> {
        match at.address {
            IpAddr::V4(address) => self.ipv4.get(&key4(at, address), 0),
            IpAddr::V6(address) => self.ipv6.get(&key6(at, address), 0),
        }
    }

    fn insert(&mut self, at: At, value: PrefixValue) -> Result<(), MapError> {
        match at.address {
            IpAddr::V4(address) => self.ipv4.insert(&key4(at, address), value, 0),
            IpAddr::V6(address) => self.ipv6.insert(&key6(at, address), value, 0),
        }
    }

    fn remove(&mut self, at: At) -> Result<(), MapError> {
        match at.address {
            IpAddr::V4(address) => self.ipv4.remove(&key4(at, address)),
            IpAddr::V6(address) => self.ipv6.remove(&key6(at, address)),
        }
    }

    /// Where everything lies.
    fn all(&self) -> Result<Vec<At>, MapError> {
        let of = |prefix_len: u32| (prefix_len - SET_BITS) as u8;
        let of_ipv4 = self.ipv4.keys().map(|key| {
            key.map(|key| {
                let PrefixKey { set, address } = key.data();
                At { set, length: of(key.prefix_len()), address: IpAddr::V4(address.to_ne_bytes().into()) }
            })
        });
        let of_ipv6 = self.ipv6.keys().map(|key| {
            key.map(|key| {
                let PrefixKey6 { set, address: [a, b, c, d] } = key.data();
                let halves = [u64::from(a) | u64::from(b) << 32, u64::from(c) | u64::from(d) << 32];
                At { set, length: of(key.prefix_len()), address: IpAddr::V6(address6(Address6(halves))) }
            })
        });
        of_ipv4.chain(of_ipv6).collect()
    }
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
    pub(super) fn prefixes(&mut self, segments: &WantedSegments, is_ipv4: bool) -> Result<u32, TablesError> {
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
            let inserted = self.memory.prefixes.insert(at(set, prefix, is_ipv4), value);
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
        for at in self.prefixes.all()?.into_iter().filter(|at| at.set == set) {
            let value = self.prefixes.get(at)?;
            held.insert(at.network(), (value.current, value.home, value.state));
        }
        let wanted: BTreeMap<_, _> =
            wanted.iter().map(|prefix| (network(prefix), (prefix.current, prefix.home, prefix.state.0))).collect();
        Ok(held == wanted)
    }

    /// Removes all prefixes of sets that nothing names, as after a daemon that was killed in the middle of a change.
    pub(super) fn sweep_sets(&mut self, named: &Places) -> Result<(), TablesError> {
        for at in self.prefixes.all()?.into_iter().filter(|at| !named.contains(&(Kind::PrefixSets, at.set))) {
            self.prefixes.remove(at)?;
        }
        Ok(())
    }

    /// Removes a set's prefixes and returns the stamps that were not taken yet, by prefix.
    pub(super) fn empty_set(&mut self, leaving: &LeavingSet) -> Result<Vec<(Network, PrefixValue)>, TablesError> {
        let places = match &leaving.prefixes {
            Some(prefixes) => {
                let is_ipv4 = is_of_ipv4(prefixes);
                let both = [is_ipv4.unwrap_or(true), is_ipv4.unwrap_or(false)];
                let mut places: Vec<_> = both
                    .into_iter()
                    .flat_map(|family| prefixes.iter().map(move |prefix| at(leaving.set, prefix, family)))
                    .collect();
                places.dedup();
                places
            }
            None => self.prefixes.all()?.into_iter().filter(|at| at.set == leaving.set).collect(),
        };
        let mut stamped = Vec::new();
        for key in places {
            match self.prefixes.get(key) {
                Ok(value) if SlotState(value.state).has(SlotState::UNSETTLED) && is_stamped(&value) => {
                    stamped.push((key.network(), value));
                }
                Ok(_) => {}
                Err(MapError::KeyNotFound) => continue,
                Err(error) => return Err(error.into()),
            }
            self.prefixes.remove(key)?;
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
            let (key, value) = self.held(set, prefix, is_of_ipv4(prefixes))?;
            if !is_stamped(&value) {
                continue;
            }
            // A stamp set between the two calls is lost, so what was stamped in any way counts as seen.
            self.prefixes.insert(key, PrefixValue { seen: 0, deferred: 0, refused: 0, ..value })?;
            note(stamps, index, &value);
        }
        Ok(())
    }
}

impl Memory {
    /// A prefix of a set; which family it is of, a set that has but the empty one does not say.
    fn held(&self, set: u32, prefix: &WantedPrefix, is_ipv4: Option<bool>) -> Result<(At, PrefixValue), MapError> {
        let key = at(set, prefix, is_ipv4.unwrap_or(true));
        match self.prefixes.get(key) {
            Err(MapError::KeyNotFound) if is_ipv4.is_none() => {
                let key = at(set, prefix, false);
                Ok((key, self.prefixes.get(key)?))
            }
            found => Ok((key, found?)),
        }
    }
}

/// The family of some prefixes; none where there is but the empty one, which is of either.
fn is_of_ipv4(prefixes: &[WantedPrefix]) -> Option<bool> {
    prefixes.iter().find(|prefix| prefix.length > 0).map(|prefix| prefix.address.is_ipv4())
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
