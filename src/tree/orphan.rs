//! Inodes without a name that a mount may still have open.

use super::edit::Edit;
use super::{Change, Ino, Refusal, Reply, SessionId};
use crate::limits::WORK_IN_ONE_ENTRY_MAX;

#[derive(Clone, Copy, Default)]
pub(super) struct Orphan {
    /// How many sessions have not released it: which, is in `Tree::open`.
    pub open_in: u32,
}

impl Edit<'_> {
    /// The proposing session has none of these open. Inodes that are no orphans are passed over: a
    /// release may meet the end of another session.
    pub fn release(&mut self, inodes: &[Ino]) -> Result<Reply, Refusal> {
        let session = self.live_session()?;
        if inodes.len() > WORK_IN_ONE_ENTRY_MAX {
            return Err(Refusal::Invalid);
        }
        for ino in inodes {
            self.release_one(*ino, session);
        }
        Ok(Reply::Done)
    }

    /// One name of the inode is gone; a directory has only one. Without a name it is an orphan
    /// until every live session has released it.
    pub fn drop_link(&mut self, ino: Ino) {
        let now = self.now();
        let inode = self.inode_of(ino);
        inode.ctime = now;
        let fewer = inode.links.checked_sub(1).expect("every name of an inode is counted");
        inode.links = if inode.is_directory() { 0 } else { fewer };
        if inode.links > 0 {
            return self.change(Change::Attributes { ino });
        }
        let is_full = inode.directory().is_some_and(|directory| !directory.entries.is_empty());
        if self.tree.sessions.is_empty() && !is_full {
            return self.free(ino);
        }
        if is_full {
            self.tree.doomed.insert(ino, ());
        }
        self.orphan(ino);
        self.change(Change::Orphaned { ino });
    }

    /// An inode without a name: kept while a session has it open, or it is not empty.
    fn orphan(&mut self, ino: Ino) {
        let sessions: Vec<SessionId> = self.tree.sessions.iter().map(|(id, _)| id).collect();
        for session in &sessions {
            self.tree.open.insert((*session, ino), ());
        }
        self.tree.orphans.insert(ino, Orphan { open_in: sessions.len() as u32 });
    }

    pub fn release_one(&mut self, ino: Ino, session: SessionId) {
        if self.tree.open.remove((session, ino)).is_none() {
            return;
        }
        if let Some(orphan) = self.tree.orphans.get_mut(ino) {
            orphan.open_in -= 1;
            self.free_if_released(ino);
        }
    }

    pub fn free_if_released(&mut self, ino: Ino) {
        let released = self.tree.orphans.get(ino).is_some_and(|orphan| orphan.open_in == 0);
        if released && !self.tree.doomed.contains(ino) {
            self.tree.orphans.remove(ino);
            self.free(ino);
        }
    }
}
