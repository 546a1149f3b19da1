//! What comes out of a replica: things to do, answers, and what was applied.

use super::{PeerMessage, SnapshotMark};
use crate::session::{Answer, ClientId};
use crate::tree::{Member, ReplicaId, SessionId};
use raft::eraftpb::{Entry, HardState};

/// All a replica may ask of the world, to be done in this order.
#[derive(Debug, Default)]
pub struct Effects {
    /// What time did to sessions; for what entries did to them, see
    /// [`super::Replica::take_session_events`].
    pub events: Vec<SessionEvent>,
    /// Send now. Loss is allowed; order between two replicas is not needed, but helps.
    pub send: Vec<(ReplicaId, PeerMessage)>,
    /// Make durable, then send `after`, then step [`super::Input::Persisted`].
    pub persist: Option<Persist>,
    /// Replace the tree by the snapshot at this mark, which has arrived before, then call
    /// [`super::Replica::restored`].
    pub restore: Option<SnapshotMark>,
    /// Apply: see [`super::Replica::apply`].
    pub committed: Vec<Entry>,
    /// Take a snapshot of the tree soon: a replica that joined after the newest one needs one that
    /// knows it.
    pub wants_snapshot: bool,
    /// Answers due without an apply (failures, barriers, replies that waited for visibility).
    pub answers: Vec<(u64, Answer)>,
    /// Answers to requests to join or leave.
    pub members: Vec<(u64, MembersAnswer)>,
    /// This replica must stop.
    pub fatal: Option<Fatal>,
}

/// Why a replica must stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fatal {
    /// The cluster goes on without it, and needs its vote no more.
    Removed,
    /// It cannot trust its disk or its tree, as this sentence says.
    Broken(String),
    /// Its program is too old for what is in the log, as this sentence says.
    Newer(String),
}

impl From<String> for Fatal {
    fn from(why: String) -> Fatal {
        Fatal::Broken(why)
    }
}

impl std::fmt::Display for Fatal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Fatal::Removed => "it was removed from the cluster",
            Fatal::Broken(why) | Fatal::Newer(why) => why,
        })
    }
}

impl Effects {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.send.is_empty()
            && self.persist.is_none()
            && self.restore.is_none()
            && self.committed.is_empty()
            && !self.wants_snapshot
            && self.answers.is_empty()
            && self.members.is_empty()
            && self.fatal.is_none()
    }
}

/// One job for the disk. Jobs become durable in the order they were given, each as a whole.
#[derive(Debug)]
pub struct Persist {
    /// Grows from job to job; numbers may be left out.
    pub number: u64,
    pub hard_state: Option<HardState>,
    /// Replace what the log holds from the first of them on.
    pub entries: Vec<Entry>,
    /// The log starts anew after this snapshot, before `entries`.
    pub snapshot: Option<SnapshotMark>,
    /// The log before this index may be dropped; the entry at it stays.
    pub compact_to: Option<u64>,
    pub after: Vec<(ReplicaId, PeerMessage)>,
}

/// The life of a client's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// It is open, or has moved here.
    Opened(ClientId, SessionId),
    /// Cannot be trusted from now on: its deadline passed here, or the log ended it.
    Lost(ClientId, SessionId),
}

/// The member list after the change, or a sentence why there was none.
pub type MembersAnswer = Result<Vec<Member>, String>;
