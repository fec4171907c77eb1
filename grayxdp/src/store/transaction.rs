//! All that is read from and written to the journal's tables.

use std::{collections::BTreeMap, path::Path};

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    balance::IdTable,
    model::{Name, event::Event},
    store::{
        error::StoreError,
        records::{Applied, JournaledBackend, JournaledRollout, JournaledService, ServiceRecord},
    },
};

/// Name of the document that holds how many exceptions each service had.
const EXCEPTIONS: &str = "exceptions";
/// Name of the document that holds the [`IdTable`].
const IDS: &str = "ids";
/// Name of the document that holds the [`JournaledBackend`]s.
const BACKENDS: &str = "backends";

/// Reads and writes that belong together: all of them last, or none.
#[derive(Debug)]
pub struct Transaction<'a> {
    connection: &'a Connection,
    path: &'a Path,
}

type Stored<T> = Result<T, StoreError>;

impl<'a> Transaction<'a> {
    pub(super) const fn new(connection: &'a Connection, path: &'a Path) -> Self {
        Self { connection, path }
    }

    /// All services, by name.
    ///
    /// # Errors
    /// What could not be read.
    pub fn services(&self) -> Stored<Vec<JournaledService>> {
        let rows = self.rows("SELECT name, applied, intent FROM services ORDER BY name", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, Option<String>>(2)?))
        })?;
        let record = |text: Option<String>| text.map(|text| self.parsed(&text)).transpose();
        let service = |(name, applied, intent)| {
            Ok(JournaledService { name: self.name(name)?, applied: record(applied)?, intent: record(intent)? })
        };
        rows.into_iter().map(service).collect()
    }

    /// Writes what is to be applied next; it replaces an earlier intent.
    ///
    /// # Errors
    /// What could not be written.
    pub fn begin_intent(&self, service: &Name, record: &ServiceRecord) -> Stored<()> {
        let sql = "INSERT INTO services (name, intent) VALUES (?1, ?2)
                   ON CONFLICT (name) DO UPDATE SET intent = excluded.intent";
        self.execute(sql, params![service.as_str(), to_json(record)]).map(drop)
    }

    /// The intent of that epoch is in the kernel now.
    ///
    /// # Errors
    /// [`StoreError::NoIntent`] where there is none of that epoch, or what could not be written.
    pub fn mark_applied(&self, service: &Name, epoch: u64) -> Stored<()> {
        let sql = "UPDATE services SET applied = intent, intent = NULL
                   WHERE name = ?1 AND json_extract(intent, '$.epoch') = ?2";
        match self.execute(sql, params![service.as_str(), integer(epoch)?])? {
            0 => Err(StoreError::NoIntent { service: service.clone(), epoch }),
            _ => Ok(()),
        }
    }

    /// The intent did not reach the kernel and is given up.
    ///
    /// # Errors
    /// What could not be written.
    pub fn withdraw_intent(&self, service: &Name) -> Stored<()> {
        self.execute("DELETE FROM services WHERE name = ?1 AND applied IS NULL", [service.as_str()])?;
        self.execute("UPDATE services SET intent = NULL WHERE name = ?1", [service.as_str()]).map(drop)
    }

    /// Writes what the kernel holds, whatever was meant.
    ///
    /// # Errors
    /// What could not be written.
    pub fn adopt(&self, service: &Name, record: &ServiceRecord) -> Stored<()> {
        let sql = "INSERT INTO services (name, applied) VALUES (?1, ?2)
                   ON CONFLICT (name) DO UPDATE SET applied = excluded.applied, intent = NULL";
        self.execute(sql, params![service.as_str(), to_json(record)]).map(drop)
    }

    /// Forgets a service that is configured no more.
    ///
    /// # Errors
    /// What could not be written.
    pub fn forget(&self, service: &Name) -> Stored<()> {
        self.execute("DELETE FROM services WHERE name = ?1", [service.as_str()]).map(drop)
    }

    /// A number that no rollout ever had.
    ///
    /// # Errors
    /// What could not be read.
    pub fn next_rollout_number(&self) -> Stored<u64> {
        let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'rollouts'";
        let last = self.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).optional();
        Ok(last.map_err(|error| self.error(&error))?.unwrap_or(0).unsigned_abs() + 1)
    }

    /// Writes a rollout; it replaces the one with its number.
    ///
    /// # Errors
    /// What could not be written.
    pub fn save_rollout(&self, rollout: &JournaledRollout) -> Stored<()> {
        let JournaledRollout { number, name, plan, state, started, ended } = rollout;
        let sql =
            "INSERT INTO rollouts (number, name, plan, state, started_ns, ended_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                   ON CONFLICT (number) DO UPDATE SET name = excluded.name, plan = excluded.plan,
                   state = excluded.state, started_ns = excluded.started_ns, ended_ns = excluded.ended_ns";
        let (started, ended) = (nanoseconds(*started), ended.map(nanoseconds));
        let values = params![integer(*number)?, name.as_str(), to_json(plan), to_json(state), started, ended];
        self.execute(sql, values).map(drop)
    }

    /// All rollouts, the newest first.
    ///
    /// # Errors
    /// What could not be read.
    pub fn rollouts(&self) -> Stored<Vec<JournaledRollout>> {
        let sql = "SELECT number, name, plan, state, started_ns, ended_ns FROM rollouts ORDER BY number DESC";
        self.rows(sql, [], raw_rollout)?.into_iter().map(|raw| self.rollout_of(raw)).collect()
    }

    /// The newest rollout of a name.
    ///
    /// # Errors
    /// What could not be read.
    pub fn rollout(&self, name: &Name) -> Stored<Option<JournaledRollout>> {
        let sql = "SELECT number, name, plan, state, started_ns, ended_ns FROM rollouts
                   WHERE name = ?1 ORDER BY number DESC LIMIT 1";
        let raw = self.rows(sql, [name.as_str()], raw_rollout)?;
        raw.into_iter().next().map(|raw| self.rollout_of(raw)).transpose()
    }

    /// Appends an event and gives its number; the number that it comes with is ignored.
    ///
    /// # Errors
    /// What could not be written.
    pub fn append_event(&self, event: &Event) -> Stored<u64> {
        let sql = "INSERT INTO events (time_ns, body) VALUES (?1, ?2)";
        self.execute(sql, params![nanoseconds(event.time), to_json(event)])?;
        Ok(self.connection.last_insert_rowid().unsigned_abs())
    }

    /// Events after a number, the newest `limit` of them, oldest first.
    ///
    /// # Errors
    /// What could not be read.
    pub fn events(&self, after: u64, limit: usize) -> Stored<Vec<Event>> {
        let sql = "SELECT id, body FROM events WHERE id > ?1 ORDER BY id DESC LIMIT ?2";
        let bounds = params![i64::try_from(after).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX)];
        let rows = self.rows(sql, bounds, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        let event = |(id, body): (i64, String)| Ok(Event { id: id.unsigned_abs(), ..self.parsed(&body)? });
        rows.into_iter().rev().map(event).collect()
    }

    /// Appends what the data path held from a time on.
    ///
    /// # Errors
    /// What could not be written.
    pub fn append_applied(&self, applied: &Applied) -> Stored<()> {
        let Applied { time, service, record } = applied;
        let sql = "INSERT INTO applied (service, time_ns, epoch, rollout, record) VALUES (?1, ?2, ?3, ?4, ?5)";
        let (epoch, rollout) = (integer(record.epoch)?, integer(record.rollout)?);
        self.execute(sql, params![service.as_str(), nanoseconds(*time), epoch, rollout, to_json(record)]).map(drop)
    }

    /// What the data path held at a time, the newest of each service.
    ///
    /// # Errors
    /// What could not be read.
    pub fn applied_at(&self, time: jiff::Timestamp) -> Stored<Vec<Applied>> {
        let sql = "SELECT service, time_ns, record FROM applied WHERE id IN
                   (SELECT MAX(id) FROM applied WHERE time_ns <= ?1 GROUP BY service) ORDER BY service";
        self.applied_rows(sql, [nanoseconds(time)])
    }

    /// What a rollout put into the data path, the oldest first.
    ///
    /// # Errors
    /// What could not be read.
    pub fn applied_by(&self, rollout: u64) -> Stored<Vec<Applied>> {
        let sql = "SELECT service, time_ns, record FROM applied WHERE rollout = ?1 ORDER BY id";
        self.applied_rows(sql, [integer(rollout)?])
    }

    fn applied_rows(&self, sql: &str, values: impl rusqlite::Params) -> Stored<Vec<Applied>> {
        let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?));
        let rows = self.rows(sql, values, row)?;
        let applied = |(service, time, record): (String, i64, String)| {
            Ok(Applied { time: self.timestamp(time)?, service: self.name(service)?, record: self.parsed(&record)? })
        };
        rows.into_iter().map(applied).collect()
    }

    /// Events of a rollout from a time on and before another, oldest first.
    ///
    /// # Errors
    /// What could not be read.
    pub fn events_of(&self, rollout: &Name, from: jiff::Timestamp, to: jiff::Timestamp) -> Stored<Vec<Event>> {
        let sql = "SELECT id, body FROM events WHERE time_ns >= ?1 AND time_ns < ?2
                   AND json_extract(body, '$.rollout') = ?3 ORDER BY id";
        let values = params![nanoseconds(from), nanoseconds(to), rollout.as_str()];
        let rows = self.rows(sql, values, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        let event = |(id, body): (i64, String)| Ok(Event { id: id.unsigned_abs(), ..self.parsed(&body)? });
        rows.into_iter().map(event).collect()
    }

    /// Removes events from before a time, rollouts that ended before it and tables that were replaced before it, and says how
    /// many.
    ///
    /// # Errors
    /// What could not be written.
    pub fn prune(&self, before: jiff::Timestamp) -> Stored<usize> {
        let events = self.execute("DELETE FROM events WHERE time_ns < ?1", [nanoseconds(before)])?;
        let replaced = "DELETE FROM applied WHERE time_ns < ?1 AND id NOT IN
                        (SELECT MAX(id) FROM applied WHERE time_ns < ?1 GROUP BY service)";
        let tables = self.execute(replaced, [nanoseconds(before)])?;
        Ok(events + tables + self.execute("DELETE FROM rollouts WHERE ended_ns < ?1", [nanoseconds(before)])?)
    }

    /// Writes the numbers of services, versions and backends.
    ///
    /// # Errors
    /// What could not be written.
    pub fn save_ids(&self, ids: &IdTable) -> Stored<()> {
        self.save_document(IDS, ids)
    }

    /// Writes how many exceptions each service has.
    ///
    /// # Errors
    /// What could not be written.
    pub fn save_exceptions(&self, counts: &BTreeMap<Name, u64>) -> Stored<()> {
        self.save_document(EXCEPTIONS, counts)
    }

    /// How many exceptions each service had when that was last written.
    ///
    /// # Errors
    /// What could not be read.
    pub fn exceptions(&self) -> Stored<BTreeMap<Name, u64>> {
        self.document(EXCEPTIONS)
    }

    /// The numbers of services, versions and backends; an empty table where none was written.
    ///
    /// # Errors
    /// What could not be read.
    pub fn ids(&self) -> Stored<IdTable> {
        self.document(IDS)
    }

    /// Writes what is special about backends; all others are as configured.
    ///
    /// # Errors
    /// What could not be written.
    pub fn save_backends(&self, backends: &[JournaledBackend]) -> Stored<()> {
        self.save_document(BACKENDS, &backends)
    }

    /// What is special about backends.
    ///
    /// # Errors
    /// What could not be read.
    pub fn backends(&self) -> Stored<Vec<JournaledBackend>> {
        self.document(BACKENDS)
    }

    fn save_document<T: Serialize>(&self, name: &str, document: &T) -> Stored<()> {
        let sql = "INSERT INTO documents (name, body) VALUES (?1, ?2)
                   ON CONFLICT (name) DO UPDATE SET body = excluded.body";
        self.execute(sql, params![name, to_json(document)]).map(drop)
    }

    fn document<T: DeserializeOwned + Default>(&self, name: &str) -> Stored<T> {
        let bodies = self.rows("SELECT body FROM documents WHERE name = ?1", [name], |row| row.get::<_, String>(0))?;
        bodies.first().map_or_else(|| Ok(T::default()), |body| self.parsed(body))
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> Stored<usize> {
        let mut statement = self.connection.prepare_cached(sql).map_err(|error| self.error(&error))?;
        statement.execute(values).map_err(|error| self.error(&error))
    }

    fn rows<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Stored<Vec<T>> {
        let mut statement = self.connection.prepare_cached(sql).map_err(|error| self.error(&error))?;
        let rows = statement.query_map(values, map).map_err(|error| self.error(&error))?;
        rows.collect::<rusqlite::Result<_>>().map_err(|error| self.error(&error))
    }

    fn rollout_of(&self, raw: RawRollout) -> Stored<JournaledRollout> {
        Ok(JournaledRollout {
            number: raw.number.unsigned_abs(),
            name: self.name(raw.name)?,
            plan: self.parsed(&raw.plan)?,
            state: self.parsed(&raw.state)?,
            started: self.timestamp(raw.started_ns)?,
            ended: raw.ended_ns.map(|ended| self.timestamp(ended)).transpose()?,
        })
    }

    fn parsed<T: DeserializeOwned>(&self, text: &str) -> Stored<T> {
        serde_json::from_str(text).map_err(|error| self.damaged(&error))
    }

    fn name(&self, text: String) -> Stored<Name> {
        Name::try_from(text).map_err(|error| self.damaged(&error))
    }

    fn timestamp(&self, nanoseconds: i64) -> Stored<jiff::Timestamp> {
        jiff::Timestamp::from_nanosecond(nanoseconds.into()).map_err(|error| self.damaged(&error))
    }

    fn damaged(&self, error: &dyn std::error::Error) -> StoreError {
        StoreError::Damaged { path: self.path.to_owned(), detail: error.to_string() }
    }

    fn error(&self, error: &rusqlite::Error) -> StoreError {
        StoreError::sqlite(self.path, error)
    }
}

/// A row of the table of rollouts.
struct RawRollout {
    number: i64,
    name: String,
    plan: String,
    state: String,
    started_ns: i64,
    ended_ns: Option<i64>,
}

fn raw_rollout(row: &Row<'_>) -> rusqlite::Result<RawRollout> {
    Ok(RawRollout {
        number: row.get(0)?,
        name: row.get(1)?,
        plan: row.get(2)?,
        state: row.get(3)?,
        started_ns: row.get(4)?,
        ended_ns: row.get(5)?,
    })
}

fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("what is journaled is plain JSON")
}

fn integer(number: u64) -> Stored<i64> {
    i64::try_from(number).map_err(|_| StoreError::TooGreat { number })
}

/// Since the Unix epoch; times beyond the year 2262 count as its end.
fn nanoseconds(time: jiff::Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}
