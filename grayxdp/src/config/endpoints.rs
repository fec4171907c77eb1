//! Addresses and ports: no two things at one place, and none where packets cannot go.

use std::{collections::HashMap, net::Ipv4Addr};

use crate::{
    config::problem::{Place, Problem},
    model::config::{Config, Protocol, Service, Version},
};

/// Who has an endpoint, and where the file says so.
struct Owner<'a> {
    place: Place,
    service: &'a Service,
    version: Option<&'a Version>,
}

/// Checks virtual and backend endpoints of all services.
pub(super) fn check(config: &Config, problems: &mut Vec<Problem>) {
    let services = || {
        let list = Place::default().field("services");
        config.services.iter().enumerate().map(move |(index, service)| (list.index(index), service))
    };
    let mut virtual_ends: HashMap<(Ipv4Addr, u16), Vec<(Protocol, Owner<'_>)>> = HashMap::new();
    for (place, service) in services() {
        virtual_end(&place, service, problems);
        let taken = virtual_ends.entry((service.vip, service.port)).or_default();
        if let Some((_, first)) = taken.iter().find(|(protocol, _)| *protocol == service.protocol) {
            let end = format!("{}:{}/{}", service.vip, service.port, service.protocol.label());
            let what = format!("{end} of service `{}` is that of service `{}`", service.name, first.service.name);
            let remedy = "give each service an address, port or protocol of its own";
            problems.push(Problem::new(place.field("vip"), what, remedy).with_other(&first.place));
        }
        taken.push((service.protocol, Owner { place: place.field("vip"), service, version: None }));
    }
    let mut backends: HashMap<(Ipv4Addr, u16, Protocol), Owner<'_>> = HashMap::new();
    for (place, service) in services() {
        for (index, version) in service.versions.iter().enumerate() {
            let list = place.field("versions").index(index).field("backends");
            for (index, backend) in version.backends.iter().enumerate() {
                let place = list.index(index);
                let port = backend.port.unwrap_or(service.port);
                let end = format!("{}:{port}", backend.address);
                usable(backend.address, backend.port, &place, &format!("backend {end}"), "address", problems);
                if let Some((_, first)) = virtual_ends.get(&(backend.address, port)).and_then(|ends| ends.first()) {
                    let what = format!("backend {end} is the virtual endpoint of service `{}`", first.service.name);
                    let remedy = "packets would go in a circle; give the backend its own address";
                    problems.push(Problem::new(place.clone(), what, remedy).with_other(&first.place));
                }
                let owner = Owner { place: place.clone(), service, version: Some(version) };
                match backends.entry((backend.address, port, service.protocol)) {
                    std::collections::hash_map::Entry::Occupied(first) => {
                        problems.push(shared(&owner, first.get(), &end));
                    }
                    std::collections::hash_map::Entry::Vacant(vacant) => {
                        vacant.insert(owner);
                    }
                }
            }
        }
    }
}

fn virtual_end(place: &Place, service: &Service, problems: &mut Vec<Problem>) {
    let what = format!("VIP {} of service `{}`", service.vip, service.name);
    usable(service.vip, Some(service.port), place, &what, "vip", problems);
}

/// Refuses port 0 and addresses to which no packet can be sent.
fn usable(
    address: Ipv4Addr,
    port: Option<u16>,
    place: &Place,
    what: &str,
    address_field: &str,
    problems: &mut Vec<Problem>,
) {
    let unusable = match address {
        address if address.is_unspecified() => Some("the unspecified address"),
        address if address.is_loopback() => Some("a loopback address"),
        address if address.is_multicast() => Some("a multicast address"),
        address if address.is_broadcast() => Some("the broadcast address"),
        _ => None,
    };
    if let Some(kind) = unusable {
        let remedy = "use the address of one host";
        problems.push(Problem::new(place.field(address_field), format!("{what} is {kind}"), remedy));
    }
    if port == Some(0) {
        problems.push(Problem::new(place.field("port"), format!("{what} has port 0"), "use 1 to 65535"));
    }
}

/// Two backends with one endpoint.
fn shared(second: &Owner<'_>, first: &Owner<'_>, end: &str) -> Problem {
    let whose = |owner: &Owner<'_>| {
        let version = owner.version.expect("owners of backends have a version");
        format!("version `{}` of service `{}`", version.name, owner.service.name)
    };
    let (ours, theirs) = (whose(second), whose(first));
    let problem = if ours == theirs {
        Problem::new(second.place.clone(), format!("backend {end} stands twice in {ours}"), "remove one of the two")
    } else {
        let what = format!("backend {end} of {ours} is also of {theirs}");
        let remedy = "their replies could not be told apart; give each its own address or port";
        Problem::new(second.place.clone(), what, remedy)
    };
    problem.with_other(&first.place)
}
