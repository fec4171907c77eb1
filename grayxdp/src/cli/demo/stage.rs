//! What the demo needs around it: the lab, the servers, the files, the daemon.

use std::{
    fs::{self, DirBuilder, File},
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

use crate::{
    lab::{HttpServer, Lab, Namespace, Process, Sources, Traffic},
    model::{
        Name,
        api::{RolloutStatus, Status},
    },
};

use super::interrupt::Interrupt;

/// Port of both services.
const VIP_PORT: u16 = 80;
/// Port of all servers.
const SERVER_PORT: u16 = 8_080;
/// How long the daemon may take until it answers.
const PATIENCE: Duration = Duration::from_secs(15);
/// Requests that show that a service works before anything is released.
const PROBES: u64 = 50;

/// Service, version, and the indices of its backends in the lab. `search` has no server for `v2`: the kernel refuses.
const POOLS: [(&str, &str, &[usize]); 4] =
    [("recsys", "v1", &[0, 1]), ("recsys", "v2", &[2]), ("search", "v1", &[3]), ("search", "v2", &[4])];
/// The version that has no server.
const WITHOUT_SERVER: (&str, &str) = ("search", "v2");
const BACKENDS: usize = 5;

/// Everything that runs; gone when dropped, the daemon first.
pub(super) struct Stage {
    daemon: Process,
    folder: Folder,
    program: PathBuf,
    _servers: Vec<HttpServer>,
    lab: Lab,
}

impl Stage {
    /// Builds the lab, starts servers and daemon, and waits until requests are answered.
    pub(super) fn build(interrupt: &Interrupt) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the demo does not find its own program")?;
        let lab = Lab::builder().backends(BACKENDS).build()?;
        lab.ping()?;
        let mut servers = Vec::new();
        for (service, version, backends) in POOLS {
            for &backend in backends.iter().filter(|_| (service, version) != WITHOUT_SERVER) {
                let address = SocketAddrV4::new(lab.backend_address(backend), SERVER_PORT);
                servers.push(HttpServer::start(lab.backend(backend), version, address)?);
            }
        }
        let folder = Folder::new()?;
        fs::write(folder.file("grayxdp.yaml"), configuration(&lab, &folder))?;
        let log = File::create(folder.file("daemon.log"))?;
        let mut command = lab.balancer().command(&program);
        command.arg("daemon").arg("--config").arg(folder.file("grayxdp.yaml"));
        command.stdin(std::process::Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C is for the demo, which ends the daemon itself.
        command.process_group(0);
        let daemon = lab.balancer().start(&mut command)?;
        let mut stage = Self { daemon, folder, program, _servers: servers, lab };
        stage.wait(interrupt)?;
        Ok(stage)
    }

    /// Where the clients are.
    pub(super) fn client(&self) -> &Namespace {
        self.lab.client()
    }

    /// The clients' addresses.
    pub(super) fn sources(&self) -> Sources {
        self.lab.sources()
    }

    /// Where a service is asked.
    pub(super) fn endpoint(&self, service: &str) -> SocketAddrV4 {
        SocketAddrV4::new(vip(&self.lab, service), VIP_PORT)
    }

    /// How everything stands, by the daemon.
    pub(super) fn status(&self) -> anyhow::Result<Status> {
        self.ask(&["status"])
    }

    /// How a rollout stands, by the daemon.
    pub(super) fn rollout(&self, name: &Name) -> anyhow::Result<RolloutStatus> {
        self.ask(&["rollout", "get", name.as_str()])
    }

    /// Starts a rollout.
    pub(super) fn start_rollout(&self, name: &Name, plan: &str) -> anyhow::Result<()> {
        let file = self.folder.file(&format!("{name}.yaml"));
        fs::write(&file, plan)?;
        self.operate(&["rollout", "start", &file.to_string_lossy()]).map(drop)
    }

    fn ask<T: DeserializeOwned>(&self, words: &[&str]) -> anyhow::Result<T> {
        let answer = self.operate(&[words, &["-o", "json"]].concat())?;
        serde_json::from_str(&answer)
            .with_context(|| format!("`grayxdp {}` did not print what it should", words.join(" ")))
    }

    /// Runs a command against the daemon, as an operator would.
    fn operate(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        command.arg("--socket").arg(self.folder.file("grayxdp.sock")).args(words);
        let output = command.output().context("the demo could not run its own program")?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        bail!("`grayxdp {}` failed: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim())
    }

    /// Waits until the daemon answers and both services do.
    fn wait(&mut self, interrupt: &Interrupt) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while let Err(error) = self.ready() {
            if let Some(status) = self.daemon.child().try_wait()? {
                bail!("the daemon ended ({status}): {}", self.folder.last_words());
            }
            if Instant::now() > end {
                bail!(
                    "the daemon is not ready after {} s: {error:#}; {}",
                    PATIENCE.as_secs(),
                    self.folder.last_words()
                );
            }
            interrupt.sleep(Duration::from_millis(100))?;
        }
        Ok(())
    }

    fn ready(&self) -> anyhow::Result<()> {
        self.status()?;
        for service in ["recsys", "search"] {
            let traffic = Traffic {
                clients: 8,
                timeout: Duration::from_secs(1),
                ..Traffic::new(self.endpoint(service), self.sources())
            };
            let tally = traffic.send(self.client(), PROBES)?;
            if tally.failed() > 0 {
                bail!("{service} does not answer yet ({:?})", tally.failures);
            }
        }
        Ok(())
    }
}

/// The virtual address of a service; both are routed to the load balancer.
fn vip(lab: &Lab, service: &str) -> Ipv4Addr {
    let [a, b, c, d] = lab.vip().octets();
    if service == "recsys" { lab.vip() } else { Ipv4Addr::new(a, b, c, d + 1) }
}

/// The configuration file.
fn configuration(lab: &Lab, folder: &Folder) -> String {
    let interfaces: Vec<_> = lab.interfaces().iter().map(|name| format!("{{name: {name}, mode: native}}")).collect();
    let mut text = format!(
        "interfaces: [{}]\nstateDir: {}\ncontrol: {{socket: {}}}\nhttp: {{listen: 127.0.0.1:9477}}\nservices:\n",
        interfaces.join(", "),
        folder.file("state").display(),
        folder.file("grayxdp.sock").display(),
    );
    for service in ["recsys", "search"] {
        text += &format!("- name: {service}\n  vip: {}\n  port: {VIP_PORT}\n  versions:\n", vip(lab, service));
        for (_, version, backends) in POOLS.iter().filter(|(owner, ..)| *owner == service) {
            let pool: Vec<_> = backends
                .iter()
                .map(|&backend| format!("{{address: {}, port: {SERVER_PORT}}}", lab.backend_address(backend)))
                .collect();
            text += &format!("  - {{name: {version}, backends: [{}]}}\n", pool.join(", "));
        }
        text += "  weights: {v1: 100, v2: 0}\n";
    }
    text
}

/// A folder for the demo's files, for its user alone; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    /// What the folder's name begins with; the id of its process follows.
    const PREFIX: &str = "grayxdp-demo-";

    fn new() -> anyhow::Result<Self> {
        let parent = std::env::temp_dir();
        Self::remove_orphans(&parent);
        let path = parent.join(format!("{}{}", Self::PREFIX, std::process::id()));
        // It must not exist: somebody else's folder is no place for a socket that takes commands.
        DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self(path))
    }

    /// Removes what demos left that were killed.
    fn remove_orphans(parent: &Path) {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let process = name.to_str().and_then(|name| name.strip_prefix(Self::PREFIX)?.parse::<u32>().ok());
            if process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists()) {
                // What cannot be removed now disturbs nobody.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The last lines that the daemon wrote.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.file("daemon.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let path: &Path = &self.0;
        if let Err(error) = fs::remove_dir_all(path) {
            eprintln!("{} is left behind: {error}", path.display());
        }
    }
}
