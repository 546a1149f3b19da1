//! The open file table: what the kernel's file handles stand for, which truncations wait for their
//! first write, and which unlinked inodes are still open here.

mod guards;

use super::stream::OpenStream;
use crate::tree::{Ino, Name, SessionId};
use guards::Guard;
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
    /// The session of its truncation, until that is carried out; 0: none waits.
    truncates_in: AtomicU64,
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
            truncates_in: AtomicU64::new(0),
        }
    }

    pub fn is_writable(&self) -> bool {
        self.flags & libc::O_ACCMODE != libc::O_RDONLY
    }

    /// Whether a file can be mapped for writing through it.
    pub fn may_map(&self) -> bool {
        let is_file = matches!(self.kind, HandleKind::File | HandleKind::Ticket);
        is_file && self.flags & libc::O_ACCMODE == libc::O_RDWR
    }

    /// Whether `open` asked to truncate, and that was put off.
    pub fn truncates(&self) -> bool {
        self.truncates.load(Ordering::Acquire)
    }

    /// Whether a lock taken through it, or a truncation put off, is gone, now that `believed` is
    /// the session: what it writes would be unprotected.
    pub fn is_lost(&self, believed: Option<SessionId>) -> bool {
        is_other(&self.locked_in, believed) || self.lost_truncation(believed)
    }

    /// Whether its truncation will not be carried out any more, now that `believed` is the session.
    pub fn lost_truncation(&self, believed: Option<SessionId>) -> bool {
        is_other(&self.truncates_in, believed)
    }
}

fn is_other(session: &AtomicU64, believed: Option<SessionId>) -> bool {
    let session = session.load(Ordering::Acquire);
    session != 0 && believed != Some(SessionId(session))
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
    /// What is locked through its handles.
    guards: Vec<Guard>,
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
    /// In which session; `None`: there was none, and it may be carried out in any.
    pub session: Option<SessionId>,
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

    /// Removes a handle. What it returns is an orphan that lost its last one: it is to be
    /// [`Handles::orphaned`] again.
    pub fn close(&self, fh: u64) -> Option<Ino> {
        let mut table = self.table.lock();
        let ino = table.handles.remove(&fh)?.ino;
        let open = table.open.get_mut(&ino)?;
        open.guards.retain(|guard| guard.fh != fh);
        open.handles -= 1;
        if open.handles > 0 {
            return None;
        }
        let orphan = open.orphan;
        table.open.remove(&ino);
        orphan.then_some(ino)
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
        let handle = open.fresh.swap_remove(at).handle;
        handle.truncates.store(true, Ordering::Release);
        let session = truncation.session.map_or(0, |session| session.0);
        handle.truncates_in.store(session, Ordering::Release);
        open.truncation = Some(truncation);
        true
    }

    /// Takes over the truncation that waits: the caller's change carries it out, in `session`
    /// (`None`: in one to come). One that was asked for in another session comes to nothing, and
    /// the handles that asked for it are lost.
    pub fn take_truncation(&self, ino: Ino, session: Option<SessionId>) -> Option<Truncation> {
        let mut table = self.table.lock();
        let truncation = table.open.get_mut(&ino)?.truncation.take()?;
        if truncation.session.is_some() && truncation.session != session {
            return None;
        }
        table.bind_truncators(ino, truncation.session, None);
        Some(truncation)
    }

    /// The change that was to carry out the truncation failed: the next one shall.
    pub fn put_back_truncation(&self, ino: Ino, truncation: Truncation) {
        let mut table = self.table.lock();
        if let Some(open) = table.open.get_mut(&ino) {
            open.truncation = Some(truncation);
            table.bind_truncators(ino, None, truncation.session);
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

    /// The last name of `ino` went. True: no handle is open on it, this session lets go of it now,
    /// and nobody opens it any more.
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

    /// The last name of `ino` went. True: a handle is open on it, with the last of which it goes.
    pub fn keeps(&self, ino: Ino) -> bool {
        let mut table = self.table.lock();
        table.open.get_mut(&ino).map(|open| open.orphan = true).is_some()
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

impl Table {
    /// Moves the truncating handles of an inode from one session to another: `None` is none.
    fn bind_truncators(&self, ino: Ino, from: Option<SessionId>, to: Option<SessionId>) {
        let [from, to] = [from, to].map(|session| session.map_or(0, |session| session.0));
        for handle in self.handles.values().filter(|it| it.ino == ino && it.truncates()) {
            let _ =
                handle.truncates_in.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        }
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
        let session = Some(SessionId(7));
        let truncation = Truncation { clear_set_id: true, session };
        let mut writer = file(20, libc::O_WRONLY);
        (writer.opener, writer.direct) = (77, true);
        let writer = handles.open(writer).unwrap();
        assert!(!handles.put_off_truncation(Ino(20), 77, truncation), "it was created");
        handles.may_truncate(&writer);
        assert!(!handles.put_off_truncation(Ino(20), 78, truncation));
        assert!(handles.put_off_truncation(Ino(20), 77, truncation));
        assert!(writer.truncates());
        assert_eq!(handles.truncators(Ino(20)), [77]);
        assert_eq!(handles.take_truncation(Ino(20), session), Some(truncation));
        assert_eq!(handles.take_truncation(Ino(20), session), None);
        assert!(!writer.is_lost(None), "nothing of that session waits in it");
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
        assert!(!handles.put_off_truncation(
            Ino(20),
            77,
            Truncation { clear_set_id: false, session: None }
        ));
    }

    #[test]
    fn a_truncation_is_not_carried_out_in_another_session_than_it_was_asked_for() {
        let handles = Handles::default();
        let mut writer = file(20, libc::O_WRONLY);
        writer.opener = 77;
        let writer = handles.open(writer).unwrap();
        let truncation = Truncation { clear_set_id: false, session: Some(SessionId(7)) };
        handles.may_truncate(&writer);
        assert!(handles.put_off_truncation(Ino(20), 77, truncation));
        assert!(!writer.is_lost(Some(SessionId(7))));
        assert_eq!(handles.take_truncation(Ino(20), Some(SessionId(9))), None);
        assert!(!handles.truncation_waits(Ino(20)));
        assert!(writer.is_lost(Some(SessionId(9))));
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
        assert!(handles.open(file(20, 0)).is_some(), "whoever was shown it may be late");
        assert!(!handles.orphaned(Ino(20)));
        assert_eq!(handles.close(4), Some(Ino(20)));
        assert!(handles.orphaned(Ino(20)));
        assert!(handles.open(file(20, 0)).is_none());
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
