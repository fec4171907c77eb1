//! How often the judges are wrong, and how fast they are right: simulated rollouts through the same comparison that the daemon
//! uses. `cargo xtask statistics` writes its tables and pictures into `docs/`.

pub mod page;
pub mod picture;
pub mod tables;
pub mod traffic;
pub mod trial;
