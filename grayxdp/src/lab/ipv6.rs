//! IPv6 beside IPv4: the same links with addresses of both families.

use std::net::Ipv6Addr;

use super::{Arms, Lab, LabError};

/// The virtual address: routed to the load balancer, assigned nowhere.
const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x10);
/// The client's addresses, behind its own one.
const SOURCES: Ipv6Addr = Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 0, 0, 0);
const SOURCES_LEN: u8 = 64;

/// Address of an end, or of the load balancer towards it; 0 is the client's link.
fn address(number: usize, host: u16) -> Ipv6Addr {
    let number = u16::try_from(number).expect("a lab has fewer than 256 ends");
    Ipv6Addr::new(0xfd00, 0, number, 0, 0, 0, 0, host)
}

/// Of the load balancer towards an end.
const NEAR: u16 = 0x254;
/// Of an end.
const FAR: u16 = 1;

impl Lab {
    /// Gives all links of a lab with two arms IPv6 addresses, too.
    ///
    /// # Errors
    /// A kernel without IPv6.
    ///
    /// # Panics
    /// If the lab has one arm.
    pub fn add_ipv6(&self) -> Result<(), LabError> {
        assert!(self.interfaces().len() > 1, "{:?} have links of their own", Arms::Two);
        self.balancer().sysctl("net/ipv6/conf/all/forwarding", "1")?;
        // Clients bind to addresses of a prefix that is theirs as a whole.
        self.client().sysctl("net/ipv6/ip_nonlocal_bind", "1")?;
        let mut lines = Vec::new();
        for (number, near) in self.interfaces().iter().enumerate() {
            lines.push(format!("address add {}/64 dev {near} nodad", address(number, NEAR)));
            let end = if number == 0 { self.client() } else { self.backend(number - 1) };
            let mut far = vec![
                format!("address add {}/64 dev {} nodad", address(number, FAR), self.far_interface()),
                format!("route add default via {}", address(number, NEAR)),
            ];
            if number == 0 {
                far.push(format!("route add local {SOURCES}/{SOURCES_LEN} dev lo"));
            }
            end.ip(&far)?;
        }
        lines.push(format!("route add {SOURCES}/{SOURCES_LEN} via {}", address(0, FAR)));
        self.balancer().ip(&lines)
    }

    /// The virtual address of IPv6.
    #[must_use]
    pub fn vip6(&self) -> Ipv6Addr {
        VIP
    }

    /// A backend's IPv6 address.
    #[must_use]
    pub fn backend_address6(&self, index: usize) -> Ipv6Addr {
        address(index + 1, FAR)
    }

    /// An IPv6 address that clients may bind to.
    #[must_use]
    pub fn source6(&self, index: u16) -> Ipv6Addr {
        let [a, b, c, d, e, f, g, _] = SOURCES.segments();
        Ipv6Addr::new(a, b, c, d, e, f, g, index)
    }
}
