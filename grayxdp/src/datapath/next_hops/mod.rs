//! Keeps next hops fresh: a thread mirrors the host's routes and neighbours by netlink and writes what follows for the
//! data path into its maps. XDP traffic itself never makes the kernel probe a neighbour, so the thread asks for it.

mod heads;
mod maps;
mod mirror;
mod netlink;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use futures::StreamExt as _;
use rtnetlink::{
    Handle, MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::{
    maps::ReplyMaps,
    mirror::{Family, Mirror},
};
use super::{announce, tables::Tables};
use crate::model::kernel::KernelError;

/// Changes come in bursts: after the first, wait this long for the others.
const BURST: Duration = Duration::from_millis(20);
/// How often missing neighbours are asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Rounds of asking for missing neighbours between two of probing known ones.
const ROUNDS_PER_REFRESH: u32 = 10;

/// How long a new neighbour has for its first answer; those that are down take longer, and others wait behind them.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);

/// What the thread is told.
enum Order {
    /// Backends or prefixes with direct access changed: read everything, answer when the maps are written.
    Refresh(mpsc::Sender<()>),
    /// Prefixes with direct access.
    DirectAccess(Vec<(IpAddr, u8)>),
    /// Tell the link of an interface that these addresses are here.
    Announce(u32, Vec<IpAddr>),
}

/// The thread that keeps next hops fresh; it ends with this value.
pub(super) struct NextHops {
    orders: UnboundedSender<Order>,
}

impl NextHops {
    /// Starts the thread for the network namespace of the calling thread.
    pub(super) fn start(tables: Arc<Mutex<Tables>>, folder: &Path) -> Result<Self, KernelError> {
        let failed =
            |error: &dyn std::fmt::Display| KernelError(format!("the host's routes cannot be watched: {error}"));
        let maps = ReplyMaps::open(folder)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| failed(&e))?;
        let (orders, received) = unbounded_channel();
        let guard = runtime.enter();
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv6Rule,
        ];
        let (connection, handle, changes) = rtnetlink::new_multicast_connection(&groups).map_err(|e| failed(&e))?;
        drop(guard);
        let watcher = Watcher { tables, maps, handle, mirror: Mirror::default(), direct: Vec::new(), round: 0 };
        thread::Builder::new()
            .name("next-hops".into())
            .spawn(move || {
                runtime.spawn(connection);
                runtime.block_on(watcher.run(changes, received));
            })
            .map_err(|e| failed(&e))?;
        Ok(Self { orders })
    }

    /// Tells it which prefixes have direct access.
    pub(super) fn set_direct_access(&self, prefixes: Vec<(IpAddr, u8)>) {
        self.order(Order::DirectAccess(prefixes));
    }

    /// Has announced virtual addresses made known on an interface's link.
    pub(super) fn announce(&self, interface: u32, addresses: Vec<IpAddr>) {
        self.order(Order::Announce(interface, addresses));
    }

    /// Has everything read again and waits, at most `limit`, until the maps hold it.
    pub(super) fn refresh(&self, limit: Duration) {
        let (done, wait) = mpsc::channel();
        self.order(Order::Refresh(done));
        if wait.recv_timeout(limit).is_err() {
            tracing::warn!("the host's routes are slow to read; packets without a next hop go by the kernel meanwhile");
        }
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!("the thread that keeps next hops fresh is gone");
        }
    }
}

type Changes =
    futures::channel::mpsc::UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, rtnetlink::sys::SocketAddr)>;

struct Watcher {
    tables: Arc<Mutex<Tables>>,
    maps: ReplyMaps,
    handle: Handle,
    mirror: Mirror,
    direct: Vec<(IpAddr, u8)>,
    round: u32,
}

/// How much must be read again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Nothing,
    Neighbours,
    Everything,
}

impl Watcher {
    async fn run(mut self, mut changes: Changes, mut orders: UnboundedReceiver<Order>) {
        self.read(Scope::Everything).await;
        let mut ask = tokio::time::interval(ASK_EVERY);
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some((message, _)) => {
                        let scope = drain(scope_of(&message.payload), &mut changes).await;
                        self.read(scope).await;
                    }
                    None => return,
                },
                order = orders.recv() => match order {
                    Some(Order::Refresh(done)) => {
                        self.refresh().await;
                        // Nobody listens when the wait was given up.
                        let _ = done.send(());
                    }
                    Some(Order::DirectAccess(prefixes)) => {
                        self.direct = prefixes;
                        self.write();
                    }
                    Some(Order::Announce(interface, addresses)) => self.announce(interface, &addresses),
                    None => return,
                },
                _ = ask.tick() => self.ask().await,
            }
        }
    }

    fn announce(&self, interface: u32, addresses: &[IpAddr]) {
        let Some(link) = self.mirror.links.get(&interface) else { return };
        for address in addresses {
            if let Err(error) = announce::announce(interface, link.ethernet, *address) {
                tracing::warn!(%address, %error, "a virtual address could not be announced; CAP_NET_RAW is needed");
            }
        }
    }

    async fn read(&mut self, scope: Scope) {
        let result = match scope {
            Scope::Nothing => return,
            Scope::Neighbours => netlink::read_neighbours(&self.handle, &mut self.mirror).await,
            Scope::Everything => {
                let backends = self.backends();
                netlink::read(&self.handle, &backends).await.map(|mirror| self.mirror = mirror)
            }
        };
        match result {
            Ok(()) => self.write(),
            Err(error) => tracing::warn!(%error, "the host's routes could not be read; the last known next hops stay"),
        }
    }

    /// Reads everything, and gives neighbours that nobody has asked for yet a moment to answer.
    async fn refresh(&mut self) {
        self.read(Scope::Everything).await;
        self.ask().await;
        // What the limit cuts short is read again at the next change.
        let _ = tokio::time::timeout(ANSWER_LIMIT, self.await_answers()).await;
    }

    async fn await_answers(&mut self) {
        while !self.mirror.needed_neighbours().iter().all(|needed| self.mirror.neighbours.contains_key(needed)) {
            tokio::time::sleep(BURST).await;
            self.read(Scope::Neighbours).await;
        }
    }

    fn backends(&self) -> BTreeSet<IpAddr> {
        self.tables.lock().expect("no holder panics").backend_addresses()
    }

    /// Writes what the mirror says into the maps.
    fn write(&mut self) {
        let backends = self.backends();
        let (hops, by_kernel) = (self.mirror.backend_hops(&backends), self.mirror.kernel_ways(&backends));
        let behind_routers = self.mirror.behind_routers(&backends);
        let plans = [Family::Ipv4, Family::Ipv6].map(|family| self.mirror.reply_plan(family, &self.direct));
        let mut tables = self.tables.lock().expect("no holder panics");
        tables.set_next_hops(hops, by_kernel, behind_routers, self.mirror.mtus());
        tables.set_local_addresses(self.mirror.local.clone());
        if let Err(error) = self.maps.write(&plans, &self.mirror, tables.control()) {
            tracing::error!(%error, "routes of replies could not be written; replies go by the kernel's own tables");
        }
    }

    /// Asks for missing neighbours, and now and then whether known ones still answer.
    async fn ask(&mut self) {
        self.round = (self.round + 1) % ROUNDS_PER_REFRESH;
        for (interface, neighbour) in self.mirror.needed_neighbours() {
            if !self.mirror.neighbours.contains_key(&(interface, neighbour)) {
                netlink::resolve(&self.handle, interface, neighbour).await;
            } else if self.round == 0 {
                netlink::probe(&self.handle, interface, neighbour).await;
            }
        }
    }
}

/// Takes all changes of a burst and says what they touch.
async fn drain(first: Scope, changes: &mut Changes) -> Scope {
    let mut scope = first;
    tokio::time::sleep(BURST).await;
    while let Ok((message, _)) = changes.try_recv() {
        scope = scope.max(scope_of(&message.payload));
    }
    scope
}

fn scope_of(payload: &NetlinkPayload<RouteNetlinkMessage>) -> Scope {
    match payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(_) | RouteNetlinkMessage::DelNeighbour(_)) => {
            Scope::Neighbours
        }
        NetlinkPayload::InnerMessage(_) | NetlinkPayload::Overrun(_) => Scope::Everything,
        NetlinkPayload::Done(_) | NetlinkPayload::Error(_) | NetlinkPayload::Noop => Scope::Nothing,
        _ => Scope::Nothing,
    }
}
