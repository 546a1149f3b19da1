//! Which session this node believes in, and until when. Every thread asks by the clock, so a host
//! that stood still believes in nothing even before its replica has noticed.

use super::clock;
use crate::tree::SessionId;
use std::sync::atomic::{AtomicU64, Ordering};

/// Written by the replica's thread alone.
#[derive(Default)]
pub struct Belief {
    /// 0: none.
    session: AtomicU64,
    /// Of that session, nanoseconds of CLOCK_BOOTTIME.
    deadline: AtomicU64,
}

impl Belief {
    /// The session, while it may be believed.
    pub fn session(&self) -> Option<SessionId> {
        self.session_at(clock::now().monotonic)
    }

    fn session_at(&self, now: u64) -> Option<SessionId> {
        // The deadline first: whoever reads the deadline of a session reads that session after it,
        // or a later one whose deadline is later.
        let deadline = self.deadline.load(Ordering::Acquire);
        let session = self.session.load(Ordering::Acquire);
        (session != 0 && now < deadline).then_some(SessionId(session))
    }

    pub fn begin(&self, session: SessionId, deadline: u64) {
        self.end();
        self.deadline.store(deadline, Ordering::Release);
        self.session.store(session.0, Ordering::Release);
    }

    /// The same session may be believed until then.
    pub fn extend(&self, deadline: u64) {
        self.deadline.store(deadline, Ordering::Release);
    }

    pub fn end(&self) {
        self.session.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_believed_until_its_deadline() {
        let belief = Belief::default();
        assert_eq!(belief.session_at(0), None);
        belief.begin(SessionId(7), 100);
        assert_eq!(belief.session_at(99), Some(SessionId(7)));
        assert_eq!(belief.session_at(100), None);
        belief.extend(200);
        assert_eq!(belief.session_at(100), Some(SessionId(7)));
        belief.end();
        assert_eq!(belief.session_at(100), None);
    }
}
