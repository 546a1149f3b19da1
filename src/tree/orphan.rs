//! Inodes without a name that a mount may still have open.

use super::edit::Edit;
use super::{Ino, Refusal, Reply, SessionId};
use bincode::{Decode, Encode};
use std::collections::BTreeSet;

#[derive(Clone, Encode, Decode)]
pub(super) struct Orphan {
    /// Sessions that have not released it. Never empty.
    pub open_in: BTreeSet<SessionId>,
}

impl Edit<'_> {
    /// The proposing session has none of these open. Inodes that are no orphans are passed over: a
    /// release may meet the end of another session.
    pub fn release(&mut self, inodes: &[Ino]) -> Result<Reply, Refusal> {
        let session = self.live_session()?;
        for ino in inodes {
            self.release_one(*ino, session);
        }
        Ok(Reply::Done)
    }

    /// Releases everything for a session that ended.
    pub fn release_all(&mut self, session: SessionId) {
        let orphans = self.tree.orphans.iter();
        let open = orphans.filter(|(_, orphan)| orphan.open_in.contains(&session));
        let open: Vec<Ino> = open.map(|(ino, _)| ino).collect();
        for ino in open {
            self.release_one(ino, session);
        }
    }

    fn release_one(&mut self, ino: Ino, session: SessionId) {
        let Some(orphan) = self.tree.orphans.get_mut(ino) else { return };
        orphan.open_in.remove(&session);
        if orphan.open_in.is_empty() {
            self.tree.orphans.remove(ino);
            self.free(ino);
        }
    }
}
