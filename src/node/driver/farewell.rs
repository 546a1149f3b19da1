//! How a node stops: it ends its clients' sessions, then lets another replica lead, and waits for
//! both, but not for long.

use super::Driver;
use crate::replica::{Input, Moment};
use std::time::{Duration, Instant};

/// For the end of the sessions to commit.
const FAREWELL: Duration = Duration::from_secs(1);

/// The sessions' last commands are on the way, and then the leadership.
pub(super) struct Farewell {
    closing: Vec<u64>,
    deadline: Instant,
    /// Until when another replica may take to lead, once it was asked to.
    resigned: Option<Instant>,
}

impl Driver {
    pub(super) fn say_farewell(&mut self, now: Moment) {
        if self.farewell.is_some() {
            return;
        }
        let deadline = Instant::now() + FAREWELL;
        let mut closing = Vec::new();
        for client in self.seats.keys().copied().collect::<Vec<_>>() {
            let id = self.remember(Box::new(|_| {}));
            self.replica.step(now, Input::EndSession { client, id });
            closing.push(id);
        }
        self.farewell = Some(Farewell { closing, deadline, resigned: None });
    }

    /// Stopping, and the sessions are closed or have had their time: then another replica shall
    /// lead, for an election would cost the cluster its changes for longer than this replica waits.
    pub(super) fn go_on_parting(&mut self, now: Moment) {
        let Some(farewell) = &mut self.farewell else { return };
        let waits = farewell.closing.iter().any(|id| self.asked.contains_key(id));
        let closed = !waits || Instant::now() >= farewell.deadline;
        if closed && farewell.resigned.is_none() {
            farewell.resigned = Some(Instant::now() + self.shared.config.election_timeout);
            self.replica.step(now, Input::Resign);
        }
    }

    /// Nothing more to wait for.
    pub(super) fn has_parted(&self) -> bool {
        let resigned = self.farewell.as_ref().and_then(|farewell| farewell.resigned);
        resigned.is_some_and(|until| !self.replica.is_resigning() || Instant::now() >= until)
    }
}
