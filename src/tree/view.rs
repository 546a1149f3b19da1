//! What readers may ask of a tree.

use super::{
    Ino, LockMode, LockOwner, Member, Name, Refusal, ReplicaId, SessionId, Stamp, Tree, TreeLimits,
    Zxid,
};
use std::sync::Arc;

/// What kind of thing a znode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
    /// `/backup/node/NAME/backup`: a file whose bytes are a backup, kept outside the tree.
    Stream,
}

/// What creating a name in a directory means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Role {
    #[default]
    Plain,
    /// Entries belong to the creator's session and go with it.
    Ephemeral,
    /// Names get a ten-digit counter.
    Sequential,
    /// Entries are tickets in a fair queue.
    Lock,
    /// Directories made in it have the role `lock`.
    Locks,
}

/// `stat`, and ZooKeeper's Stat. Times in nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub ino: Ino,
    pub kind: Kind,
    /// Permission bits with set-id and sticky; no type bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// 0 for an orphan (unlinked, still open somewhere).
    pub links: u32,
    pub size: u64,
    pub rdev: u32,
    pub atime: i64,
    pub mtime: i64,
    pub ctime: i64,
    pub czxid: Zxid,
    pub mzxid: Zxid,
    /// Directories: the last change of the listing.
    pub pzxid: Zxid,
    /// Changes of the data.
    pub version: u64,
    /// Directories: changes of the listing.
    pub cversion: u64,
    /// Changes of mode, owner or xattrs.
    pub aversion: u64,
    /// The session an ephemeral entry or ticket goes with.
    pub owner: SessionId,
    pub role: Role,
}

/// One entry of a listing.
pub struct DirectoryEntry<'a> {
    /// Pass it to [`Tree::list`] to go on after this entry. Stable while the entry lives; above 2,
    /// below 2^62.
    pub cookie: u64,
    pub name: &'a [u8],
    pub ino: Ino,
    pub kind: Kind,
}

/// One holder or waiter of a lock, for `.keepfs/locks`, `getlk` and virtual xattrs.
#[derive(Clone, Debug, PartialEq)]
pub struct LockView {
    /// The locked file, or the `lock` directory.
    pub ino: Ino,
    /// The ticket's name and inode, for a `lock` directory.
    pub ticket: Option<(Name, Ino)>,
    pub session: SessionId,
    pub owner: LockOwner,
    pub start: u64,
    pub end: u64,
    pub mode: LockMode,
    pub pid: u32,
    pub command: Box<[u8]>,
    pub since: Stamp,
    /// The zxid under which it queued.
    pub waiter: Zxid,
    /// Set once granted: the fencing token.
    pub token: Option<Zxid>,
    /// 0 holds; n waits behind n others.
    pub position: usize,
    /// A ticket's place in its directory's queue.
    pub sequence: u64,
}

/// A live session.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionView {
    pub session: SessionId,
    pub host: Name,
    pub replica: ReplicaId,
    pub opened: Stamp,
    pub timeout_ms: u32,
    pub ephemerals: usize,
    pub locks: usize,
}

/// Totals, for `statfs` and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub inodes: u64,
    /// Data, names and xattrs.
    pub bytes: u64,
    pub orphans: u64,
    pub limits: TreeLimits,
}

impl Tree {
    pub fn attributes(&self, ino: Ino) -> Option<Attributes> {
        let _ = ino;
        todo!()
    }

    /// `NotFound`, `NotADirectory` or `Stale`. Knows no `.` or `..`: see [`Tree::parent`].
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Ino, Refusal> {
        let _ = (parent, name);
        todo!()
    }

    /// A directory's parent (the root's is itself; an unlinked directory's last one).
    pub fn parent(&self, directory: Ino) -> Option<Ino> {
        let _ = directory;
        todo!()
    }

    /// Calls `each` for the entries after `cookie` (0: from the start) until it returns false.
    /// Plain directories are in a fixed arbitrary order; `lock` directories in queue order.
    pub fn list(
        &self,
        directory: Ino,
        cookie: u64,
        each: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) -> Result<(), Refusal> {
        let _ = (directory, cookie, each);
        todo!()
    }

    /// Copies out up to `length` bytes from `offset`; shorter at the end. Files only.
    pub fn read(&self, ino: Ino, offset: u64, length: usize) -> Result<Vec<u8>, Refusal> {
        let _ = (ino, offset, length);
        todo!()
    }

    /// `SEEK_DATA` / `SEEK_HOLE`; `None`: past the end (ENXIO).
    pub fn seek(&self, ino: Ino, offset: u64, hole: bool) -> Result<Option<u64>, Refusal> {
        let _ = (ino, offset, hole);
        todo!()
    }

    pub fn symlink_target(&self, ino: Ino) -> Result<Arc<[u8]>, Refusal> {
        let _ = ino;
        todo!()
    }

    /// A stored xattr (`user.*` but not `user.keepfs.*`, except the role, which is an attribute).
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, Refusal> {
        let _ = (ino, name);
        todo!()
    }

    /// Names of the stored xattrs.
    pub fn xattrs(&self, ino: Ino) -> Result<Vec<Name>, Refusal> {
        let _ = ino;
        todo!()
    }

    /// A path from the root to an inode, for people; `None` for an orphan. Costs a walk for files.
    pub fn path(&self, ino: Ino) -> Option<Vec<u8>> {
        let _ = ino;
        todo!()
    }

    /// `backup`'s newest snapshot: the name under `snapshots/`.
    pub fn stream_latest(&self, ino: Ino) -> Option<Name> {
        let _ = ino;
        todo!()
    }

    /// The last name a `sequential` directory made.
    pub fn last_created(&self, directory: Ino) -> Option<Name> {
        let _ = directory;
        todo!()
    }

    /// Holders and waiters of one inode: a locked file, or a `lock` directory (in queue order).
    pub fn locks_of(&self, ino: Ino) -> Vec<LockView> {
        let _ = ino;
        todo!()
    }

    /// The holder or waiter a ticket inode stands for.
    pub fn ticket(&self, ticket: Ino) -> Option<LockView> {
        let _ = ticket;
        todo!()
    }

    /// All holders and waiters of the tree, by inode.
    pub fn locks(&self) -> Vec<LockView> {
        todo!()
    }

    /// Whether this session is alive, and what it is.
    pub fn session(&self, session: SessionId) -> Option<SessionView> {
        let _ = session;
        todo!()
    }

    pub fn sessions(&self) -> Vec<SessionView> {
        todo!()
    }

    /// The remembered answer to a session's proposal, if it was applied.
    pub fn answer(
        &self,
        session: SessionId,
        sequence: u64,
    ) -> Option<Result<super::Reply, Refusal>> {
        let _ = (session, sequence);
        todo!()
    }

    pub fn members(&self) -> &[Member] {
        todo!()
    }

    /// The cluster's id; `None` before the first leader named it.
    pub fn cluster(&self) -> Option<u128> {
        todo!()
    }

    pub fn usage(&self) -> Usage {
        todo!()
    }
}
