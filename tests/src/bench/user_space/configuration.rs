//! Configurations of many services.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
};

use crate::host;

/// How much is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Services, of two versions each; at most 100.
    pub(super) services: u8,
    /// Backends of each version; at most 200.
    pub(super) backends: u8,
    /// Two configurations of the same shape that differ in this differ in one backend of each version.
    pub(super) generation: u8,
}

/// Names of the versions.
pub(super) const VERSIONS: [&str; 2] = ["v1", "v2"];

impl Shape {
    /// The configuration file of a daemon on a [`host`] that keeps everything in `folder`.
    pub(super) fn configuration(self, folder: &Path) -> String {
        let folder = folder.display();
        let mut text = format!(
            "interfaces: [{{name: {}, mode: native}}]\nstateDir: {folder}\ncontrol: {{socket: {folder}/socket}}\n\
             http: {{listen: '127.0.0.1:0'}}\nservices:\n",
            host::name(host::NEAR)
        );
        for service in 0..self.services {
            let vip = Ipv4Addr::new(198, 18, 0, service + 1);
            write!(text, "- {{name: {}, vip: {vip}, port: 80, versions: [", service_name(service)).expect(INFALLIBLE);
            for (version, name) in (0_u8..).zip(VERSIONS) {
                let backends: Vec<_> = (0..self.backends)
                    .map(|number| {
                        let end = self.backend(service, version, number);
                        format!("{{address: {}, port: {}}}", end.ip(), end.port())
                    })
                    .collect();
                write!(text, "{{name: {name}, backends: [{}]}}, ", backends.join(", ")).expect(INFALLIBLE);
            }
            text.push_str("]}\n");
        }
        text
    }

    fn backend(self, service: u8, version: u8, number: u8) -> SocketAddrV4 {
        let port = if number == 0 { 8_080 + u16::from(self.generation) } else { 8_080 };
        SocketAddrV4::new(Ipv4Addr::new(10, 32 + service, version, number + 1), port)
    }
}

const INFALLIBLE: &str = "writing to a string cannot fail";

/// A service's name.
pub(super) fn service_name(number: u8) -> String {
    format!("service-{number}")
}
