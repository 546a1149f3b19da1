//! Operations of this host that the kernel was told had failed and that may take effect all the
//! same.

use crate::cluster::Failure;
use crate::tree::Zxid;
use parking_lot::Mutex;

/// While there is a doubt, changes of this session are carried to the kernel like anybody's: it may
/// believe they never happened. A doubt ends when a later operation of the session has taken
/// effect, for the tree refuses what its session gave up before.
#[derive(Default)]
pub struct Doubts {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts the doubtful failures.
    failures: u64,
    open: bool,
    /// The doubt ends once this has been carried to the kernel.
    settled_by: Option<Zxid>,
}

/// How many doubtful failures there were when an operation began.
#[derive(Clone, Copy)]
pub struct Before(u64);

impl Doubts {
    pub fn begin(&self) -> Before {
        Before(self.state.lock().failures)
    }

    pub fn failed(&self, failure: Failure) {
        match failure {
            Failure::NoQuorum | Failure::Unknown => {
                let mut state = self.state.lock();
                state.failures += 1;
                state.open = true;
                state.settled_by = None;
            }
            Failure::Refused(_) | Failure::SessionLost | Failure::Stopping => {}
        }
    }

    /// An operation that began at `before` took effect at `zxid` or earlier.
    pub fn succeeded(&self, before: Before, zxid: impl FnOnce() -> Zxid) {
        let mut state = self.state.lock();
        if state.open && state.failures == before.0 && state.settled_by.is_none() {
            state.settled_by = Some(zxid());
        }
    }

    pub fn is_open(&self) -> bool {
        self.state.lock().open
    }

    /// Changes up to `zxid` have been carried to the kernel.
    pub fn carried(&self, zxid: Zxid) {
        let mut state = self.state.lock();
        if state.settled_by.is_some_and(|settled| settled <= zxid) {
            state.open = false;
            state.settled_by = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_ends_only_with_an_operation_that_began_after_it() {
        let doubts = Doubts::default();
        let early = doubts.begin();
        doubts.failed(Failure::Unknown);
        assert!(doubts.is_open());
        doubts.succeeded(early, || 10);
        doubts.carried(10);
        assert!(doubts.is_open());
        doubts.succeeded(doubts.begin(), || 12);
        doubts.carried(11);
        assert!(doubts.is_open());
        doubts.carried(12);
        assert!(!doubts.is_open());
    }

    #[test]
    fn a_refusal_leaves_no_doubt() {
        let doubts = Doubts::default();
        doubts.failed(Failure::Refused(crate::tree::Refusal::NotFound));
        assert!(!doubts.is_open());
    }
}
