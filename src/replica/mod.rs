//! Pure: everything one replica decides. raft-rs around the tree, proposals and their answers, sessions'
//! liveness, visibility, membership, digests. No thread, socket, file, clock or chance: time and ids
//! come in as arguments, so that one seed replays one history.
//!
//! The driver (`node/driver.rs`, or `sim/`) does, for ever:
//!
//! ```text
//! replica.step(now, input)                       for every input that waits
//! while let Some(effects) = replica.ready(now)   carry them out, in the order of the fields
//!     batch = replica.apply(&mut tree, effects.committed)
//! ```

mod message;

pub use message::PeerMessage;

use crate::tree::{
    Change, Command, Member, Refusal, ReplicaId, Reply, SessionId, Stamp, Tree, Zxid,
};
use raft::eraftpb::{ConfState, Entry, HardState, Message};

/// What time it is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds of CLOCK_BOOTTIME: never jumps, counts sleep; for deadlines.
    pub monotonic: u64,
    /// Nanoseconds since the epoch; for stamps.
    pub wall: Stamp,
}

#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    pub id: ReplicaId,
    /// The host name of this node's session.
    pub name: String,
    /// Nanoseconds, all of them. One raft tick is `heartbeat`.
    pub heartbeat: u64,
    /// Randomised by `seed`; at least four heartbeats.
    pub election_timeout: u64,
    pub session_timeout: u64,
    pub op_timeout: u64,
    pub visibility_timeout: u64,
    /// The only source of chance here.
    pub seed: u64,
    /// Open a session and keep it alive (a node with a mount, or that submits anything).
    pub with_session: bool,
    /// Members of a new cluster, and the tree's limits: the first leader founds it with them.
    pub found: Option<(u128, Vec<Member>, crate::tree::TreeLimits)>,
}

/// What the disk knew at start.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    pub hard_state: HardState,
    /// The newest durable snapshot, already loaded into the tree (`index` 0: none).
    pub snapshot: SnapshotMark,
    /// Log entries after the snapshot, as far as the window holds; older ones by [`LogReader`].
    pub first: u64,
    pub last: u64,
    pub tail: Vec<Entry>,
}

/// Where a snapshot stands in the log. The bytes are the world's business.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SnapshotMark {
    pub index: u64,
    pub term: u64,
    pub conf: ConfState,
}

/// Reads durable entries that have left the window in memory.
pub trait LogReader: Send {
    /// Entries `low..high`, fewer if they exceed `max_bytes` (at least one).
    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> std::io::Result<Vec<Entry>>;
}

/// All that can happen to a replica.
#[derive(Debug)]
pub enum Input {
    /// At least every half heartbeat.
    Tick,
    Received {
        from: ReplicaId,
        message: PeerMessage,
    },
    /// A change asked for here; `id` is the caller's, and comes back in [`Effects::answers`].
    Submit {
        id: u64,
        command: Command,
    },
    /// Answer `id` once everything committed before now is applied here.
    Barrier {
        id: u64,
    },
    /// Persist jobs up to this number are durable.
    Persisted {
        number: u64,
    },
    /// This node's mount shows everything up to here.
    Visible {
        zxid: Zxid,
    },
    /// Whether a mount listens; without one, applied is visible.
    Mounted {
        mounted: bool,
    },
    /// A snapshot of the tree at `mark` is durable: the log before it may go.
    SnapshotTaken {
        mark: SnapshotMark,
    },
    /// The bytes announced by this `MsgSnapshot` have arrived, verified and durable.
    SnapshotArrived {
        from: ReplicaId,
        message: Message,
    },
    /// The end of sending one.
    SnapshotSent {
        to: ReplicaId,
        ok: bool,
    },
    /// Nothing can be sent to this peer now.
    Unreachable {
        peer: ReplicaId,
    },
    /// A replica asks to join (answered with the member list), or shall leave.
    AddMember {
        id: u64,
        name: String,
        address: String,
    },
    RemoveMember {
        id: u64,
        member: ReplicaId,
    },
}

/// All a replica may ask of the world, to be done in this order.
#[derive(Debug, Default)]
pub struct Effects {
    /// Send now. A `MsgSnapshot` in it goes after its bytes, by the side channel.
    pub send: Vec<(ReplicaId, PeerMessage)>,
    /// Make durable, then send `after`, then step [`Input::Persisted`].
    pub persist: Option<Persist>,
    /// Replace the tree by the snapshot at this mark, which has arrived before.
    pub restore: Option<SnapshotMark>,
    /// Apply: see [`Replica::apply`].
    pub committed: Vec<Entry>,
    /// Answers due without an apply (failures, barriers, replies that waited for visibility).
    pub answers: Vec<(u64, Answer)>,
    pub events: Vec<SessionEvent>,
    /// This replica must stop: it disagrees with the leader, or was removed. Says why.
    pub fatal: Option<String>,
}

#[derive(Debug)]
pub struct Persist {
    pub number: u64,
    pub hard_state: Option<HardState>,
    pub entries: Vec<Entry>,
    /// The log starts anew after this snapshot.
    pub snapshot: Option<SnapshotMark>,
    /// The log before this index may be dropped.
    pub compact_to: Option<u64>,
    pub after: Vec<(ReplicaId, PeerMessage)>,
}

/// The life of this node's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    Opened(SessionId),
    /// Cannot be trusted from now on: its deadline passed here, or the log ended it.
    Lost(SessionId),
}

/// What a proposal can be answered besides a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Refused(Refusal),
    /// No leader within `op_timeout`: nothing can change now. EROFS.
    NoQuorum,
    /// It was handed to a leader and no answer came: it may or may not take effect. ETIMEDOUT.
    Unknown,
    /// The session it was to run in ended before it could. EIO.
    SessionLost,
    /// The node is stopping. EIO.
    Stopping,
}

pub type Answer = Result<Reply, Failure>;

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

/// What a replica believes, for `.keepfs/status` and metrics. Moments are [`Moment::monotonic`].
#[derive(Clone, Debug)]
pub struct ReplicaStatus {
    /// `leader`, `follower`, `candidate`, `pre-candidate` or `learner`.
    pub role: &'static str,
    pub term: u64,
    pub leader: Option<ReplicaId>,
    /// When `leader` was last found or lost.
    pub leader_since: u64,
    /// A leader is known and, on the leader itself, a quorum answered within the election timeout.
    pub quorum: bool,
    pub commit: u64,
    pub applied: u64,
    /// First and last index of the log.
    pub log_first: u64,
    pub log_last: u64,
    /// Index of the newest snapshot.
    pub snapshot: u64,
    pub session: Option<SessionId>,
    /// Proposals of this node that have no answer yet.
    pub waiting: usize,
    /// On the leader: how far each other replica's log is known to match.
    pub matched: Vec<(ReplicaId, u64)>,
    /// Replicas whose mounts replies wait for.
    pub attentive: Vec<ReplicaId>,
}

pub struct Replica {}

impl Replica {
    pub fn new(config: ReplicaConfig, recovered: Recovered, log: Box<dyn LogReader>) -> Replica {
        let _ = (config, recovered, log);
        todo!()
    }

    pub fn step(&mut self, now: Moment, input: Input) {
        let _ = (now, input);
        todo!()
    }

    /// `None`: nothing to do until the next input.
    pub fn ready(&mut self, now: Moment) -> Option<Effects> {
        let _ = now;
        todo!()
    }

    /// Where the tree stands after the last [`Replica::apply`]: the mark of a snapshot taken of it now.
    pub fn applied(&self) -> SnapshotMark {
        todo!()
    }

    /// For operators: what this replica believes.
    pub fn status(&self) -> ReplicaStatus {
        todo!()
    }

    /// Applies committed entries; the answers to this node's own proposals come with the next
    /// [`Replica::ready`] (or later, when other mounts show the change).
    pub fn apply(&mut self, tree: &mut Tree, committed: Vec<Entry>) -> Batch {
        let _ = (tree, committed);
        todo!()
    }
}
