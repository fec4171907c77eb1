//! The ways to backends that tests go: each mode in each family.

use std::net::{IpAddr, SocketAddr};

use grayxdp::lab::Namespace;
use grayxdp_tests::{
    decapsulator::Decapsulator,
    stand::{SERVER_PORT, Setup, Stand, VIP_PORT, eventually},
};

/// A family of addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}
pub(crate) use Family::{Ipv4, Ipv6};

/// How packets reach backends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) mode: &'static str,
    pub(crate) vip: Family,
    pub(crate) backend: Family,
}

pub(crate) const NAT: Way = Way { mode: "nat", vip: Ipv4, backend: Ipv4 };
pub(crate) const NAT_IPV6: Way = Way { mode: "nat", vip: Ipv6, backend: Ipv6 };
pub(crate) const FULL_NAT: Way = Way { mode: "full-nat", vip: Ipv4, backend: Ipv4 };
pub(crate) const FULL_NAT_IPV6: Way = Way { mode: "full-nat", vip: Ipv6, backend: Ipv6 };
pub(crate) const DSR: Way = Way { mode: "dsr", vip: Ipv4, backend: Ipv4 };
pub(crate) const DSR_IPV6: Way = Way { mode: "dsr", vip: Ipv6, backend: Ipv6 };
pub(crate) const IPIP: Way = Way { mode: "ipip", vip: Ipv4, backend: Ipv4 };
pub(crate) const IPIP_IPV6: Way = Way { mode: "ipip", vip: Ipv6, backend: Ipv6 };
pub(crate) const IPV4_IN_IPV6: Way = Way { mode: "ipip", vip: Ipv4, backend: Ipv6 };

impl Way {
    /// Whether backends answer clients past the load balancer.
    pub(crate) fn is_direct(self) -> bool {
        matches!(self.mode, "dsr" | "ipip")
    }
}

/// A stand with one service over a way. Where backends answer clients directly they have the virtual address on their loopback.
pub(crate) struct Front {
    pub(crate) stand: Stand,
    pub(crate) way: Way,
    pub(crate) ends: Vec<Decapsulator>,
}

impl Front {
    pub(crate) fn new(way: Way, setup: Setup) -> Self {
        let pool = if way.vip == Ipv4 { "10.99.0.0/30" } else { "fd00:99::/126" };
        let pool = (way.mode == "full-nat").then(|| format!("sourcePool: [\"{pool}\"]"));
        let mode = [format!("forwarding: {}", way.mode)].into_iter().chain(pool);
        let fields = setup.fields.iter().cloned().chain(mode).collect();
        let stand = Stand::new(Setup { serves: [false, false], fields, ..setup });
        let mut front = Self { stand, way, ends: Vec::new() };
        let lab = front.stand.lab();
        lab.add_ipv6().unwrap();
        let vip = front.vip();
        let mut text = front.stand.configuration();
        if way.is_direct() {
            text = text.replace(&format!(", port: {SERVER_PORT}"), "");
        }
        text = text.replace(&format!("vip: {}", lab.vip()), &format!("vip: \"{vip}\""));
        for index in 0..2 {
            let old = lab.backend_address(index).to_string();
            text = text.replace(&format!("{old},"), &format!("\"{}\",", front.backend(index)));
            if way.is_direct() {
                let (width, options) = if way.vip == Ipv4 { (32, "") } else { (128, " nodad") };
                lab.backend(index).ip(&[format!("address add {vip}/{width} dev lo{options}")]).unwrap();
            }
            if way.mode == "ipip" {
                front.ends.push(
                    Decapsulator::start(lab.backend(index), lab.far_interface(), front.backend(index), vip).unwrap(),
                );
            }
        }
        front.stand.write("grayxdp.yaml", &text);
        front
    }

    /// Starts the daemon; its neighbours have answered.
    pub(crate) fn start(&mut self) {
        self.stand.start();
        let unresolved = || {
            let versions = self.stand.service().versions;
            versions.iter().flat_map(|version| &version.backends).filter(|backend| !backend.resolved).count()
        };
        eventually("the neighbours", unresolved, |count| *count == 0);
    }

    pub(crate) fn vip(&self) -> IpAddr {
        match self.way.vip {
            Ipv4 => self.stand.lab().vip().into(),
            Ipv6 => self.stand.lab().vip6().into(),
        }
    }

    pub(crate) fn target(&self) -> SocketAddr {
        SocketAddr::new(self.vip(), VIP_PORT)
    }

    /// Where the server of a backend listens.
    pub(crate) fn end(&self, index: usize) -> SocketAddr {
        if self.way.is_direct() { self.target() } else { SocketAddr::new(self.backend(index), SERVER_PORT) }
    }

    pub(crate) fn backend(&self, index: usize) -> IpAddr {
        match self.way.backend {
            Ipv4 => self.stand.lab().backend_address(index).into(),
            Ipv6 => self.stand.lab().backend_address6(index).into(),
        }
    }

    pub(crate) fn source(&self, index: u16) -> IpAddr {
        match self.way.vip {
            Ipv4 => self.stand.lab().sources().at(index.into()).into(),
            Ipv6 => self.stand.lab().source6(index).into(),
        }
    }

    /// Runs a line of the shell where clients are.
    pub(crate) fn shell(&self, line: &str) -> String {
        let client: &Namespace = self.stand.lab().client();
        client.output("sh", ["-c", line]).unwrap()
    }
}
