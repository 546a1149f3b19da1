//! What a client hears from the cluster.

use crate::tree::{Batch, SessionId};
use std::sync::Arc;

/// In order.
#[derive(Debug, Clone)]
pub enum Event {
    Batch(Arc<Batch>),
    /// The client has a (new) session. Handles and locks of an older one are dead.
    SessionOpened(SessionId),
    /// The session cannot be trusted from now on (its deadline passed, or the log ended it).
    SessionLost(SessionId),
    Stopping,
}
