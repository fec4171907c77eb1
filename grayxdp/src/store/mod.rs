//! The journal: what must survive, in SQLite.
//!
//! Every call is one transaction that is on the disk when it returns (`synchronous = FULL`), or has changed nothing.
//! A journal that is damaged, foreign or of another version is refused and never written to: without it the daemon
//! does not know who owns the weights, and the kernel goes on by itself.

mod error;
mod journal;
mod key;
mod lock;
mod migrate;
mod open;
mod records;
mod transaction;

pub use error::StoreError;
pub use journal::Journal;
pub use key::hash_key;
pub use records::{Applied, JournaledBackend, JournaledRollout, JournaledService, SegmentRecord, ServiceRecord, Wish};
pub use transaction::Transaction;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
