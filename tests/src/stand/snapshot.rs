//! What a refused command must leave as it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use grayxdp::lab::Namespace;

use super::PIN_DIR;

/// Pins, programs and files at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Everything under the pin folder.
    pub pins: BTreeSet<PathBuf>,
    /// Mode and program of each interface that has one.
    pub programs: BTreeMap<String, (String, u64)>,
    /// Configuration, state and key, byte by byte; of a journal that can be read, [what it says](journal).
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

/// Tables of the journal in which a row stands for something that somebody did or asked for. Not `applied`, to which the
/// daemon adds what it has put into the kernel when it finds the time.
const TABLES: [&str; 4] = ["services", "rollouts", "events", "documents"];

impl Snapshot {
    /// Looks now.
    pub(super) fn take(balancer: &Namespace, folder: &Path) -> Self {
        let mut pins = BTreeSet::new();
        balancer.run(|| walk(Path::new(PIN_DIR), &mut |path| pins.extend([path.to_owned()])));
        let mut files = BTreeMap::new();
        let mut keep = |path: &Path| {
            // Not what a daemon or a test writes at any time: sockets, locks, logs, SQLite's index of its log.
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let passing = [".log", ".sock", "lock", "-shm", "-wal", "refused.out", "refused.err"];
            if !passing.iter().any(|end| name.ends_with(end)) {
                let bytes = || fs::read(path).expect("a file can be read");
                let said = name.ends_with(".db").then(|| journal(path).ok()).flatten();
                files.insert(path.to_owned(), said.map_or_else(bytes, String::into_bytes));
            }
        };
        walk(folder, &mut keep);
        Self { pins, programs: programs(balancer), files }
    }

    /// What differs in another one, in words.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if self.pins != other.pins {
            found.push(format!("pins {:?}", self.pins.symmetric_difference(&other.pins)));
        }
        if self.programs != other.programs {
            found.push(format!("programs {:?} and {:?}", self.programs, other.programs));
        }
        let names: BTreeSet<_> = self.files.keys().chain(other.files.keys()).collect();
        let length = |files: &BTreeMap<PathBuf, Vec<u8>>, name| files.get(name).map(Vec::len);
        for name in names.into_iter().filter(|name| self.files.get(*name) != other.files.get(*name)) {
            let lengths = (length(&self.files, name), length(&other.files, name));
            found.push(format!("{} (bytes before and after: {lengths:?})", name.display()));
        }
        found
    }
}

/// The rows of a journal's [tables](TABLES), read from a copy: to open it might change its files.
fn journal(path: &Path) -> rusqlite::Result<String> {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let copy = folder.path().join("journal.db");
    fs::copy(path, &copy).expect("a file can be copied");
    let log = PathBuf::from(format!("{}-wal", path.display()));
    if log.exists() {
        fs::copy(log, folder.path().join("journal.db-wal")).expect("a file can be copied");
    }
    let connection = rusqlite::Connection::open(copy)?;
    let mut text = String::new();
    for table in TABLES {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table} ORDER BY 1"))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|column| row.get::<_, rusqlite::types::Value>(column));
            let values = values.collect::<rusqlite::Result<Vec<_>>>()?;
            writeln!(text, "{table}: {values:?}").expect("a string takes text");
        }
    }
    Ok(text)
}

/// Mode and program of each interface of a namespace that has one, as `ip` says.
fn programs(namespace: &Namespace) -> BTreeMap<String, (String, u64)> {
    let text = namespace.output("ip", ["-details", "-json", "link", "show"]).expect("`ip` works");
    let links: serde_json::Value = serde_json::from_str(&text).expect("`ip` prints JSON");
    let mut programs = BTreeMap::new();
    for link in links.as_array().expect("a list of links") {
        if let Some(id) = link["xdp"]["prog"]["id"].as_u64() {
            let name = link["ifname"].as_str().expect("a link has a name").to_owned();
            let mode = match link["xdp"]["mode"].as_u64() {
                Some(1) => "native",
                Some(2) => "generic",
                _ => "other",
            };
            programs.insert(name, (mode.to_owned(), id));
        }
    }
    programs
}

/// Visits every file below a folder.
fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, visit);
        } else {
            visit(&path);
        }
    }
}
