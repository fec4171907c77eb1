//! What this host knows of its links, addresses, routes and neighbours, and what follows for the data path. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use grayxdp_common::{
    ipv6::APART6,
    records::{APART, NextHop, ReplyWay, Route, RouteKind},
};

use super::super::capacity;
use crate::model::config::{Prefix, width};

/// An address and a prefix length.
pub(super) type Destination = (IpAddr, u8);

/// How a route leads on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// By a gateway on an interface.
    Gateway(u32, IpAddr),
    /// Straight to the neighbour on an interface.
    Link(u32),
    /// In a way that only the kernel can follow: several next hops, a tunnel, a refusal.
    Other,
}

/// A link that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Its Ethernet address.
    pub(super) ethernet: [u8; 6],
    /// The longest IP packet that it takes; 0: not said.
    pub(super) mtu: u32,
    /// Whether the program may send packets out by it.
    pub(super) takes_packets: bool,
    /// Its first IPv4 address that is not alone in its prefix, else its first.
    pub(super) address: Option<Ipv4Addr>,
    /// Its first global IPv6 address that is not alone in its prefix, else its first global one.
    pub(super) address6: Option<Ipv6Addr>,
}

/// The host's own view, kept by netlink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mirror {
    /// Each link that is up.
    pub(super) links: BTreeMap<u32, Link>,
    /// This host's addresses.
    pub(super) local: BTreeSet<IpAddr>,
    /// The main table, the best route of each destination.
    pub(super) routes: BTreeMap<Destination, Via>,
    /// Neighbours with a usable Ethernet address.
    pub(super) neighbours: HashMap<(u32, IpAddr), [u8; 6]>,
    /// Neighbours that were set for good: to ask for one would make the kernel forget it.
    pub(super) permanent: BTreeSet<(u32, IpAddr)>,
    /// Whether rules or other tables decide too: then only the kernel knows the way. For each [`Family`].
    pub(super) has_rules: [bool; 2],
    /// The kernel's answer for each backend.
    pub(super) ways: BTreeMap<IpAddr, Via>,
}

/// A family of addresses. The numbers are places in [`Mirror::has_rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Ipv4 = 0,
    Ipv6 = 1,
}

impl Family {
    const fn has(self, address: IpAddr) -> bool {
        match self {
            Self::Ipv4 => address.is_ipv4(),
            Self::Ipv6 => address.is_ipv6(),
        }
    }

    const fn everything(self) -> Destination {
        match self {
            Self::Ipv4 => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            Self::Ipv6 => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
        }
    }

    const fn apart(self) -> usize {
        match self {
            Self::Ipv4 => APART,
            Self::Ipv6 => APART6,
        }
    }
}

/// What the data path is to do with replies of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReplyPlan {
    pub(super) way: ReplyWay,
    pub(super) gateway: NextHop,
    pub(super) apart: Vec<Destination>,
    pub(super) routes: BTreeMap<Destination, Route>,
    pub(super) neighbours: BTreeMap<IpAddr, NextHop>,
}

impl Mirror {
    /// Where packets to each of a set of backends leave.
    pub(super) fn backend_hops(&self, backends: &BTreeSet<IpAddr>) -> HashMap<IpAddr, NextHop> {
        let hop = |backend: &IpAddr| self.ways.get(backend).map_or(NextHop::UNKNOWN, |via| self.hop(*via, *backend));
        backends.iter().map(|backend| (*backend, hop(backend))).collect()
    }

    /// Backends that the kernel has to send packets to, and the links by which it does: those take no packets from the program.
    pub(super) fn kernel_ways(&self, backends: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, u32> {
        let by = |backend: &IpAddr| match self.ways.get(backend)? {
            Via::Gateway(interface, _) | Via::Link(interface) => Some(*interface),
            Via::Other => None,
        };
        let is_kernels = |interface: &u32| self.links.get(interface).is_some_and(|link| !link.takes_packets);
        backends.iter().filter_map(|backend| Some((*backend, by(backend).filter(is_kernels)?))).collect()
    }

    /// Backends that are reached through a router.
    pub(super) fn behind_routers(&self, backends: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        let is_routed = |backend: &IpAddr| match self.ways.get(backend) {
            Some(Via::Gateway(..) | Via::Other) => true,
            Some(Via::Link(_)) | None => false,
        };
        backends.iter().copied().filter(is_routed).collect()
    }

    /// Neighbours whose Ethernet addresses the data path needs and the kernel is to find out.
    pub(super) fn needed_neighbours(&self) -> BTreeSet<(u32, IpAddr)> {
        let gateways = self.routes.values().filter_map(|via| match via {
            Via::Gateway(interface, gateway) => Some((*interface, *gateway)),
            Via::Link(_) | Via::Other => None,
        });
        let backends = self.ways.iter().filter_map(|(backend, via)| match via {
            Via::Gateway(interface, gateway) => Some((*interface, *gateway)),
            Via::Link(interface) => Some((*interface, *backend)),
            Via::Other => None,
        });
        let asked = |place: &(u32, IpAddr)| self.links.contains_key(&place.0) && !self.permanent.contains(place);
        gateways.chain(backends).filter(asked).collect()
    }

    /// What links take, by their index.
    pub(super) fn mtus(&self) -> BTreeMap<u32, u32> {
        self.links.iter().map(|(index, link)| (*index, link.mtu)).collect()
    }

    /// What the narrowest link takes; 0 while none says so.
    pub(super) fn least_mtu(&self) -> u32 {
        self.links.values().map(|link| link.mtu).min().unwrap_or(0)
    }

    fn hop(&self, via: Via, destination: IpAddr) -> NextHop {
        let (interface, neighbour) = match via {
            Via::Gateway(interface, gateway) => (interface, gateway),
            Via::Link(interface) => (interface, destination),
            Via::Other => return NextHop::UNKNOWN,
        };
        match (self.links.get(&interface), self.neighbours.get(&(interface, neighbour))) {
            (Some(source), Some(destination)) if source.takes_packets => {
                NextHop::new(*destination, source.ethernet, interface)
            }
            _ => NextHop::UNKNOWN,
        }
    }

    /// How replies of a family leave; `direct` are prefixes to which backends may talk past the VIP.
    pub(super) fn reply_plan(&self, family: Family, direct: &[Destination]) -> ReplyPlan {
        let mut routes = self.untouched(family, direct);
        let own = || self.routes.iter().filter(|((address, _), _)| family.has(*address));
        if self.has_rules[family as usize] || own().count() + routes.len() > capacity::ROUTES as usize {
            return ReplyPlan { routes, ..ReplyPlan::by_routes() };
        }
        for (destination, via) in own() {
            let shadowed = direct.iter().any(|prefix| holds(*prefix, *destination));
            if !shadowed {
                routes.entry(*destination).or_insert_with(|| self.route(*via));
            }
        }
        let neighbours = self.on_link_neighbours(family);
        match single_gateway(family, &routes) {
            Some((gateway, apart)) => ReplyPlan { way: ReplyWay::Gateway, gateway, apart, routes, neighbours },
            None => ReplyPlan { routes, neighbours, ..ReplyPlan::by_routes() },
        }
    }

    /// What is no reply of a service, whatever its ports: for this host itself, and for direct access.
    fn untouched(&self, family: Family, direct: &[Destination]) -> BTreeMap<Destination, Route> {
        let route = Route { kind: RouteKind::Untouched as u32, reserved: 0, next_hop: NextHop::UNKNOWN };
        let local = self.local.iter().map(|address| (*address, width(*address)));
        let all = local.chain(direct.iter().copied()).filter(|(address, _)| family.has(*address));
        all.map(|destination| (destination, route)).collect()
    }

    fn route(&self, via: Via) -> Route {
        let (kind, next_hop) = match via {
            Via::Gateway(_, gateway) => (RouteKind::Gateway, self.hop(via, gateway)),
            Via::Link(_) => (RouteKind::OnLink, NextHop::UNKNOWN),
            Via::Other => (RouteKind::Kernel, NextHop::UNKNOWN),
        };
        Route { kind: kind as u32, reserved: 0, next_hop }
    }

    fn on_link_neighbours(&self, family: Family) -> BTreeMap<IpAddr, NextHop> {
        let lengths: BTreeSet<u8> = self.routes.keys().map(|(_, length)| *length).collect();
        let longest = |address: IpAddr| {
            let fitting = lengths.iter().rev().filter(|length| **length <= width(address));
            fitting.copied().find_map(|length| self.routes.get(&(network(address, length), length)).copied())
        };
        let known = self
            .neighbours
            .keys()
            .filter(|(interface, address)| family.has(*address) && longest(*address) == Some(Via::Link(*interface)));
        let hops = known.map(|(interface, address)| (*address, self.hop(Via::Link(*interface), *address)));
        hops.filter(|(_, hop)| hop.is_known()).take(capacity::NEIGHBOURS as usize).collect()
    }
}

/// The gateway of the default route, if no other route has one, and what does not go there, if that is little.
fn single_gateway(family: Family, routes: &BTreeMap<Destination, Route>) -> Option<(NextHop, Vec<Destination>)> {
    let default = routes.get(&family.everything())?;
    if default.kind != RouteKind::Gateway as u32 || !default.next_hop.is_known() {
        return None;
    }
    let others: Vec<Destination> =
        routes.iter().filter(|(_, route)| *route != default).map(|(destination, _)| *destination).collect();
    let covered = |this: &Destination| others.iter().any(|other| other != this && holds(*other, *this));
    let apart: Vec<Destination> = others.iter().filter(|this| !covered(this)).copied().collect();
    (apart.len() <= family.apart()).then_some((default.next_hop, apart))
}

impl ReplyPlan {
    const fn by_routes() -> Self {
        Self {
            way: ReplyWay::Routes,
            gateway: NextHop::UNKNOWN,
            apart: Vec::new(),
            routes: BTreeMap::new(),
            neighbours: BTreeMap::new(),
        }
    }
}

fn network(address: IpAddr, length: u8) -> IpAddr {
    Prefix { address, length }.network()
}

/// Whether a prefix holds another, or is the same.
fn holds((outer, outer_length): Destination, (inner, inner_length): Destination) -> bool {
    Prefix { address: outer, length: outer_length }.holds(Prefix { address: inner, length: inner_length })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENTS: u32 = 2;
    const BACKENDS: u32 = 3;
    const GATEWAY: IpAddr = ip(10, 0, 0, 1);
    const BACKEND: IpAddr = ip(10, 1, 0, 2);

    const fn ip(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    }

    const fn link(ethernet: [u8; 6], mtu: u32) -> Link {
        Link { ethernet, mtu, takes_packets: true, address: None, address6: None }
    }

    fn host() -> Mirror {
        Mirror {
            links: [(CLIENTS, link([2; 6], 1_500)), (BACKENDS, link([3; 6], 9_000))].into(),
            local: [ip(10, 0, 0, 2), ip(10, 1, 0, 1)].into(),
            routes: [
                (Family::Ipv4.everything(), Via::Gateway(CLIENTS, GATEWAY)),
                ((ip(10, 0, 0, 0), 24), Via::Link(CLIENTS)),
                ((ip(10, 1, 0, 0), 24), Via::Link(BACKENDS)),
            ]
            .into(),
            neighbours: [((CLIENTS, GATEWAY), [4; 6]), ((BACKENDS, BACKEND), [5; 6])].into(),
            permanent: BTreeSet::new(),
            has_rules: [false; 2],
            ways: [(BACKEND, Via::Link(BACKENDS))].into(),
        }
    }

    #[test]
    fn a_backend_on_the_link_is_reached_by_its_own_address() {
        let hops = host().backend_hops(&[BACKEND, ip(10, 1, 0, 9)].into());
        assert_eq!(hops[&BACKEND], NextHop::new([5; 6], [3; 6], BACKENDS));
        assert!(!hops[&ip(10, 1, 0, 9)].is_known());
    }

    #[test]
    fn the_narrowest_link_decides_which_packets_are_looked_at_and_one_that_says_nothing_all() {
        let mut host = host();
        assert_eq!(host.least_mtu(), 1_500);
        host.links.insert(9, link([9; 6], 0));
        assert_eq!(host.least_mtu(), 0);
        assert_eq!(Mirror::default().least_mtu(), 0);
    }

    #[test]
    fn a_neighbour_that_was_set_for_good_is_never_asked_for() {
        let mut host = host();
        assert_eq!(host.needed_neighbours(), [(CLIENTS, GATEWAY), (BACKENDS, BACKEND)].into());
        host.permanent.insert((BACKENDS, BACKEND));
        assert_eq!(host.needed_neighbours(), [(CLIENTS, GATEWAY)].into());
        assert!(host.backend_hops(&[BACKEND].into())[&BACKEND].is_known());
    }

    #[test]
    fn one_gateway_is_a_constant_and_what_is_on_link_or_local_stays_apart() {
        let plan = host().reply_plan(Family::Ipv4, &[]);
        assert_eq!((plan.way, plan.gateway.destination()), (ReplyWay::Gateway, [4; 6]));
        let apart = |address: [u8; 4]| plan.apart.iter().any(|prefix| holds(*prefix, (address.into(), 32)));
        assert!(apart([10, 0, 0, 2]) && apart([10, 0, 0, 77]) && apart([10, 1, 0, 1]));
        assert!(!apart([203, 0, 113, 9]));
        assert_eq!(plan.apart.len(), 2, "local addresses lie within the on-link networks");
    }

    #[test]
    fn a_second_gateway_needs_the_routes() {
        let mut host = host();
        host.routes.insert((ip(172, 16, 0, 0), 12), Via::Gateway(BACKENDS, BACKEND));
        assert_eq!(
            host.reply_plan(Family::Ipv4, &[]).way,
            ReplyWay::Gateway,
            "one more gateway is one more prefix apart"
        );
        for n in 0..10 {
            host.routes.insert((ip(192, 168, n, 0), 24), Via::Gateway(BACKENDS, BACKEND));
        }
        let plan = host.reply_plan(Family::Ipv4, &[]);
        assert_eq!(plan.way, ReplyWay::Routes);
        assert_eq!(plan.routes[&(ip(192, 168, 3, 0), 24)].next_hop.destination(), [5; 6]);
    }

    #[test]
    fn an_unresolved_gateway_is_no_constant() {
        let mut host = host();
        host.neighbours.remove(&(CLIENTS, GATEWAY));
        assert_eq!(host.reply_plan(Family::Ipv4, &[]).way, ReplyWay::Routes);
    }

    #[test]
    fn direct_access_outranks_more_specific_routes() {
        let mut host = host();
        host.routes.insert((ip(10, 9, 1, 0), 24), Via::Link(BACKENDS));
        let plan = host.reply_plan(Family::Ipv4, &[(ip(10, 9, 0, 0), 16)]);
        assert!(!plan.routes.contains_key(&(ip(10, 9, 1, 0), 24)));
        assert_eq!(plan.routes[&(ip(10, 9, 0, 0), 16)].kind, RouteKind::Untouched as u32);
    }

    #[test]
    fn policy_rules_leave_all_but_local_addresses_to_the_kernel() {
        let plan = Mirror { has_rules: [true, false], ..host() }.reply_plan(Family::Ipv4, &[]);
        assert_eq!(plan.way, ReplyWay::Routes);
        assert!(plan.routes.values().all(|route| route.kind == RouteKind::Untouched as u32));
    }

    #[test]
    fn the_families_go_their_own_ways() {
        let six = |text: &str| text.parse::<IpAddr>().expect("an address");
        let mut host = host();
        host.routes.insert(Family::Ipv6.everything(), Via::Gateway(CLIENTS, six("fe80::1")));
        host.routes.insert((six("2001:db8:1::"), 64), Via::Link(BACKENDS));
        host.local.insert(six("2001:db8:1::1"));
        host.neighbours.insert((CLIENTS, six("fe80::1")), [6; 6]);
        host.neighbours.insert((BACKENDS, six("2001:db8:1::2")), [7; 6]);
        let plan = host.reply_plan(Family::Ipv6, &[(six("fd00::"), 8), (ip(10, 9, 0, 0), 16)]);
        assert_eq!((plan.way, plan.gateway.destination()), (ReplyWay::Gateway, [6; 6]));
        assert_eq!(plan.apart, [(six("2001:db8:1::"), 64), (six("fd00::"), 8)]);
        assert_eq!(plan.routes[&(six("2001:db8:1::1"), 128)].kind, RouteKind::Untouched as u32);
        assert_eq!(plan.neighbours, [(six("2001:db8:1::2"), NextHop::new([7; 6], [3; 6], BACKENDS))].into());
        assert!(host.reply_plan(Family::Ipv4, &[]).routes.keys().all(|(address, _)| address.is_ipv4()));
    }
}
