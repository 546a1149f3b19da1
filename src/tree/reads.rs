//! What readers may ask of a tree.

use super::Stamp;
use super::inode::{Body, Inode};
use super::locks::{LockGrant, Owner, Span};
use super::{
    Attributes, DirectoryEntry, Ino, LockMode, LockView, Member, Name, Refusal, Reply, Role,
    SessionId, SessionView, Tree, Usage, Zxid,
};
use crate::limits::DEPTH_MAX;
use std::sync::Arc;

/// A ticket's cookie is its sequence and this: 0 to 2 are the start, `.` and `..`.
const TICKET_COOKIE_BASE: u64 = 16;

/// Znodes.
impl Tree {
    pub fn attributes(&self, ino: Ino) -> Option<Attributes> {
        self.inodes.get(ino).map(|inode| inode.attributes(ino))
    }

    /// `NotFound`, `NotADirectory` or `Stale`. Knows no `.` or `..`: see [`Tree::parent`].
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Ino, Refusal> {
        let directory = self.inode(parent)?.directory().ok_or(Refusal::NotADirectory)?;
        directory.entries.find(name).map(|(_, ino)| ino).ok_or(Refusal::NotFound)
    }

    /// A directory's parent (the root's is itself; an unlinked directory's last one).
    pub fn parent(&self, directory: Ino) -> Option<Ino> {
        Some(self.inodes.get(directory)?.directory()?.state.parent)
    }

    /// Calls `each` for the entries after `cookie` (0: from the start) until it returns false.
    /// Plain directories are in a fixed arbitrary order; `lock` directories in queue order.
    pub fn list(
        &self,
        directory: Ino,
        cookie: u64,
        each: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) -> Result<(), Refusal> {
        let listed = self.inode(directory)?.directory().ok_or(Refusal::NotADirectory)?;
        let mut tell = |cookie, name, ino| {
            let Some(inode) = self.inodes.get(ino) else { return true };
            each(DirectoryEntry { cookie, name, ino, kind: inode.body.kind() })
        };
        if listed.state.role == Role::Lock {
            let after = cookie.saturating_sub(TICKET_COOKIE_BASE);
            for (sequence, name, ticket) in self.locks.tickets_after(directory, after) {
                let visible = listed.entries.find(name).is_some_and(|(_, ino)| ino == ticket);
                if visible && !tell(TICKET_COOKIE_BASE + sequence, name, ticket) {
                    break;
                }
            }
        } else {
            for (cookie, entry) in listed.entries.after(cookie) {
                if !tell(cookie, entry.name.as_bytes(), entry.ino) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Copies out up to `length` bytes from `offset`; shorter at the end. Files only.
    pub fn read(&self, ino: Ino, offset: u64, length: usize) -> Result<Vec<u8>, Refusal> {
        match &self.inode(ino)?.body {
            Body::File(content) => Ok(content.read(offset, length as u64)),
            Body::Directory(_) => Err(Refusal::IsADirectory),
            _ => Err(Refusal::Invalid),
        }
    }

    /// `SEEK_DATA` / `SEEK_HOLE`; `None`: past the end (ENXIO).
    pub fn seek(&self, ino: Ino, offset: u64, hole: bool) -> Result<Option<u64>, Refusal> {
        match &self.inode(ino)?.body {
            Body::File(content) => Ok(content.seek(offset, hole)),
            Body::Directory(_) => Err(Refusal::IsADirectory),
            _ => Err(Refusal::Invalid),
        }
    }

    pub fn symlink_target(&self, ino: Ino) -> Result<Arc<[u8]>, Refusal> {
        match &self.inode(ino)?.body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(Refusal::Invalid),
        }
    }

    /// A stored xattr (`user.*` but not `user.keepfs.*`, except the role, which is an attribute).
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, Refusal> {
        let rare = self.inode(ino)?.rare.as_deref();
        let value = rare.and_then(|rare| rare.xattrs.get(name));
        value.map(|value| value.to_vec()).ok_or(Refusal::NoXattr)
    }

    /// Names of the stored xattrs.
    pub fn xattrs(&self, ino: Ino) -> Result<Vec<Name>, Refusal> {
        let rare = self.inode(ino)?.rare.as_deref();
        Ok(rare.map_or_else(Vec::new, |rare| rare.xattrs.keys().cloned().collect()))
    }

    /// A path from the root to an inode, by any of its names; `None` without one, or deeper than
    /// [`DEPTH_MAX`]. Costs a few
    /// lookups for each directory on the way.
    pub fn path(&self, ino: Ino) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT {
            if names.len() > DEPTH_MAX {
                return None;
            }
            let home = self.inodes.get(at)?.home;
            let parent = home.parent()?;
            let (first, end) = home.cookies();
            let entries = self.inodes.get(parent)?.directory()?.entries.after(first.max(1) - 1);
            let mut near = entries.take_while(|(cookie, _)| *cookie < end);
            names.push(near.find(|(_, entry)| entry.ino == at)?.1.name.as_bytes());
            at = parent;
        }
        if names.is_empty() {
            return Some(vec![b'/']);
        }
        let mut path = Vec::new();
        for name in names.into_iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        Some(path)
    }

    /// `backup`'s newest snapshot: the name under `snapshots/`.
    pub fn stream_latest(&self, ino: Ino) -> Option<Name> {
        match &self.inodes.get(ino)?.body {
            Body::Stream(stream) => stream.latest.clone(),
            _ => None,
        }
    }

    /// The last name a `sequential` directory made.
    pub fn last_created(&self, directory: Ino) -> Option<Name> {
        self.inodes.get(directory)?.directory()?.state.last_created.clone()
    }

    fn inode(&self, ino: Ino) -> Result<&Inode, Refusal> {
        self.inodes.get(ino).ok_or(Refusal::Stale)
    }
}

/// Locks, sessions, the cluster.
impl Tree {
    /// Holders and waiters of one inode: a locked file, or a `lock` directory (in queue order).
    pub fn locks_of(&self, ino: Ino) -> Vec<LockView> {
        self.locks.of(ino)
    }

    /// What an owner waits for in a file: under which zxids it queued.
    pub fn waits_of(&self, ino: Ino, owner: Owner) -> Vec<Zxid> {
        self.locks.waits_of(ino, owner)
    }

    /// The tickets of a session in a directory that a process asked for under a name, later than at
    /// `after`.
    pub fn tickets_asked_for(
        &self,
        session: SessionId,
        directory: Ino,
        name: &[u8],
        pid: u32,
        after: Zxid,
    ) -> Vec<Ino> {
        self.locks.tickets_asked_for(session, directory, name, pid, after)
    }

    /// The holder or waiter a ticket inode stands for.
    pub fn ticket(&self, ticket: Ino) -> Option<LockView> {
        self.locks.ticket(ticket)
    }

    /// The first holder of a locked file or `lock` directory.
    pub fn lock_holder(&self, ino: Ino) -> Option<LockView> {
        self.locks.holder(ino)
    }

    /// What became of the range of a file that was queued at `waiter`; `None`: it is no more.
    pub fn lock_outcome(&self, ino: Ino, waiter: Zxid) -> Option<LockGrant> {
        self.locks.outcome(ino, waiter)
    }

    /// What stands in the way of such a range right now.
    pub fn lock_conflict(
        &self,
        ino: Ino,
        owner: Owner,
        span: Span,
        mode: LockMode,
    ) -> Option<LockView> {
        self.locks.conflict(ino, owner, span, mode)
    }

    /// How many hold or wait for locks.
    pub fn lock_count(&self) -> usize {
        self.locks.len()
    }

    /// All holders and waiters of the tree, by inode.
    pub fn locks(&self) -> Vec<LockView> {
        self.locks.all()
    }

    /// Whether this session is alive, and what it is.
    pub fn session(&self, session: SessionId) -> Option<SessionView> {
        let of = self.sessions.get(session)?;
        Some(SessionView {
            session,
            host: of.state.host.clone(),
            client: of.state.client.clone(),
            replica: of.state.replica,
            opened: of.state.opened,
            timeout_ms: of.state.timeout_ms,
            ephemerals: of.ephemerals.len(),
            locks: self.locks.count_of(session),
        })
    }

    /// How many sessions are alive.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// The host of a session that is alive, or has something left.
    pub fn host_of(&self, session: SessionId) -> Option<&Name> {
        let found = self.sessions.get(session).or_else(|| self.ended.get(session));
        found.map(|session| &session.state.host)
    }

    pub fn sessions(&self) -> Vec<SessionView> {
        self.sessions.iter().filter_map(|(session, _)| self.session(session)).collect()
    }

    /// The remembered answer to a session's proposal, if it was applied.
    pub fn answer(&self, session: SessionId, sequence: u64) -> Option<Result<Reply, Refusal>> {
        self.sessions.get(session)?.state.answer(sequence).cloned()
    }

    /// Unlinked inodes this session has not released: after a reset, a mount asks instead of having
    /// heard [`super::Change::Orphaned`].
    pub fn unreleased(&self, session: SessionId) -> Vec<Ino> {
        let open = self.open.from((session, Ino(0)));
        open.take_while(|((of, _), ())| *of == session).map(|((_, ino), ())| ino).collect()
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The cluster's id; `None` before the first leader named it.
    pub fn cluster(&self) -> Option<u128> {
        self.cluster
    }

    /// Index of the last entry applied (entries without a proposal count: see [`Tree::skip`]).
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// The time of the newest entry.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The running digest: equal on every replica at equal [`Tree::zxid`].
    pub fn digest(&self) -> u64 {
        self.digest
    }

    pub fn usage(&self) -> Usage {
        Usage {
            inodes: self.inodes.len() as u64,
            bytes: self.bytes,
            orphans: self.orphans.len() as u64,
            limits: self.limits,
        }
    }
}
