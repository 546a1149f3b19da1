//! What raft-rs may be given. It panics on messages that a correct peer never sends; a wrong or
//! hostile one must not stop this replica, and an own disk that lost entries must stop it with a
//! sentence.

use super::log::Window;
use super::reach::Reach;
use crate::tree::ReplicaId;
use raft::eraftpb::{ConfState, Message, MessageType};
use raft::{INVALID_ID, RawNode, StateRole};

#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Step,
    /// Not now: a vote that could make this replica leader before the disk has reported its log.
    /// raft-rs requires that of a new leader, for every write it asked for. The vote request left
    /// after them, but its answer may overtake the report.
    Later,
    Ignore(&'static str),
    /// Not the peer but this replica is wrong.
    Fatal(String),
}

/// `writing`: the disk has not reported all that it was given.
pub(super) fn judge(
    raw: &RawNode<Window>,
    reach: &Reach,
    writing: bool,
    from: ReplicaId,
    message: &Message,
) -> Verdict {
    if message.from != from.0 || message.to != raw.raft.id {
        return Verdict::Ignore("its sender or receiver is another replica");
    }
    if let Some(why) = judge_numbers(raw, reach, message) {
        return Verdict::Ignore(why);
    }
    match message.get_msg_type() {
        MessageType::MsgAppend | MessageType::MsgHeartbeat if is_usurper(raw, message) => {
            Verdict::Ignore("another replica leads in this term")
        }
        MessageType::MsgAppend => judge_append(raw, message),
        MessageType::MsgHeartbeat => judge_heartbeat(raw, message),
        MessageType::MsgAppendResponse if message.index > raw.raft.raft_log.last_index() => {
            Verdict::Ignore("it acknowledges entries that are not in the log")
        }
        MessageType::MsgReadIndex if message.entries.len() != 1 => {
            Verdict::Ignore("a read index of no form")
        }
        MessageType::MsgReadIndexResp if message.from != raw.raft.leader_id => {
            Verdict::Ignore("only the leader tells how far to read")
        }
        MessageType::MsgRequestVoteResponse
            if writing && raw.raft.state == StateRole::Candidate =>
        {
            Verdict::Later
        }
        MessageType::MsgTimeoutNow if message.from != raw.raft.leader_id || !may_tick(raw) => {
            Verdict::Ignore("only the leader hands its office over, and not to everyone")
        }
        MessageType::MsgPropose
        | MessageType::MsgTransferLeader
        | MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum => Verdict::Ignore("not for peers to send"),
        MessageType::MsgSnapshot => Verdict::Ignore("its bytes have not arrived"),
        _ => Verdict::Step,
    }
}

/// Why the numbers of a message cannot be true.
fn judge_numbers(raw: &RawNode<Window>, reach: &Reach, message: &Message) -> Option<&'static str> {
    let asks = message.get_msg_type() == MessageType::MsgReadIndex;
    if (message.term == 0) != asks {
        // Raft takes a message without a term for one of its own.
        return Some("its term is not one of its kind");
    }
    if !reach.believes_term(message.term.max(message.log_term)) {
        return Some("no cluster gets to such a term");
    }
    let last = raw.raft.raft_log.last_index();
    let indexes = [message.index, message.commit, message.reject_hint];
    if !indexes.iter().all(|index| reach.believes_index(*index, last)) {
        return Some("no log gets to such an index");
    }
    (message.request_snapshot != 0).then_some("snapshots are not asked for")
}

/// Whether a leader's message comes from another than the leader of its term.
fn is_usurper(raw: &RawNode<Window>, message: &Message) -> bool {
    let raft = &raw.raft;
    message.term == raft.term && raft.leader_id != INVALID_ID && raft.leader_id != message.from
}

/// The same for a `MsgSnapshot` whose bytes have arrived.
pub(super) fn judge_snapshot(
    raw: &RawNode<Window>,
    reach: &Reach,
    from: ReplicaId,
    message: &Message,
) -> Verdict {
    let metadata = message.get_snapshot().get_metadata();
    if message.get_msg_type() != MessageType::MsgSnapshot
        || message.from != from.0
        || message.to != raw.raft.id
        || metadata.index == 0
        || metadata.term > message.term
        || !whole(metadata.get_conf_state())
    {
        return Verdict::Ignore("not a snapshot for this replica");
    }
    if is_usurper(raw, message) {
        return Verdict::Ignore("a snapshot, and another replica leads in this term");
    }
    if let Some(why) = judge_numbers(raw, reach, message) {
        return Verdict::Ignore(why);
    }
    match reach.believes_index(metadata.index, raw.raft.raft_log.last_index()) {
        true => Verdict::Step,
        false => Verdict::Ignore("no snapshot gets to such an index"),
    }
}

/// Whether raft counts this answer: towards a leader's election, an entry's commit, or a proof that
/// it still leads.
pub(super) fn is_counted(message: &Message) -> bool {
    matches!(
        message.get_msg_type(),
        MessageType::MsgAppendResponse
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVoteResponse
    )
}

/// Whether a configuration has voters, each replica once, and is not joint: raft restores no other.
fn whole(conf: &ConfState) -> bool {
    let mut ids: Vec<u64> = conf.voters.iter().chain(&conf.learners).copied().collect();
    ids.sort_unstable();
    let distinct = ids.windows(2).all(|pair| pair[0] != pair[1]);
    let joint = !conf.voters_outgoing.is_empty() || !conf.learners_next.is_empty();
    !conf.voters.is_empty() && distinct && !joint && !ids.contains(&0)
}

fn judge_append(raw: &RawNode<Window>, message: &Message) -> Verdict {
    // Raft takes term 0 for that of any entry beyond the log's end.
    if (message.log_term == 0) != (message.index == 0) {
        return Verdict::Ignore("it follows an entry without a term");
    }
    let mut index = message.index;
    let mut term = message.log_term;
    for entry in message.get_entries() {
        if entry.index != index + 1 || entry.term < term || entry.term > message.term {
            return Verdict::Ignore("its entries do not follow each other");
        }
        (index, term) = (entry.index, entry.term);
    }
    match contradiction(raw, message) {
        Some(why) if message.term >= raw.raft.term => Verdict::Fatal(why),
        _ => Verdict::Step,
    }
}

/// A leader has every committed entry, or disks have lost what they acknowledged. raft-rs answers
/// an append below its commit index without a look at it: the leader then believes that the logs
/// match, and its follower stands still for ever.
fn contradiction(raw: &RawNode<Window>, message: &Message) -> Option<String> {
    let log = &raw.raft.raft_log;
    let before = (message.index, message.log_term);
    let entries = message.get_entries().iter().map(|entry| (entry.index, entry.term));
    let known = std::iter::once(before).chain(entries).take_while(|(at, _)| *at <= log.committed);
    let differs = |(at, theirs): (u64, u64)| match log.term(at) {
        Ok(own) if own != 0 && own != theirs => Some((at, own, theirs)),
        _ => None,
    };
    let (at, own, theirs) = known.into_iter().find_map(differs)?;
    Some(format!(
        "entry {at} of term {own} is committed, but the leader ({}) has one of term {theirs} in \
         its place: the disks of a majority lost what they had acknowledged. What is here was not \
         changed and may be all there is of it: keep a copy of the data directory",
        message.from
    ))
}

fn judge_heartbeat(raw: &RawNode<Window>, message: &Message) -> Verdict {
    let last = raw.raft.raft_log.last_index();
    if message.term >= raw.raft.term && message.commit > last {
        return Verdict::Fatal(format!(
            "the leader ({}) was told that entry {} is durable here, but the log ends at {last}: this \
             replica's disk lost what it had acknowledged; remove it from the cluster and join it again",
            message.from, message.commit
        ));
    }
    Verdict::Step
}

/// Whether raft may look at its clock. The only voter elects itself in the tick, so its log must be
/// durable before; and nobody may ask for votes while a received snapshot is not, for raft then
/// looks for entries that the snapshot replaced.
pub(super) fn may_tick(raw: &RawNode<Window>) -> bool {
    let log = &raw.raft.raft_log;
    let alone = raw.raft.prs().is_singleton() && log.persisted < log.last_index();
    raw.raft.state == StateRole::Leader || !(alone || is_restoring(raw))
}

/// Whether a received snapshot is on its way to the disk.
fn is_restoring(raw: &RawNode<Window>) -> bool {
    let log = &raw.raft.raft_log;
    log.applied + 1 < log.first_index()
}
