//! Writing how replies leave: the control block's gateway, the routes map, on-link neighbours, attached interfaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::offset_of,
    net::Ipv4Addr,
    path::Path,
};

use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key};
use grayxdp_common::{
    maps as names,
    records::{Control, InterfaceRecord, NextHop, Prefix, Route},
};

use super::{
    super::{mapped::Mapped, tables::raw},
    heads::Heads,
    mirror::{Destination, Link, Mirror, ReplyPlan},
};
use crate::model::kernel::KernelError;

/// The maps, and what is known to be in them.
pub(super) struct ReplyMaps {
    routes: LpmTrie<MapData, u32, Route>,
    neighbours: HashMap<MapData, u32, NextHop>,
    interfaces: HashMap<MapData, u32, InterfaceRecord>,
    heads: Heads,
    written_routes: BTreeMap<Destination, Route>,
    written_neighbours: BTreeMap<Ipv4Addr, NextHop>,
}

impl ReplyMaps {
    /// Opens the pinned maps.
    pub(super) fn open(folder: &Path) -> Result<Self, KernelError> {
        let open = |name: &str| {
            let data = MapData::from_pin(folder.join(name));
            data.map_err(|error| KernelError(format!("the map {name} cannot be opened: {error}")))
        };
        let wrong = |error: MapError| KernelError(format!("a map is not of its kind: {error}"));
        let mut maps = Self {
            routes: Map::LpmTrie(open(names::ROUTES)?).try_into().map_err(wrong)?,
            neighbours: Map::HashMap(open(names::NEIGHBOURS)?).try_into().map_err(wrong)?,
            interfaces: Map::HashMap(open(names::INTERFACES)?).try_into().map_err(wrong)?,
            heads: Heads::new(
                super::super::mapped(folder, names::ROUTE_HEADS)?,
                super::super::mapped(folder, names::ROUTE_LEAVES)?,
            ),
            written_routes: BTreeMap::new(),
            written_neighbours: BTreeMap::new(),
        };
        maps.read_back();
        Ok(maps)
    }

    /// Learns what an earlier daemon wrote.
    fn read_back(&mut self) {
        let destination =
            |key: Key<u32>| (Ipv4Addr::from(key.data().to_ne_bytes()), u8::try_from(key.prefix_len()).unwrap_or(32));
        self.written_routes = self.routes.iter().flatten().map(|(key, route)| (destination(key), route)).collect();
        let address = |key: u32| Ipv4Addr::from(key.to_ne_bytes());
        self.written_neighbours = self.neighbours.iter().flatten().map(|(key, hop)| (address(key), hop)).collect();
    }

    /// Makes the maps say what the plan says. New ways come before old ones go.
    pub(super) fn write(
        &mut self,
        plan: &ReplyPlan,
        mirror: &Mirror,
        control: &Mapped<Control>,
    ) -> Result<(), MapError> {
        self.write_neighbours(&plan.neighbours)?;
        self.write_routes(&plan.routes)?;
        self.heads.write(&plan.routes);
        self.write_interfaces(&mirror.links)?;
        control.store(0, offset_of!(Control, least_mtu), u64::from(mirror.least_mtu()));
        write_control(plan, control);
        Ok(())
    }

    fn write_routes(&mut self, wanted: &BTreeMap<Destination, Route>) -> Result<(), MapError> {
        let key = |(address, length): Destination| Key::new(u32::from(length), raw(address));
        for (destination, route) in wanted {
            if self.written_routes.get(destination) != Some(route) {
                self.routes.insert(&key(*destination), route, 0)?;
                self.written_routes.insert(*destination, *route);
            }
        }
        let gone: Vec<_> = self.written_routes.keys().filter(|place| !wanted.contains_key(place)).copied().collect();
        for destination in gone {
            self.routes.remove(&key(destination))?;
            self.written_routes.remove(&destination);
        }
        Ok(())
    }

    fn write_neighbours(&mut self, wanted: &BTreeMap<Ipv4Addr, NextHop>) -> Result<(), MapError> {
        let gone: Vec<_> =
            self.written_neighbours.keys().filter(|place| !wanted.contains_key(place)).copied().collect();
        for address in gone {
            self.neighbours.remove(&raw(address))?;
            self.written_neighbours.remove(&address);
        }
        for (address, hop) in wanted {
            if self.written_neighbours.get(address) != Some(hop) {
                self.neighbours.insert(raw(*address), hop, 0)?;
                self.written_neighbours.insert(*address, *hop);
            }
        }
        Ok(())
    }

    fn write_interfaces(&mut self, links: &BTreeMap<u32, Link>) -> Result<(), MapError> {
        let written: BTreeMap<u32, InterfaceRecord> = self.interfaces.iter().flatten().collect();
        let wanted: BTreeSet<u32> = links.keys().copied().take(64).collect();
        for index in written.keys().filter(|index| !wanted.contains(index)) {
            self.interfaces.remove(index)?;
        }
        for index in &wanted {
            let link = &links[index];
            let mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
            let flags = if link.takes_packets { InterfaceRecord::FLAG_TAKES_PACKETS } else { 0 };
            let record = InterfaceRecord { address: link.ethernet, mtu, ipv4: link.address.map_or(0, raw), flags };
            if written.get(index) != Some(&record) {
                self.interfaces.insert(index, record, 0)?;
            }
        }
        Ok(())
    }
}

/// Writes the constant way; the word that turns it on comes last and the word that turns it off first.
fn write_control(plan: &ReplyPlan, control: &Mapped<Control>) {
    let pair = |first: u32, second: u32| {
        let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    };
    let before = control.read(0);
    let mut apart = [Prefix::default(); grayxdp_common::records::APART];
    for (place, prefix) in apart.iter_mut().zip(&plan.apart) {
        *place = *prefix;
    }
    let (way, count) = (plan.way as u32, plan.apart.len() as u32);
    let same = (before.reply_way, before.apart_len, before.apart, before.gateway) == (way, count, apart, plan.gateway);
    if same {
        return;
    }
    let switch = offset_of!(Control, reply_way);
    control.store(0, switch, 0);
    for (index, prefix) in apart.iter().enumerate() {
        control.store(0, offset_of!(Control, apart) + index * 8, pair(prefix.address, prefix.mask));
    }
    for (index, word) in plan.gateway.words().into_iter().enumerate() {
        control.store(0, offset_of!(Control, gateway) + index * 8, word);
    }
    control.store(0, switch, pair(way, count));
}
