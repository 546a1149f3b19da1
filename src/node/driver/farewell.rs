//! How a node stops: it ends its session, then lets another replica lead, and waits for both, but
//! not for long.

use super::Driver;
use crate::replica::{Input, Moment};
use std::time::{Duration, Instant};

/// For the end of the session to commit.
const FAREWELL: Duration = Duration::from_secs(1);

/// The session's last command is on the way, and then the leadership.
pub(super) struct Farewell {
    id: u64,
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
        let id = self.remember(Box::new(|_| {}));
        self.farewell = Some(Farewell { id, deadline, resigned: None });
        self.replica.step(now, Input::EndSession { id });
    }

    /// Stopping, and the session is closed or has had its time: then another replica shall lead,
    /// for an election would cost the cluster its changes for longer than this replica waits.
    pub(super) fn go_on_parting(&mut self, now: Moment) {
        let Some(farewell) = &mut self.farewell else { return };
        let closed = !self.asked.contains_key(&farewell.id) || Instant::now() >= farewell.deadline;
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
