//! A replica whose data directory was moved, or is an older copy that was put back: nobody can tell
//! which by looking at it. It may have forgotten what it promised: entries that it acknowledged,
//! terms it had come to, votes it gave. Each of these was promised to another replica, and the
//! entries and the leaders that rest on its promises rest on those of a majority with it; so enough
//! of the others know, and it asks them:
//!
//! * Until as many have answered as meet every majority it can have been one of, it is deaf to
//!   raft: it votes for nobody and acknowledges nothing.
//! * Then it takes the highest of their terms, with its vote given, and follows whom it hears.
//!   While its log is not as far as the furthest of theirs it does not stand for election, and
//!   votes only for who is.
//! * Then it is what it was.

use super::{PeerMessage, Replica};
use crate::tree::ReplicaId;
use raft::INVALID_ID;
use raft::eraftpb::{Message, MessageType};
use std::collections::BTreeMap;

/// A place in a log, as elections compare them: term, then index.
type Place = (u64, u64);

/// What is not known yet.
#[derive(Debug, Default)]
pub(super) enum Doubt {
    #[default]
    None,
    /// What the others have answered: their terms, and their logs' ends.
    Asking { heard: BTreeMap<ReplicaId, (u64, Place)>, ask_at: u64 },
    /// The log was once that far.
    Behind { furthest: Place },
}

impl Doubt {
    pub(super) fn new(doubtful: bool) -> Doubt {
        match doubtful {
            true => Doubt::Asking { heard: BTreeMap::new(), ask_at: 0 },
            false => Doubt::None,
        }
    }

    /// Why raft must not hear of this message; `None`: it may.
    pub(super) fn forbids(&self, message: &Message) -> Option<&'static str> {
        let asks_for_a_vote = matches!(
            message.get_msg_type(),
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote
        );
        match self {
            Doubt::None => None,
            Doubt::Asking { .. } => Some("what this replica has promised is not known yet"),
            Doubt::Behind { furthest } => {
                let end = (message.log_term, message.index);
                let stands = message.get_msg_type() == MessageType::MsgTimeoutNow;
                (stands || asks_for_a_vote && end < *furthest)
                    .then_some("this replica's log was once further")
            }
        }
    }

    pub(super) fn is_none(&self) -> bool {
        matches!(self, Doubt::None)
    }
}

impl Replica {
    /// Whether this replica may have forgotten what it promised, and why it is held to be so: a
    /// sentence for operators.
    pub fn doubt(&self) -> Option<String> {
        match &self.doubt {
            Doubt::None => None,
            Doubt::Asking { heard, .. } => {
                let missing = self.others().into_iter().filter(|id| !heard.contains_key(id));
                let missing: Vec<String> = missing.map(|id| id.to_string()).collect();
                Some(format!(
                    "its data directory was moved, or is an older copy: it has no vote until {} of \
                     replicas {} have said what they know",
                    self.answers_needed().saturating_sub(heard.len()),
                    missing.join(", ")
                ))
            }
            Doubt::Behind { furthest: (term, index) } => Some(format!(
                "its data directory is an older copy: it stands for no election until its log is \
                 at entry {index} of term {term} again"
            )),
        }
    }

    /// The other voters.
    fn others(&self) -> Vec<ReplicaId> {
        let voters = self.raw.raft.prs().conf().voters().ids();
        let mut others: Vec<ReplicaId> = voters.iter().map(ReplicaId).collect();
        others.retain(|id| *id != self.config.id);
        others.sort();
        others
    }

    /// So many of the others that every majority with this replica has one of them in it.
    fn answers_needed(&self) -> usize {
        let all = self.others().len() + 1;
        (all - raft::majority(all) + 1).min(all - 1)
    }

    /// As far as the disk has it.
    fn log_end(&self) -> Place {
        let log = &self.raw.raft.raft_log;
        (log.term(log.persisted).unwrap_or_default(), log.persisted)
    }

    /// Asks again, or goes on to what the answers allow.
    pub(super) fn tend_doubt(&mut self) {
        let now = self.now.monotonic;
        let Doubt::Asking { heard, ask_at } = &mut self.doubt else { return self.catch_up() };
        let log = &self.raw.raft.raft_log;
        if log.applied < log.committed {
            // The configuration is not known yet.
            return;
        }
        if now >= *ask_at {
            *ask_at = now + 2 * self.config.heartbeat;
            let (process, heard) = (self.process, heard.clone());
            for other in self.others().into_iter().filter(|id| !heard.contains_key(id)) {
                self.send(other, PeerMessage::AskLog { process });
            }
        }
        self.conclude();
    }

    fn conclude(&mut self) {
        let Doubt::Asking { heard, .. } = &self.doubt else { return };
        let others = self.others();
        let answers: Vec<_> = others.iter().filter_map(|id| heard.get(id).copied()).collect();
        if answers.len() < self.answers_needed() {
            return;
        }
        let term = answers.iter().map(|(term, _)| *term).max().unwrap_or_default();
        let furthest = answers.iter().map(|(_, end)| *end).max().unwrap_or_default();
        let raft = &mut self.raw.raft;
        if raft.term < term {
            raft.become_follower(term, INVALID_ID);
        }
        if raft.vote == INVALID_ID && !others.is_empty() {
            // Whoever else had it asks again in a later term.
            raft.vote = raft.id;
        }
        self.doubt = Doubt::Behind { furthest };
        self.catch_up();
    }

    fn catch_up(&mut self) {
        if let Doubt::Behind { furthest } = self.doubt
            && self.log_end() >= furthest
        {
            self.doubt = Doubt::None;
        }
    }

    /// Another replica does not know what it has promised; maybe not even that it was removed.
    pub(super) fn asked_for_log(&mut self, from: ReplicaId, process: u64) {
        if self.can_do_without(from) {
            return self.send(from, PeerMessage::Removed);
        }
        let (log_term, index) = self.log_end();
        let term = self.raw.raft.term;
        self.send(from, PeerMessage::Log { process, term, log_term, index });
    }

    /// What one of the others has, answered to this process.
    pub(super) fn hear_log(&mut self, from: ReplicaId, process: u64, term: u64, end: Place) {
        if let Doubt::Asking { heard, .. } = &mut self.doubt
            && process == self.process
            && self.reach.believes_term(term)
        {
            heard.insert(from, (term, end));
            self.conclude();
        }
    }
}
