//! Pure: everything one replica decides. raft-rs around the tree, proposals and their answers, sessions'
//! liveness, visibility, membership, digests. No thread, socket, file, clock or chance: time and ids
//! come in as arguments, so that one seed replays one history.
//!
//! The driver (`node/driver.rs`, or `sim/`) does, for ever:
//!
//! ```text
//! replica.step(now, input)                       for every input that waits
//! while let Some(effects) = replica.ready(now)   carry them out, in the order of the fields
//!     batch = replica.apply(&mut tree, effects.committed)
//! ```

mod effects;
mod input;
mod message;
mod status;

pub use effects::{Answer, Applied, Batch, Effects, Failure, MembersAnswer, Persist, SessionEvent};
pub use input::{Input, LogReader, Moment, Recovered, ReplicaConfig, SnapshotMark};
pub use message::PeerMessage;
pub use status::ReplicaStatus;

use crate::error::Error;
use crate::tree::Tree;
use raft::eraftpb::Entry;

pub struct Replica {}

impl Replica {
    /// `Error::Configuration` or `Error::Other` if the settings or what the disk knew make no sense.
    pub fn new(
        config: ReplicaConfig,
        recovered: Recovered,
        log: Box<dyn LogReader>,
    ) -> Result<Replica, Error> {
        let _ = (config, recovered, log);
        todo!()
    }

    pub fn step(&mut self, now: Moment, input: Input) {
        let _ = (now, input);
        todo!()
    }

    /// `None`: nothing to do until the next input.
    pub fn ready(&mut self, now: Moment) -> Option<Effects> {
        let _ = now;
        todo!()
    }

    /// The tree is `tree` now: call it once before the first step, and after [`Effects::restore`].
    pub fn restored(&mut self, tree: &Tree) {
        let _ = tree;
        todo!()
    }

    /// Where the tree stands after the last [`Replica::apply`]: the mark of a snapshot taken of it now.
    pub fn applied(&self) -> SnapshotMark {
        todo!()
    }

    /// For operators: what this replica believes.
    pub fn status(&self) -> ReplicaStatus {
        todo!()
    }

    /// Applies committed entries; the answers to this node's own proposals come with the next
    /// [`Replica::ready`] (or later, when other mounts show the change).
    pub fn apply(&mut self, tree: &mut Tree, committed: Vec<Entry>) -> Batch {
        let _ = (tree, committed);
        todo!()
    }
}
