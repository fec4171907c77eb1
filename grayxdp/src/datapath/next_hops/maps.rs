//! Writing how replies leave: the control block's gateway, the routes map, on-link neighbours, attached interfaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::offset_of,
    net::{IpAddr, Ipv6Addr},
    path::Path,
};

use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key};
use grayxdp_common::{
    ipv6::{APART6, Address6, Control6, Prefix6, PrefixKey6},
    maps as names,
    records::{Control, InterfaceRecord, NextHop, Prefix, Route},
};

use super::{
    super::{
        mapped::Mapped,
        tables::{address6, raw, raw6},
    },
    heads::Heads,
    mirror::{Destination, Link, Mirror, ReplyPlan},
};
use crate::model::kernel::KernelError;

/// The maps, and what is known to be in them.
pub(super) struct ReplyMaps {
    routes: LpmTrie<MapData, u32, Route>,
    neighbours: HashMap<MapData, u32, NextHop>,
    routes6: LpmTrie<MapData, Address6, Route>,
    neighbours6: HashMap<MapData, Address6, NextHop>,
    interfaces: HashMap<MapData, u32, InterfaceRecord>,
    heads: Heads,
    written_routes: BTreeMap<Destination, Route>,
    written_neighbours: BTreeMap<IpAddr, NextHop>,
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
            routes6: Map::LpmTrie(open(names::ROUTES6)?).try_into().map_err(wrong)?,
            neighbours6: Map::HashMap(open(names::NEIGHBOURS6)?).try_into().map_err(wrong)?,
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
        let length = |bits: u32, most: u8| u8::try_from(bits).unwrap_or(most).min(most);
        let address = |raw: u32| IpAddr::from(raw.to_ne_bytes());
        let of_ipv4 = self.routes.iter().flatten();
        let of_ipv4 = of_ipv4.map(|(key, route)| ((address(key.data()), length(key.prefix_len(), 32)), route));
        let of_ipv6 = self.routes6.iter().flatten();
        let of_ipv6 =
            of_ipv6.map(|(key, route)| ((IpAddr::V6(address6(key.data())), length(key.prefix_len(), 128)), route));
        self.written_routes = of_ipv4.chain(of_ipv6).collect();
        let of_ipv4 = self.neighbours.iter().flatten().map(|(key, hop)| (address(key), hop));
        let of_ipv6 = self.neighbours6.iter().flatten().map(|(key, hop)| (IpAddr::V6(address6(key)), hop));
        self.written_neighbours = of_ipv4.chain(of_ipv6).collect();
    }

    /// Makes the maps say what the plans of both families say. New ways come before old ones go.
    pub(super) fn write(
        &mut self,
        plans: &[ReplyPlan; 2],
        mirror: &Mirror,
        control: &Mapped<Control>,
    ) -> Result<(), MapError> {
        let [plan, plan6] = plans;
        self.write_neighbours(plans.iter().flat_map(|plan| &plan.neighbours).map(|(at, hop)| (*at, *hop)).collect())?;
        self.write_routes(plans.iter().flat_map(|plan| &plan.routes).map(|(at, route)| (*at, *route)).collect())?;
        self.heads.write(&plan.routes);
        self.write_interfaces(&mirror.links)?;
        control.store(0, offset_of!(Control, least_mtu), u64::from(mirror.least_mtu()));
        write_control(plan, control);
        write_control6(plan6, control);
        Ok(())
    }

    fn write_routes(&mut self, wanted: BTreeMap<Destination, Route>) -> Result<(), MapError> {
        for (destination, route) in &wanted {
            if self.written_routes.get(destination) != Some(route) {
                match destination {
                    (IpAddr::V4(address), length) => self.routes.insert(&key(raw(*address), *length), route, 0)?,
                    (IpAddr::V6(address), length) => self.routes6.insert(&key(raw6(*address), *length), route, 0)?,
                }
            }
        }
        for destination in self.written_routes.keys().filter(|place| !wanted.contains_key(place)) {
            match destination {
                (IpAddr::V4(address), length) => self.routes.remove(&key(raw(*address), *length))?,
                (IpAddr::V6(address), length) => self.routes6.remove(&key(raw6(*address), *length))?,
            }
        }
        self.written_routes = wanted;
        Ok(())
    }

    fn write_neighbours(&mut self, wanted: BTreeMap<IpAddr, NextHop>) -> Result<(), MapError> {
        for address in self.written_neighbours.keys().filter(|place| !wanted.contains_key(place)) {
            match address {
                IpAddr::V4(address) => self.neighbours.remove(&raw(*address))?,
                IpAddr::V6(address) => self.neighbours6.remove(&raw6(*address))?,
            }
        }
        for (address, hop) in &wanted {
            if self.written_neighbours.get(address) != Some(hop) {
                match address {
                    IpAddr::V4(address) => self.neighbours.insert(raw(*address), hop, 0)?,
                    IpAddr::V6(address) => self.neighbours6.insert(raw6(*address), hop, 0)?,
                }
            }
        }
        self.written_neighbours = wanted;
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
            let ipv6 = link.address6.map_or([0; 4], |address| PrefixKey6::new(0, raw6(address)).address);
            let flags = if link.takes_packets { InterfaceRecord::FLAG_TAKES_PACKETS } else { 0 };
            let ipv4 = link.address.map_or(0, raw);
            let record = InterfaceRecord { address: link.ethernet, mtu, ipv4, flags, ipv6 };
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
    for (place, (address, length)) in apart.iter_mut().zip(&plan.apart) {
        if let IpAddr::V4(address) = address {
            let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
            *place = Prefix { address: raw(*address), mask: mask.to_be() };
        }
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

/// The same of IPv6.
fn write_control6(plan: &ReplyPlan, control: &Mapped<Control>) {
    let base = offset_of!(Control, ipv6);
    let before = control.read(0).ipv6;
    let mut apart = [Prefix6::default(); APART6];
    for (place, (address, length)) in apart.iter_mut().zip(&plan.apart) {
        if let IpAddr::V6(address) = address {
            let mask = u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
            *place = Prefix6 { address: raw6(*address), mask: raw6(Ipv6Addr::from_bits(mask)) };
        }
    }
    let (way, count) = (plan.way as u32, plan.apart.len() as u32);
    if (before.reply_way, before.apart_len, before.apart, before.gateway) == (way, count, apart, plan.gateway) {
        return;
    }
    let switch = base + offset_of!(Control6, reply_way);
    control.store(0, switch, 0);
    let words = apart.iter().flat_map(|prefix| [prefix.address.0, prefix.mask.0].concat());
    for (index, word) in words.enumerate() {
        control.store(0, base + offset_of!(Control6, apart) + index * 8, word);
    }
    for (index, word) in plan.gateway.words().into_iter().enumerate() {
        control.store(0, base + offset_of!(Control6, gateway) + index * 8, word);
    }
    control.store(0, switch, u64::from(way) | u64::from(count) << 32);
}

fn key<K: aya::Pod>(address: K, length: u8) -> Key<K> {
    Key::new(u32::from(length), address)
}
