//! The program's exception table and guard, read and written past the daemon's side.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map, MapData};
use grayxdp_common::{
    exceptions::{EntryState, ExceptionKey, ExceptionSet, Head},
    guard, maps,
};

use super::Client;
use crate::rules::{Guard, World, table::Table};

/// The maps.
pub(super) struct Entries {
    exceptions: Array<MapData, ExceptionSet>,
    guards: Array<MapData, guard::Guard>,
}

fn open<T: aya::Pod>(folder: &Path, name: &str) -> Result<Array<MapData, T>> {
    let data = MapData::from_pin(folder.join(name)).with_context(|| name.to_owned())?;
    Map::Array(data).try_into().with_context(|| name.to_owned())
}

impl Entries {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        Ok(Self { exceptions: open(folder, maps::EXCEPTIONS)?, guards: open(folder, maps::GUARDS)? })
    }

    /// Removes what the model's sweep removed.
    pub(super) fn remove_gone(
        &mut self,
        before: &Table,
        after: &Table,
        clients: &BTreeMap<usize, Client>,
    ) -> Result<()> {
        for number in before.half_open.keys().filter(|number| !after.half_open.contains_key(number)) {
            self.remove(&clients[number], &[EntryState::HalfOpen])?;
        }
        for number in before.held.keys().filter(|number| !after.held.contains_key(number)) {
            self.remove(&clients[number], &[EntryState::Pin, EntryState::Established])?;
        }
        Ok(())
    }

    /// The sets of a client's flow, and the number that tells its entries from others.
    fn places(&self, client: &Client) -> ([u32; 2], u64) {
        let key = ExceptionKey::of(client.hash, client.hash.bucket());
        let mask = self.exceptions.len() - 1;
        ([key.first & mask, key.second & mask], key.identity)
    }

    fn remove(&mut self, client: &Client, states: &[EntryState]) -> Result<()> {
        let (sets, identity) = self.places(client);
        for index in sets {
            let mut set = self.exceptions.get(&index, 0)?;
            for entry in &mut set.0 {
                let head = Head(entry[0]);
                if head.identity() == identity && states.contains(&head.state()) {
                    entry[0] = head.0 & Head::OVERFLOW;
                }
            }
            self.exceptions.set(index, set, 0)?;
        }
        Ok(())
    }

    /// Sets the latches of an attempt's guard.
    pub(super) fn latch(&mut self, attempt: u64, wanted: &Guard) -> Result<()> {
        for index in 1..self.guards.len() {
            let mut held = self.guards.get(&index, 0)?;
            if held.rollout == 1 && held.attempt == attempt {
                held.latches = 0;
                if wanted.tripped {
                    held.latches |= guard::Guard::TRIPPED;
                }
                if wanted.expired {
                    held.latches |= guard::Guard::LEASE_EXPIRED;
                }
                self.guards.set(index, held, 0)?;
            }
        }
        Ok(())
    }

    /// The entries of the flows whose entries the two sides do not agree about.
    pub(super) fn describe(&self, clients: &BTreeMap<usize, Client>, world: &World) -> String {
        let mut text = String::new();
        for (number, client) in clients {
            let (sets, identity) = self.places(client);
            let found: Vec<(EntryState, u16, u64)> = sets
                .iter()
                .filter_map(|index| self.exceptions.get(index, 0).ok())
                .flat_map(|set| set.0)
                .map(|entry| (Head(entry[0]), entry[1]))
                .filter(|(head, _)| head.identity() == identity && head.state() != EntryState::Free)
                .map(|(head, tail)| (head.state(), head.backend(), tail))
                .collect();
            let modelled = (world.table.half_open.get(number), world.table.held.get(number));
            let known = usize::from(modelled.0.is_some()) + usize::from(modelled.1.is_some());
            if known != found.len() {
                let _ = write!(text, "\n    flow {number}: {found:x?}, not {modelled:?}");
            }
        }
        text
    }
}
