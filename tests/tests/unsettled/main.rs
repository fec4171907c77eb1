//! The data path's tables of services that are not settled, on the real kernel, without traffic on a wire: packets are given
//! to the program by hand, and the time is set.

mod entries;
mod guards;
mod signals;
mod tables;
mod world;
