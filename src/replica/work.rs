//! What was too much for one entry of the log: the leader proposes the next piece when the last one
//! is applied, so that other entries come in between.

use super::Replica;
use crate::session::RETRY_AFTER;
use crate::tree::Command;

#[derive(Default)]
pub(super) struct Work {
    /// The tree has some.
    left: bool,
    /// When a piece is to be proposed again that was not applied.
    retry_at: Option<u64>,
}

impl Work {
    pub(super) fn learn(&mut self, left: bool) {
        self.left = left;
    }

    /// A piece is applied, whoever proposed it.
    pub(super) fn done(&mut self) {
        self.retry_at = None;
    }

    /// Whether to propose a piece now.
    fn is_due(&mut self, now: u64) -> bool {
        let due = self.left && self.retry_at.is_none_or(|at| now >= at);
        if due {
            self.retry_at = Some(now + RETRY_AFTER);
        }
        due
    }
}

impl Replica {
    pub(super) fn go_on_working(&mut self) {
        if self.leadership.here
            && self.raw.raft.apply_to_current_term()
            && self.work.is_due(self.now.monotonic)
        {
            self.own_commands.push(Command::Work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_piece_is_under_way_at_a_time_and_a_lost_one_comes_again() {
        let mut work = Work::default();
        assert!(!work.is_due(0));
        work.learn(true);
        assert!(work.is_due(1));
        assert!(!work.is_due(2), "one is under way");
        work.done();
        assert!(work.is_due(3));
        assert!(work.is_due(3 + RETRY_AFTER), "it was lost with its leader");
        work.done();
        work.learn(false);
        assert!(!work.is_due(u64::MAX));
    }
}
