//! What replicas say to each other.

use crate::tree::{
    Command, Incarnation, Level, Member, Proposal, ReplicaId, SessionId, Stamp, Zxid,
};
use bincode::{Decode, Encode};

/// One message between replicas; bincode in a checked frame (`peers/frame.rs`). Variants keep
/// their order: it is their number on the wire.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum PeerMessage {
    /// A raft message, protobuf; any but `MsgSnapshot`.
    Raft(Vec<u8>),
    /// A raft `MsgSnapshot`, protobuf, metadata only. The bytes of the tree at `index` go first, by
    /// the side channel; the receiver steps [`super::Input::SnapshotArrived`] with `message` when
    /// they are verified and durable.
    Snapshot {
        index: Zxid,
        term: u64,
        message: Vec<u8>,
    },
    /// Proposals of the sender's sessions, for the leader to stamp and propose.
    Forward(Vec<Proposal>),
    /// The holders of these sessions live, all of them the sender's; `sent` is its monotonic clock
    /// and comes back in the answer.
    KeepAlive {
        sessions: Vec<SessionId>,
        sent: u64,
    },
    /// From a leader that a quorum confirmed after the keep-alive came.
    KeepAliveAck {
        sessions: Vec<SessionId>,
        sent: u64,
    },
    /// The sender's mount shows everything up to here.
    Visible {
        zxid: Zxid,
    },
    /// The sender's digest of the tree at an index: its vote. From the leader, the others are asked
    /// for theirs.
    Digest {
        zxid: Zxid,
        digest: u64,
    },
    /// Membership, forwarded to the leader; `id` comes back in the answer.
    Join {
        id: u64,
        name: String,
        address: String,
        incarnation: Incarnation,
        /// What its program can do.
        level: Level,
    },
    Leave {
        id: u64,
        member: ReplicaId,
    },
    MemberAnswer {
        id: u64,
        result: Result<Vec<Member>, String>,
    },
    /// From the leader: the receiver is no member any more, and may stop: nobody needs its vote.
    Removed,
    /// From a replica that its own log has removed by the entry `applied`, or one before it: may
    /// it stop?
    MayStop {
        applied: Zxid,
    },
    /// What the sender's wall clock says.
    Clock {
        wall: Stamp,
    },
    /// `member` shall lead; forwarded to the leader as [`PeerMessage::Leave`] is.
    Lead {
        id: u64,
        member: ReplicaId,
    },
    /// The sender may have forgotten what it promised: what does the receiver have? `process` comes
    /// back in the answer.
    AskLog {
        process: u64,
    },
    /// The sender's term, and where its log ends.
    Log {
        process: u64,
        term: u64,
        log_term: u64,
        index: u64,
    },
}

impl PeerMessage {
    /// About how many bytes it takes, in memory and in a frame.
    pub fn weight(&self) -> usize {
        64 + match self {
            PeerMessage::Raft(bytes) => bytes.len(),
            PeerMessage::Forward(proposals) => proposals.iter().map(weight).sum(),
            _ => 0,
        }
    }
}

/// The same, of a proposal.
pub(super) fn weight(proposal: &Proposal) -> usize {
    let data = match &proposal.command {
        Command::Write(write) => write.data.len(),
        Command::Store(stored) => stored.data.len() + stored.changed.len(),
        Command::SetXattr { value, .. } => value.len(),
        Command::RecordSnapshot { manifest, .. } => manifest.len(),
        Command::Release { inodes } => 8 * inodes.len(),
        _ => 0,
    };
    data + 1024
}
