//! keepfs: a filesystem that keeps a cluster in agreement.
pub mod backup;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod cow;
pub mod disk;
pub mod durable;
pub mod error;
pub mod exposition;
pub mod limits;
pub mod mailbox;
mod mix;
pub mod mount;
pub mod node;
pub mod panics;
pub mod peers;
pub mod random;
pub mod replica;
mod room;
pub mod session;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod tree;
pub mod volume;
