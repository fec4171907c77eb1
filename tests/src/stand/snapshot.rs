//! What a refused command must leave as it was.

use std::{
    collections::{BTreeMap, BTreeSet},
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
    /// Configuration, state and key, byte by byte.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Snapshot {
    /// Looks now.
    pub(super) fn take(balancer: &Namespace, folder: &Path) -> Self {
        let mut pins = BTreeSet::new();
        balancer.run(|| walk(Path::new(PIN_DIR), &mut |path| pins.extend([path.to_owned()])));
        let mut files = BTreeMap::new();
        let mut keep = |path: &Path| {
            // Not what a daemon or a test writes at any time: sockets, locks, logs, SQLite's index of its log.
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let passing = [".log", ".sock", "lock", "-shm", "refused.out", "refused.err"];
            if !passing.iter().any(|end| name.ends_with(end)) {
                files.insert(path.to_owned(), fs::read(path).expect("a file can be read"));
            }
        };
        walk(folder, &mut keep);
        files.retain(|path, bytes| !(bytes.is_empty() && path.to_string_lossy().ends_with("-wal")));
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
