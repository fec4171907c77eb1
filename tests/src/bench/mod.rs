//! What one packet costs: nanoseconds of each path of the program, as a ratio to the yardstick of the same run.

pub mod case;
pub mod cases;
pub mod frames;
pub mod harness;
#[path = "../../../grayxdp-ebpf/src/bench/layout.rs"]
pub mod layout;
pub mod report;
pub mod run;
pub mod worlds;
