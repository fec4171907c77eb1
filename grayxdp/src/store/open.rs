//! Making a journal, and opening one without harming what is no sound journal.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use crate::store::{error::StoreError, migrate};

/// Marks the file as ours (`application_id` in SQLite's header): "gxdp".
const APPLICATION: i64 = 0x6778_6470;
/// Version of the tables and of what is in them (`user_version` in SQLite's header).
pub(super) const VERSION: i64 = 3;
/// Oldest version that is brought to the present one.
const OLDEST: i64 = 1;
/// How long a write waits for somebody who reads the journal by hand.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the data path held, and since when: append-only. New with version 3.
pub(super) const TABLES_OF_3: &str = "
    CREATE TABLE applied (
        id      INTEGER PRIMARY KEY AUTOINCREMENT,
        service TEXT NOT NULL,
        time_ns INTEGER NOT NULL,
        epoch   INTEGER NOT NULL,
        rollout INTEGER NOT NULL,
        record  TEXT NOT NULL
    ) STRICT;
    CREATE INDEX applied_by_service ON applied (service, time_ns);
    CREATE INDEX applied_by_rollout ON applied (rollout, id);
";

const TABLES: &str = "
    CREATE TABLE services (
        name    TEXT NOT NULL PRIMARY KEY,
        applied TEXT,
        intent  TEXT
    ) STRICT;
    CREATE TABLE rollouts (
        number     INTEGER PRIMARY KEY AUTOINCREMENT,
        name       TEXT NOT NULL,
        plan       TEXT NOT NULL,
        state      TEXT NOT NULL,
        started_ns INTEGER NOT NULL,
        ended_ns   INTEGER
    ) STRICT;
    CREATE INDEX rollouts_by_name ON rollouts (name, number);
    CREATE TABLE events (
        id      INTEGER PRIMARY KEY AUTOINCREMENT,
        time_ns INTEGER NOT NULL,
        body    TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_by_time ON events (time_ns);
    CREATE TABLE documents (
        name TEXT NOT NULL PRIMARY KEY,
        body TEXT NOT NULL
    ) STRICT;
";

/// Opens the journal at `path`, or makes one where there is none.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    if !path.try_exists().map_err(StoreError::file(path, "look for it"))? {
        create(path)?;
    }
    verify(path)?;
    let sqlite = |error| StoreError::sqlite(path, &error);
    let mut connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(sqlite)?;
    connection.busy_timeout(PATIENCE).map_err(sqlite)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(sqlite)?;
    if mode != "wal" {
        let detail = format!("its disk cannot hold a write-ahead log, mode {mode}");
        return Err(StoreError::NotWritable { path: path.to_owned(), detail });
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(sqlite)?;
    migrate::migrate(&mut connection, path)?;
    Ok(connection)
}

/// Builds an empty journal aside and gives it its name when it is whole, so that half a journal never has the name.
fn create(path: &Path) -> Result<(), StoreError> {
    let log = with_suffix(path, "-wal");
    if fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
        let detail = format!("it is gone while {} is there", log.display());
        return Err(StoreError::Damaged { path: path.to_owned(), detail });
    }
    let aside = with_suffix(path, ".new");
    let truncated = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside);
    truncated.map_err(StoreError::file(&aside, "make it"))?;
    let sqlite = |error| StoreError::sqlite(&aside, &error);
    let connection = Connection::open_with_flags(&aside, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(sqlite)?;
    let header = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};");
    connection.execute_batch(&format!("BEGIN; {header} {TABLES} {TABLES_OF_3} COMMIT;")).map_err(sqlite)?;
    connection.close().map_err(|(_, error)| sqlite(error))?;
    rename_durably(&aside, path)
}

/// Gives a complete file its name, so that after a crash either the name is not there or all of the file is.
pub(super) fn rename_durably(from: &Path, to: &Path) -> Result<(), StoreError> {
    File::open(from).and_then(|file| file.sync_all()).map_err(StoreError::file(from, "write it out"))?;
    fs::rename(from, to).map_err(StoreError::file(to, "name it"))?;
    let directory = directory_of(to);
    File::open(directory).and_then(|file| file.sync_all()).map_err(StoreError::file(directory, "write it out"))
}

/// The directory of a file, `.` for a bare name.
pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Looks at a journal through a connection that cannot write.
fn verify(path: &Path) -> Result<(), StoreError> {
    let sqlite = |error| StoreError::sqlite(path, &error);
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(sqlite)?;
    connection.busy_timeout(PATIENCE).map_err(sqlite)?;
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(sqlite);
    if number("application_id")? != APPLICATION {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    match number("user_version")? {
        OLDEST..=VERSION => {}
        found => return Err(StoreError::OtherVersion { path: path.to_owned(), found, ours: VERSION }),
    }
    let detail: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(sqlite)?;
    if detail != "ok" {
        return Err(StoreError::Damaged { path: path.to_owned(), detail: detail.replace('\n', " ") });
    }
    Ok(())
}
