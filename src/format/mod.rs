//! Bytes as they travel and rest: versions, checksums, bounds. Pure.

pub mod entry;
pub mod frame;
