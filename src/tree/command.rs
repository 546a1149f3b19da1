//! [`Command`]: the only thing in the log.

use super::credentials::TokenTerms;
use super::ids::{Incarnation, Ino, Name, ReplicaId, SessionId, Stamp};
use super::level::{Level, Program};
use super::name_key::NameKey;
use bincode::{Decode, Encode};

/// A command with the identity that makes it apply once, however often it is proposed.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Proposal {
    /// Who asks; [`SessionId::NONE`] for the cluster's own idempotent commands.
    pub session: SessionId,
    /// Counts the session's proposals from 1; 0 with [`SessionId::NONE`].
    pub sequence: u64,
    /// Every sequence below this one has been answered or given up: the tree forgets those answers
    /// and refuses such a proposal should it turn up late.
    pub acknowledged: u64,
    pub command: Command,
}

/// All that can happen to a tree. Variants keep their order: it is their number on disk.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Command {
    /// Opens a session. A live session of the same `client` of the same `host` ends first: that
    /// one is gone. The same `nonce` again answers with the same session. Proposed without a
    /// session.
    OpenSession {
        host: Name,
        /// Which of the host's clients; empty for its own mount.
        client: Name,
        replica: ReplicaId,
        nonce: u64,
        timeout_ms: u32,
    },
    /// The client of a session proposes by another replica from here on. `nonce` is the session's;
    /// `moves` counts its moves, and a copy of an earlier one is refused. Proposed without a
    /// session.
    MoveSession {
        session: SessionId,
        nonce: u64,
        moves: u64,
        replica: ReplicaId,
    },
    /// Ends the session that proposes it: its locks, tickets and ephemeral entries go.
    CloseSession,
    /// Ends sessions the leader has not heard from. Proposed without a session.
    ExpireSessions {
        sessions: Vec<SessionId>,
    },

    Create(Create),
    Link {
        ino: Ino,
        parent: Ino,
        name: Name,
    },
    /// Removes a file's name. In a `lock` directory: gives up or releases the ticket.
    Unlink {
        parent: Ino,
        name: Name,
    },
    RemoveDirectory {
        parent: Ino,
        name: Name,
    },
    Rename {
        from: Ino,
        name: Name,
        to: Ino,
        new_name: Name,
        how: RenameHow,
    },

    Write(Write),
    SetAttributes {
        ino: Ino,
        set: SetAttributes,
    },
    /// `fallocate`: grows (unless `keep_size`), punches or zeroes.
    Allocate {
        ino: Ino,
        offset: u64,
        length: u64,
        how: AllocateHow,
    },
    /// What was stored through a shared mapping. It cannot grow a file: what lies past the end the
    /// file has by now is gone.
    Store(Stored),
    SetXattr {
        ino: Ino,
        name: Name,
        value: Box<[u8]>,
        how: XattrHow,
    },
    RemoveXattr {
        ino: Ino,
        name: Name,
    },
    /// This session holds none of these unlinked inodes open (any more).
    Release {
        inodes: Vec<Ino>,
    },

    /// `flock` and `fcntl`: takes a range, or queues for it.
    Lock(Lock),
    /// Gives a range back; ranges of other owners are untouched. Never refused for "not held".
    Unlock {
        ino: Ino,
        owner: LockOwner,
        start: u64,
        end: u64,
    },
    /// A waiter no longer waits (interrupt, timeout). If it was granted meanwhile, that is
    /// released. `waiter` is the zxid that [`super::Reply::Queued`] gave.
    CancelWait {
        ino: Ino,
        waiter: u64,
    },
    /// Another opener of an existing ticket name: queues under the same name, and becomes the entry
    /// of that name when the earlier ticket is gone. Answers `Queued` or `WouldBlock`.
    JoinQueue {
        directory: Ino,
        name: Name,
        ticket: TicketInfo,
        create: Box<Create>,
        wait: bool,
    },
    /// Removes a ticket whose process ended: exactly this inode, whatever its name is now.
    DropTicket {
        directory: Ino,
        ticket: Ino,
    },

    /// A stored backup: adds `snapshots/NAME` under the host's directory and moves `backup` to it.
    RecordSnapshot {
        host: Ino,
        name: Name,
        size: u64,
        manifest: Box<[u8]>,
    },

    /// The first leader names the cluster; later ones of it are ignored.
    Found {
        cluster: u128,
        members: Vec<Member>,
        limits: TreeLimits,
        /// A secret of the cluster's.
        name_key: NameKey,
    },
    /// Rides with a Raft membership change: the address book follows the vote list.
    SetMembers {
        members: Vec<Member>,
    },
    /// Goes on with what was too much for one entry: see [`super::Tree::has_work`]. Proposed
    /// without a session.
    Work,
    /// From here on somebody may come by this token.
    IssueToken {
        token: u64,
        terms: TokenTerms,
    },
    /// `joiner`, a number of its own, comes by a token under this name.
    RedeemToken {
        token: u64,
        name: String,
        joiner: u64,
    },
    RevokeToken {
        token: u64,
    },
    /// A member says what it runs. Proposed without a session.
    DeclareProgram {
        replica: ReplicaId,
        program: Program,
    },
    /// The cluster's level rises, if every member has declared that it can do so much. Proposed
    /// without a session, by the leader.
    RaiseLevel {
        to: Level,
    },
    /// Changes nothing; is of the level it names. By this it can be tried what becomes of commands
    /// of levels that no program has yet.
    Probe {
        level: Level,
    },
}

/// One replica in the address book.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Member {
    pub id: ReplicaId,
    pub name: String,
    /// `HOST:PORT` other replicas dial.
    pub address: String,
    /// Receives the log but has no vote yet.
    pub learner: bool,
    /// The only data directory that may speak as this replica. 0 for a founder that was not heard
    /// when the cluster was founded; its vote counts from when this is known.
    pub incarnation: Incarnation,
}

/// Bounds that every replica must apply alike, so they live in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TreeLimits {
    /// Bytes of one file's data.
    pub file_bytes: u64,
    /// Bytes of all names, data and xattrs.
    pub tree_bytes: u64,
    pub inodes: u64,
}

/// A new znode with its first name.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Create {
    pub parent: Ino,
    pub name: Name,
    pub node: NewNode,
    /// Permission bits with set-id and sticky, the umask already taken off.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// For a `lock` directory: who will hold the ticket.
    pub ticket: Option<TicketInfo>,
    /// In a `lock` directory: queue if not first; otherwise refuse with `WouldBlock`.
    pub wait: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum NewNode {
    File,
    Directory,
    Symlink { target: Box<[u8]> },
    Fifo,
    Socket,
    CharDevice { rdev: u32 },
    BlockDevice { rdev: u32 },
}

/// The process that asked for a ticket or a lock, for `.keepfs/locks`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TicketInfo {
    /// In the pid namespace of the daemon.
    pub pid: u32,
    /// Its user, who may see the command line.
    pub uid: u32,
    /// Its command line, arguments joined by spaces, at most 256 bytes.
    pub command: Box<[u8]>,
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Write {
    pub ino: Ino,
    pub place: Place,
    pub data: Box<[u8]>,
    /// The writer is not privileged: set-user-id and set-group-id bits go.
    pub clear_set_id: bool,
}

/// Bytes of a file some of which have changed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Stored {
    pub ino: Ino,
    pub offset: u64,
    pub data: Box<[u8]>,
    /// A bit for each byte of `data`, the lowest first: whether it has changed. The others are not
    /// written.
    pub changed: Box<[u8]>,
}

impl Stored {
    /// The bytes that have changed, in order, each stretch of them with its offset in the file.
    pub fn runs(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let is_changed =
            |at: usize| self.changed.get(at / 8).is_some_and(|bits| bits >> (at % 8) & 1 == 1);
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = (at..self.data.len()).find(|&at| is_changed(at))?;
            at = (start..self.data.len()).find(|&at| !is_changed(at)).unwrap_or(self.data.len());
            Some((self.offset.saturating_add(start as u64), &self.data[start..at]))
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Place {
    At(u64),
    /// `O_APPEND`: where the file ends when the entry is applied.
    End,
    /// `O_TRUNC` and this write in one: the file becomes zeros up to the offset, then the data.
    Replace(u64),
}

/// `chmod`, `chown`, `truncate`, `utimensat` in one: what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct SetAttributes {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<TimeOrStamp>,
    pub mtime: Option<TimeOrStamp>,
    /// The caller is not privileged: set-id bits go with a change of owner or size.
    pub clear_set_id: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum TimeOrStamp {
    /// A given time, nanoseconds since the epoch (may lie before it).
    Time(i64),
    /// `UTIME_NOW`: the entry's stamp.
    Stamp,
}

impl TimeOrStamp {
    pub fn resolve(self, stamp: Stamp) -> i64 {
        match self {
            TimeOrStamp::Time(nanos) => nanos,
            TimeOrStamp::Stamp => stamp as i64,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RenameHow {
    Replace,
    NoReplace,
    Exchange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum AllocateHow {
    Grow,
    KeepSize,
    PunchHole,
    ZeroRange { keep_size: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum XattrHow {
    Set,
    /// `XATTR_CREATE`
    Create,
    /// `XATTR_REPLACE`
    Replace,
}

/// Who holds or waits for a range: unique within a session (the kernel's lock owner).
pub type LockOwner = u64;

/// A byte range to lock; `end` is inclusive. `flock` asks for `0..=i64::MAX`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Lock {
    pub ino: Ino,
    pub owner: LockOwner,
    pub start: u64,
    pub end: u64,
    pub mode: LockMode,
    /// Queue if it conflicts; otherwise refuse with `WouldBlock`.
    pub wait: bool,
    pub who: TicketInfo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum LockMode {
    Shared,
    Exclusive,
}
