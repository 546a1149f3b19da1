//! The open file table: what the kernel's file handles stand for, which truncations wait for their
//! first write, and which unlinked inodes are still open here.

use super::stream::OpenStream;
use crate::tree::{Ino, Name, SessionId};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
    /// The thread that opened it, as the kernel names it; 0: unknown.
    pub opener: u32,
    /// Reads and writes go past the kernel's cache.
    pub direct: bool,
    /// Something was asked through it since it was opened.
    used: AtomicBool,
    /// `open` asked to truncate.
    truncates: AtomicBool,
    /// The session of the lock that is held through it; 0: none is.
    locked_in: AtomicU64,
}

/// What answers reads and writes on a handle.
pub enum HandleKind {
    File,
    /// A file in a `lock` directory, opened for writing: the ticket in the queue.
    Ticket,
    /// A file of `.keepfs/`: its text as it was at `open`.
    Control(super::control::Text),
    /// `/backup/node/NAME/backup`.
    Stream(OpenStream),
}

impl Handle {
    pub fn new(ino: Ino, flags: i32, session: Option<SessionId>, kind: HandleKind) -> Handle {
        Handle {
            fh: 0,
            ino,
            flags,
            session,
            kind,
            created: None,
            opener: 0,
            direct: false,
            used: AtomicBool::new(false),
            truncates: AtomicBool::new(false),
            locked_in: AtomicU64::new(0),
        }
    }

    pub fn is_writable(&self) -> bool {
        self.flags & libc::O_ACCMODE != libc::O_RDONLY
    }

    /// Whether `open` asked to truncate, and that was put off.
    pub fn truncates(&self) -> bool {
        self.truncates.load(Ordering::Acquire)
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
    truncation: Option<Truncation>,
    orphan: bool,
    /// Handles whose `open` may still be about to truncate.
    fresh: Vec<Fresh>,
}

/// A handle that its thread has opened for writing, and nothing else since.
struct Fresh {
    handle: Arc<Handle>,
    since: Instant,
}

/// How long the kernel may take from the answer to OPEN to the SETATTR of the same `open`. One that
/// takes longer is carried out at once.
const FRESH: Duration = Duration::from_secs(1);

impl Fresh {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < FRESH && !self.handle.used.load(Ordering::Relaxed)
    }
}

/// An `O_TRUNC` that no write has carried out yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// Who asked for it is not privileged.
    pub clear_set_id: bool,
}

impl Handles {
    /// Enters a handle. `None`: this session has already let go of the inode.
    pub fn open(&self, mut handle: Handle) -> Option<Arc<Handle>> {
        let mut table = self.table.lock();
        if table.released.contains(&handle.ino) {
            return None;
        }
        table.last += 1;
        handle.fh = table.last;
        let open = table.open.entry(handle.ino).or_default();
        open.handles += 1;
        let handle = Arc::new(handle);
        table.handles.insert(handle.fh, Arc::clone(&handle));
        Some(handle)
    }

    pub fn get(&self, fh: u64) -> Option<Arc<Handle>> {
        let handle = self.table.lock().handles.get(&fh).cloned()?;
        handle.used.store(true, Ordering::Relaxed);
        Some(handle)
    }

    /// Whether there is such a handle.
    pub fn any(&self, which: impl Fn(&Handle) -> bool) -> bool {
        self.table.lock().handles.values().any(|handle| which(handle))
    }

    /// Removes a handle. What it returns is an orphan that lost its last one: this session lets go
    /// of it now.
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

    /// An OPEN (no CREATE) made this handle: if it was with `O_TRUNC`, that follows.
    pub fn may_truncate(&self, handle: &Arc<Handle>) {
        let mut table = self.table.lock();
        let Some(open) = table.open.get_mut(&handle.ino) else { return };
        open.fresh.retain(Fresh::is_fresh);
        open.fresh.push(Fresh { handle: Arc::clone(handle), since: Instant::now() });
    }

    /// A thread asks for attributes of an inode, as none does within one `open`.
    pub fn asked(&self, ino: Ino, thread: u32) {
        if let Some(open) = self.table.lock().open.get_mut(&ino) {
            open.fresh.retain(|fresh| fresh.handle.opener != thread);
        }
    }

    /// Puts off the truncation of an inode that this thread has just opened for writing, and asks
    /// for nothing else since: it is the `O_TRUNC` of that `open`. False if there is no such
    /// handle.
    pub fn put_off_truncation(&self, ino: Ino, opener: u32, truncation: Truncation) -> bool {
        let mut table = self.table.lock();
        let Some(open) = table.open.get_mut(&ino) else { return false };
        let of_it = |fresh: &Fresh| fresh.handle.opener == opener && fresh.is_fresh();
        let Some(at) = open.fresh.iter().position(of_it) else { return false };
        open.fresh.swap_remove(at).handle.truncates.store(true, Ordering::Release);
        open.truncation = Some(truncation);
        true
    }

    /// Takes over the truncation that waits: the caller's change carries it out.
    pub fn take_truncation(&self, ino: Ino) -> Option<Truncation> {
        self.table.lock().open.get_mut(&ino)?.truncation.take()
    }

    /// The change that was to carry out the truncation failed: the next one shall.
    pub fn put_back_truncation(&self, ino: Ino, truncation: Truncation) {
        if let Some(open) = self.table.lock().open.get_mut(&ino) {
            open.truncation = Some(truncation);
        }
    }

    pub fn truncation_waits(&self, ino: Ino) -> bool {
        self.table.lock().open.get(&ino).is_some_and(|open| open.truncation.is_some())
    }

    /// Whether the kernel may keep attributes. Not while a truncation waits: the file is empty for
    /// those who asked for it and as it was for all others. Nor while one may follow: see
    /// `ops/truncate.rs`.
    pub fn attributes_hold(&self, ino: Ino) -> bool {
        let table = self.table.lock();
        let Some(open) = table.open.get(&ino) else { return true };
        open.truncation.is_none() && !open.fresh.iter().any(Fresh::is_fresh)
    }

    /// The threads whose `O_TRUNC` of this inode waits.
    pub fn truncators(&self, ino: Ino) -> Vec<u32> {
        let table = self.table.lock();
        let truncating = |handle: &&Arc<Handle>| handle.ino == ino && handle.truncates();
        table.handles.values().filter(truncating).map(|handle| handle.opener).collect()
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
    fn a_truncation_is_put_off_for_a_fresh_handle_of_the_same_thread_and_taken_once() {
        let handles = Handles::default();
        let truncation = Truncation { clear_set_id: true };
        let mut writer = file(20, libc::O_WRONLY);
        (writer.opener, writer.direct) = (77, true);
        let writer = handles.open(writer).unwrap();
        assert!(!handles.put_off_truncation(Ino(20), 77, truncation), "it was created");
        handles.may_truncate(&writer);
        assert!(!handles.put_off_truncation(Ino(20), 78, truncation));
        assert!(handles.put_off_truncation(Ino(20), 77, truncation));
        assert!(writer.truncates());
        assert_eq!(handles.truncators(Ino(20)), [77]);
        assert_eq!(handles.take_truncation(Ino(20)), Some(truncation));
        assert_eq!(handles.take_truncation(Ino(20)), None);
        handles.put_back_truncation(Ino(20), truncation);
        assert!(handles.truncation_waits(Ino(20)));
        handles.may_truncate(&writer);
        handles.get(writer.fh);
        assert!(!handles.put_off_truncation(Ino(20), 77, truncation), "it is `truncate` then");
    }

    #[test]
    fn a_thread_that_asks_for_attributes_is_past_its_open() {
        let handles = Handles::default();
        let mut writer = file(20, libc::O_WRONLY);
        writer.opener = 77;
        let writer = handles.open(writer).unwrap();
        assert!(handles.attributes_hold(Ino(20)));
        handles.may_truncate(&writer);
        handles.asked(Ino(20), 78);
        assert!(!handles.attributes_hold(Ino(20)), "nor may the kernel spare itself to ask");
        handles.asked(Ino(20), 77);
        assert!(handles.attributes_hold(Ino(20)));
        assert!(!handles.put_off_truncation(Ino(20), 77, Truncation { clear_set_id: false }));
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
