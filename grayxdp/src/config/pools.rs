//! Pools of sources of services with `forwarding: full-nat`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use grayxdp_common::translations::POOL_ADDRESSES;

use crate::{
    config::{
        endpoints::usable,
        problem::{Place, Problem},
    },
    model::config::{Config, Forwarding, PoolRange, Service},
};

/// Checks the pools of all services. Services may share one: their flows are told apart by their backends.
pub(super) fn check(config: &Config, problems: &mut Vec<Problem>) {
    let list = Place::default().field("services");
    let mut taken = BTreeMap::new();
    for (index, service) in config.services.iter().enumerate() {
        let (place, name) = (list.index(index), &service.name);
        taken.entry(service.vip).or_insert((format!("the VIP of service `{name}`"), place.field("vip")));
        for (version_index, version) in service.versions.iter().enumerate() {
            let backends = place.field("versions").index(version_index).field("backends");
            for (index, backend) in version.backends.iter().enumerate() {
                let what = format!("a backend of service `{name}`");
                taken.entry(backend.address).or_insert((what, backends.index(index).field("address")));
            }
        }
    }
    for (index, service) in config.services.iter().enumerate() {
        let place = list.index(index);
        match service.forwarding {
            Forwarding::FullNat => pool(service, &place, &taken, problems),
            Forwarding::Nat | Forwarding::Dsr | Forwarding::Ipip if !service.source_pool.is_empty() => {
                let mode = service.forwarding.label();
                let what = format!("sourcePool of service `{}`, which forwards by `{mode}`", service.name);
                let remedy = "remove it, or use `forwarding: full-nat`";
                problems.push(Problem::new(place.field("sourcePool"), what, remedy));
            }
            Forwarding::Nat | Forwarding::Dsr | Forwarding::Ipip => {}
        }
    }
}

fn pool(service: &Service, place: &Place, taken: &BTreeMap<IpAddr, (String, Place)>, problems: &mut Vec<Problem>) {
    let (name, ranges) = (&service.name, place.field("sourcePool"));
    if service.source_pool.is_empty() {
        let what = format!("service `{name}` forwards by `full-nat` and has no `sourcePool`");
        let remedy = "give it addresses that are routed to this host or lie on a link of it, as [10.1.0.250]";
        problems.push(Problem::new(place.field("forwarding"), what, remedy));
        return;
    }
    let count = service.source_pool.iter().fold(0, |sum: u128, range| sum.saturating_add(range.len()));
    if count > POOL_ADDRESSES as u128 {
        let what = format!("sourcePool of service `{name}` has more than {POOL_ADDRESSES} addresses");
        let remedy = format!("keep to {POOL_ADDRESSES}: each gives 64,512 flows to each backend's port");
        problems.push(Problem::new(ranges, what, remedy));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, range) in service.source_pool.iter().enumerate() {
        let place = ranges.index(index);
        if range.0.address.is_ipv4() != service.vip.is_ipv4() {
            let family = if service.vip.is_ipv4() { "IPv4" } else { "IPv6" };
            let what = format!("source {} of service `{name}`, whose VIP is one of {family}", String::from(*range));
            problems.push(Problem::new(place, what, format!("use addresses of {family}")));
            continue;
        }
        addresses(service, *range, &place, (taken, &mut seen), problems);
    }
}

/// The first problem of each range.
fn addresses(
    service: &Service,
    range: PoolRange,
    place: &Place,
    (taken, seen): (&BTreeMap<IpAddr, (String, Place)>, &mut BTreeSet<IpAddr>),
    problems: &mut Vec<Problem>,
) {
    let name = &service.name;
    for address in range.addresses(POOL_ADDRESSES) {
        let before = problems.len();
        let whose = format!("source {address} of service `{name}`");
        if let Some((what, other)) = taken.get(&address) {
            let problem = Problem::new(place.clone(), format!("{whose} is {what}"), "use an address of its own");
            problems.push(problem.with_other(other));
        } else if !seen.insert(address) {
            problems.push(Problem::new(place.clone(), format!("{whose} stands twice"), "name each once"));
        } else {
            // The place of a range has no fields: it is said at the range itself.
            let mut found = Vec::new();
            usable(address, None, place, &whose, "", &mut found);
            problems.extend(found.into_iter().map(|problem| problem.at(place.clone())));
        }
        if problems.len() > before {
            return;
        }
    }
}
