//! What can go wrong with what must survive: one line each, with what, where and what to do.

use std::{io, path::PathBuf};

use rusqlite::ErrorCode;

use crate::model::Name;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the lock.
    #[error(
        "{}: another grayxdp daemon{} uses this stateDir; stop it, or give this one a stateDir of its own",
        directory.display(),
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    InUse {
        /// The state directory.
        directory: PathBuf,
        /// The other process, where it is known.
        pid: Option<u32>,
    },
    /// The file is no sound journal.
    #[error(
        "{}: the journal is damaged ({detail}); move it and its -wal file away and start again: the kernel's weights \
         stay as they are",
        path.display()
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file belongs to something else.
    #[error(
        "{}: not a journal of grayxdp; move it away and start again: the kernel's weights stay as they are",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The journal was written by another release.
    #[error(
        "{}: the journal has version {found}, this release writes {ours}; use the release that wrote it",
        path.display()
    )]
    OtherVersion {
        /// The journal.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// That of this release.
        ours: i64,
    },
    /// No space is left.
    #[error("{}: the disk is full, nothing was written; free some space, later writes work again", path.display())]
    Full {
        /// The journal.
        path: PathBuf,
    },
    /// The file or its disk takes no writes.
    #[error(
        "{}: not writable ({detail}), nothing was written; make the file and its disk writable for this user",
        path.display()
    )]
    NotWritable {
        /// The journal.
        path: PathBuf,
        /// In SQLite's words.
        detail: String,
    },
    /// The file lost its name while it was open: no later start would read what is written.
    #[error("{}: removed or exchanged while in use, nothing was written; put it back, or restart the daemon", path.display())]
    Gone {
        /// The journal.
        path: PathBuf,
    },
    /// Anything else that SQLite says.
    #[error(
        "{}: the journal failed ({detail}), nothing was written; look at the disk and the system log",
        path.display()
    )]
    Failed {
        /// The journal.
        path: PathBuf,
        /// In SQLite's words.
        detail: String,
    },
    /// A file cannot be used.
    #[error("{}: cannot {action}: {source}; look at its owner, mode and disk", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// Something was to be marked applied that was never meant.
    #[error("no intent with epoch {epoch} is journaled for service {service}; the daemon must begin it again")]
    NoIntent {
        /// The service.
        service: Name,
        /// The epoch.
        epoch: u64,
    },
    /// A number that SQLite cannot hold.
    #[error("{number} is beyond what the journal can hold (2^63 - 1); this is a fault of grayxdp")]
    TooGreat {
        /// The number.
        number: u64,
    },
    /// The key is gone and flows depend on it.
    #[error(
        "{}: the hash key is missing, and the journal is from the time when there was one; put the key back: a new one \
         would move every flow",
        path.display()
    )]
    KeyMissing {
        /// The key's file.
        path: PathBuf,
    },
    /// The key's file has the wrong length.
    #[error("{}: the hash key has {bytes} bytes and must have 32; put the right file back", path.display())]
    KeyLength {
        /// The key's file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// The key's file can be read by others.
    #[error("{}: the hash key has mode {mode:04o} and is a secret; run `chmod 600` on it", path.display())]
    KeyMode {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl StoreError {
    /// From what SQLite says about the journal at `path`.
    pub(super) fn sqlite(path: &std::path::Path, error: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        let detail = error.to_string().replace('\n', " ");
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                Self::NotWritable { path, detail }
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged { path, detail },
            _ => Self::Failed { path, detail },
        }
    }

    /// From what the kernel says about a file.
    pub(super) fn file(path: &std::path::Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, action, source }
    }
}
