//! What grayxdp costs. Each path of the program in nanoseconds, as a ratio to the yardstick of the same run (`cases`,
//! measured by `run`) and against sizes (`curves`); packets a second between namespaces (`throughput`); the daemon
//! (`user_space`); a simulated fortnight (`simulation`).

pub mod case;
pub mod cases;
pub mod curves;
pub mod ends;
pub mod figure;
pub mod frames;
pub mod harness;
pub mod ipv6;
pub mod latency;
#[path = "../../../grayxdp-ebpf/src/bench/layout.rs"]
pub mod layout;
pub mod picture;
pub mod report;
pub mod run;
pub mod simulation;
pub mod throughput;
pub mod unsettled;
pub mod user_space;
pub mod worlds;
