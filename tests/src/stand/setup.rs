//! What a stand is to be, and the files that say so.

use std::{fmt::Write as _, net::Ipv4Addr, path::Path};

use grayxdp::lab::{Arms, Lab};

/// Port of the service.
pub const VIP_PORT: u16 = 80;
/// Port of all servers.
pub const SERVER_PORT: u16 = 8_080;
/// Metrics and API, inside the load balancer's namespace.
pub const HTTP: &str = "127.0.0.1:9477";
/// The only service.
pub const SERVICE: &str = "recsys";

/// One service of two versions.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How the load balancer is connected.
    pub arms: Arms,
    /// Weights of the backends of `v1`, then of `v2`; the lab's backends in this order.
    pub pools: [Vec<u16>; 2],
    /// Whether the hosts of `v1`, and those of `v2`, have servers; else they refuse.
    pub serves: [bool; 2],
    /// The virtual address; the lab's, off every link, where it is left out.
    pub vip: Option<Ipv4Addr>,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// `flow` or `client`.
    pub affinity: &'static str,
    /// How the program is attached.
    pub mode: &'static str,
    /// Whether ARP requests for the virtual address are answered.
    pub announce: bool,
    /// The initial weight of `v2` in percent.
    pub v2_weight: u8,
    /// Prefixes to which backends also talk past the virtual address.
    pub direct_access: Vec<String>,
    /// Further fields of the service, as `idleTimeout: 75s`.
    pub fields: Vec<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            arms: Arms::Two,
            pools: [vec![1], vec![1]],
            serves: [true, true],
            vip: None,
            protocol: "tcp",
            affinity: "flow",
            mode: "native",
            announce: false,
            v2_weight: 0,
            direct_access: Vec::new(),
            fields: Vec::new(),
        }
    }
}

impl Setup {
    /// The version of each backend of the lab.
    #[must_use]
    pub fn versions(&self) -> Vec<&'static str> {
        let of = |version, pool: &Vec<u16>| vec![version; pool.len()];
        [of("v1", &self.pools[0]), of("v2", &self.pools[1])].concat()
    }

    /// The configuration, with all files in `folder` and pins in a folder of that name.
    #[must_use]
    pub fn configuration(&self, lab: &Lab, folder: &Path) -> String {
        let interfaces: Vec<_> =
            lab.interfaces().iter().map(|name| format!("{{name: {name}, mode: {}}}", self.mode)).collect();
        let mut text = format!(
            "interfaces: [{}]\nstateDir: {state}\npinDir: {PIN_DIR}\ncontrol: {{socket: {socket}}}\nhttp: {{listen: \
             {HTTP}}}\ndirectAccess: [{direct}]\nservices:\n- name: {SERVICE}\n  vip: {vip}\n  port: {VIP_PORT}\n  \
             protocol: {protocol}\n  affinity: {affinity}\n  announce: {announce}\n  versions:\n",
            interfaces.join(", "),
            state = folder.join("state").display(),
            socket = folder.join("grayxdp.sock").display(),
            direct = self.direct_access.join(", "),
            vip = self.vip.unwrap_or(lab.vip()),
            protocol = self.protocol,
            affinity = self.affinity,
            announce = self.announce,
        );
        let mut index = 0;
        for (version, pool) in ["v1", "v2"].iter().zip(&self.pools) {
            let mut backends = Vec::new();
            for weight in pool {
                let address = lab.backend_address(index);
                backends.push(format!("{{address: {address}, port: {SERVER_PORT}, weight: {weight}}}"));
                index += 1;
            }
            writeln!(text, "  - {{name: {version}, backends: [{}]}}", backends.join(", "))
                .expect("text takes what is written");
        }
        for field in &self.fields {
            writeln!(text, "  {field}").expect("text takes what is written");
        }
        text + &format!("  weights: {{v1: {}, v2: {}}}\n", 100 - self.v2_weight, self.v2_weight)
    }
}

/// Where the daemon pins; on the BPF file system of the load balancer's namespace.
pub const PIN_DIR: &str = "/sys/fs/bpf/grayxdp-stand";

/// A canary plan from `v1` to `v2`: weights in percent with the length of the pause after each (`""`: until an
/// operator resumes; `none`: no pause), judged by refused connections where `judged`.
#[must_use]
pub fn plan(name: &str, steps: &[(u8, &str)], judged: bool) -> String {
    let mut text = format!(
        "apiVersion: grayxdp.io/v1\nkind: Rollout\nmetadata: {{name: {name}}}\nspec:\n  service: {SERVICE}\n  \
         candidate: v2\n  strategy:\n    canary:\n      steps:\n"
    );
    for (weight, pause) in steps {
        let pause = match *pause {
            "none" => String::new(),
            "" => ", pause: {}".to_owned(),
            duration => format!(", pause: {{duration: {duration}}}"),
        };
        writeln!(text, "      - {{setWeight: {weight}{pause}}}").expect("text takes what is written");
    }
    text.push_str("  analysis:\n    interval: 1s\n");
    if judged {
        text.push_str(
            "    metrics:\n    - {name: errors, provider: {kernel: {signal: connectFailureRatio}}, thresholdRange: \
             {max: 0.05}, minSamples: 10}\n",
        );
    }
    text
}
