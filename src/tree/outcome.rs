//! What comes out of [`super::Tree::apply`]: an answer for the asker, changes for everyone.

use super::ids::{Ino, Name, SessionId, Stamp, Zxid};
use super::level::Level;
use bincode::{Decode, Encode};

/// All that one entry did.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub reply: Result<Reply, Refusal>,
    /// In the order they happened; empty for a repeated proposal, whose reply is the remembered
    /// one.
    pub changes: Vec<Change>,
}

/// The answer to a command that took effect.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    Done,
    Session {
        session: SessionId,
    },
    /// `name` differs from the asked one in a `sequential` directory.
    Created {
        ino: Ino,
        name: Option<Name>,
    },
    /// Where the data went (`O_APPEND`), and how many bytes.
    Written {
        offset: u64,
        length: u32,
    },
    /// The lock or the ticket is held. `token` is the fencing token: the zxid of the grant.
    Granted {
        ino: Ino,
        token: Zxid,
    },
    /// Waits in the queue; a [`Change::Granted`] with this `waiter` follows, unless cancelled.
    /// `ino` is the ticket's inode, or the locked file.
    Queued {
        ino: Ino,
        waiter: Zxid,
    },
}

/// Why a command changed nothing. Finite, replicated; each has one errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Refusal {
    /// No such name, or the directory is gone.
    NotFound,
    AlreadyExists,
    NotADirectory,
    IsADirectory,
    NotEmpty,
    /// The inode is gone: asked for by number after its last name and last open descriptor went.
    Stale,
    NameTooLong,
    /// An argument makes no sense (a directory moved into itself, an unknown role).
    Invalid,
    FileTooBig,
    /// Tree bytes or inodes are used up.
    NoSpace,
    TooManyLinks,
    /// Not allowed by what the znode is: a hard link to a directory, anything but a ticket in a
    /// `lock` directory, a rename or link that puts a ticket or a backup stream elsewhere.
    NotPermitted,
    /// A built-in entry would be removed, renamed or replaced.
    Busy,
    NoXattr,
    XattrTooBig,
    /// A try-lock found the lock taken.
    WouldBlock,
    /// The wait would close a cycle of waiters.
    Deadlock,
    /// The lock queue is full.
    NoLocks,
    /// The session is not there (any more).
    SessionExpired,
    /// A late copy of a proposal its session has already given up.
    GivenUp,
    /// The command is of a higher level than the cluster: not every member could read it.
    TooNew,
}

impl Refusal {
    /// A total match: a new refusal does not compile until it has its number.
    pub fn errno(self) -> i32 {
        match self {
            Refusal::NotFound => libc::ENOENT,
            Refusal::AlreadyExists => libc::EEXIST,
            Refusal::NotADirectory => libc::ENOTDIR,
            Refusal::IsADirectory => libc::EISDIR,
            Refusal::NotEmpty => libc::ENOTEMPTY,
            // The kernel looks the path up again when it gets this one, once.
            Refusal::Stale => libc::ESTALE,
            Refusal::NameTooLong => libc::ENAMETOOLONG,
            Refusal::Invalid => libc::EINVAL,
            Refusal::FileTooBig => libc::EFBIG,
            Refusal::NoSpace => libc::ENOSPC,
            Refusal::TooManyLinks => libc::EMLINK,
            Refusal::NotPermitted => libc::EPERM,
            Refusal::Busy => libc::EBUSY,
            Refusal::NoXattr => libc::ENODATA,
            // ENOSPC, which ext4 gives, would send the reader to `df`.
            Refusal::XattrTooBig => libc::E2BIG,
            Refusal::WouldBlock => libc::EAGAIN,
            Refusal::Deadlock => libc::EDEADLK,
            Refusal::NoLocks => libc::ENOLCK,
            Refusal::SessionExpired => libc::EIO,
            // Nobody waits for such an answer any more; should somebody, it may or may not have
            // happened.
            Refusal::GivenUp => libc::ETIMEDOUT,
            Refusal::TooNew => libc::EOPNOTSUPP,
        }
    }
}

/// One thing that is different now. Every listener, the kernel included, is fed from these.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub enum Change {
    /// Attributes differ (mode, owner, times, link count, xattrs, role). Follows every change of a
    /// listing, for the directory.
    Attributes {
        ino: Ino,
    },
    /// Bytes `offset..offset + length` differ (to the old or new end, whichever is further, if the
    /// file shrank or was replaced); and with them size, times, version and perhaps set-id bits.
    Data {
        ino: Ino,
        offset: u64,
        length: u64,
    },
    /// The same, through a shared mapping: whoever has the mapping has the bytes already, and who
    /// asks to see them elsewhere (`msync`) is answered later.
    Stored {
        ino: Ino,
        offset: u64,
        length: u64,
    },
    /// `name` in `parent` now means `ino`; it meant nothing before.
    Added {
        parent: Ino,
        name: Name,
        ino: Ino,
    },
    /// `name` in `parent` means nothing now; it meant `ino`.
    Removed {
        parent: Ino,
        name: Name,
        ino: Ino,
    },
    /// `name` in `parent` means `new` now; it meant `old`.
    Replaced {
        parent: Ino,
        name: Name,
        old: Ino,
        new: Ino,
    },
    /// Follows the [`Change::Removed`] and [`Change::Added`] (or `Replaced`) of one rename, so that
    /// a replayer can tell a move from a removal and a creation.
    Moved {
        from: Ino,
        name: Name,
        to: Ino,
        new_name: Name,
        ino: Ino,
    },
    /// The last name of `ino` went. Each session answers with [`super::Command::Release`] once it
    /// has no descriptor on it.
    Orphaned {
        ino: Ino,
    },
    /// The inode is no more.
    Freed {
        ino: Ino,
    },
    /// A waiter of `session` now holds what it waited for.
    Granted {
        session: SessionId,
        ino: Ino,
        waiter: Zxid,
        token: Zxid,
    },
    SessionOpened {
        session: SessionId,
    },
    /// It proposes by another replica from here on.
    SessionMoved {
        session: SessionId,
    },
    /// With everything it held: the removals, releases and grants that follow are in this outcome.
    SessionEnded {
        session: SessionId,
    },
    Members,
    /// A member has declared what it runs.
    Programs,
    /// The cluster's level has risen to this one.
    Level {
        level: Level,
    },
}

/// A batch of applied entries, as listeners see it.
#[derive(Debug)]
pub struct Batch {
    /// Index of the last entry of the batch.
    pub last: Zxid,
    pub applied: Vec<Applied>,
    /// The tree was replaced by a snapshot: everything cached is suspect.
    pub reset: bool,
}

#[derive(Debug)]
pub struct Applied {
    pub zxid: Zxid,
    pub stamp: Stamp,
    /// Who proposed it; changes of one's own session are already known to one's kernel.
    pub origin: SessionId,
    pub changes: Vec<Change>,
}
