//! How far this mount's kernel has been told what changed, and who waits for it to be told more.
//!
//! A grant, `fsync` and `sync` are barriers: their reply leaves when every earlier change has been
//! applied here and its kernel invalidation has finished.

use crate::tree::Zxid;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Runs on the notifier's thread, or at once; must not block.
type Then = Box<dyn FnOnce() + Send>;

/// The zxid up to which everything is visible through this mount.
#[derive(Default)]
pub struct Horizon(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    passed: Zxid,
    waiting: BTreeMap<Zxid, Vec<Then>>,
}

impl Horizon {
    /// Runs `then` once everything up to `zxid` is visible.
    pub fn when_passed(&self, zxid: Zxid, then: Then) {
        let mut inner = self.0.lock();
        if inner.passed < zxid {
            return inner.waiting.entry(zxid).or_default().push(then);
        }
        drop(inner);
        then();
    }

    /// Everything up to `zxid` is visible now.
    pub fn pass(&self, zxid: Zxid) {
        let ready = {
            let mut inner = self.0.lock();
            inner.passed = inner.passed.max(zxid);
            let next = inner.passed + 1;
            let later = inner.waiting.split_off(&next);
            std::mem::replace(&mut inner.waiting, later)
        };
        ready.into_values().flatten().for_each(|then| then());
    }

    /// The mount goes: nobody will be told more.
    pub fn close(&self) {
        self.pass(Zxid::MAX - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;

    #[test]
    fn what_waits_for_a_change_runs_when_it_is_visible_in_order() {
        let horizon = Horizon::default();
        let (tell, told) = unbounded();
        let when = |zxid| {
            let tell = tell.clone();
            horizon.when_passed(zxid, Box::new(move || tell.send(zxid).unwrap()));
        };
        horizon.pass(3);
        [7, 5, 3, 6].into_iter().for_each(when);
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [3]);
        horizon.pass(6);
        horizon.pass(4);
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [5, 6]);
        horizon.close();
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [7]);
    }
}
