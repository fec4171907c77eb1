//! What a directory is made from, and reading back what the live one leads to. No state of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use grayxdp_common::{
    directory::{DirectorySet, EndpointKey, Entry, Place},
    hash::HashKey,
    ipv6::{Address6, AddressFilter6},
    records::{AddressFilter, BackendRecord},
};

use super::{super::mapped::Mapped, Memory, live::Live, pools::Pooled};
use crate::model::{
    config::Forwarding,
    kernel::{BackendId, ServiceId, Wanted},
};

/// What a directory is made from.
pub(super) type Entries = BTreeMap<EndpointKey, u64>;

/// An IPv4 address as it lies in a packet.
pub(in crate::datapath) fn raw(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

/// An IPv6 address as it lies in a packet.
pub(in crate::datapath) fn raw6(address: Ipv6Addr) -> Address6 {
    Address6::from_bytes(address.octets())
}

/// Back to an address.
pub(in crate::datapath) fn address6(raw: Address6) -> Ipv6Addr {
    let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (raw.0[0].to_ne_bytes(), raw.0[1].to_ne_bytes());
    Ipv6Addr::from([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}

/// Whether a key stands for a virtual address.
pub(super) fn is_address(key: EndpointKey) -> bool {
    key.is_address6() || key == EndpointKey::address((key.0 >> 32) as u32)
}

/// The virtual addresses of services, by what stands for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Virtual(BTreeMap<EndpointKey, IpAddr>);

impl Virtual {
    /// Of all entries; those of IPv6 are known from the records of services, and those of pools are given.
    pub(super) fn of(
        entries: &Entries,
        live: &BTreeMap<ServiceId, Live>,
        pooled: &BTreeSet<IpAddr>,
        key: &HashKey,
    ) -> Self {
        let of_services =
            live.values().map(|live| live.record.address6).filter(|address| *address != Address6::default());
        let of_pools = pooled.iter().filter_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(raw6(*address)),
        });
        let of_ipv6 = of_services.chain(of_pools);
        let mut known: BTreeMap<_, _> =
            of_ipv6.map(|raw| (EndpointKey::address6(raw, key), IpAddr::V6(address6(raw)))).collect();
        let of_ipv4 = |key: &EndpointKey| {
            let address = (key.0 >> 32) as u32;
            (*key == EndpointKey::address(address)).then(|| (*key, IpAddr::V4(address.to_ne_bytes().into())))
        };
        known.extend(entries.keys().filter_map(of_ipv4));
        known.retain(|key, _| entries.contains_key(key));
        Self(known)
    }

    /// The address that a key stands for, if it stands for one.
    pub(super) fn address(&self, key: EndpointKey) -> Option<IpAddr> {
        self.0.get(&key).copied()
    }

    /// Filters of both families.
    pub(super) fn filters(&self) -> (AddressFilter, AddressFilter6) {
        let none = (AddressFilter::default(), AddressFilter6::default());
        self.0.values().fold(none, |(filter, filter6), address| match address {
            IpAddr::V4(address) => (filter.with(raw(*address)), filter6),
            IpAddr::V6(address) => (filter, filter6.with(raw6(*address))),
        })
    }
}

/// Keys of endpoints under a hash key.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a>(pub(super) &'a HashKey);

impl Keys<'_> {
    fn service(self, address: IpAddr, port: u16, protocol: u8) -> EndpointKey {
        match address {
            IpAddr::V4(address) => EndpointKey::service(raw(address), port.to_be(), protocol),
            IpAddr::V6(address) => EndpointKey::service6(raw6(address), port.to_be(), protocol, self.0),
        }
    }

    fn backend(self, address: IpAddr, port: u16, protocol: u8) -> EndpointKey {
        match address {
            IpAddr::V4(address) => EndpointKey::backend(raw(address), port.to_be(), protocol),
            IpAddr::V6(address) => EndpointKey::backend6(raw6(address), port.to_be(), protocol, self.0),
        }
    }

    fn address(self, address: IpAddr) -> EndpointKey {
        match address {
            IpAddr::V4(address) => EndpointKey::address(raw(address)),
            IpAddr::V6(address) => EndpointKey::address6(raw6(address), self.0),
        }
    }
}

/// All entries of the directory for a set of services.
pub(super) fn wanted_entries(
    wanted: &Wanted,
    local: &BTreeSet<IpAddr>,
    keys: Keys<'_>,
    pooled: &Pooled,
    record: impl Fn(ServiceId) -> u32,
) -> Entries {
    let mut entries = Entries::new();
    for service in &wanted.services {
        let protocol = service.protocol.number();
        let translates = service.forwarding == Forwarding::FullNat;
        let mode = if translates { Entry::FULL_NAT } else { 0 };
        for (class, port) in (0..).zip(&service.ports) {
            let key = keys.service(service.vip, *port, protocol);
            entries.insert(key, mode | Entry::service(record(service.id)).with_port_class(class).0);
        }
        let flags = if local.contains(&service.vip) { Entry::LOCAL_ADDRESS } else { 0 }
            | if service.announce { Entry::ANNOUNCE } else { 0 }
            | if translates { Entry::TRANSLATES } else { 0 };
        let of_address = entries.entry(keys.address(service.vip)).or_insert(Entry::address(service.id, 0).0);
        *of_address |= flags;
        for address in pooled.get(&service.id).into_iter().flatten() {
            let flags = if local.contains(address) { Entry::LOCAL_ADDRESS } else { 0 }
                | if service.announce { Entry::ANNOUNCE } else { 0 };
            let of_pool = entries.entry(keys.address(*address)).or_insert(Entry::address(service.id, 0).0);
            *of_pool |= flags | Entry::TRANSLATES | Entry::POOL;
        }
        for backend in service.versions.iter().flat_map(|version| &version.backends) {
            if translates || !service.forwarding.sees_answers() {
                // What it sends is not looked for by this, or not at all: only the daemon finds it so. No packet is of protocol 0.
                entries.insert(keys.backend(backend.address, backend.id.0, 0), u64::from(backend.id.0));
                continue;
            }
            // A backend that keeps the client's port answers from all ports of the service.
            let own = [backend.port];
            let ports = if backend.port == 0 { service.ports.as_slice() } else { own.as_slice() };
            for port in ports {
                entries.insert(keys.backend(backend.address, *port, protocol), u64::from(backend.id.0));
            }
        }
    }
    entries
}

pub(super) fn read_directory(directory: &Mapped<DirectorySet>, place: Place) -> Entries {
    if place == Place::default() {
        return Entries::new();
    }
    let sets = place.base()..(place.base() + (1 << place.sets_log2())).min(directory.len());
    sets.map(|index| directory.read(index))
        .flat_map(|set| set.keys.into_iter().zip(set.values))
        .filter(|(key, _)| *key != 0)
        .map(|(key, value)| (EndpointKey(key), value))
        .collect()
}

/// Whether a key is a backend's endpoint.
pub(super) const fn is_backend(key: EndpointKey) -> bool {
    key.0 & 2 != 0
}

pub(super) fn read_backends(memory: &Memory, entries: &Entries) -> BTreeMap<BackendId, IpAddr> {
    let Memory { backends, ends, targets, .. } = memory;
    let room = backends.len().min(ends.len()).min(targets.len());
    let known = entries.iter().filter(|(key, _)| is_backend(**key)).map(|(key, value)| (*key, *value as u16));
    known
        .filter(|(_, id)| u32::from(*id) < room)
        .map(|(key, id)| {
            let index = u32::from(id);
            let record = backends.read(index);
            let address = if record.flags & BackendRecord::FLAG_ONE_WAY != 0 {
                address6(targets.read(index).address).to_canonical()
            } else if key.0 & 1 == 0 {
                IpAddr::V6(address6(ends.read(index).address))
            } else {
                IpAddr::V4(record.address.to_ne_bytes().into())
            };
            (BackendId(id), address)
        })
        .collect()
}
