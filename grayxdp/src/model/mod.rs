//! The words that all parts share: configuration, plan, what the kernel is to hold, what it counted, and the API.
//! Pure data; nothing here reads a clock, a file or a map.

pub mod api;
pub mod config;
pub mod event;
pub mod kernel;
pub mod name;
pub mod plan;
pub mod settling;
pub mod shadow;
pub mod signals;
pub mod state;
pub mod time;
pub mod traffic;
pub mod weight;

pub use name::Name;
pub use weight::Weight;
