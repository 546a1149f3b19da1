//! Pure: a client of the cluster, wherever it lives. It has one session after another, and gives
//! every change it asks for a place in one of them, so that the change applies once however often
//! it is handed over. See `client.rs`.
//!
//! A client proposes by a replica, and may go to another one within its session's life: see
//! [`Client::depart`].

mod client;
mod life;
mod proposals;

pub use client::{Client, ClientId, Unreleased};
pub use life::Need;

use crate::tree::{Refusal, Reply};

/// How long an unanswered hand-over waits before it is repeated, nanoseconds.
pub const RETRY_AFTER: u64 = 1_000_000_000;

/// What a proposal can be answered besides a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Refused(Refusal),
    /// No leader within `op_timeout`: nothing can change now. EROFS. A change that had been handed
    /// to the leader before it was lost may still take effect.
    NoQuorum,
    /// It was handed to a leader and no answer came: it may or may not take effect. ETIMEDOUT.
    Unknown,
    /// The session it was to run in ended before it could. EIO.
    SessionLost,
    /// The node is stopping. EIO.
    Stopping,
}

impl Failure {
    /// A total match, as [`Refusal::errno`] is.
    pub fn errno(self) -> i32 {
        match self {
            Failure::Refused(refusal) => refusal.errno(),
            Failure::NoQuorum => libc::EROFS,
            Failure::Unknown => libc::ETIMEDOUT,
            Failure::SessionLost | Failure::Stopping => libc::EIO,
        }
    }
}

pub type Answer = Result<Reply, Failure>;

/// A lock, or a place in its queue, is its holder's only as long as the session is.
pub fn void_claim(answer: &mut Answer) {
    if let Ok(Reply::Granted { .. } | Reply::Queued { .. }) = answer {
        *answer = Err(Failure::SessionLost);
    }
}
