//! Addresses and ports: no two things at one place, and none where packets cannot go.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use crate::{
    config::problem::{Place, Problem},
    model::config::{Backend, Config, Forwarding, Protocol, Service, Version},
};

/// Who has an endpoint, and where the file says so.
struct Owner<'a> {
    place: Place,
    service: &'a Service,
    version: Option<&'a Version>,
}

/// The virtual endpoints of all services, by address and port.
type VirtualEnds<'a> = HashMap<(IpAddr, u16), Vec<(Protocol, Owner<'a>)>>;

/// The endpoints of backends.
type BackendEnds<'a> = HashMap<(IpAddr, u16, Protocol), Owner<'a>>;

/// Checks virtual and backend endpoints of all services.
pub(super) fn check(config: &Config, problems: &mut Vec<Problem>) {
    let services = || {
        let list = Place::default().field("services");
        config.services.iter().enumerate().map(move |(index, service)| (list.index(index), service))
    };
    let mut virtual_ends = VirtualEnds::new();
    for (place, service) in services() {
        virtual_end(&place, service, &mut virtual_ends, problems);
    }
    // Replies that come by are told apart in all services, others not at all: there a server may be in many of them.
    let mut backends = BackendEnds::new();
    let mut direct: HashMap<usize, BackendEnds<'_>> = HashMap::new();
    let mut translated = BackendEnds::new();
    for (index_of_service, (place, service)) in services().enumerate() {
        for (index, version) in service.versions.iter().enumerate() {
            let list = place.field("versions").index(index).field("backends");
            for (index, backend) in version.backends.iter().enumerate() {
                let owner = || Owner { place: list.index(index), service, version: Some(version) };
                own_port(service, backend, &owner().place, problems);
                own_family(service, backend, &owner().place, problems);
                let (end, place) = (service.backend_address(backend).to_string(), owner().place);
                usable(backend.address, backend.port, &place, &format!("backend {end}"), "address", problems);
                if let Some((_, first)) = ends(service, backend).find_map(|end| virtual_ends.get(&end)?.first()) {
                    problems.push(circle(&end, &place, first));
                }
                let key = |(address, port)| (address, port, service.protocol);
                let known = match service.forwarding {
                    Forwarding::Nat => &mut backends,
                    Forwarding::Dsr | Forwarding::Ipip | Forwarding::FullNat => {
                        direct.entry(index_of_service).or_default()
                    }
                };
                match ends(service, backend).find_map(|end| known.get(&key(end))) {
                    Some(first) => problems.push(shared(&owner(), first, &end)),
                    None => known.extend(ends(service, backend).map(|end| (key(end), owner()))),
                }
                if service.forwarding == Forwarding::FullNat {
                    translated.extend(ends(service, backend).map(|end| (key(end), owner())));
                }
            }
        }
    }
    answered_twice(&backends, &translated, problems);
}

/// What a backend of `nat` sends belongs to its service, whomever it is for: answers to a pool, too.
fn answered_twice(of_nat: &BackendEnds<'_>, translated: &BackendEnds<'_>, problems: &mut Vec<Problem>) {
    let mut both: Vec<_> = translated.iter().filter_map(|(end, owner)| Some((end, owner, of_nat.get(end)?))).collect();
    both.sort_by_key(|(end, _, _)| (end.0, end.1));
    for ((address, port, _), owner, first) in both {
        let (end, other) = (SocketAddr::new(*address, *port), &first.service.name);
        let what = format!(
            "backend {end} of service `{}` (`full-nat`) is also of service `{other}` (`nat`)",
            owner.service.name
        );
        let remedy = "its answers could not be told apart; use `full-nat` for both, or another address or port";
        problems.push(Problem::new(owner.place.clone(), what, remedy).with_other(&first.place));
    }
}

/// Where a backend is met: at its own port, or at each of the service's.
fn ends<'a>(service: &'a Service, backend: &'a Backend) -> impl Iterator<Item = (IpAddr, u16)> + 'a {
    let ports = if backend.port.is_some() { backend.port.as_slice() } else { service.virtual_ports() };
    ports.iter().map(|&port| (backend.address, port))
}

fn virtual_end<'a>(place: &Place, service: &'a Service, known: &mut VirtualEnds<'a>, problems: &mut Vec<Problem>) {
    let what = format!("VIP {} of service `{}`", service.vip, service.name);
    usable(service.vip, service.port, place, &what, "vip", problems);
    let clashes = service.virtual_ports().iter().find_map(|&port| {
        let taken = known.get(&(service.vip, port))?;
        let (_, first) = taken.iter().find(|(protocol, _)| *protocol == service.protocol)?;
        Some((port, first))
    });
    if let Some((port, first)) = clashes {
        let end = format!("{}/{}", SocketAddr::new(service.vip, port), service.protocol.label());
        let what = format!("{end} of service `{}` is that of service `{}`", service.name, first.service.name);
        let remedy = "give each service an address, port or protocol of its own";
        problems.push(Problem::new(place.field("vip"), what, remedy).with_other(&first.place));
    }
    for &port in service.virtual_ports() {
        let owner = Owner { place: place.field("vip"), service, version: None };
        known.entry((service.vip, port)).or_default().push((service.protocol, owner));
    }
}

/// With several ports, each flow keeps its own; so it does where ports are not rewritten.
fn own_port(service: &Service, backend: &Backend, place: &Place, problems: &mut Vec<Problem>) {
    let keeps_port = match service.forwarding {
        Forwarding::Nat | Forwarding::FullNat => false,
        Forwarding::Dsr | Forwarding::Ipip => true,
    };
    if keeps_port
        && let (Some(port), [virtual_port]) = (backend.port, service.virtual_ports())
        && port != *virtual_port
    {
        let (end, mode) = (SocketAddr::new(backend.address, port), service.forwarding.label());
        let what = format!(
            "backend {end} of service `{}`, whose packets keep port {virtual_port} with `{mode}`",
            service.name
        );
        let remedy =
            format!("leave its port out and let the server listen on {virtual_port}; or use `forwarding: nat`");
        problems.push(Problem::new(place.field("port"), what, remedy));
    }
    if service.virtual_ports().len() > 1
        && let Some(port) = backend.port
    {
        let end = SocketAddr::new(backend.address, port);
        let what = format!("backend {end} of service `{}`, which has several ports", service.name);
        let remedy = "leave its port out: the client's is kept; or make a service for each port";
        problems.push(Problem::new(place.field("port"), what, remedy));
    }
}

/// Both ends are of one family, but for tunnels: those of IPv6 take packets of IPv4 too.
fn own_family(service: &Service, backend: &Backend, place: &Place, problems: &mut Vec<Problem>) {
    let is_in_tunnel = service.forwarding == Forwarding::Ipip && service.vip.is_ipv4();
    if backend.address.is_ipv4() == service.vip.is_ipv4() || is_in_tunnel {
        return;
    }
    let family = |address: IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let (own, vip) = (family(backend.address), family(service.vip));
    let mode = service.forwarding.label();
    let what = format!(
        "backend {} is one of {own}, and VIP {} of service `{}` one of {vip}",
        backend.address, service.vip, service.name
    );
    let remedy = match service.vip {
        IpAddr::V4(_) => format!(
            "`{mode}` does not translate between families: use `forwarding: ipip`, give the backend's {vip} address, or make a \
             service with a VIP of {own}"
        ),
        IpAddr::V6(_) => format!(
            "`{mode}` does not carry {vip} to a host of {own}: give the backend's {vip} address, or make a service with a VIP of {own}"
        ),
    };
    problems.push(Problem::new(place.field("address"), what, remedy));
}

/// A backend that is a virtual endpoint.
fn circle(end: &str, place: &Place, first: &Owner<'_>) -> Problem {
    let what = format!("backend {end} is the virtual endpoint of service `{}`", first.service.name);
    let remedy = "packets would go in a circle; give the backend its own address";
    Problem::new(place.clone(), what, remedy).with_other(&first.place)
}

/// Refuses port 0 and addresses to which no packet can be sent.
pub(super) fn usable(
    address: IpAddr,
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
        IpAddr::V4(address) if address.is_broadcast() => Some("the broadcast address"),
        IpAddr::V6(address) if address.is_unicast_link_local() => Some("a link-local address"),
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => Some("an IPv4 address in IPv6 form"),
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
        let remedy = match second.service.forwarding {
            Forwarding::Nat => "their replies could not be told apart; give each its own address or port",
            Forwarding::Dsr | Forwarding::Ipip | Forwarding::FullNat => {
                "both would be one server at one port; give each its own address"
            }
        };
        Problem::new(second.place.clone(), what, remedy)
    };
    problem.with_other(&first.place)
}
