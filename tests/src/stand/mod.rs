//! A lab with the real daemon on its load balancer, driven by the real commands.
//!
//! Everything is gone with the stand: the daemon is killed, the namespaces end, and with them the load balancer's own
//! BPF file system and its pins.

mod ask;
mod capture;
mod install;
mod metrics;
mod nginx;
mod setup;
mod snapshot;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    net::SocketAddrV4,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use grayxdp::{
    lab::{HttpServer, Lab, Namespace, Process, Tally, Traffic, UdpEcho},
    model::api::{RolloutStatus, ServiceStatus, Status},
};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

pub use self::{
    ask::{ask_flows, ask_udp, get, send_raw, try_flow},
    capture::{Capture, Seen},
    metrics::Metrics,
    nginx::long_text,
    setup::{HTTP, PIN_DIR, SERVER_PORT, SERVICE, Setup, VIP_PORT, plan},
    snapshot::Snapshot,
};
use crate::size::grayxdp;

/// How long anything may take that takes no time when all is well; two cores may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A lab, its servers, its files, its daemon. Fields are dropped in order: the daemon goes first.
pub struct Stand {
    daemon: Option<Process>,
    servers: Vec<(usize, Server)>,
    folder: TempDir,
    /// Where the binary lies, if the stand has one of its own.
    installed: Option<TempDir>,
    lab: Lab,
    setup: Setup,
}

/// A server on a backend.
enum Server {
    Http { _server: HttpServer },
    Udp { _server: UdpEcho },
}

impl Stand {
    /// Builds lab, servers and files; no daemon.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let versions = setup.versions();
        let lab = Lab::builder().arms(setup.arms).backends(versions.len()).build().expect("a lab needs root");
        let folder = tempfile::Builder::new().prefix("grayxdp-stand-").tempdir().expect("a folder can be made");
        let mut stand = Self { daemon: None, servers: Vec::new(), folder, installed: None, lab, setup };
        for (index, version) in versions.into_iter().enumerate() {
            if stand.setup.serves[usize::from(version == "v2")] {
                stand.serve(index, version);
            }
        }
        stand.configure(&stand.setup.clone());
        stand
    }

    /// Builds all, and starts the daemon.
    #[must_use]
    pub fn running(setup: Setup) -> Self {
        let mut stand = Self::new(setup);
        stand.start();
        stand
    }

    /// Starts a server on a backend.
    pub fn serve(&mut self, backend: usize, version: &str) {
        let address = SocketAddrV4::new(self.lab.backend_address(backend), SERVER_PORT);
        let namespace = self.lab.backend(backend);
        let server = if self.setup.protocol == "udp" {
            Server::Udp { _server: UdpEcho::start(namespace, version, address).expect("a port is free") }
        } else {
            Server::Http { _server: HttpServer::start(namespace, version, address).expect("a port is free") }
        };
        self.servers.push((backend, server));
    }

    /// Ends the servers on a backend: it refuses from now on, and its connections end.
    pub fn unserve(&mut self, backend: usize) {
        self.servers.retain(|(of, _)| *of != backend);
    }

    /// Captures TCP packets on the interface of a client or backend.
    #[must_use]
    pub fn capture(&self, namespace: &Namespace, name: &str) -> Capture {
        Capture::start(namespace, self.lab.far_interface(), self.file(&format!("{name}.pcap")))
    }

    /// The namespaces.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The namespaces, to put programs on their interfaces.
    pub fn lab_mut(&mut self) -> &mut Lab {
        &mut self.lab
    }

    /// A file in the stand's folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.file("grayxdp.yaml")
    }

    /// The configuration's text.
    #[must_use]
    pub fn configuration(&self) -> String {
        fs::read_to_string(self.config_file()).expect("it was written")
    }

    /// Writes the configuration file.
    pub fn configure(&self, setup: &Setup) {
        self.write("grayxdp.yaml", &setup.configuration(&self.lab, self.folder.path()));
    }

    /// Writes a file into the stand's folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, text).expect("a file can be written");
        path
    }

    /// Where clients ask.
    #[must_use]
    pub fn target(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.setup.vip.unwrap_or(self.lab.vip()), VIP_PORT)
    }

    /// Clients of the service: 32 at once, a connection a request, 16,384 addresses.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        Traffic::new(self.target(), self.lab.sources())
    }

    /// Sends requests and returns what they met.
    #[must_use]
    pub fn send(&self, requests: u64) -> Tally {
        self.traffic().send(self.lab.client(), requests).expect("clients can be started")
    }

    /// The command that runs a daemon on the load balancer.
    #[must_use]
    pub fn daemon_command(&self, config: &Path) -> Command {
        let mut command = self.lab.balancer().command(self.binary());
        command.arg("daemon").arg("--config").arg(config).stdin(Stdio::null());
        command.env_remove("GRAYXDP_LOG").env_remove("JOURNAL_STREAM");
        command
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        self.launch();
        let end = Instant::now() + PATIENCE;
        while !self.cli(&["status"]).status.success() {
            assert!(self.is_alive(), "the daemon ended: {}", self.log());
            assert!(Instant::now() < end, "the daemon does not answer: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts the daemon and does not wait.
    pub fn launch(&mut self) {
        let log = OpenOptions::new().create(true).append(true).open(self.file("daemon.log")).expect("a log");
        let mut command = self.daemon_command(&self.config_file());
        command.stdout(log.try_clone().expect("a descriptor can be copied")).stderr(log);
        self.daemon = Some(self.lab.balancer().start(&mut command).expect("the daemon can be run"));
    }

    /// Whether the daemon runs.
    pub fn is_alive(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(|daemon| daemon.child().try_wait().is_ok_and(|end| end.is_none()))
    }

    /// What the daemons wrote.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.file("daemon.log")).unwrap_or_default()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        daemon.kill().expect("the daemon was running");
    }

    /// Sends the daemon a signal.
    pub fn signal(&mut self, signal: i32) {
        self.daemon.as_mut().expect("a daemon runs").signal(signal).expect("the daemon was running");
    }

    /// Waits for the daemon's end by itself.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        wait(&mut daemon, PATIENCE).unwrap_or_else(|| panic!("the daemon goes on: {}", self.log()))
    }

    /// Runs a command of an operator.
    #[must_use]
    pub fn cli(&self, words: &[&str]) -> Output {
        self.cli_command(words).output().expect("the binary can be run")
    }

    /// A command of an operator.
    #[must_use]
    pub fn cli_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(grayxdp());
        command.arg("--socket").arg(self.file("grayxdp.sock")).args(words).stdin(Stdio::null());
        command
    }

    /// Runs a command that must work, and returns what it prints.
    #[must_use]
    pub fn done(&self, words: &[&str]) -> String {
        let output = self.cli(words);
        assert!(output.status.success(), "`{}`: {output:?}; daemon: {}", words.join(" "), self.log());
        String::from_utf8(output.stdout).expect("grayxdp prints UTF-8")
    }

    /// The answer to a command, as data.
    #[must_use]
    pub fn answer<T: DeserializeOwned>(&self, words: &[&str]) -> T {
        let text = self.done(&[words, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// `status`.
    #[must_use]
    pub fn status(&self) -> Status {
        self.answer(&["status"])
    }

    /// The stand's service in `status`.
    #[must_use]
    pub fn service(&self) -> ServiceStatus {
        let services = self.status().services;
        services.into_iter().find(|service| service.name.as_str() == SERVICE).expect("the stand's service is there")
    }

    /// What is scraped now.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics::scrape(self.lab.balancer())
    }

    /// Sets the weight of `v2`, in percent; `v1` gets the rest.
    pub fn set_v2(&self, percent: u8) {
        let shares = [format!("v1={}", 100 - percent), format!("v2={percent}")];
        let _ = self.done(&["weights", "set", SERVICE, &shares[0], &shares[1]]);
    }

    /// The weight of `v2` in `status`, in percent.
    #[must_use]
    pub fn v2(&self) -> f64 {
        v2_of(&self.service())
    }

    /// `rollout get`.
    #[must_use]
    pub fn rollout(&self, name: &str) -> RolloutStatus {
        self.answer(&["rollout", "get", name])
    }

    /// Starts the rollout of a plan.
    pub fn start_rollout(&self, name: &str, plan: &str) {
        let file = self.write(&format!("{name}.yaml"), plan);
        let _ = self.done(&["rollout", "start", &file.to_string_lossy()]);
    }

    /// Pins, programs on the load balancer's interfaces, and files.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(self.lab.balancer(), self.folder.path())
    }

    /// Asserts that all is as it was.
    pub fn assert_unchanged(&self, before: &Snapshot, after_what: &str) {
        let differences = before.differences(&self.snapshot());
        assert!(differences.is_empty(), "after {after_what}: {differences:#?}");
    }

    /// Asserts that nothing is pinned and nothing attached; the kernel lets go of links a moment after their pins.
    pub fn assert_free(&self) {
        let pins = self.snapshot().pins;
        assert!(pins.is_empty(), "{pins:?}");
        eventually("free interfaces", || self.snapshot().programs, BTreeMap::is_empty);
    }

    /// Runs a daemon that is to refuse, to its end.
    #[must_use]
    pub fn refused(&self, command: &mut Command) -> Output {
        let (out, err) = (self.file("refused.out"), self.file("refused.err"));
        let create = |path: &Path| File::create(path).expect("a file can be made");
        command.stdout(create(&out)).stderr(create(&err));
        let mut process = self.lab.balancer().start(command).expect("the daemon can be run");
        let status = wait(&mut process, PATIENCE);
        let read = |path: &Path| fs::read(path).expect("it was made");
        let output = Output {
            status: status.unwrap_or(ExitStatus::from_raw(libc::SIGKILL)),
            stdout: read(&out),
            stderr: read(&err),
        };
        assert!(status.is_some(), "the daemon was to refuse, and runs: {output:?}");
        output
    }
}

/// The weight of `v2`, in percent.
#[must_use]
pub fn v2_of(service: &ServiceStatus) -> f64 {
    service.versions.iter().find(|version| version.name.as_str() == "v2").expect("there is v2").weight.ratio() * 100.0
}

/// Waits until something holds; panics with what it last found when it never does.
pub fn eventually<T: std::fmt::Debug>(what: &str, look: impl FnMut() -> T, holds: impl Fn(&T) -> bool) -> T {
    within(PATIENCE, what, look, holds)
}

/// The same for what takes its time: at most `patience`.
pub fn within<T: std::fmt::Debug>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> T,
    holds: impl Fn(&T) -> bool,
) -> T {
    let end = Instant::now() + patience;
    loop {
        let found = look();
        if holds(&found) {
            return found;
        }
        assert!(Instant::now() < end, "{what} does not come about in {patience:?}; last: {found:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a count of `trials` agrees with a probability: within five binomial standard deviations.
#[must_use]
pub fn within_five_deviations(count: u64, trials: u64, probability: f64) -> bool {
    let (count, trials) = (count as f64, trials as f64);
    let deviation = (trials * probability * (1.0 - probability)).sqrt();
    (count - trials * probability).abs() <= 5.0 * deviation
}

/// Asserts that a command ended with a status and one line that begins with `grayxdp: ` and names all of `words`.
pub fn assert_one_line(output: &Output, status: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert_eq!(text.lines().count(), 1, "one line, not:\n{text}");
    assert!(text.starts_with("grayxdp: "), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not named in: {text}");
    }
}

fn wait(process: &mut Process, patience: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if let Some(status) = process.child().try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(10));
    }
    None
}
