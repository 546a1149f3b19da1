//! Backup streams: their bytes never enter the tree.
//!
//! A writer's `close` returns when the snapshot is stored and copied; [`closing`] decides which
//! close is the one. `ops/stream.rs` has what the kernel asks of them.

pub mod closing;
pub mod holders;
pub mod writer;

use crate::cluster::streams::StreamSource;
use std::sync::Arc;
use writer::Writer;

/// What an open stream handle keeps.
pub enum OpenStream {
    /// The newest snapshot when it was opened; `None`: there was none, and so no bytes.
    Reading(Option<Arc<dyn StreamSource>>),
    Writing(Writer),
}
