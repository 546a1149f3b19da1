//! What the driver knows of a client besides what the replica does.

use super::belief::Belief;
use crate::cluster::Done;
use crate::session::{Client, ClientId};
use std::sync::atomic::AtomicU64;

/// What a client and the driver share.
pub struct Seat {
    pub id: ClientId,
    pub belief: Belief,
    /// How far it shows the tree, if it subscribes.
    pub visible: AtomicU64,
}

impl Seat {
    pub fn new(id: ClientId) -> Seat {
        Seat { id, belief: Belief::default(), visible: AtomicU64::new(0) }
    }
}

/// A client between two nodes, with all that it waits for. Dropped, what waits is never answered.
pub struct Departed {
    pub client: Client,
    /// Who waits, numbered as the client numbers them.
    pub asked: Vec<Done>,
}
