//! Reading the host's view by netlink, and asking it to resolve neighbours.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType},
    rule::RuleAttribute,
};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};

use super::{
    super::devices,
    mirror::{Destination, Link, Mirror, Via},
};
use crate::model::config::width;

/// Routing tables that a host without policy routing has: local, main, default.
const USUAL_TABLES: [u32; 3] = [255, 254, 253];

/// Reads everything.
pub(super) async fn read(handle: &Handle, backends: &BTreeSet<IpAddr>) -> Result<Mirror, rtnetlink::Error> {
    let addresses = local_addresses(handle).await?;
    let mut links = links(handle).await?;
    for (index, link) in &mut links {
        let own = || addresses.iter().filter(|(at, _, _)| at == index).map(|(_, length, address)| (*length, *address));
        let shared = || own().filter(|(length, address)| *length < width(*address)).chain(own()).map(|(_, own)| own);
        link.address = shared().find_map(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        link.address6 = shared().find_map(|address| match address {
            IpAddr::V6(address) if !address.is_unicast_link_local() => Some(address),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        });
    }
    let mut mirror = Mirror {
        links,
        local: addresses.into_iter().map(|(_, _, address)| address).collect(),
        routes: routes(handle).await?,
        has_rules: [has_rules(handle, IpVersion::V4).await?, has_rules(handle, IpVersion::V6).await?],
        ..Mirror::default()
    };
    read_neighbours(handle, &mut mirror).await?;
    for backend in backends {
        if let Some(via) = way_to(handle, *backend).await {
            mirror.ways.insert(*backend, via);
        }
    }
    Ok(mirror)
}

async fn links(handle: &Handle) -> Result<BTreeMap<u32, Link>, rtnetlink::Error> {
    let messages: Vec<_> = handle.link().get().execute().try_collect().await?;
    let up = messages.into_iter().filter(|link| link.header.flags.contains(LinkFlags::Up));
    let link = |attributes: &[LinkAttribute]| {
        let takes_packets = devices::takes_packets(attributes);
        let mut found = Link { ethernet: [0; 6], mtu: 0, takes_packets, address: None, address6: None };
        let mut has_ethernet = false;
        for attribute in attributes {
            match attribute {
                LinkAttribute::Address(bytes) => {
                    found.ethernet = <[u8; 6]>::try_from(bytes.as_slice()).ok()?;
                    has_ethernet = true;
                }
                LinkAttribute::Mtu(mtu) => found.mtu = *mtu,
                _ => {}
            }
        }
        has_ethernet.then_some(found)
    };
    Ok(up.filter_map(|message| Some((message.header.index, link(&message.attributes)?))).collect())
}

/// This host's addresses, with the index and the prefix length that each has.
async fn local_addresses(handle: &Handle) -> Result<Vec<(u32, u8, IpAddr)>, rtnetlink::Error> {
    let messages: Vec<_> = handle.address().get().execute().try_collect().await?;
    let local = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    };
    // IPv6 has no other end of a link to tell its own one from.
    let address = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Address(address @ IpAddr::V6(_)) => Some(*address),
        _ => None,
    };
    let of = |message: &AddressMessage| {
        let own = message.attributes.iter().find_map(local).or_else(|| message.attributes.iter().find_map(address))?;
        Some((message.header.index, message.header.prefix_len, own))
    };
    Ok(messages.iter().filter_map(of).collect())
}

/// What was read, or nothing where the host has no such family: IPv6 may be turned off.
fn or_none<T>(read: Result<Vec<T>, rtnetlink::Error>) -> Result<Vec<T>, rtnetlink::Error> {
    match read {
        Err(rtnetlink::Error::NetlinkError(error))
            if matches!(error.to_io().raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) =>
        {
            Ok(Vec::new())
        }
        read => read,
    }
}

async fn routes(handle: &Handle) -> Result<BTreeMap<Destination, Via>, rtnetlink::Error> {
    let (all, all6) = (RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build());
    let mut messages: Vec<_> = handle.route().get(all).execute().try_collect().await?;
    messages.extend(or_none(handle.route().get(all6).execute().try_collect::<Vec<_>>().await)?);
    let mut best: BTreeMap<Destination, (u32, Via)> = BTreeMap::new();
    for message in messages.iter().filter(|message| message.header.table == RouteHeader::RT_TABLE_MAIN) {
        let metric = message.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Priority(metric) => Some(*metric),
            _ => None,
        });
        let route = (metric.unwrap_or(0), via_of(message));
        let place = best.entry(destination_of(message)).or_insert(route);
        if route.0 < place.0 {
            *place = route;
        }
    }
    Ok(best.into_iter().map(|(destination, (_, via))| (destination, via)).collect())
}

fn destination_of(message: &RouteMessage) -> Destination {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    let everything = if message.header.address_family == AddressFamily::Inet6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    };
    (address.unwrap_or(everything), message.header.destination_prefix_length)
}

fn via_of(message: &RouteMessage) -> Via {
    let (mut interface, mut gateway, mut plain) = (None, None, message.header.kind == RouteType::Unicast);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(IpAddr::V4(*address)),
            RouteAttribute::Gateway(RouteAddress::Inet6(address)) => gateway = Some(IpAddr::V6(*address)),
            RouteAttribute::MultiPath(_)
            | RouteAttribute::Encap(_)
            | RouteAttribute::EncapType(_)
            | RouteAttribute::Via(_)
            | RouteAttribute::NhId(_) => plain = false,
            _ => {}
        }
    }
    match (plain, interface, gateway) {
        (true, Some(interface), Some(gateway)) => Via::Gateway(interface, gateway),
        (true, Some(interface), None) => Via::Link(interface),
        (false, _, _) | (true, None, _) => Via::Other,
    }
}

async fn has_rules(handle: &Handle, family: IpVersion) -> Result<bool, rtnetlink::Error> {
    let messages: Vec<_> = or_none(handle.rule().get(family).execute().try_collect().await)?;
    let usual = messages.iter().all(|rule| {
        let table = rule.attributes.iter().find_map(|attribute| match attribute {
            RuleAttribute::Table(table) => Some(*table),
            _ => None,
        });
        let plain = rule.header.dst_len == 0 && rule.header.src_len == 0;
        plain && USUAL_TABLES.contains(&table.unwrap_or(u32::from(rule.header.table)))
    });
    Ok(!usual)
}

/// Reads the neighbours anew.
pub(super) async fn read_neighbours(handle: &Handle, mirror: &mut Mirror) -> Result<(), rtnetlink::Error> {
    let mut messages = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let dump = handle.neighbours().get().set_address_family(family).execute();
        messages.extend(or_none(dump.try_collect::<Vec<_>>().await)?);
    }
    let permanent = messages.iter().filter(|message| message.header.state == NeighbourState::Permanent);
    mirror.permanent = permanent.filter_map(neighbour_of).map(|(place, _)| place).collect();
    mirror.neighbours = messages.iter().filter_map(neighbour_of).collect();
    Ok(())
}

fn neighbour_of(message: &NeighbourMessage) -> Option<((u32, IpAddr), [u8; 6])> {
    let usable = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    );
    let (mut address, mut ethernet) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(inet)) => address = Some(IpAddr::V4(*inet)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(inet)) => address = Some(IpAddr::V6(*inet)),
            NeighbourAttribute::LinkLayerAddress(bytes) => ethernet = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            _ => {}
        }
    }
    if usable { Some(((message.header.ifindex, address?), ethernet?)) } else { None }
}

/// The kernel's own answer for a destination.
async fn way_to(handle: &Handle, destination: IpAddr) -> Option<Via> {
    let question = match destination {
        IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).build(),
        IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(address, 128).build(),
    };
    let answer = handle.route().get(question).execute().next().await?.ok()?;
    Some(via_of(&answer))
}

/// Asks the kernel to resolve a neighbour that it does not know.
pub(super) async fn resolve(handle: &Handle, interface: u32, neighbour: IpAddr) {
    let request = handle.neighbours().add(interface, neighbour).flags(NeighbourFlags::Use);
    if let Err(error) = request.state(NeighbourState::None).replace().execute().await {
        tracing::debug!(%neighbour, interface, %error, "neighbour was not asked for");
    }
}

/// Asks the kernel to see now whether a known neighbour still answers; it stays in use until three probes are lost.
pub(super) async fn probe(handle: &Handle, interface: u32, neighbour: IpAddr) {
    let request = handle.neighbours().add(interface, neighbour).state(NeighbourState::Probe);
    if let Err(error) = request.replace().execute().await {
        tracing::debug!(%neighbour, interface, %error, "neighbour was not asked for");
    }
}
