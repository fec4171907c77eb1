//! The journal: what must survive, in SQLite.
