//! The leader's table of sessions, and when it last heard of each. How their holders count is in
//! `session/life.rs`.

use crate::session::RETRY_AFTER;
use crate::tree::{ReplicaId, SessionId, SessionView, Tree};
use std::collections::BTreeMap;

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

    /// By which replica the session proposes.
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
