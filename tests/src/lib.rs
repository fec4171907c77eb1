//! Tests of grayxdp that need a real kernel, and the benchmark: what they share.

pub mod bench;
pub mod decapsulator;
pub mod faulty;
pub mod flood;
pub mod host;
pub mod load;
pub mod packet;
pub mod plain;
pub mod random;
pub mod rules;
pub mod size;
pub mod stand;
pub mod statistics;
pub mod subject;
pub mod twin;
pub mod verified;
