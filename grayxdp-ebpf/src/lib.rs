//! Packet code: reading and rewriting frames. Knows no map and no kernel, so it is tested on the host.
#![no_std]

pub mod answer;
pub mod answer6;
pub mod follow;
pub mod frame;
pub mod outer;
pub mod packet;
pub mod quote;
pub mod rewrite;
