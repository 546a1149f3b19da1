//! A session's liveness, as its holder sees it.
//!
//! The leader acknowledges a keep-alive only after a quorum has confirmed, later than it came, that
//! it leads. So whoever leads next was elected after the keep-alive was sent, and gives the session
//! a whole timeout from then on; its holder stops believing after two thirds of it. A session that
//! was opened, or has moved, counts likewise from when that was asked for.

use super::RETRY_AFTER;
use crate::mix::mix;
use crate::tree::SessionId;

/// One client's session.
#[derive(Debug)]
pub(super) struct Life {
    wanted: bool,
    timeout: u64,
    seed: u64,
    /// How many nonces were drawn.
    openings: u64,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Asked for since `first_sent` under this nonce.
    Opening {
        nonce: u64,
        first_sent: Option<u64>,
        retry_at: u64,
    },
    Open {
        session: Known,
        deadline: u64,
        keep_alive_at: u64,
    },
    /// The log has yet to say that the session is here; it is not believed before.
    Moving {
        session: Known,
        first_sent: Option<u64>,
        retry_at: u64,
    },
}

/// A session that was opened.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: SessionId,
    nonce: u64,
    /// How often it moved.
    moves: u64,
}

/// What a session needs now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Need {
    Open { nonce: u64 },
    Move { session: SessionId, nonce: u64, moves: u64 },
}

impl Life {
    /// `timeout` in nanoseconds.
    pub(super) fn new(timeout: u64, seed: u64) -> Life {
        let state = State::Opening { nonce: mix(seed, 1), first_sent: None, retry_at: 0 };
        Life { wanted: true, timeout, seed, openings: 1, state }
    }

    /// The session, while it may be believed.
    pub(super) fn believed(&self) -> Option<SessionId> {
        match self.state {
            State::Open { session, .. } => Some(session.id),
            _ => None,
        }
    }

    /// The session on its way here.
    pub(super) fn moving(&self) -> Option<SessionId> {
        match self.state {
            State::Moving { session, .. } => Some(session.id),
            _ => None,
        }
    }

    /// Until when the session may be believed, by this host's clock; 0 if there is none.
    pub(super) fn deadline(&self) -> u64 {
        match self.state {
            State::Open { deadline, .. } => deadline,
            _ => 0,
        }
    }

    pub(super) fn timeout(&self) -> u64 {
        self.timeout
    }

    /// The session, if its deadline has passed: it is believed no longer.
    pub(super) fn lapse(&mut self, now: u64) -> Option<SessionId> {
        let session = self.believed().filter(|_| now >= self.deadline())?;
        self.start_opening();
        Some(session)
    }

    /// Whether to say that it lives, now that another session's keep-alive goes: one that is due
    /// before half its interval has passed goes along.
    pub(super) fn joins_keep_alive(&mut self, now: u64) -> Option<SessionId> {
        let interval = self.timeout / 8;
        match &mut self.state {
            State::Open { session, keep_alive_at, .. } if now + interval / 2 >= *keep_alive_at => {
                *keep_alive_at = now + interval;
                Some(session.id)
            }
            _ => None,
        }
    }

    /// Whether it has to say now that it lives.
    pub(super) fn is_keep_alive_due(&self, now: u64) -> bool {
        matches!(self.state, State::Open { keep_alive_at, .. } if now >= keep_alive_at)
    }

    /// What the leader has to be asked for.
    pub(super) fn need(&mut self, now: u64) -> Option<Need> {
        match self.state {
            State::Opening { retry_at, .. } if self.wanted && now >= retry_at => {
                Some(self.ask_to_open(now))
            }
            State::Moving { retry_at, .. } if now >= retry_at => Some(self.ask_to_move(now)),
            _ => None,
        }
    }

    fn start_opening(&mut self) {
        self.openings += 1;
        let nonce = mix(self.seed, self.openings);
        self.state = State::Opening { nonce, first_sent: None, retry_at: 0 };
    }

    /// A session counts from when its nonce was first sent, so an old nonce is not worth opening.
    fn ask_to_open(&mut self, now: u64) -> Need {
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

    /// A move counts from when it was first asked for, so an old one is asked for anew.
    fn ask_to_move(&mut self, now: u64) -> Need {
        let State::Moving { session, first_sent, retry_at } = &mut self.state else {
            unreachable!("only a session on its way asks");
        };
        if first_sent.is_some_and(|sent| now - sent > self.timeout / 3) {
            (session.moves, *first_sent) = (session.moves + 1, None);
        }
        first_sent.get_or_insert(now);
        *retry_at = now + RETRY_AFTER;
        Need::Move { session: session.id, nonce: session.nonce, moves: session.moves }
    }

    /// Another leader: ask it at once.
    pub(super) fn leader_changed(&mut self) {
        match &mut self.state {
            State::Opening { retry_at, .. } | State::Moving { retry_at, .. } => *retry_at = 0,
            State::Open { keep_alive_at, .. } => *keep_alive_at = 0,
        }
    }

    /// The log opened session `id` for `nonce`. True if that is the session asked for.
    pub(super) fn opened(&mut self, id: SessionId, nonce: u64) -> bool {
        match self.state {
            State::Opening { nonce: asked, first_sent: Some(sent), .. } if asked == nonce => {
                self.state = self.open(Known { id, nonce, moves: 0 }, sent);
                true
            }
            _ => false,
        }
    }

    fn open(&self, session: Known, sent: u64) -> State {
        State::Open { session, deadline: sent + self.timeout / 3 * 2, keep_alive_at: 0 }
    }

    /// It goes to another replica, where it is not believed before the log says so.
    pub(super) fn depart(&mut self) {
        match self.state {
            State::Opening { .. } => self.start_opening(),
            State::Open { session, .. } | State::Moving { session, .. } => {
                let session = Known { moves: session.moves + 1, ..session };
                self.state = State::Moving { session, first_sent: None, retry_at: 0 };
            }
        }
    }

    /// The log says that session `id` has moved here. True if that is the move asked for.
    pub(super) fn moved(&mut self, id: SessionId, moves: u64) -> bool {
        match self.state {
            State::Moving { session, first_sent: Some(sent), .. }
                if (session.id, session.moves) == (id, moves) =>
            {
                self.state = self.open(session, sent);
                true
            }
            _ => false,
        }
    }

    /// Whether the log can have it that session `id` moved elsewhere for the time `moves`, which
    /// was after it came here.
    pub(super) fn moved_on(&self, id: SessionId, moves: u64) -> bool {
        match self.state {
            State::Open { session, .. } | State::Moving { session, .. } => {
                session.id == id && session.moves < moves
            }
            State::Opening { .. } => false,
        }
    }

    /// The log ended `session`. True if it was this client's, and not given up before.
    pub(super) fn ended(&mut self, session: SessionId) -> bool {
        let own = self.believed().or(self.moving()) == Some(session);
        if own {
            self.start_opening();
        }
        own
    }

    /// The leader acknowledged the keep-alive sent at `sent`.
    pub(super) fn acknowledged(&mut self, id: SessionId, sent: u64, now: u64) {
        if let State::Open { session, deadline, .. } = &mut self.state
            && session.id == id
        {
            *deadline = (*deadline).max(sent.min(now) + self.timeout / 3 * 2);
        }
    }

    /// The client is leaving by its own will: no session after this one.
    pub(super) fn close(&mut self) {
        self.wanted = false;
    }

    /// There is no session, and no other is wanted.
    pub(super) fn is_closed(&self) -> bool {
        !self.wanted && matches!(self.state, State::Opening { .. })
    }

    /// Whether the log may open a session that has not been seen to open.
    pub(super) fn is_asked_for(&self) -> bool {
        matches!(self.state, State::Opening { first_sent: Some(_), .. })
    }
}
