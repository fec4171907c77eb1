//! Who is connected to whom: the namespaces, their links, addresses and routes.

use std::net::Ipv4Addr;

use super::{LabError, Namespace, pass::Pass};

/// How the load balancer is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Arms {
    /// A link to the client and one to each backend.
    #[default]
    Two,
    /// One link to a switch that joins all.
    One,
}

/// Addresses of clients: a prefix that is local in the client's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    first: Ipv4Addr,
    count: u32,
}

impl Sources {
    /// A part of them: `count` addresses from the one at `skip` on.
    #[must_use]
    pub fn slice(self, skip: u32, count: u32) -> Self {
        assert!(count > 0 && skip + count <= self.count, "a part lies within the whole");
        Self { first: Ipv4Addr::from_bits(self.first.to_bits() + skip), count }
    }

    /// The address at an index; the indices wrap around.
    #[must_use]
    pub fn at(self, index: u64) -> Ipv4Addr {
        let offset = u32::try_from(index % u64::from(self.count)).expect("less than a count of 32 bits");
        Ipv4Addr::from_bits(self.first.to_bits() + offset)
    }

    /// How many there are.
    #[must_use]
    pub fn count(self) -> u32 {
        self.count
    }
}

/// The virtual address: routed to the load balancer, assigned nowhere.
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// 16,384 client addresses behind the client's own one.
const SOURCES: Sources = Sources { first: Ipv4Addr::new(10, 64, 0, 0), count: 1 << 14 };
const SOURCES_PREFIX: &str = "10.64.0.0/18";
/// The most backends that the addresses leave room for.
const MAX_BACKENDS: usize = 200;

/// What a lab is to be.
#[derive(Clone, Debug)]
pub struct LabBuilder {
    arms: Arms,
    backends: usize,
}

/// Namespaces of a client, a load balancer and backends, connected; all gone when dropped.
#[derive(Debug)]
pub struct Lab {
    arms: Arms,
    client: Namespace,
    balancer: Namespace,
    backends: Vec<Namespace>,
    _switch: Option<Namespace>,
    _switch_ends: Vec<Pass>,
    _client_end: Option<Pass>,
    backend_ends: Vec<Pass>,
}

impl LabBuilder {
    /// One link or several.
    #[must_use]
    pub fn arms(mut self, arms: Arms) -> Self {
        self.arms = arms;
        self
    }

    /// How many backends, at most 200; two where it is not said.
    #[must_use]
    pub fn backends(mut self, count: usize) -> Self {
        self.backends = count;
        self
    }

    /// Builds it.
    ///
    /// # Errors
    /// No rights, no `ip` or `ethtool`, or a kernel without what is needed.
    pub fn build(self) -> Result<Lab, LabError> {
        assert!(self.backends <= MAX_BACKENDS, "the lab's addresses are enough for {MAX_BACKENDS} backends");
        let client = Namespace::new("client")?;
        let balancer = Namespace::new("balancer")?;
        let backends = (1..=self.backends)
            .map(|number| Namespace::new(format!("backend{number}")))
            .collect::<Result<Vec<_>, _>>()?;
        for (parameter, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv4/conf/all/send_redirects", "0"),
            ("net/ipv4/conf/default/send_redirects", "0"),
        ] {
            balancer.sysctl(parameter, value)?;
        }
        // A request for a neighbour names the interface's address, not the packet's source.
        client.sysctl("net/ipv4/conf/all/arp_announce", "2")?;
        let mut lab = Lab {
            arms: self.arms,
            client,
            balancer,
            backends,
            _switch: None,
            _switch_ends: Vec::new(),
            _client_end: None,
            backend_ends: Vec::new(),
        };
        match self.arms {
            Arms::Two => lab.connect_directly()?,
            Arms::One => lab.connect_by_switch()?,
        }
        lab.configure_ends()?;
        Ok(lab)
    }
}

impl Lab {
    /// Describes a lab: two-armed, two backends, unless said otherwise.
    #[must_use]
    pub fn builder() -> LabBuilder {
        LabBuilder { arms: Arms::Two, backends: 2 }
    }

    /// Where clients run.
    #[must_use]
    pub fn client(&self) -> &Namespace {
        &self.client
    }

    /// Where grayxdp runs.
    #[must_use]
    pub fn balancer(&self) -> &Namespace {
        &self.balancer
    }

    /// Where a backend's server runs; the first is 0.
    #[must_use]
    pub fn backend(&self, index: usize) -> &Namespace {
        &self.backends[index]
    }

    /// A backend's address; the first, at index 0, is 10.0.1.1.
    #[must_use]
    pub fn backend_address(&self, index: usize) -> Ipv4Addr {
        assert!(index < self.backends.len(), "the lab has {} backends", self.backends.len());
        backend_address(index)
    }

    /// A backend's MAC address.
    #[must_use]
    pub fn backend_mac(&self, index: usize) -> [u8; 6] {
        far_mac(index + 1)
    }

    /// The virtual address.
    #[must_use]
    pub fn vip(&self) -> Ipv4Addr {
        VIP
    }

    /// The addresses that clients bind to.
    #[must_use]
    pub fn sources(&self) -> Sources {
        SOURCES
    }

    /// The client's MAC address.
    #[must_use]
    pub fn client_mac(&self) -> [u8; 6] {
        far_mac(0)
    }

    /// The load balancer's MAC address on the client's side.
    #[must_use]
    pub fn balancer_mac(&self) -> [u8; 6] {
        near_mac(0)
    }

    /// The interface of the client and of each backend.
    #[must_use]
    pub fn far_interface(&self) -> &'static str {
        FAR
    }

    /// Takes the dummy programs off the backends' interfaces: what is redirected to them still arrives, what is sent back
    /// by a switch no more, and other programs can be attached there.
    pub fn clear_backends(&mut self) {
        self.backend_ends.clear();
    }

    /// The load balancer's interfaces, the client's side first.
    #[must_use]
    pub fn interfaces(&self) -> Vec<String> {
        match self.arms {
            Arms::Two => (0..=self.backends.len()).map(near_name).collect(),
            Arms::One => vec![SINGLE.to_owned()],
        }
    }

    /// Sends packets between two places by the kernel alone until each neighbour is known.
    ///
    /// # Errors
    /// `ping` is missing, or a backend does not answer the client.
    pub fn ping(&self) -> Result<(), LabError> {
        for index in 0..self.backends.len() {
            let (source, target) = (SOURCES.at(1).to_string(), backend_address(index).to_string());
            self.client.output("ping", ["-n", "-c", "1", "-W", "2", "-I", &source, &target])?;
        }
        Ok(())
    }

    /// Client and backends, in the order of their numbers.
    fn ends(&self) -> impl Iterator<Item = &Namespace> {
        std::iter::once(&self.client).chain(&self.backends)
    }

    fn connect_directly(&mut self) -> Result<(), LabError> {
        let mut lines = vec!["link set lo up".to_owned()];
        for (number, end) in self.ends().enumerate() {
            let near = near_name(number);
            lines.extend([
                veth(&near, near_mac(number), end, far_mac(number)),
                format!("address add 10.0.{number}.254/24 dev {near}"),
                format!("link set {near} up"),
            ]);
        }
        lines.push(format!("route add {SOURCES_PREFIX} via {}", client_address()));
        self.balancer.ip(&lines)
    }

    fn connect_by_switch(&mut self) -> Result<(), LabError> {
        let switch = Namespace::new("switch")?;
        let mut lines =
            vec!["link set lo up".to_owned(), "link add switch type bridge stp_state 0 forward_delay 0".to_owned()];
        let ports = self.ends().enumerate().map(|(number, end)| (near_name(number), end, FAR, far_mac(number)));
        let own = (SINGLE.to_owned(), &self.balancer, SINGLE, near_mac(0));
        let mut names = Vec::new();
        for (number, (port, end, far, mac)) in ports.chain([own]).enumerate() {
            lines.extend([
                veth_named(&port, [2, 0, 0, 0, 2, low_byte(number)], end, far, mac),
                format!("link set {port} master switch"),
                format!("link set {port} up"),
            ]);
            names.push(port);
        }
        lines.push("link set switch up".to_owned());
        switch.ip(&lines)?;
        for port in &names {
            offload(&switch, port)?;
            self._switch_ends.push(Pass::attach(&switch, port)?);
        }
        self._switch = Some(switch);
        self.balancer.ip(&[
            "link set lo up".to_owned(),
            format!("address add 10.0.0.254/16 dev {SINGLE}"),
            format!("link set {SINGLE} up"),
            format!("route add {SOURCES_PREFIX} via {}", client_address()),
        ])
    }

    /// Addresses, routes, offloads and the dummy program of client and backends.
    fn configure_ends(&mut self) -> Result<(), LabError> {
        let (length, shared) = match self.arms {
            Arms::Two => (24, false),
            Arms::One => (16, true),
        };
        let mut far_ends = Vec::new();
        for (number, end) in self.ends().enumerate() {
            let gateway = if shared { 0 } else { number };
            let mut lines = vec![
                "link set lo up".to_owned(),
                format!("address add {}/{length} dev {FAR}", end_address(number)),
                format!("link set {FAR} up"),
                format!("route add default via 10.0.{gateway}.254"),
            ];
            if number == 0 {
                lines.push(format!("route add local {SOURCES_PREFIX} dev lo"));
            }
            end.ip(&lines)?;
            offload(end, FAR)?;
            far_ends.push(Pass::attach(end, FAR)?);
        }
        let mut far_ends = far_ends.into_iter();
        self._client_end = far_ends.next();
        self.backend_ends = far_ends.collect();
        Ok(())
    }
}

/// Name of the interface of client and backends.
const FAR: &str = "eth0";
/// Name of the load balancer's only interface when it has one arm.
const SINGLE: &str = "lan0";

/// Name of the load balancer's interface (or the switch's port) towards an end; 0 is the client.
fn near_name(number: usize) -> String {
    if number == 0 { "client0".to_owned() } else { format!("backend{number}") }
}

/// MAC address of the load balancer towards an end.
fn near_mac(number: usize) -> [u8; 6] {
    [2, 0, 0, 0, 0, low_byte(number)]
}

/// MAC address of an end.
fn far_mac(number: usize) -> [u8; 6] {
    [2, 0, 0, 0, 1, low_byte(number)]
}

fn low_byte(number: usize) -> u8 {
    u8::try_from(number).expect("a lab has fewer than 256 ends")
}

/// Address of an end; 0 is the client.
fn end_address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, low_byte(number), 1)
}

fn client_address() -> Ipv4Addr {
    end_address(0)
}

fn backend_address(index: usize) -> Ipv4Addr {
    end_address(index + 1)
}

fn veth(near: &str, near_mac: [u8; 6], end: &Namespace, far_mac: [u8; 6]) -> String {
    veth_named(near, near_mac, end, FAR, far_mac)
}

fn veth_named(near: &str, near_mac: [u8; 6], end: &Namespace, far: &str, far_mac: [u8; 6]) -> String {
    format!(
        "link add {near} address {} type veth peer name {far} address {} netns {}",
        mac_text(near_mac),
        mac_text(far_mac),
        end.path().display()
    )
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// With checksums computed before a packet leaves, a wrong one is seen by the receiver.
fn offload(namespace: &Namespace, interface: &str) -> Result<(), LabError> {
    namespace.output("ethtool", ["-K", interface, "gro", "on", "tx", "off"]).map(drop)
}
