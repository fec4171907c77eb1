//! The flow log: lines of JSON, written by a thread of their own. Whoever has a line never waits; what the thread has no time for, or
//! the disk no room, is counted as lost and stops nothing else.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use serde::Serialize;

use crate::model::{Name, config::Protocol};

/// Lines that may wait for the disk.
const QUEUE: usize = 8_192;

/// Flows that are remembered so that each has one line; where there are more, all are forgotten, and some have two.
const REMEMBERED: usize = 65_536;

/// How long a flow is remembered after its last packet that told of it: repeated SYNs come at most so far apart, datagrams
/// of one flow are told again after so long a silence.
const TCP_MEMORY: Duration = Duration::from_secs(10);
const UDP_MEMORY: Duration = Duration::from_secs(60);

/// How often a file that cannot be written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How often the thread looks for another path while no line comes.
const LOOK: Duration = Duration::from_secs(1);

/// One flow, as its first packet went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowLine {
    /// When it was seen.
    pub time: jiff::Timestamp,
    /// The service.
    pub service: Name,
    /// What it is of.
    pub protocol: Protocol,
    /// Who asks.
    pub client: SocketAddr,
    /// What is asked: virtual address and port.
    pub target: SocketAddr,
    /// The segment, where it is not the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<Name>,
    /// The version that it went to.
    pub version: Name,
    /// The backend.
    pub backend: String,
    /// Epoch of the service.
    pub epoch: u64,
    /// What decided its way, in words.
    pub reason: Vec<&'static str>,
}

/// What became of the lines.
#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    lost: AtomicU64,
    /// Why it cannot be written, while it cannot.
    problem: Mutex<Option<String>>,
    /// The path to go on with.
    next: Mutex<Option<PathBuf>>,
}

/// A flow log that is written.
#[derive(Debug)]
pub struct FlowLog {
    sender: SyncSender<FlowLine>,
    shared: Arc<Shared>,
}

impl FlowLog {
    /// Begins to write; the file is opened with the first line.
    ///
    /// # Errors
    /// No thread.
    pub fn start(path: PathBuf) -> io::Result<Self> {
        let (sender, lines) = sync_channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        thread::Builder::new().name("flow-log".to_owned()).spawn(move || Writer::new(path, own).run(&lines))?;
        Ok(Self { sender, shared })
    }

    /// Writes a line, soon.
    pub fn tell(&self, line: FlowLine) {
        if self.sender.try_send(line).is_err() {
            self.lose(1);
        }
    }

    /// Lines that got lost before they were any.
    pub fn lose(&self, lines: u64) {
        self.shared.lost.fetch_add(lines, Ordering::Relaxed);
    }

    /// Opens a file, also the same one anew, for the lines that come.
    pub fn reopen(&self, path: PathBuf) {
        *locked(&self.shared.next) = Some(path);
    }

    /// Lines that were written, and lines that were lost.
    #[must_use]
    pub fn lines(&self) -> (u64, u64) {
        (self.shared.written.load(Ordering::Relaxed), self.shared.lost.load(Ordering::Relaxed))
    }

    /// Why it cannot be written, while it cannot.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        locked(&self.shared.problem).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's own.
struct Writer {
    path: PathBuf,
    /// The file, and how long it is.
    file: Option<(File, u64)>,
    /// When it last could not be written, on the wall clock.
    failed: Option<Duration>,
    seen: HashMap<(Name, SocketAddr, u16), (String, Duration)>,
    shared: Arc<Shared>,
}

impl Writer {
    fn new(path: PathBuf, shared: Arc<Shared>) -> Self {
        Self { path, file: None, failed: None, seen: HashMap::new(), shared }
    }

    /// Writes until nobody tells of flows any more.
    fn run(mut self, lines: &Receiver<FlowLine>) {
        loop {
            let line = lines.recv_timeout(LOOK);
            if let Some(next) = locked(&self.shared.next).take() {
                (self.path, self.file, self.failed) = (next, None, None);
            }
            match line {
                Ok(line) => self.take(&line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, line: &FlowLine) {
        let at = Duration::from_secs(u64::try_from(line.time.as_second()).unwrap_or(0));
        if !self.is_new(line, at) {
            return;
        }
        let written = match self.failed {
            Some(failed) if at.abs_diff(failed) < RETRY => None,
            Some(_) | None => Some(self.write(line)),
        };
        match written {
            Some(Ok(())) => {
                self.shared.written.fetch_add(1, Ordering::Relaxed);
                if self.failed.take().is_some() {
                    tracing::info!("the flow log {} is written again", self.path.display());
                    *locked(&self.shared.problem) = None;
                }
            }
            Some(Err(error)) => {
                let what = format!("{}: {error}", self.path.display());
                if self.failed.is_none() {
                    tracing::error!("the flow log cannot be written, tried again every few seconds: {what}");
                }
                *locked(&self.shared.problem) = Some(what);
                (self.failed, self.file) = (Some(at), None);
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
            }
            None => drop(self.shared.lost.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Whether the flow has no line yet, or goes elsewhere than its last one says.
    fn is_new(&mut self, line: &FlowLine, at: Duration) -> bool {
        let memory = match line.protocol {
            Protocol::Tcp => TCP_MEMORY,
            Protocol::Udp => UDP_MEMORY,
        };
        if self.seen.len() >= REMEMBERED {
            self.seen.retain(|_, (_, last)| at.abs_diff(*last) < UDP_MEMORY);
            if self.seen.len() >= REMEMBERED {
                self.seen.clear();
            }
        }
        let key = (line.service.clone(), line.client, line.target.port());
        let before = self.seen.insert(key, (line.backend.clone(), at));
        before.is_none_or(|(backend, last)| backend != line.backend || at.abs_diff(last) >= memory)
    }

    /// Adds a line. Of one that does not fit nothing stays.
    fn write(&mut self, line: &FlowLine) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        let (mut file, length) = match self.file.take() {
            Some(open) => open,
            None => {
                let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
                let length = file.metadata()?.len();
                (file, length)
            }
        };
        if let Err(error) = file.write_all(&bytes) {
            // What is left of it makes the next line unreadable; where even that fails, the reader has to skip it.
            let _ = file.set_len(length);
            return Err(error);
        }
        self.file = Some((file, length + bytes.len() as u64));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(client: u16, backend: &str, second: i64) -> FlowLine {
        FlowLine {
            time: jiff::Timestamp::from_second(1_800_000_000 + second).expect("a time"),
            service: "web".parse().expect("a name"),
            protocol: Protocol::Tcp,
            client: SocketAddr::from(([10, 64, 0, 1], client)),
            target: SocketAddr::from(([192, 0, 2, 10], 80)),
            segment: None,
            version: "v2".parse().expect("a name"),
            backend: backend.to_owned(),
            epoch: 7,
            reason: vec!["a new flow goes by current"],
        }
    }

    fn until(what: &str, holds: impl Fn() -> bool) {
        for _ in 0..2_000 {
            if holds() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("{what} does not come about");
    }

    fn lines(path: &std::path::Path) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[test]
    fn a_flow_has_one_line_and_another_where_it_goes_elsewhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("flows.jsonl");
        fs::write(&path, "{\"old\":1}\n").expect("a file");
        let log = FlowLog::start(path.clone()).expect("a thread");
        // The same SYN again, one after its memory, and one that was chosen anew.
        let told = [(1, "a", 0), (1, "a", 1), (1, "a", 8), (2, "a", 8), (1, "b", 9), (1, "b", 30)];
        told.into_iter().for_each(|(client, backend, second)| log.tell(line(client, backend, second)));
        until("four lines", || log.lines() == (4, 0));
        let found = lines(&path);
        assert_eq!(found.len(), 5, "what was there stays");
        let said = |value: &serde_json::Value| (value["client"].to_string(), value["backend"].to_string());
        let found: Vec<_> = found[1..].iter().map(said).collect();
        let of = |client: u16, backend: &str| (format!("\"10.64.0.1:{client}\""), format!("\"{backend}\""));
        assert_eq!(found, [of(1, "a"), of(2, "a"), of(1, "b"), of(1, "b")]);
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew_when_it_is_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("flows.jsonl");
        let log = FlowLog::start(path.clone()).expect("a thread");
        log.tell(line(1, "a", 0));
        until("a line", || log.lines().0 == 1);
        fs::rename(&path, folder.path().join("old")).expect("moved");
        log.tell(line(2, "a", 0));
        until("a line in the moved file", || lines(&folder.path().join("old")).len() == 2);
        log.reopen(path.clone());
        log.tell(line(3, "a", 0));
        until("a line in the new file", || lines(&path).len() == 1);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_tried_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("not there").join("flows.jsonl");
        let log = FlowLog::start(path.clone()).expect("a thread");
        log.tell(line(1, "a", 0));
        log.tell(line(2, "a", 1));
        until("two lost lines", || log.lines() == (0, 2));
        assert!(log.problem().is_some_and(|why| why.contains("flows.jsonl")));
        fs::create_dir(path.parent().expect("a folder")).expect("a folder");
        log.tell(line(3, "a", 6));
        until("a line", || log.lines() == (1, 2));
        assert_eq!(log.problem(), None);
        // /dev/full takes no byte.
        let full = FlowLog::start("/dev/full".into()).expect("a thread");
        full.tell(line(1, "a", 0));
        until("a lost line", || full.lines() == (0, 1));
    }
}
