//! Questions that need the leader's word: barriers, and keep-alives on the leader itself.
//!
//! All that wait when a Ready is made share one read index round. Raft forgets a round when the
//! leader changes or a message is lost, and says nothing; so a round that stays unanswered is asked
//! again, under the same context: whichever answer comes was confirmed after the questions.

use crate::tree::{ReplicaId, SessionId, Zxid};
use std::collections::VecDeque;

/// Rounds on their way at once; further questions wait for the next.
const ROUNDS_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Question {
    /// For a caller of this node, since then.
    Barrier { id: u64, since: u64 },
    /// For the holders of sessions.
    KeepAlive { from: ReplicaId, sessions: Vec<SessionId>, sent: u64 },
}

pub(super) struct Reads {
    waiting: Vec<Question>,
    rounds: VecDeque<Round>,
    /// Confirmed at an index that has to be applied first.
    confirmed: VecDeque<(Zxid, Vec<Question>)>,
    /// Sets contexts of this process apart from those of earlier ones of this replica, whose
    /// answers may still be on their way.
    process: u64,
    counter: u64,
}

struct Round {
    context: Vec<u8>,
    /// When to ask (again).
    ask_at: u64,
    questions: Vec<Question>,
}

impl Reads {
    pub(super) fn new(process: u64) -> Reads {
        Reads {
            waiting: Vec::new(),
            rounds: VecDeque::new(),
            confirmed: VecDeque::new(),
            process,
            counter: 0,
        }
    }

    pub(super) fn ask(&mut self, question: Question) {
        self.waiting.push(question);
    }

    /// Begins a round for all that wait, and tells the contexts to give to raft now; again those
    /// that stay unanswered for `patience`.
    pub(super) fn due(&mut self, id: ReplicaId, now: u64, patience: u64) -> Vec<Vec<u8>> {
        if !self.waiting.is_empty() && self.rounds.len() < ROUNDS_MAX {
            self.counter += 1;
            let questions = std::mem::take(&mut self.waiting);
            let parts = [id.0, self.process, self.counter];
            let context = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
            self.rounds.push_back(Round { context, ask_at: now, questions });
        }
        let mut contexts = Vec::new();
        for round in self.rounds.iter_mut().filter(|round| now >= round.ask_at) {
            round.ask_at = now + patience;
            contexts.push(round.context.clone());
        }
        contexts
    }

    /// A quorum confirmed the round of this context at `index`.
    pub(super) fn confirm(&mut self, context: &[u8], index: Zxid) {
        if let Some(place) = self.rounds.iter().position(|round| round.context == context)
            && let Some(round) = self.rounds.remove(place)
        {
            self.confirmed.push_back((index, round.questions));
        }
    }

    /// Another leader: it knows nothing of the rounds.
    pub(super) fn leader_changed(&mut self) {
        self.rounds.iter_mut().for_each(|round| round.ask_at = 0);
    }

    /// Keep-alives are only this leader's to answer while it leads.
    pub(super) fn forget_keep_alives(&mut self) {
        let barrier = |question: &Question| matches!(question, Question::Barrier { .. });
        self.waiting.retain(barrier);
        self.rounds.iter_mut().for_each(|round| round.questions.retain(barrier));
        self.confirmed.iter_mut().for_each(|(_, questions)| questions.retain(barrier));
    }

    /// The questions that are answered now that `applied` is applied.
    pub(super) fn answered(&mut self, applied: Zxid) -> Vec<Question> {
        let mut answered = Vec::new();
        self.confirmed.retain_mut(|(index, questions)| {
            if *index <= applied {
                answered.append(questions);
            }
            *index > applied
        });
        answered
    }

    /// Barriers that wait for longer than `limit`.
    pub(super) fn expire(&mut self, now: u64, limit: u64) -> Vec<u64> {
        let mut expired = Vec::new();
        let mut keep = |question: &Question| match *question {
            Question::Barrier { id, since } if now.saturating_sub(since) >= limit => {
                expired.push(id);
                false
            }
            _ => true,
        };
        self.waiting.retain(&mut keep);
        self.rounds.iter_mut().for_each(|round| round.questions.retain(&mut keep));
        self.confirmed.iter_mut().for_each(|(_, questions)| questions.retain(&mut keep));
        expired
    }
}
