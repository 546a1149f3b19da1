//! Sessions: one client's life in the cluster, and its memory of answers, which makes every
//! proposal apply exactly once.

use super::edit::Edit;
use super::name_key::Cookie;
use super::{Change, Ino, Name, Proposal, Refusal, ReplicaId, Reply, SessionId, Stamp, Tree};
use crate::cow::CowMap;
use crate::limits::{PROPOSALS_IN_FLIGHT_MAX, SESSIONS_MAX};
use bincode::{Decode, Encode};
use std::sync::Arc;

pub(super) type Answer = Result<Reply, Refusal>;

#[derive(Clone)]
pub(super) struct Session {
    pub state: SessionState,
    /// Entries of `ephemeral` directories that go with it.
    pub ephemerals: CowMap<(Ino, Cookie), (), 64>,
}

/// Everything but the ephemeral entries, which their directories know too.
#[derive(Clone, Encode, Decode)]
pub(super) struct SessionState {
    pub host: Name,
    pub client: Name,
    /// By which it proposes.
    pub replica: ReplicaId,
    /// How often it went to another replica.
    moves: u64,
    pub nonce: u64,
    pub opened: Stamp,
    pub timeout_ms: u32,
    /// Answers below this sequence are forgotten, and such proposals refused.
    acknowledged: u64,
    answers: CowMap<u64, Answer, 32>,
}

/// What a session's memory says about a proposal.
pub(super) enum Seen {
    /// To be applied.
    New,
    /// Applied already; this was the answer.
    Before(Answer),
    GivenUp,
}

impl SessionState {
    pub fn answer(&self, sequence: u64) -> Option<&Answer> {
        self.answers.get(sequence)
    }

    /// Forgets what the proposer has seen answered, and says whether this one is new.
    fn meet(&mut self, proposal: &Proposal) -> Seen {
        self.acknowledged = self.acknowledged.max(proposal.acknowledged);
        while let Some(oldest) = self.oldest()
            && oldest < self.acknowledged
        {
            self.answers.remove(oldest);
        }
        match self.answers.get(proposal.sequence) {
            Some(answer) => Seen::Before(answer.clone()),
            None if proposal.sequence < self.acknowledged => Seen::GivenUp,
            None => Seen::New,
        }
    }

    fn oldest(&self) -> Option<u64> {
        self.answers.first().map(|(sequence, _)| sequence)
    }

    /// A proposer with too many proposals in flight loses the oldest answer: a copy of that
    /// proposal is refused from then on, never applied again.
    fn remember(&mut self, sequence: u64, answer: Answer) {
        self.answers.insert(sequence, answer);
        if self.answers.len() > PROPOSALS_IN_FLIGHT_MAX
            && let Some(oldest) = self.oldest()
        {
            self.answers.remove(oldest);
            self.acknowledged = self.acknowledged.max(oldest.saturating_add(1));
        }
    }
}

impl Tree {
    /// Whether a proposal is to be applied. The cluster's own proposals always are.
    pub(super) fn meet(&mut self, proposal: &Proposal) -> Result<Seen, Refusal> {
        if proposal.session == SessionId::NONE {
            return Ok(Seen::New);
        }
        let session = self.session_mut(proposal.session).ok_or(Refusal::SessionExpired)?;
        Ok(session.state.meet(proposal))
    }

    /// Remembers an answer, unless the session ended by it.
    pub(super) fn remember(&mut self, session: SessionId, sequence: u64, answer: &Answer) {
        if let Some(session) = self.session_mut(session) {
            session.state.remember(sequence, answer.clone());
        }
    }

    pub(super) fn session_mut(&mut self, session: SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(session).map(Arc::make_mut)
    }

    /// A session whose entries may still be there.
    pub(super) fn owner_mut(&mut self, session: SessionId) -> Option<&mut Session> {
        let ended = self.ended.get_mut(session);
        ended.or_else(|| self.sessions.get_mut(session)).map(Arc::make_mut)
    }
}

impl Edit<'_> {
    /// A client arrives. An older session of its name on its host ends: that client is gone.
    pub fn open_session(
        &mut self,
        (host, client): (&Name, &Name),
        replica: ReplicaId,
        nonce: u64,
        timeout_ms: u32,
    ) -> Result<Reply, Refusal> {
        let named =
            |session: &Arc<Session>| session.state.client == *client && session.state.host == *host;
        let older = self.tree.sessions.iter().find(|(_, session)| named(session));
        match older {
            Some((session, older)) if older.state.nonce == nonce => {
                return Ok(Reply::Session { session });
            }
            Some((session, _)) => self.end_session(session),
            None if self.tree.sessions.len() + self.tree.ended.len() >= SESSIONS_MAX => {
                return Err(Refusal::NoSpace);
            }
            None => {}
        }
        let session = SessionId(self.zxid());
        let state = SessionState {
            host: host.clone(),
            client: client.clone(),
            replica,
            moves: 0,
            nonce,
            opened: self.stamp(),
            timeout_ms,
            acknowledged: 0,
            answers: CowMap::new(),
        };
        let opened = Arc::new(Session { state, ephemerals: CowMap::new() });
        self.tree.sessions.insert(session, opened);
        self.change(Change::SessionOpened { session });
        self.work();
        Ok(Reply::Session { session })
    }

    /// The session goes on at another replica, with all that it has.
    pub fn move_session(
        &mut self,
        session: SessionId,
        nonce: u64,
        moves: u64,
        replica: ReplicaId,
    ) -> Result<Reply, Refusal> {
        let state = &mut self.tree.session_mut(session).ok_or(Refusal::SessionExpired)?.state;
        if state.nonce != nonce || moves < state.moves {
            return Err(Refusal::SessionExpired);
        }
        // The same move again is answered as before.
        let is_new = moves > state.moves;
        if is_new {
            (state.moves, state.replica) = (moves, replica);
            self.change(Change::SessionMoved { session });
        } else if state.replica != replica {
            return Err(Refusal::SessionExpired);
        }
        Ok(Reply::Session { session })
    }

    pub fn close_session(&mut self) -> Result<Reply, Refusal> {
        let session = self.live_session()?;
        self.end_session(session);
        self.work();
        Ok(Reply::Done)
    }

    pub fn expire_sessions(&mut self, sessions: &[SessionId]) -> Result<Reply, Refusal> {
        for session in sessions.iter().take(SESSIONS_MAX) {
            self.end_session(*session);
        }
        self.work();
        Ok(Reply::Done)
    }

    /// A session is over: it can do nothing more, and gets nothing more. Its locks and tickets, its
    /// ephemeral entries and the orphans it had open go by [`Edit::work`].
    fn end_session(&mut self, session: SessionId) {
        let Some(mut ended) = self.tree.sessions.remove(session) else { return };
        self.change(Change::SessionEnded { session });
        self.tree.locks.end_session(session);
        Arc::make_mut(&mut ended).state.answers = CowMap::new();
        self.tree.ended.insert(session, ended);
    }
}
