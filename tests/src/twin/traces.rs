//! All that packets leave behind in the maps, to see that something left nothing.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use aya::{
    Pod,
    maps::{Array, LpmTrie, Map, MapData},
};
use grayxdp_common::{
    cells::{PrefixKey, PrefixValue, Stamps},
    exceptions::ExceptionSet,
    guard::Guard,
    maps,
    signals::{FlowSample, Mark},
};

/// Length and key of a source prefix, and its value.
type Prefixes = BTreeMap<(u32, [u8; 8]), [u8; 8]>;

/// What each map holds that the program writes and the daemon's counters do not show: a number that changes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Traces {
    entries: u64,
    stamps: u64,
    prefixes: Prefixes,
    guards: u64,
    marks: u64,
    flows: u64,
}

impl Traces {
    /// Reads the maps in a folder.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        Ok(Self {
            entries: array::<ExceptionSet>(folder, maps::EXCEPTIONS)?,
            stamps: array::<Stamps>(folder, maps::STAMPS)?,
            prefixes: prefixes(folder)?,
            guards: array::<Guard>(folder, maps::GUARDS)?,
            marks: array::<Mark>(folder, maps::MARKS)?,
            flows: array::<FlowSample>(folder, maps::FLOWS)?,
        })
    }

    /// Whether packets left nothing since `before`. Prefixes may have gone: the daemon's side empties a set that a switch
    /// replaced as soon as no CPU can read it any more, also when it follows an address of the host; the program removes none.
    pub(super) fn is_as(&self, before: &Self) -> bool {
        let all_else = |traces: &Self| Self { prefixes: Prefixes::new(), ..traces.clone() };
        all_else(self) == all_else(before)
            && self.prefixes.iter().all(|(key, value)| before.prefixes.get(key) == Some(value))
    }
}

fn array<T: Pod>(folder: &Path, name: &str) -> Result<u64> {
    let data = MapData::from_pin(folder.join(name)).with_context(|| name.to_owned())?;
    let map: Array<MapData, T> = Map::Array(data).try_into().with_context(|| name.to_owned())?;
    let mut hasher = DefaultHasher::new();
    for index in 0..map.len() {
        bytes_of(&map.get(&index, 0)?).hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// All prefixes with their bytes, which say too much for a number where something differs.
fn prefixes(folder: &Path) -> Result<Prefixes> {
    let data = MapData::from_pin(folder.join(maps::PREFIXES))?;
    let map: LpmTrie<MapData, PrefixKey, PrefixValue> = Map::LpmTrie(data).try_into()?;
    let bytes = |bytes: &[u8]| bytes.try_into().expect("keys and values are of eight bytes");
    map.iter()
        .map(|entry| {
            let (key, value) = entry?;
            Ok(((key.prefix_len(), bytes(bytes_of(&key.data()))), bytes(bytes_of(&value))))
        })
        .collect()
}

fn bytes_of<T: Pod>(value: &T) -> &[u8] {
    // SAFETY: plain data without padding, of which every byte is written.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}
