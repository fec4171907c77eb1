//! A real daemon on a host of its own, asked over its socket.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use grayxdp::{
    control::{Client, ClientError},
    lab::{Namespace, Process},
    model::api::{ChangeOptions, Request, Response},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::configuration::Shape;
use crate::{host, size};

/// Time in which a daemon must answer after its start.
const PATIENCE: Duration = Duration::from_secs(20);

/// The daemon; killed when dropped.
pub(super) struct Daemon {
    process: Process,
    client: Client,
    runtime: Runtime,
    host: Namespace,
    folder: TempDir,
}

impl Daemon {
    /// Starts a daemon that keeps everything in a new folder within `within`, and waits until it answers.
    pub(super) fn start(within: &Path, shape: Shape) -> Result<Self> {
        let host = host::host(&[])?;
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(within)?;
        let client = Client::new(folder.path().join("socket"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        fs::write(configuration(&folder), shape.configuration(folder.path()))?;
        let process = run(&host, &folder)?;
        let mut daemon = Self { process, client, runtime, host, folder };
        daemon.wait()?;
        Ok(daemon)
    }

    /// Asks.
    pub(super) fn request(&self, request: &Request) -> Result<Response, ClientError> {
        self.runtime.block_on(self.client.request(request))
    }

    /// Kills it, starts another on what it left, and gives the time from that start to the first answer.
    pub(super) fn kill_and_start(&mut self) -> Result<Duration> {
        self.process.kill()?;
        let start = Instant::now();
        self.process = run(&self.host, &self.folder)?;
        self.wait()?;
        Ok(start.elapsed())
    }

    /// Gives it another configuration, and how long it took to be in force.
    pub(super) fn reload(&self, shape: Shape) -> Result<Duration> {
        fs::write(configuration(&self.folder), shape.configuration(self.folder.path()))?;
        let request = Request::Reload { diff: false, reset_weights: Vec::new(), options: ChangeOptions::default() };
        let start = Instant::now();
        match self.request(&request)? {
            Response::Done(done) => ensure!(!done.changes.is_empty(), "the reload changed nothing"),
            other => bail!("a reload was answered by {other:?}"),
        }
        Ok(start.elapsed())
    }

    /// A file of the process in `/proc`.
    pub(super) fn proc(&mut self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.process.child().id());
        fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))
    }

    /// The id of its process.
    pub(super) fn id(&mut self) -> Result<libc::pid_t> {
        Ok(self.process.child().id().try_into()?)
    }

    fn wait(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            match self.request(&Request::Status) {
                Ok(_) => return Ok(()),
                Err(error) => ensure!(start.elapsed() < PATIENCE, "the daemon does not come up: {error}"),
            }
            if let Some(status) = self.process.child().try_wait()? {
                bail!("the daemon ended with {status}: {}", fs::read_to_string(log(&self.folder))?);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn run(host: &Namespace, folder: &TempDir) -> Result<Process> {
    let log = fs::File::create(log(folder))?;
    let mut command = host.command(size::grayxdp());
    command.arg0("grayxdp").arg("daemon").arg("--config").arg(configuration(folder));
    Ok(host.start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log))?)
}

fn configuration(folder: &TempDir) -> PathBuf {
    folder.path().join("grayxdp.yaml")
}

fn log(folder: &TempDir) -> PathBuf {
    folder.path().join("log")
}
