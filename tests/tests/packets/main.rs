//! Packets through the program in the kernel: what goes in, what comes out, what is counted.
//!
//! What must come out is built by the packet builder, whose checksums are another implementation's. Needs root.

mod address;
mod answers;
mod broken;
mod choice;
mod errors;
mod exceptions;
mod forward;
mod fragments;
mod full_nat;
mod garbage;
mod random;
mod reverse;
mod world;
