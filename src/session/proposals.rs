//! One client's changes, from the asking to their entry in the log.
//!
//! A change carries the session it was checked under from the asking to the log, and never another.
//! It waits in the queue until there is a leader. Then it gets its sequence and is handed over,
//! again whenever the leader changes and after a second or more, until its entry is applied here or
//! its session is believed no longer. The tree drops the repeats, and what is of an ended session.

use super::{Answer, Failure, RETRY_AFTER};
use crate::limits::PROPOSALS_IN_FLIGHT_MAX;
use crate::tree::{Command, Proposal, SessionId, Tree};
use std::collections::{BTreeMap, VecDeque};

/// How often that time doubles.
const RETRY_DOUBLINGS: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Proposals {
    queue: VecDeque<Queued>,
    /// By sequence.
    pending: BTreeMap<u64, Pending>,
    last_sequence: u64,
    /// Whose sequences these are.
    session: Option<SessionId>,
    handed: Frontier,
}

#[derive(Debug)]
struct Queued {
    id: u64,
    since: u64,
    session: SessionId,
    command: Command,
}

#[derive(Debug)]
struct Pending {
    id: u64,
    since: u64,
    proposal: Proposal,
    handed: Handed,
}

/// How far hand-overs have come.
#[derive(Debug, Default)]
struct Frontier {
    term: u64,
    /// The newest sequence that was looked at.
    up_to: u64,
    /// When the first of them is due again.
    retry_at: u64,
}

/// The last hand-over of one.
#[derive(Clone, Copy, Debug, Default)]
struct Handed {
    /// 0: none yet.
    term: u64,
    /// How many there were to this leader.
    times: u32,
    /// When to repeat it within its term; never, if it is in this replica's own log.
    retry_at: u64,
}

impl Handed {
    fn again(self, term: u64, now: u64, leads: bool) -> Handed {
        let times = if self.term == term { self.times + 1 } else { 1 };
        // A leader that is slow is not helped by copies: each comes after twice the time.
        let patience = RETRY_AFTER << (times - 1).min(RETRY_DOUBLINGS);
        Handed { term, times, retry_at: if leads { u64::MAX } else { now + patience } }
    }
}

impl Proposals {
    /// A change in `session`, which is believed.
    pub(super) fn submit(&mut self, id: u64, session: SessionId, command: Command, now: u64) {
        self.queue.push_back(Queued { id, since: now, session, command });
    }

    /// The session that proposed, while it may still have unanswered proposals in the log.
    pub(super) fn session(&self) -> Option<SessionId> {
        self.session
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.pending.len()
    }

    /// Nothing waits for an answer.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// At another replica, by whose clock the time is `now`: all that waits has come there just
    /// now, and was handed to nobody.
    pub(super) fn arrive(&mut self, now: u64) {
        self.handed = Frontier::default();
        self.queue.iter_mut().for_each(|queued| queued.since = now);
        for pending in self.pending.values_mut() {
            (pending.since, pending.handed) = (now, Handed::default());
        }
    }

    /// Shows `change` the caller of each that waits: it is another one at another replica.
    pub(super) fn renumber(&mut self, change: &mut impl FnMut(&mut u64)) {
        self.queue.iter_mut().for_each(|queued| change(&mut queued.id));
        self.pending.values_mut().for_each(|pending| change(&mut pending.id));
    }

    /// Gives what was asked for in `session` its sequences, as far as the tree remembers a
    /// session's answers: from the oldest unanswered one on.
    pub(super) fn sequence(&mut self, session: SessionId) {
        self.session = Some(session);
        while self.has_room()
            && self.queue.front().is_some_and(|first| first.session == session)
            && let Some(Queued { id, since, command, .. }) = self.queue.pop_front()
        {
            self.last_sequence += 1;
            let sequence = self.last_sequence;
            let proposal = Proposal { session, sequence, acknowledged: 0, command };
            let handed = Handed::default();
            self.pending.insert(sequence, Pending { id, since, proposal, handed });
        }
    }

    fn has_room(&self) -> bool {
        let oldest = self.pending.keys().next().copied().unwrap_or(self.last_sequence + 1);
        self.last_sequence + 1 - oldest < PROPOSALS_IN_FLIGHT_MAX as u64
    }

    /// Shows `give` every proposal that is due to be handed to the leader of `term`: new ones, and
    /// at another leader or when one's patience ends, all that are due again. Only those of the
    /// session that is believed.
    pub(super) fn hand_over(
        &mut self,
        believed: Option<SessionId>,
        term: u64,
        now: u64,
        leads: bool,
        mut give: impl FnMut(&Proposal),
    ) {
        if believed != self.session {
            return;
        }
        let Some(acknowledged) = self.pending.keys().next().copied() else { return };
        let all = self.handed.term != term || now >= self.handed.retry_at;
        let from = if all { 0 } else { self.handed.up_to + 1 };
        if all {
            self.handed = Frontier { term, up_to: 0, retry_at: u64::MAX };
        }
        for pending in self.pending.range_mut(from..).map(|(_, pending)| pending) {
            if pending.handed.term != term || now >= pending.handed.retry_at {
                pending.proposal.acknowledged = acknowledged;
                pending.handed = pending.handed.again(term, now, leads);
                give(&pending.proposal);
            }
            self.handed.retry_at = self.handed.retry_at.min(pending.handed.retry_at);
        }
        self.handed.up_to = self.last_sequence;
    }

    /// raft did not take what was handed to it: try again in a while. What it took before may come
    /// twice; the tree drops the repeat.
    pub(super) fn dropped(&mut self, now: u64) {
        for pending in self.pending.values_mut() {
            if pending.handed.retry_at == u64::MAX {
                pending.handed.retry_at = now + RETRY_AFTER;
            }
        }
        self.handed.retry_at = self.handed.retry_at.min(now + RETRY_AFTER);
    }

    /// The entry of a proposal of this session is applied: who asked for it.
    pub(super) fn applied(&mut self, sequence: u64) -> Option<u64> {
        self.pending.remove(&sequence).map(|pending| pending.id)
    }

    /// The callers whose proposals a snapshot jumped over, with the tree's remembered answers.
    pub(super) fn look_up(&mut self, tree: &Tree) -> Vec<(u64, Answer)> {
        let mut answers = Vec::new();
        let Some(session) = self.session else { return answers };
        self.pending.retain(|sequence, pending| match tree.answer(session, *sequence) {
            None => true,
            Some(answer) => {
                answers.push((pending.id, answer.map_err(Failure::Refused)));
                false
            }
        });
        answers
    }

    /// Session `new` is open: what was asked for in an older one and not handed over shall not
    /// happen any more.
    pub(super) fn drop_of_older(&mut self, new: SessionId) -> Vec<u64> {
        let mut dropped = Vec::new();
        self.queue.retain(|queued| {
            let keeps = queued.session == new;
            if !keeps {
                dropped.push(queued.id);
            }
            keeps
        });
        dropped
    }

    /// The session ended in the log: what it proposed and was not applied never will be.
    pub(super) fn session_ended(&mut self) -> Vec<u64> {
        (self.last_sequence, self.session, self.handed) = (0, None, Frontier::default());
        std::mem::take(&mut self.pending).into_values().map(|pending| pending.id).collect()
    }

    /// What has waited too long. `leader_known`: whether there is someone to wait for; `hopeless`:
    /// whether there has been nobody for so long that nothing is waited for any more.
    pub(super) fn expire(
        &mut self,
        now: u64,
        op_timeout: u64,
        leader_known: bool,
        hopeless: bool,
    ) -> Vec<(u64, Failure)> {
        let mut failed = Vec::new();
        let late = |first: &Queued| hopeless || now >= first.since + op_timeout;
        while self.queue.front().is_some_and(late) {
            let queued = self.queue.pop_front().expect("there is a first");
            failed.push((queued.id, Failure::NoQuorum));
        }
        self.pending.retain(|_, pending| {
            let waited = now.saturating_sub(pending.since);
            let failure = match hopeless || waited >= op_timeout {
                false => return true,
                true if pending.handed.term == 0 || !leader_known => Failure::NoQuorum,
                true if waited >= 2 * op_timeout => Failure::Unknown,
                true => return true,
            };
            failed.push((pending.id, failure));
            false
        });
        failed
    }
}
