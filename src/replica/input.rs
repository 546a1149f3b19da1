//! What comes into a replica: its settings, what the disk knew, and all that happens to it.

use super::PeerMessage;
use crate::session::ClientId;
use crate::tree::{
    Command, Incarnation, Level, Member, Name, NameKey, Program, ReplicaId, SessionId, Stamp,
    TreeLimits, Zxid,
};
use raft::eraftpb::{ConfState, Entry, HardState};

/// What time it is here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds of CLOCK_BOOTTIME: never jumps, counts sleep; for deadlines.
    pub monotonic: u64,
    /// Nanoseconds since the epoch; for stamps.
    pub wall: Stamp,
}

#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    pub id: ReplicaId,
    /// Of this replica's data directory; not 0.
    pub incarnation: Incarnation,
    /// What runs here.
    pub program: Program,
    /// The host name of this node's session.
    pub name: String,
    /// Nanoseconds, all of them. One raft tick is `heartbeat`.
    pub heartbeat: u64,
    /// Randomised by `seed` up to twice this; at least four heartbeats.
    pub election_timeout: u64,
    pub session_timeout: u64,
    pub op_timeout: u64,
    pub visibility_timeout: u64,
    pub log: LogBounds,
    /// The only source of chance here. Random: no two replicas, and no two processes of one, have
    /// the same.
    pub seed: u64,
    /// [`ClientId::OWN`] is here from the start (a node with a mount, or that submits anything).
    pub with_session: bool,
    /// What the disk knew may be older than what this replica has promised.
    pub doubtful: bool,
    /// Id and members of a new cluster, the tree's limits and the key of its names: every founding
    /// replica is started with the same list, and the first leader founds the tree with its own.
    /// `None` joins or goes on.
    pub found: Option<(u128, Vec<Member>, TreeLimits, NameKey)>,
}

/// How much of the log is kept, and where.
#[derive(Clone, Copy, Debug)]
pub struct LogBounds {
    /// Bytes of entries kept in memory for followers a little behind; more only while not yet
    /// applied.
    pub window_bytes: usize,
    /// Entries kept in memory.
    pub window_entries: usize,
    /// What a snapshot leaves of the log, for followers that lag: bytes.
    pub tail_bytes: usize,
    /// What a snapshot leaves of the log: entries.
    pub tail_entries: u64,
}

impl Default for LogBounds {
    fn default() -> Self {
        LogBounds {
            window_bytes: 8 << 20,
            // With a batch more they still fit into 16,384 places; a queue doubles its places.
            window_entries: 12_288,
            tail_bytes: 4 << 20,
            tail_entries: 8_192,
        }
    }
}

/// What the disk knew at start.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    pub hard_state: HardState,
    /// The newest durable snapshot, already loaded into the tree (`index` 0: none).
    pub snapshot: SnapshotMark,
    /// The durable log is `first..=last`; it may begin before the snapshot. Empty: `last < first`.
    /// It must agree with the snapshot: hold an entry of that index and term, or begin right after
    /// it, or be empty. One that does not gives way, for a snapshot holds only what was committed.
    pub first: u64,
    pub last: u64,
    /// Its end, as far as the window in memory shall hold; older entries by [`LogReader`].
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
    /// A change asked for here, in the session it was checked under: never in another. `id` is the
    /// caller's, and comes back in [`super::Effects::answers`].
    Submit {
        id: u64,
        session: SessionId,
        command: Command,
    },
    /// A client is here from now on; `name` is its name among the clients of this host.
    Attach {
        client: ClientId,
        name: Name,
    },
    /// Answer `id` with a client's session ([`crate::tree::Reply::Session`]) once there is one.
    AwaitSession {
        client: ClientId,
        id: u64,
    },
    /// Answer `id` once a client's session is closed; no other is opened. Also one that is only
    /// being opened.
    EndSession {
        client: ClientId,
        id: u64,
    },
    /// Answer `id` once everything committed before now is applied here.
    Barrier {
        id: u64,
    },
    /// Persist jobs up to this number are durable.
    Persisted {
        number: u64,
    },
    /// A client's mount shows everything up to here.
    Visible {
        client: ClientId,
        zxid: Zxid,
    },
    /// Whether a client's mount listens; without any, applied is visible.
    Watches {
        client: ClientId,
        watches: bool,
    },
    /// A snapshot of the tree at `mark` is durable: the log before it may go.
    SnapshotTaken {
        mark: SnapshotMark,
    },
    /// The bytes announced by this [`PeerMessage::Snapshot`] have arrived, verified and durable.
    SnapshotArrived {
        from: ReplicaId,
        message: Vec<u8>,
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
    /// A founder was heard, and what its data directory is called is durable here: it counts until
    /// the address book knows. Comes before anything that it says is stepped.
    Met {
        peer: ReplicaId,
        incarnation: Incarnation,
    },
    /// A host asks to join; answered in [`super::Effects::members`]. Its id is in the list.
    AddMember {
        id: u64,
        name: String,
        address: String,
        incarnation: Incarnation,
        /// What its program can do.
        level: Level,
    },
    /// A replica shall leave; answered in [`super::Effects::members`].
    RemoveMember {
        id: u64,
        member: ReplicaId,
    },
    /// A member shall lead; answered in [`super::Effects::members`] when it does.
    TransferLeadership {
        id: u64,
        to: ReplicaId,
    },
    /// This replica is about to stop: should it lead, another shall do so. See
    /// [`super::Replica::is_resigning`].
    Resign,
}
