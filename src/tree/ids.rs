//! The names of things in the tree.

use bincode::{Decode, Encode};
use std::fmt;

/// Raft index of the entry that made a change; ZooKeeper's word for it. Starts at 1.
pub type Zxid = u64;

/// Nanoseconds since the Unix epoch, stamped by the leader, never decreasing along the log.
pub type Stamp = u64;
/// How far behind the last stamp the next may be and time only stands still, nanoseconds: by so
/// much two leaders' clocks may differ ([`Tree::apply`](super::Tree::apply)).
pub const STANDSTILL: Stamp = 2_000_000_000;

/// An inode number: given once, never reused. It is `st_ino` on every mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Ino(pub u64);

impl Ino {
    /// `/`
    pub const ROOT: Ino = Ino(1);
    /// `/lock`, role `locks`
    pub const LOCK: Ino = Ino(2);
    /// `/backup`
    pub const BACKUP: Ino = Ino(3);
    /// `/backup/lock`, role `lock`
    pub const BACKUP_LOCK: Ino = Ino(4);
    /// `/backup/node`
    pub const BACKUP_NODE: Ino = Ino(5);
    /// `/backup/strategy`
    pub const BACKUP_STRATEGY: Ino = Ino(6);
    /// `/backup/strategy/full`
    pub const BACKUP_STRATEGY_FULL: Ino = Ino(7);
    /// `/backup/strategy/increment`
    pub const BACKUP_STRATEGY_INCREMENT: Ino = Ino(8);
    /// The first number given to what users create; those below are there from the start and stay.
    pub const FIRST_FREE: Ino = Ino(16);

    /// Whether this inode is there from the start: it cannot be removed or renamed.
    pub fn is_built_in(self) -> bool {
        self < Ino::FIRST_FREE
    }
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A session: one mount's life in the cluster. The zxid of the entry that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct SessionId(pub u64);

impl SessionId {
    /// No session: for commands of the cluster itself, which are idempotent.
    pub const NONE: SessionId = SessionId(0);
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A replica of the cluster; given once, never reused. Also the Raft id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ReplicaId(pub u64);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One data directory's life as a replica: a random number made with it. A directory that was wiped
/// comes back with another one, and is not the replica it was. 0: not known (yet).
pub type Incarnation = u64;

/// One name in a directory: 1 to 255 bytes, any but `/` and NUL, neither `.` nor `..`.
pub type Name = Box<[u8]>;
