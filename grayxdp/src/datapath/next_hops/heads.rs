//! Route heads: the route of every client whose first sixteen address bits decide it, found by two loads.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
};

use grayxdp_common::records::{BLOCKS, NextHop, Route, RouteHeads, RouteKind};

use super::{
    super::{capacity::ROUTE_LEAVES, mapped::Mapped},
    mirror::Destination,
};

/// Leading bits that name a block.
const BLOCK_BITS: u8 = 16;

/// Different routes up to which heads are used: half of the leaves, so that those of the last writing stay as they are.
const MOST_LEAVES: usize = ROUTE_LEAVES as usize / 2;

/// The heads and their leaves in the kernel.
pub(super) struct Heads {
    heads: Mapped<RouteHeads>,
    leaves: Mapped<Route>,
    /// Numbers of the routes that were given one, and the next number.
    numbers: HashMap<[u64; 3], u16>,
    next: u16,
}

impl Heads {
    /// What an earlier daemon left is replaced by the first writing; its leaves stay until their numbers come again.
    pub(super) fn new(heads: Mapped<RouteHeads>, leaves: Mapped<Route>) -> Self {
        let used = heads.read(0).0.iter().copied().max().unwrap_or(0);
        Self { heads, leaves, numbers: HashMap::new(), next: used % ROUTE_LEAVES as u16 }
    }

    /// Makes the heads say what the routes say: leaves first, then the heads that name them.
    pub(super) fn write(&mut self, routes: &BTreeMap<Destination, Route>) {
        let mut heads = Box::new(RouteHeads([0; BLOCKS]));
        let different: HashSet<_> = routes.values().map(key).collect();
        if different.len() <= MOST_LEAVES {
            for (head, route) in heads.0.iter_mut().zip(blocks(routes)) {
                *head = route.map_or(0, |route| self.number(route) + 1);
            }
        }
        self.heads.write(0, &heads);
    }

    fn number(&mut self, route: &Route) -> u16 {
        let key = key(route);
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let number = self.next;
        self.next = (number + 1) % ROUTE_LEAVES as u16;
        self.numbers.retain(|_, other| *other != number);
        self.leaves.write(u32::from(number), route);
        self.numbers.insert(key, number);
        number
    }
}

/// What makes routes different.
fn key(route: &Route) -> [u64; 3] {
    let [first, second] = route.next_hop.words();
    [u64::from(route.kind), first, second]
}

/// Where no route leads: the kernel's own tables decide, and the routes map need not be asked.
static NOWHERE: Route = Route { kind: RouteKind::Kernel as u32, reserved: 0, next_hop: NextHop::UNKNOWN };

/// The route of each block that has one route for all its addresses.
fn blocks(routes: &BTreeMap<Destination, Route>) -> Vec<Option<&Route>> {
    let mut blocks = vec![Some(&NOWHERE); BLOCKS];
    let block = |address: IpAddr| match address {
        IpAddr::V4(address) => (address.to_bits() >> BLOCK_BITS) as usize,
        IpAddr::V6(_) => unreachable!("heads are of IPv4 alone"),
    };
    let mut wide: Vec<_> = routes.iter().filter(|((_, length), _)| *length <= BLOCK_BITS).collect();
    wide.sort_by_key(|((_, length), _)| *length);
    for ((address, length), route) in wide {
        let first = block(*address);
        blocks[first..first + (1 << (BLOCK_BITS - length))].fill(Some(route));
    }
    for (address, _) in routes.keys().filter(|(_, length)| *length > BLOCK_BITS) {
        blocks[block(*address)] = None;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use proptest::prelude::*;

    fn route(interface: u32) -> Route {
        Route { kind: RouteKind::Gateway as u32, reserved: 0, next_hop: NextHop::new([1; 6], [2; 6], interface) }
    }

    fn bits(address: IpAddr) -> u32 {
        match address {
            IpAddr::V4(address) => address.to_bits(),
            IpAddr::V6(_) => unreachable!("these routes are of IPv4"),
        }
    }

    /// The longest prefix that holds an address, the plain way.
    fn longest(routes: &BTreeMap<Destination, Route>, address: u32) -> Option<&Route> {
        let holds = |(prefix, length): &Destination| {
            let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
            address & mask == bits(*prefix)
        };
        routes.iter().filter(|(prefix, _)| holds(prefix)).max_by_key(|((_, length), _)| *length).map(|(_, route)| route)
    }

    proptest! {
        #[test]
        fn a_head_never_says_another_route_than_the_longest_prefix(
            prefixes in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..40), addresses in prop::collection::vec(any::<u32>(), 50)
        ) {
            let prefix = |(bits, length): (u32, u8)| {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                (IpAddr::V4(Ipv4Addr::from_bits(bits & mask)), length)
            };
            let routes: BTreeMap<Destination, Route> =
                prefixes.into_iter().map(prefix).zip(1..).map(|(place, interface)| (place, route(interface))).collect();
            let blocks = blocks(&routes);
            let near = routes.keys().map(|(address, _)| bits(*address));
            for address in addresses.into_iter().chain(near) {
                if let Some(said) = blocks[(address >> 16) as usize] {
                    prop_assert_eq!(said, longest(&routes, address).unwrap_or(&NOWHERE));
                }
            }
        }
    }

    #[test]
    fn a_longer_prefix_within_a_block_leaves_it_to_the_routes() {
        let place = |a, b, c, length| (IpAddr::V4(Ipv4Addr::new(a, b, c, 0)), length);
        let routes = [(place(0, 0, 0, 0), route(1)), (place(10, 0, 0, 8), route(2)), (place(10, 7, 3, 24), route(3))];
        let routes: BTreeMap<_, _> = routes.into();
        let blocks = blocks(&routes);
        assert_eq!(blocks[(9 << 8) | 1], Some(&route(1)));
        assert_eq!(blocks[(10 << 8) | 6], Some(&route(2)));
        assert_eq!(blocks[(10 << 8) | 7], None);
    }
}
