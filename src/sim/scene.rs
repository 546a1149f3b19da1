//! What a client sees of the world at its turn, and what it may do to it.

use super::checker::Checker;
use super::dice::Dice;
use crate::tree::{Command, SessionId, Tree};

/// A client's turn on its host.
pub(super) struct Scene<'a> {
    /// The world's time, nanoseconds.
    pub now: u64,
    pub host: usize,
    /// The tree as this host knows it.
    pub tree: &'a Tree,
    /// The session of this host, while it may be believed.
    pub session: Option<SessionId>,
    /// This host was asked to leave the cluster: it may fail.
    pub leaving: bool,
    pub dice: &'a mut Dice,
    pub checker: &'a mut Checker,
    /// What the client does, in order.
    pub actions: &'a mut Vec<Action>,
}

impl Scene<'_> {
    /// Something was not answered well, and was not refused either.
    pub fn failed(&mut self, what: String) {
        if !self.leaving {
            self.checker.failed(self.now, what);
        }
    }
}

pub(super) enum Action {
    /// Ask the replica of the client's host for something; `id` comes back with the answer.
    Ask { id: u64, request: Request },
    /// Give this client another turn after so many nanoseconds.
    Wake { client: usize, turn: u64, after: u64 },
}

#[derive(Clone, Debug)]
pub(super) enum Request {
    /// In this session; without one, in the next.
    Change(Option<SessionId>, Command),
    /// Catch up with everything committed before now.
    Barrier,
}
