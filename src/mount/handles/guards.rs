//! Locks held through handles, and what is left of them when their session is lost.

use super::Handles;
use crate::tree::{Ino, SessionId};
use std::sync::atomic::Ordering;

/// A lock that is held through a handle.
pub(super) struct Guard {
    pub fh: u64,
    session: SessionId,
    /// Who took it, and who opened the handle; 0: unknown.
    processes: [u32; 2],
}

impl Handles {
    /// A lock of this session is held through this handle; `process` took it.
    pub fn hold(&self, fh: u64, session: SessionId, process: u32) {
        let mut table = self.table.lock();
        let Some(handle) = table.handles.get(&fh).cloned() else { return };
        handle.locked_in.store(session.0, Ordering::Release);
        if let Some(open) = table.open.get_mut(&handle.ino) {
            open.guards.retain(|guard| guard.fh != fh);
            open.guards.push(Guard { fh, session, processes: [process, handle.opener] });
        }
    }

    /// No lock is held through this handle (any more).
    pub fn let_go(&self, fh: u64) {
        let mut table = self.table.lock();
        let Some(handle) = table.handles.get(&fh).cloned() else { return };
        handle.locked_in.store(0, Ordering::Release);
        if let Some(open) = table.open.get_mut(&handle.ino) {
            open.guards.retain(|guard| guard.fh != fh);
        }
    }

    /// Who lost a lock on this inode, now that `believed` is the session, and has none of this
    /// session there. An unknown process is 0.
    pub fn losers(&self, ino: Ino, believed: Option<SessionId>) -> Vec<u32> {
        let table = self.table.lock();
        let Some(open) = table.open.get(&ino) else { return Vec::new() };
        let (kept, lost): (Vec<_>, Vec<_>) =
            open.guards.iter().partition(|guard| Some(guard.session) == believed);
        let protected = |process: &u32| kept.iter().any(|guard| guard.processes.contains(process));
        lost.iter().flat_map(|guard| guard.processes).filter(|it| !protected(it)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::handles::{Handle, HandleKind};

    fn file() -> Handle {
        Handle::new(Ino(20), 0, None, HandleKind::File)
    }

    #[test]
    fn a_lock_is_lost_with_the_session_it_was_taken_in() {
        let handles = Handles::default();
        let handle = handles.open(file()).unwrap();
        assert!(!handle.is_lost(None));
        handles.hold(handle.fh, SessionId(7), 42);
        assert!(!handle.is_lost(Some(SessionId(7))));
        assert!(handle.is_lost(None));
        assert!(handle.is_lost(Some(SessionId(9))));
        handles.let_go(handle.fh);
        assert!(!handle.is_lost(None));
    }

    #[test]
    fn who_lost_a_lock_is_known_until_it_is_closed_or_taken_again() {
        let handles = Handles::default();
        let mut locked = file();
        locked.opener = 41;
        let locked = handles.open(locked).unwrap();
        handles.open(file()).unwrap();
        let (old, new) = (SessionId(7), Some(SessionId(9)));
        handles.hold(locked.fh, old, 42);
        assert!(handles.losers(Ino(20), Some(old)).is_empty());
        assert_eq!(handles.losers(Ino(20), None), [42, 41]);
        assert_eq!(handles.losers(Ino(20), new), [42, 41]);
        handles.hold(locked.fh, SessionId(9), 42);
        assert!(handles.losers(Ino(20), new).is_empty());
        handles.hold(locked.fh, old, 42);
        handles.close(locked.fh);
        assert!(handles.losers(Ino(20), new).is_empty());
    }
}
