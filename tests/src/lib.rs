//! Tests of grayxdp that need a real kernel: what they share.

pub mod size;
