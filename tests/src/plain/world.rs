//! What the model knows of the host: services, backends, ways back to clients.

use std::net::{IpAddr, SocketAddr};

use grayxdp::model::{
    config::Protocol,
    kernel::{BackendId, ServiceId},
};

use crate::packet::Mac;

/// Where a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Index of the interface.
    pub interface: u32,
    /// That one's Ethernet address.
    pub own: Mac,
    /// That of the neighbour.
    pub neighbour: Mac,
}

/// A server.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    /// Its number.
    pub id: BackendId,
    /// Where it listens.
    pub end: SocketAddr,
    /// How packets get there; none where nobody knows.
    pub hop: Option<Hop>,
}

/// A settled service in `nat` with one backend at most.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its number; an address of several counts for the lowest one.
    pub id: ServiceId,
    /// Virtual address and port.
    pub vip: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Whether ARP requests and neighbour solicitations are answered.
    pub is_announced: bool,
    /// Whether the host has the address itself.
    pub is_local: bool,
    /// Its backend.
    pub backend: Option<Backend>,
}

impl Service {
    /// The number of its protocol.
    pub(super) const fn number(&self) -> u8 {
        match self.protocol {
            Protocol::Tcp => super::read::TCP,
            Protocol::Udp => super::read::UDP,
        }
    }
}

/// What the host makes of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// An address of the host, or a prefix with direct access.
    Untouched,
    /// To a gateway.
    Gateway(Hop),
    /// On a link of the host; only neighbours in [`World::neighbours`] are known.
    OnLink,
    /// Nowhere.
    Unreachable,
}

/// An interface.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its address of IPv4.
    pub ipv4: IpAddr,
    /// Its address of IPv6.
    pub ipv6: IpAddr,
    /// The longest packet that it takes, in bytes.
    pub mtu: usize,
}

/// The host.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// All services.
    pub services: Vec<Service>,
    /// Prefixes and what leads there; the longest one that holds an address decides, among equal ones the first.
    pub routes: Vec<(IpAddr, u8, Way)>,
    /// Known neighbours.
    pub neighbours: Vec<(IpAddr, Hop)>,
    /// All interfaces.
    pub interfaces: Vec<Interface>,
}

impl World {
    /// The service at an endpoint.
    pub(super) fn service_at(&self, end: SocketAddr, protocol: u8) -> Option<&Service> {
        self.services.iter().find(|service| service.vip == end && service.number() == protocol)
    }

    /// The service whose backend listens at an endpoint.
    pub(super) fn service_behind(&self, end: SocketAddr, protocol: u8) -> Option<(&Service, Backend)> {
        let is_there =
            |service: &&Service| service.number() == protocol && service.backend.is_some_and(|one| one.end == end);
        let service = self.services.iter().find(is_there)?;
        Some((service, service.backend?))
    }

    /// The service for which what is for a virtual address as such is counted.
    pub(super) fn service_of(&self, address: IpAddr) -> Option<&Service> {
        self.services.iter().filter(|service| service.vip.ip() == address).min_by_key(|service| service.id.0)
    }

    /// An interface.
    pub(super) fn interface(&self, index: u32) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.index == index)
    }

    /// What leads to an address.
    pub(super) fn way_to(&self, address: IpAddr) -> Way {
        let holds = |(prefix, length, _): &&(IpAddr, u8, Way)| is_within(address, *prefix, *length);
        let longest = self.routes.iter().filter(holds).rev().max_by_key(|(_, length, _)| *length);
        longest.map_or(Way::Unreachable, |(_, _, way)| *way)
    }

    /// A neighbour, if it is known.
    pub(super) fn neighbour(&self, address: IpAddr) -> Option<Hop> {
        self.neighbours.iter().find(|(one, _)| *one == address).map(|(_, hop)| *hop)
    }
}

fn is_within(address: IpAddr, prefix: IpAddr, length: u8) -> bool {
    match (address, prefix) {
        (IpAddr::V4(address), IpAddr::V4(prefix)) => {
            (address.to_bits() ^ prefix.to_bits()).leading_zeros() >= u32::from(length)
        }
        (IpAddr::V6(address), IpAddr::V6(prefix)) => {
            (address.to_bits() ^ prefix.to_bits()).leading_zeros() >= u32::from(length)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}
