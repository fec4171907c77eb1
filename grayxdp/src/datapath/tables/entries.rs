//! What a directory is made from, and reading back what the live one leads to. No state of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use grayxdp_common::{
    directory::{DirectorySet, EndpointKey, Entry, Place},
    records::{AddressFilter, BackendRecord},
};

use super::super::mapped::Mapped;
use crate::model::kernel::{BackendId, ServiceId, Wanted};

/// What a directory is made from.
pub(super) type Entries = BTreeMap<EndpointKey, u64>;

/// An address as it lies in a packet.
pub(in crate::datapath) fn raw(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

/// The virtual address that a key stands for, if it stands for one.
pub(super) fn virtual_address(key: EndpointKey) -> Option<Ipv4Addr> {
    let address = (key.0 >> 32) as u32;
    (key == EndpointKey::address(address)).then(|| Ipv4Addr::from(address.to_ne_bytes()))
}

pub(super) fn address_filter(entries: &Entries) -> AddressFilter {
    let addresses = entries.keys().filter_map(|key| virtual_address(*key));
    addresses.fold(AddressFilter::default(), |filter, address| filter.with(raw(address)))
}

/// All entries of the directory for a set of services.
pub(super) fn wanted_entries(
    wanted: &Wanted,
    local: &BTreeSet<Ipv4Addr>,
    record: impl Fn(ServiceId) -> u32,
) -> Entries {
    let mut entries = Entries::new();
    for service in &wanted.services {
        let (address, protocol) = (raw(service.vip), service.protocol.number());
        for (class, port) in (0..).zip(&service.ports) {
            let key = EndpointKey::service(address, port.to_be(), protocol);
            entries.insert(key, Entry::service(record(service.id)).with_port_class(class).0);
        }
        let flags = if local.contains(&service.vip) { Entry::LOCAL_ADDRESS } else { 0 }
            | if service.announce { Entry::ANNOUNCE } else { 0 };
        let of_address = entries.entry(EndpointKey::address(address)).or_insert(Entry::address(service.id, 0).0);
        *of_address |= flags;
        for backend in service.versions.iter().flat_map(|version| &version.backends) {
            // A backend that keeps the client's port answers from all ports of the service.
            let own = [backend.port];
            let ports = if backend.port == 0 { service.ports.as_slice() } else { own.as_slice() };
            for port in ports {
                let key = EndpointKey::backend(raw(backend.address), port.to_be(), protocol);
                entries.insert(key, u64::from(backend.id.0));
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

pub(super) fn read_backends(backends: &Mapped<BackendRecord>, entries: &Entries) -> BTreeMap<BackendId, Ipv4Addr> {
    let ids = entries.iter().filter(|(key, _)| is_backend(**key)).map(|(_, value)| *value as u16);
    ids.filter(|id| u32::from(*id) < backends.len())
        .map(|id| (BackendId(id), Ipv4Addr::from(backends.read(u32::from(id)).address.to_ne_bytes())))
        .collect()
}
