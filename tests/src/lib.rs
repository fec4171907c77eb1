//! Kernel tests and the packet-path benchmark of grayxdp: what their packets are made of and how the kernel runs them.

pub mod bench;
pub mod packet;
pub mod size;
