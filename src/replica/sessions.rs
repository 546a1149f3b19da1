//! Sessions' liveness: this node's own session and its deadline, and the leader's table of all.
//!
//! The leader acknowledges a keep-alive only after a quorum has confirmed, later than it came, that
//! it leads. So whoever leads next was elected after the keep-alive was sent, and gives the session
//! a whole timeout from then on; its holder stops believing after two thirds of it.

use super::chance::mix;
use super::proposals::RETRY_AFTER;
use crate::tree::{ReplicaId, SessionId, SessionView, Tree};
use std::collections::BTreeMap;

/// This node's session.
pub(super) struct OwnSession {
    wanted: bool,
    timeout: u64,
    seed: u64,
    /// How many nonces were drawn.
    openings: u64,
    state: State,
    /// Who waits for a session, and since when.
    awaiting: Vec<(u64, u64)>,
}

#[derive(Clone, Copy)]
enum State {
    /// Asked for since `first_sent` under this nonce.
    Opening {
        nonce: u64,
        first_sent: Option<u64>,
        retry_at: u64,
    },
    Open {
        session: SessionId,
        deadline: u64,
        keep_alive_at: u64,
    },
}

/// What the own session needs now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Need {
    Open { nonce: u64 },
    KeepAlive(SessionId),
}

impl OwnSession {
    pub(super) fn new(wanted: bool, timeout: u64, seed: u64) -> OwnSession {
        let state = State::Opening { nonce: mix(seed, 1), first_sent: None, retry_at: 0 };
        OwnSession { wanted, timeout, seed, openings: 1, state, awaiting: Vec::new() }
    }

    /// The session, while it may be believed.
    pub(super) fn id(&self) -> Option<SessionId> {
        match self.state {
            State::Open { session, .. } => Some(session),
            State::Opening { .. } => None,
        }
    }

    /// Until when the session may be believed, by this host's clock; 0 if there is none.
    pub(super) fn deadline(&self) -> u64 {
        match self.state {
            State::Open { deadline, .. } => deadline,
            State::Opening { .. } => 0,
        }
    }

    /// The session, if its deadline has passed: it is believed no longer.
    pub(super) fn lapse(&mut self, now: u64) -> Option<SessionId> {
        let session = self.id().filter(|_| now >= self.deadline())?;
        self.start_opening();
        Some(session)
    }

    pub(super) fn need(&mut self, now: u64, leader_known: bool) -> Option<Need> {
        let interval = self.timeout / 8;
        match &mut self.state {
            State::Open { session, keep_alive_at, .. } if leader_known && now >= *keep_alive_at => {
                *keep_alive_at = now + interval;
                Some(Need::KeepAlive(*session))
            }
            State::Opening { retry_at, .. } if self.wanted && leader_known && now >= *retry_at => {
                Some(self.ask(now))
            }
            _ => None,
        }
    }

    fn start_opening(&mut self) {
        self.openings += 1;
        let nonce = mix(self.seed, self.openings);
        self.state = State::Opening { nonce, first_sent: None, retry_at: 0 };
    }

    /// A session counts from when its nonce was first sent, so an old nonce is not worth opening.
    fn ask(&mut self, now: u64) -> Need {
        if let State::Opening { first_sent: Some(sent), .. } = self.state
            && now - sent > self.timeout / 3
        {
            self.start_opening();
        }
        let State::Opening { nonce, first_sent, retry_at } = &mut self.state else {
            unreachable!("only a session that is being opened asks");
        };
        first_sent.get_or_insert(now);
        *retry_at = now + RETRY_AFTER;
        Need::Open { nonce: *nonce }
    }

    /// Another leader: ask it at once.
    pub(super) fn leader_changed(&mut self) {
        match &mut self.state {
            State::Opening { retry_at, .. } => *retry_at = 0,
            State::Open { keep_alive_at, .. } => *keep_alive_at = 0,
        }
    }

    /// The log opened `session` for `nonce`. True if that is the session asked for.
    pub(super) fn opened(&mut self, session: SessionId, nonce: u64) -> bool {
        match self.state {
            State::Opening { nonce: asked, first_sent: Some(sent), .. } if asked == nonce => {
                let deadline = sent + self.timeout / 3 * 2;
                self.state = State::Open { session, deadline, keep_alive_at: 0 };
                true
            }
            _ => false,
        }
    }

    /// The log ended `session`. True if it was this node's, and believed until now.
    pub(super) fn ended(&mut self, session: SessionId) -> bool {
        let own = self.id() == Some(session);
        if own {
            self.start_opening();
        }
        own
    }

    /// The leader acknowledged the keep-alive sent at `sent`.
    pub(super) fn acknowledged(&mut self, id: SessionId, sent: u64, now: u64) {
        if let State::Open { session, deadline, .. } = &mut self.state
            && *session == id
        {
            *deadline = (*deadline).max(sent.min(now) + self.timeout / 3 * 2);
        }
    }

    /// This node is leaving by its own will: no session after this one.
    pub(super) fn close(&mut self) {
        self.wanted = false;
    }

    /// Whether the log may open a session that has not been seen to open.
    pub(super) fn is_asked_for(&self) -> bool {
        matches!(self.state, State::Opening { first_sent: Some(_), .. })
    }

    /// `id` waits for the next session.
    pub(super) fn await_opening(&mut self, id: u64, now: u64) {
        self.awaiting.push((id, now));
    }

    /// Those who waited for the session that is open now.
    pub(super) fn take_awaiting(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.awaiting).into_iter().map(|(id, _)| id).collect()
    }

    /// Those who have waited for longer than `limit`, or all, if it is `hopeless`.
    pub(super) fn expire_awaiting(&mut self, now: u64, limit: u64, hopeless: bool) -> Vec<u64> {
        let late = |&mut (_, since): &mut (u64, u64)| hopeless || now >= since + limit;
        self.awaiting.extract_if(.., late).map(|(id, _)| id).collect()
    }
}

/// All live sessions, as the log has them.
#[derive(Default)]
pub(super) struct SessionTable {
    live: BTreeMap<SessionId, Live>,
}

struct Live {
    replica: ReplicaId,
    timeout: u64,
    /// When the leader last heard of it.
    heard: u64,
    /// Proposed to end; when to propose it again.
    ending: Option<u64>,
}

impl SessionTable {
    pub(super) fn opened(&mut self, view: &SessionView, now: u64) {
        let timeout = u64::from(view.timeout_ms) * 1_000_000;
        let live = Live { replica: view.replica, timeout, heard: now, ending: None };
        self.live.insert(view.session, live);
    }

    pub(super) fn ended(&mut self, session: SessionId) {
        self.live.remove(&session);
    }

    /// The tree is another one now.
    pub(super) fn read(&mut self, tree: &Tree, now: u64) {
        self.live.clear();
        for view in tree.sessions() {
            self.opened(&view, now);
        }
    }

    /// Where the session's mount is.
    pub(super) fn replica(&self, session: SessionId) -> Option<ReplicaId> {
        self.live.get(&session).map(|live| live.replica)
    }

    /// This replica leads from now on: everyone gets a whole timeout.
    pub(super) fn elected(&mut self, now: u64) {
        for live in self.live.values_mut() {
            (live.heard, live.ending) = (now, None);
        }
    }

    /// A keep-alive came. False: the session is over, or about to be.
    pub(super) fn heard(&mut self, session: SessionId, now: u64) -> bool {
        match self.live.get_mut(&session) {
            Some(live) if live.ending.is_none() => {
                live.heard = now;
                true
            }
            _ => false,
        }
    }

    pub(super) fn is_alive(&self, session: SessionId) -> bool {
        self.live.get(&session).is_some_and(|live| live.ending.is_none())
    }

    /// The sessions silent for their whole timeout, to be ended now.
    pub(super) fn silent(&mut self, now: u64) -> Vec<SessionId> {
        let mut silent = Vec::new();
        for (session, live) in &mut self.live {
            let due = live.ending.unwrap_or(live.heard + live.timeout);
            if now >= due {
                live.ending = Some(now + RETRY_AFTER);
                silent.push(*session);
            }
        }
        silent
    }
}
