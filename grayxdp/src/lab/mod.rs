//! A lab of network namespaces with real servers and clients, for the demo and the tests.
//!
//! [`Lab`] owns the namespaces: a client, a load balancer, backends. Nothing of it has a name in the file system: a
//! namespace lives as long as a descriptor or a process holds it, so the lab is gone when its process ends, however it
//! ends. Each namespace has its own `/sys/fs/bpf`, so pins of several labs never meet.

mod download;
mod error;
mod http;
mod ipv6;
mod lasting;
mod namespace;
mod pass;
mod server;
mod topology;
mod traffic;
mod udp;

pub use download::{Download, download, expected_byte};
pub use error::LabError;
pub use lasting::{LastingFlows, LastingTally, LastingTraffic, Lives};
pub use namespace::{Namespace, Process};
pub use server::HttpServer;
pub use topology::{Arms, Lab, LabBuilder, Sources};
pub use traffic::{Failure, Running, Tally, Traffic};
pub use udp::UdpEcho;
