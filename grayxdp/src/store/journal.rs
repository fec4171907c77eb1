//! The journal as the daemon holds it.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, TransactionBehavior};

use crate::{
    balance::IdTable,
    model::{Name, event::Event},
    store::{
        error::StoreError,
        lock::Lock,
        open,
        records::{Applied, JournaledBackend, JournaledRollout, JournaledService, ServiceRecord},
        transaction::Transaction,
    },
};

/// The open journal. It stays usable after a failed write: nothing of that write is in it, and later ones may succeed.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    path: PathBuf,
    /// Device and inode of the file that was opened.
    file: (u64, u64),
    _lock: Lock,
}

impl Journal {
    /// Locks the journal's directory and opens the journal, made new where there is none.
    ///
    /// # Errors
    /// A second daemon; a file that is damaged, foreign or of another version, which is left as it is; what SQLite or
    /// the kernel refuses.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = Lock::take(open::directory_of(path))?;
        let connection = open::open(path)?;
        let file = identity(path).map_err(StoreError::file(path, "look at it"))?;
        Ok(Self { connection, path: path.to_owned(), file, _lock: lock })
    }

    /// Refuses to write where no later start would read it: into a file that lost its name, which SQLite goes on to write.
    fn still_there(&self) -> Result<(), StoreError> {
        if identity(&self.path).ok() == Some(self.file) {
            return Ok(());
        }
        Err(StoreError::Gone { path: self.path.clone() })
    }

    /// Runs reads and writes that belong together: all of them last, or none.
    ///
    /// # Errors
    /// Those of `work`, or that it could not be committed.
    pub fn transaction<T, E: From<StoreError>>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.still_there()?;
        let sqlite = |error| StoreError::sqlite(&self.path, &error);
        let inner = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        let result = work(&Transaction::new(&inner, &self.path))?;
        inner.commit().map_err(sqlite)?;
        Ok(result)
    }

    /// What is in the journal now; for reads.
    fn read(&self) -> Transaction<'_> {
        Transaction::new(&self.connection, &self.path)
    }

    /// Whether any service was ever applied: then flows depend on the hash key (see [`crate::store::hash_key`]).
    ///
    /// # Errors
    /// What could not be read.
    pub fn has_services(&self) -> Result<bool, StoreError> {
        Ok(!self.services()?.is_empty())
    }

    /// See [`Transaction::services`].
    ///
    /// # Errors
    /// What could not be read.
    pub fn services(&self) -> Result<Vec<JournaledService>, StoreError> {
        self.read().services()
    }

    /// See [`Transaction::begin_intent`].
    ///
    /// # Errors
    /// What could not be written.
    pub fn begin_intent(&mut self, service: &Name, record: &ServiceRecord) -> Result<(), StoreError> {
        self.transaction(|journal| journal.begin_intent(service, record))
    }

    /// See [`Transaction::mark_applied`].
    ///
    /// # Errors
    /// [`StoreError::NoIntent`], or what could not be written.
    pub fn mark_applied(&mut self, service: &Name, epoch: u64) -> Result<(), StoreError> {
        self.transaction(|journal| journal.mark_applied(service, epoch))
    }

    /// See [`Transaction::withdraw_intent`].
    ///
    /// # Errors
    /// What could not be written.
    pub fn withdraw_intent(&mut self, service: &Name) -> Result<(), StoreError> {
        self.transaction(|journal| journal.withdraw_intent(service))
    }

    /// See [`Transaction::adopt`].
    ///
    /// # Errors
    /// What could not be written.
    pub fn adopt(&mut self, service: &Name, record: &ServiceRecord) -> Result<(), StoreError> {
        self.transaction(|journal| journal.adopt(service, record))
    }

    /// See [`Transaction::forget`].
    ///
    /// # Errors
    /// What could not be written.
    pub fn forget(&mut self, service: &Name) -> Result<(), StoreError> {
        self.transaction(|journal| journal.forget(service))
    }

    /// See [`Transaction::next_rollout_number`].
    ///
    /// # Errors
    /// What could not be read.
    pub fn next_rollout_number(&self) -> Result<u64, StoreError> {
        self.read().next_rollout_number()
    }

    /// See [`Transaction::save_rollout`].
    ///
    /// # Errors
    /// What could not be written.
    pub fn save_rollout(&mut self, rollout: &JournaledRollout) -> Result<(), StoreError> {
        self.transaction(|journal| journal.save_rollout(rollout))
    }

    /// See [`Transaction::rollouts`].
    ///
    /// # Errors
    /// What could not be read.
    pub fn rollouts(&self) -> Result<Vec<JournaledRollout>, StoreError> {
        self.read().rollouts()
    }

    /// See [`Transaction::rollout`].
    ///
    /// # Errors
    /// What could not be read.
    pub fn rollout(&self, name: &Name) -> Result<Option<JournaledRollout>, StoreError> {
        self.read().rollout(name)
    }

    /// See [`Transaction::append_event`].
    ///
    /// # Errors
    /// What could not be written.
    pub fn append_event(&mut self, event: &Event) -> Result<u64, StoreError> {
        self.transaction(|journal| journal.append_event(event))
    }

    /// See [`Transaction::events`].
    ///
    /// # Errors
    /// What could not be read.
    pub fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read().events(after, limit)
    }

    /// See [`Transaction::append_applied`]; all of them or none.
    ///
    /// # Errors
    /// What could not be written.
    pub fn append_applied(&mut self, applied: &[Applied]) -> Result<(), StoreError> {
        self.transaction(|journal| applied.iter().try_for_each(|applied| journal.append_applied(applied)))
    }

    /// See [`Transaction::applied_at`].
    ///
    /// # Errors
    /// What could not be read.
    pub fn applied_at(&self, time: jiff::Timestamp) -> Result<Vec<Applied>, StoreError> {
        self.read().applied_at(time)
    }

    /// See [`Transaction::applied_by`].
    ///
    /// # Errors
    /// What could not be read.
    pub fn applied_by(&self, rollout: u64) -> Result<Vec<Applied>, StoreError> {
        self.read().applied_by(rollout)
    }

    /// See [`Transaction::events_of`].
    ///
    /// # Errors
    /// What could not be read.
    pub fn events_of(
        &self,
        rollout: &Name,
        from: jiff::Timestamp,
        to: jiff::Timestamp,
    ) -> Result<Vec<Event>, StoreError> {
        self.read().events_of(rollout, from, to)
    }

    /// See [`Transaction::prune`].
    ///
    /// # Errors
    /// What could not be written.
    pub fn prune(&mut self, before: jiff::Timestamp) -> Result<usize, StoreError> {
        self.transaction(|journal| journal.prune(before))
    }

    /// See [`Transaction::save_ids`].
    ///
    /// # Errors
    /// What could not be written.
    pub fn save_ids(&mut self, ids: &IdTable) -> Result<(), StoreError> {
        self.transaction(|journal| journal.save_ids(ids))
    }

    /// See [`Transaction::ids`].
    ///
    /// # Errors
    /// What could not be read.
    pub fn ids(&self) -> Result<IdTable, StoreError> {
        self.read().ids()
    }

    /// See [`Transaction::exceptions`].
    ///
    /// # Errors
    /// What could not be read.
    pub fn exceptions(&self) -> Result<BTreeMap<Name, u64>, StoreError> {
        self.read().exceptions()
    }

    /// See [`Transaction::save_backends`].
    ///
    /// # Errors
    /// What could not be written.
    pub fn save_backends(&mut self, backends: &[JournaledBackend]) -> Result<(), StoreError> {
        self.transaction(|journal| journal.save_backends(backends))
    }

    /// See [`Transaction::backends`].
    ///
    /// # Errors
    /// What could not be read.
    pub fn backends(&self) -> Result<Vec<JournaledBackend>, StoreError> {
        self.read().backends()
    }

    #[cfg(test)]
    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}
