//! The exception scheme packet by packet: each case says what it is about, and which way each packet must go.

mod cpus;
mod datagrams;
mod down;
mod errors;
mod guards;
mod handshakes;
mod pins;
mod segments;
mod stage;
mod strangers;
