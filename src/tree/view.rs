//! What readers see of a tree. What they may ask is in `reads.rs`.

use super::{Ino, LockMode, LockOwner, Name, ReplicaId, SessionId, Stamp, TreeLimits, Zxid};

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

impl Role {
    const ALL: [Role; 5] =
        [Role::Plain, Role::Ephemeral, Role::Sequential, Role::Lock, Role::Locks];

    /// What users call it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Plain => "plain",
            Role::Ephemeral => "ephemeral",
            Role::Sequential => "sequential",
            Role::Lock => "lock",
            Role::Locks => "locks",
        }
    }

    /// The role that users call so.
    pub fn named(name: &[u8]) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name().as_bytes() == name)
    }
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
    pub uid: u32,
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
    /// Which of the host's clients; empty for its own mount.
    pub client: Name,
    /// By which it proposes.
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
