//! The program's choice against the pure functions that user space has.
