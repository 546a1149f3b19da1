//! The open file table: what the kernel's file handles stand for, which truncations wait for their
//! first write, and which unlinked inodes are still open here.

use super::stream::OpenStream;
use crate::tree::{Ino, Name, SessionId};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One open file description of this host.
pub struct Handle {
    pub fh: u64,
    pub ino: Ino,
    /// As given to `open`; `O_APPEND` may have changed since (the kernel sends it with each write).
    pub flags: i32,
    /// The session it was opened in: what it locks belongs to that one.
    pub session: Option<SessionId>,
    pub kind: HandleKind,
    /// The name a `sequential` directory gave, for `user.keepfs.created`.
    pub created: Option<Name>,
    /// The session of the lock that is held through it; 0: none is.
    locked_in: AtomicU64,
}

/// What answers reads and writes on a handle.
pub enum HandleKind {
    File,
    /// A file in a `lock` directory, opened for writing: the ticket in the queue.
    Ticket,
    /// A file of `.keepfs/`: its text as it was at `open`.
    Control(Arc<[u8]>),
    /// `/backup/node/NAME/backup`.
    Stream(OpenStream),
}

impl Handle {
    pub fn new(ino: Ino, flags: i32, session: Option<SessionId>, kind: HandleKind) -> Handle {
        let locked_in = AtomicU64::new(0);
        Handle { fh: 0, ino, flags, session, kind, created: None, locked_in }
    }

    pub fn is_writable(&self) -> bool {
        self.flags & libc::O_ACCMODE != libc::O_RDONLY
    }

    /// Whether `open` asked to truncate.
    pub fn truncates(&self) -> bool {
        self.flags & libc::O_TRUNC != 0
    }

    /// A lock of this session is held through it.
    pub fn hold(&self, session: SessionId) {
        self.locked_in.store(session.0, Ordering::Release);
    }

    /// No lock is held through it (any more).
    pub fn let_go(&self) {
        self.locked_in.store(0, Ordering::Release);
    }

    /// Whether a lock taken through it is gone, now that `believed` is the session: what it writes
    /// would be unprotected.
    pub fn is_lost(&self, believed: Option<SessionId>) -> bool {
        let locked_in = self.locked_in.load(Ordering::Acquire);
        locked_in != 0 && believed != Some(SessionId(locked_in))
    }
}

#[derive(Default)]
pub struct Handles {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last: u64,
    handles: HashMap<u64, Arc<Handle>>,
    open: HashMap<Ino, OpenInode>,
    /// Orphans this session has let go of: they may vanish at any moment, so nobody opens them.
    released: HashSet<Ino>,
}

#[derive(Default)]
struct OpenInode {
    handles: usize,
    /// An `O_TRUNC` that no write has carried out yet.
    truncation: bool,
    orphan: bool,
}

impl Handles {
    /// Enters a handle; its truncation, if it asked for one, is pending from now on. `None`: this
    /// session has already let go of the inode.
    pub fn open(&self, mut handle: Handle) -> Option<Arc<Handle>> {
        let mut table = self.table.lock();
        if table.released.contains(&handle.ino) {
            return None;
        }
        table.last += 1;
        handle.fh = table.last;
        let open = table.open.entry(handle.ino).or_default();
        open.handles += 1;
        open.truncation |= handle.truncates() && matches!(handle.kind, HandleKind::File);
        let handle = Arc::new(handle);
        table.handles.insert(handle.fh, Arc::clone(&handle));
        Some(handle)
    }

    pub fn get(&self, fh: u64) -> Option<Arc<Handle>> {
        self.table.lock().handles.get(&fh).cloned()
    }

    /// Removes a handle. What it returns is an orphan that lost its last one: this session lets go of
    /// it now.
    pub fn close(&self, fh: u64) -> Option<Ino> {
        let mut table = self.table.lock();
        let ino = table.handles.remove(&fh)?.ino;
        let open = table.open.get_mut(&ino)?;
        open.handles -= 1;
        if open.handles > 0 {
            return None;
        }
        let orphan = open.orphan;
        table.open.remove(&ino);
        (orphan && table.released.insert(ino)).then_some(ino)
    }

    /// Takes over the pending truncation: the caller's change carries it out.
    pub fn take_truncation(&self, ino: Ino) -> bool {
        let mut table = self.table.lock();
        table.open.get_mut(&ino).is_some_and(|open| std::mem::take(&mut open.truncation))
    }

    /// The change that was to carry out the truncation failed: the next one shall.
    pub fn put_back_truncation(&self, ino: Ino) {
        if let Some(open) = self.table.lock().open.get_mut(&ino) {
            open.truncation = true;
        }
    }

    pub fn truncation_waits(&self, ino: Ino) -> bool {
        self.table.lock().open.get(&ino).is_some_and(|open| open.truncation)
    }

    /// The last name of `ino` went. True: no handle is open on it, this session lets go of it now.
    pub fn orphaned(&self, ino: Ino) -> bool {
        let mut table = self.table.lock();
        match table.open.get_mut(&ino) {
            Some(open) => {
                open.orphan = true;
                false
            }
            None => table.released.insert(ino),
        }
    }

    /// The inode is no more: its number never comes back.
    pub fn freed(&self, ino: Ino) {
        self.table.lock().released.remove(&ino);
    }

    /// The name under which an open file was created in a `sequential` directory.
    pub fn created_name(&self, ino: Ino) -> Option<Name> {
        let table = self.table.lock();
        table.handles.values().find(|h| h.ino == ino && h.created.is_some())?.created.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(ino: u64, flags: i32) -> Handle {
        Handle::new(Ino(ino), flags, None, HandleKind::File)
    }

    #[test]
    fn a_truncation_is_taken_once_and_can_be_put_back() {
        let handles = Handles::default();
        handles.open(file(20, libc::O_WRONLY | libc::O_TRUNC)).unwrap();
        assert!(handles.truncation_waits(Ino(20)));
        assert!(handles.take_truncation(Ino(20)));
        assert!(!handles.take_truncation(Ino(20)));
        handles.put_back_truncation(Ino(20));
        assert!(handles.take_truncation(Ino(20)));
    }

    #[test]
    fn an_orphan_is_let_go_of_when_its_last_handle_closes_and_not_opened_again() {
        let handles = Handles::default();
        let (a, b) = (handles.open(file(20, 0)).unwrap(), handles.open(file(20, 0)).unwrap());
        assert!(!handles.orphaned(Ino(20)));
        assert_eq!(handles.close(a.fh), None);
        assert!(handles.open(file(20, 0)).is_some(), "still open, so still ours");
        assert_eq!(handles.close(b.fh), None);
        assert_eq!(handles.close(3), Some(Ino(20)));
        assert!(handles.open(file(20, 0)).is_none());
    }

    #[test]
    fn a_lock_is_lost_with_the_session_it_was_taken_in() {
        let handle = file(20, 0);
        assert!(!handle.is_lost(None));
        handle.hold(SessionId(7));
        assert!(!handle.is_lost(Some(SessionId(7))));
        assert!(handle.is_lost(None));
        assert!(handle.is_lost(Some(SessionId(9))));
        handle.let_go();
        assert!(!handle.is_lost(None));
    }

    #[test]
    fn an_orphan_nobody_has_open_is_let_go_of_at_once() {
        let handles = Handles::default();
        assert!(handles.orphaned(Ino(20)));
        assert!(handles.open(file(20, 0)).is_none());
        handles.freed(Ino(20));
        assert!(handles.table.lock().released.is_empty());
    }
}
