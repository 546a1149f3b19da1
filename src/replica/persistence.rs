//! Which persist jobs the disk has, which are durable, and what must wait for them.

use super::PeerMessage;
use crate::tree::ReplicaId;
use raft::eraftpb::{Entry, HardState, Message, MessageType};

/// Messages, in the order raft made them.
type Messages = Vec<(ReplicaId, PeerMessage)>;

pub(super) struct Persistence {
    /// The newest Ready, and thereby the number of the newest possible job.
    last_ready: u64,
    /// The newest job given to the disk.
    emitted: u64,
    durable: u64,
    /// As the newest job that carried one has it.
    hard_state: HardState,
    /// The job that carries the present term and vote.
    term_job: u64,
    /// The job that carries a received snapshot, and the snapshot's index.
    restoring: Option<(u64, u64)>,
    compact_to: Option<u64>,
    founding: Vec<Entry>,
}

/// What one Ready asks of the disk.
pub(super) struct Demand {
    pub number: u64,
    pub hard_state: HardState,
    pub has_entries: bool,
    pub snapshot: Option<u64>,
    /// Write the commit index although nothing else asks for it.
    pub flush: bool,
}

impl Persistence {
    pub(super) fn new(hard_state: HardState, founding: Vec<Entry>) -> Persistence {
        Persistence {
            last_ready: 0,
            emitted: 0,
            durable: 0,
            hard_state: if founding.is_empty() { hard_state } else { HardState::default() },
            term_job: 0,
            restoring: None,
            compact_to: None,
            founding,
        }
    }

    /// The log before `index` may be dropped with the next job.
    pub(super) fn compact(&mut self, index: u64) {
        self.compact_to = Some(index);
    }

    pub(super) fn outstanding(&self) -> bool {
        self.durable < self.emitted
    }

    /// Something to write that no Ready asked for: a compaction, or a commit index.
    pub(super) fn has_own_demand(&self) -> bool {
        self.compact_to.is_some()
    }

    /// Whether the commit index on disk is older than `commit`. It may be: raft does without. But a
    /// replica that starts with no quorum shows what it knows to be committed.
    pub(super) fn commit_is_behind(&self, commit: u64) -> bool {
        self.hard_state.commit < commit
    }

    /// Whether this Ready needs a job of its own, besides what has to wait for earlier ones.
    pub(super) fn note(&mut self, demand: &Demand) -> bool {
        self.last_ready = demand.number;
        let elected = demand.hard_state.term != self.hard_state.term
            || demand.hard_state.vote != self.hard_state.vote;
        if elected {
            self.term_job = demand.number;
        }
        if let Some(index) = demand.snapshot {
            self.restoring = Some((demand.number, index));
        }
        elected
            || demand.has_entries
            || demand.snapshot.is_some()
            || self.compact_to.is_some()
            || !self.founding.is_empty()
            || (demand.flush && self.commit_is_behind(demand.hard_state.commit))
    }

    /// Whether the present term and vote are durable.
    pub(super) fn term_is_durable(&self) -> bool {
        self.term_job <= self.durable
    }

    /// A job is given to the disk: what it carries besides the Ready's own.
    pub(super) fn emit(&mut self, demand: &Demand) -> (Option<HardState>, Vec<Entry>, Option<u64>) {
        self.emitted = demand.number;
        let changed = demand.hard_state != self.hard_state;
        self.hard_state = demand.hard_state.clone();
        let hard_state = changed.then(|| demand.hard_state.clone());
        (hard_state, std::mem::take(&mut self.founding), self.compact_to.take())
    }

    /// Jobs up to `number` are durable. Tells up to which Ready raft may be told so, unless it was
    /// told before.
    pub(super) fn persisted(&mut self, number: u64) -> Option<u64> {
        assert!(number <= self.emitted, "the disk reports job {number}, which it was never given");
        if number <= self.durable {
            return None;
        }
        self.durable = number;
        Some(if self.outstanding() { number } else { self.last_ready })
    }

    /// The index of a received snapshot that has become durable just now.
    pub(super) fn take_restored(&mut self) -> Option<u64> {
        let (job, index) = self.restoring?;
        (job <= self.durable).then(|| {
            self.restoring = None;
            index
        })
    }
}

/// Splits a Ready's messages into those to send now and those that wait for the disk. A leader's
/// may go beside its own write, once its term is durable; a follower's wait, except for heartbeat
/// answers, which promise nothing about entries: a slow disk shall not cost the leader its quorum.
pub(super) fn divide(
    leads: bool,
    term_is_durable: bool,
    messages: Vec<Message>,
) -> (Messages, Messages) {
    let (mut now, mut after) = (Vec::new(), Vec::new());
    for message in messages {
        let promises_nothing = message.get_msg_type() == MessageType::MsgHeartbeatResponse;
        let list = match term_is_durable && (leads || promises_nothing) {
            true => &mut now,
            false => &mut after,
        };
        list.push(envelope(message));
    }
    (now, after)
}

fn envelope(message: Message) -> (ReplicaId, PeerMessage) {
    let bytes = protobuf::Message::write_to_bytes(&message).expect("a message encodes into memory");
    let to = ReplicaId(message.to);
    if message.get_msg_type() != MessageType::MsgSnapshot {
        return (to, PeerMessage::Raft(bytes));
    }
    let mark = message.get_snapshot().get_metadata();
    (to, PeerMessage::Snapshot { index: mark.index, term: mark.term, message: bytes })
}
