//! [`Arrived`]: a snapshot that came from a peer.

use crate::disk::ReceivedSnapshot;
use crate::replica::SnapshotMark;
use crate::tree::{ReplicaId, Tree};
use std::io;

/// A snapshot of a peer's, loaded, which is the best check there is. Its file is not yet one of
/// this replica's.
pub struct Arrived {
    pub(super) from: ReplicaId,
    pub(super) mark: SnapshotMark,
    pub(super) tree: Tree,
    pub(super) file: ReceivedSnapshot,
}

impl Arrived {
    /// Whether it is what `from` announces.
    pub fn is(&self, from: ReplicaId, index: u64, term: u64) -> bool {
        (self.from, self.mark.index, self.mark.term) == (from, index, term)
    }

    /// Whether it stands at `mark`.
    pub fn stands_at(&self, mark: &SnapshotMark) -> bool {
        (self.mark.index, self.mark.term) == (mark.index, mark.term)
    }

    /// The log begins anew after it: its file becomes this replica's newest snapshot.
    pub fn adopt(self) -> io::Result<Tree> {
        self.file.adopt().map(|_| self.tree)
    }
}
