//! How far the kernel has been told, and who waits for that.

use crate::tree::Zxid;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Runs once, on the notifier's thread or at once on the asker's.
pub type Then = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub struct Visible {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reached: Zxid,
    waiting: BTreeMap<Zxid, Vec<Then>>,
}

impl Visible {
    /// Runs `then` once every change up to `zxid` has been carried to the kernel.
    pub fn after(&self, zxid: Zxid, then: Then) {
        let mut state = self.state.lock();
        if zxid > state.reached {
            state.waiting.entry(zxid).or_default().push(then);
            return;
        }
        drop(state);
        then();
    }

    /// The kernel will be told nothing more: nobody shall wait for it.
    pub fn close(&self) {
        self.reach(Zxid::MAX - 1);
    }

    pub fn reach(&self, zxid: Zxid) {
        let due = {
            let mut state = self.state.lock();
            state.reached = state.reached.max(zxid);
            let later = state.waiting.split_off(&(zxid + 1));
            std::mem::replace(&mut state.waiting, later)
        };
        for then in due.into_values().flatten() {
            then();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_barrier_runs_when_its_zxid_is_reached_and_not_before() {
        let visible = Visible::default();
        let ran = Arc::new(AtomicUsize::new(0));
        let count = |ran: &Arc<AtomicUsize>| {
            let ran = Arc::clone(ran);
            Box::new(move || {
                ran.fetch_add(1, Ordering::Relaxed);
            })
        };
        visible.reach(5);
        visible.after(5, count(&ran));
        assert_eq!(ran.load(Ordering::Relaxed), 1);
        visible.after(7, count(&ran));
        visible.reach(6);
        assert_eq!(ran.load(Ordering::Relaxed), 1);
        visible.reach(9);
        assert_eq!(ran.load(Ordering::Relaxed), 2);
    }
}
