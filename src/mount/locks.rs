//! `flock` and `fcntl` locks: one fair queue for every host, in the tree.
//!
//! The kernel hands both over as ranges of an owner (`flock`: all bytes, the open file; `fcntl`:
//! the process), and so do we. What an owner holds is remembered here too, only so that closing a
//! file without locks costs nothing.

mod held;

pub use held::Held;

use super::handles::Handle;
use super::releases::Key;
use super::waiters::{End, Wait, Waiter};
use super::{Caller, Mount, errno, processes};
use crate::cluster::Failure;
use crate::tree::locks::{LockGrant, Owner, Span};
use crate::tree::{Command, Ino, Lock, LockMode, LockOwner, Reply, SessionId, Zxid};
use fuser::{Errno, ReplyEmpty, ReplyLock};
use std::sync::Arc;
use std::time::Instant;

/// The last byte a lock can cover: the kernel's `OFFSET_MAX`.
const LAST_BYTE: u64 = i64::MAX as u64;

/// A range somebody wants to lock or unlock.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub ino: Ino,
    /// The handle it is asked for through.
    pub fh: u64,
    pub owner: LockOwner,
    pub start: u64,
    /// Inclusive.
    pub end: u64,
}

impl Range {
    fn key(&self) -> Key {
        (self.ino, self.owner)
    }

    fn is_whole(&self) -> bool {
        self.start == 0 && self.end >= LAST_BYTE
    }

    fn unlock(&self) -> Command {
        let Range { ino, owner, start, end, .. } = *self;
        Command::Unlock { ino, owner, start, end }
    }

    /// All that this owner can hold of the file.
    fn all((ino, owner): Key) -> Range {
        Range { ino, fh: 0, owner, start: 0, end: LAST_BYTE }
    }
}

/// `None` for `F_UNLCK`.
fn mode_of(typ: i32) -> Option<LockMode> {
    match typ {
        libc::F_RDLCK => Some(LockMode::Shared),
        libc::F_WRLCK => Some(LockMode::Exclusive),
        _ => None,
    }
}

impl Mount {
    /// `F_GETLK`: what stands in the way of the range, as far as it is known here.
    pub fn getlk(&self, range: Range, typ: i32, reply: ReplyLock) {
        let session = self.cluster.session();
        let owner = Owner { session: session.unwrap_or(SessionId::NONE), owner: range.owner };
        let span = Span { start: range.start, end: range.end };
        let mode = mode_of(typ).unwrap_or(LockMode::Shared);
        let Some(view) = self.cluster.tree().lock_conflict(range.ino, owner, span, mode) else {
            return reply.locked(range.start, range.end, libc::F_UNLCK, 0);
        };
        let typ = match view.mode {
            LockMode::Shared => libc::F_RDLCK,
            LockMode::Exclusive => libc::F_WRLCK,
        };
        // A process id of another host means nothing here.
        let pid = if Some(view.session) == session { view.pid } else { 0 };
        reply.locked(view.start, view.end, typ, pid);
    }

    /// `flock`, `F_SETLK`, `F_SETLKW` (`sleep`). `typ` is `F_RDLCK`, `F_WRLCK` or `F_UNLCK`.
    pub fn setlk(
        self: &Arc<Self>,
        caller: Caller,
        range: Range,
        typ: i32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        let Some(mode) = mode_of(typ) else { return self.unlock(&range, reply) };
        let mount = Arc::clone(self);
        let given_back = move |result: Result<(), Failure>| match result {
            Ok(()) | Err(Failure::Refused(_)) => mount.lock(caller, range, mode, sleep, reply),
            Err(failure) => reply.error(errno::of_failure(failure)),
        };
        self.releases.after(range.key(), Box::new(given_back));
    }

    /// FLUSH: a process closed a descriptor, which ends all its `fcntl` locks on that file. `then`
    /// runs when they are given back, or cannot be for the moment.
    pub fn unlock_at_flush(
        &self,
        ino: Ino,
        owner: LockOwner,
        then: impl FnOnce() + Send + 'static,
    ) {
        let key = (ino, owner);
        match self.forget_owner(key) {
            Some(session) => {
                let unlock = Range::all(key).unlock();
                self.releases.release(session, key, unlock, Box::new(then));
            }
            None => then(),
        }
    }

    /// RELEASE: the last descriptor of an open file went, and with it its `flock`. Handles that
    /// need no FLUSH give back their `fcntl` locks here too. Does not wait.
    pub fn unlock_at_release(&self, fh: u64) {
        let keys = self.held.lock().close(fh);
        for (session, key) in keys {
            self.releases.release(session, key, Range::all(key).unlock(), Box::new(|| ()));
        }
    }

    /// Does not fail, unless the file is full of ranges and this would add one: what cannot be
    /// given back now is given back later.
    fn unlock(&self, range: &Range, reply: ReplyEmpty) {
        let held_in = self.held.lock().session(range.key());
        let Some(session) = held_in else { return reply.ok() };
        if range.is_whole() {
            self.forget_owner(range.key());
        }
        let then = |result| match result {
            Err(failure @ Failure::Refused(_)) => reply.error(errno::of_failure(failure)),
            _ => reply.ok(),
        };
        self.releases.give_back(session, range.key(), range.unlock(), Box::new(then));
    }

    fn lock(
        self: &Arc<Self>,
        caller: Caller,
        range: Range,
        mode: LockMode,
        wait: bool,
        reply: ReplyEmpty,
    ) {
        let session = self.cluster.session();
        self.introduce(caller, move |mount, who| {
            let process = who.pid;
            let Range { ino, owner, start, end, .. } = range;
            let command = Command::Lock(Lock { ino, owner, start, end, mode, wait, who });
            mount.submit_lock(caller, process, range, session, command, reply);
        });
    }

    fn submit_lock(
        self: &Arc<Self>,
        caller: Caller,
        process: u32,
        range: Range,
        session: Option<SessionId>,
        command: Command,
        reply: ReplyEmpty,
    ) {
        self.in_session(session, move |mount, session| {
            let session = match session {
                Ok(session) => session,
                Err(failure) => return reply.error(errno::of_failure(failure)),
            };
            mount.submit(Some(session), command, move |mount, answer| match answer {
                Ok(Reply::Granted { token, .. }) => {
                    let granted = Arc::clone(mount);
                    let grant = move || granted.answer_granted(range, session, process, reply);
                    mount.visible.after(token, Box::new(grant));
                }
                Ok(Reply::Queued { waiter, .. }) => {
                    mount.wait_for_range(caller, range, session, waiter, reply);
                }
                Ok(_) => reply.error(Errno::EIO),
                Err(failure) => {
                    reply.error(errno::of_failure(failure));
                    if failure == Failure::Unknown {
                        mount.give_back_unknown(range, session);
                    }
                }
            });
        });
    }

    fn answer_granted(&self, range: Range, session: SessionId, process: u32, reply: ReplyEmpty) {
        if self.cluster.session() != Some(session) {
            return reply.error(Errno::EIO);
        }
        self.held.lock().add(session, range.key(), range.fh);
        self.handles.hold(range.fh, session, process);
        reply.ok();
    }

    /// Whether a change of this file in this session lacks the protection its caller relies on: the
    /// handle's lock was lost, or one that was taken on the same file by the caller's process, by
    /// the one that opened the locked descriptor, or by one they descend from. Of a caller that
    /// cannot be told (0), any lost lock of the file counts.
    pub(super) fn is_unprotected(
        &self,
        caller: Caller,
        ino: Ino,
        handle: Option<&Handle>,
        session: Option<SessionId>,
    ) -> bool {
        if handle.is_some_and(|handle| handle.is_lost(session)) {
            return true;
        }
        let losers = self.handles.losers(ino, session);
        !losers.is_empty()
            && match processes::process_of(caller.pid) {
                Some(process) => {
                    processes::with_ancestors(process).any(|process| losers.contains(&process))
                }
                None => true,
            }
    }

    fn wait_for_range(
        self: &Arc<Self>,
        caller: Caller,
        range: Range,
        session: SessionId,
        waiter: Zxid,
        reply: ReplyEmpty,
    ) {
        let mount = Arc::clone(self);
        let on_end = move |end| match end {
            End::Granted(_) => {
                let process = processes::process_of(caller.pid).unwrap_or(0);
                mount.answer_granted(range, session, process, reply);
            }
            End::Interrupted | End::TimedOut => {
                let cancel = Command::CancelWait { ino: range.ino, waiter };
                mount.releases.release(session, range.key(), cancel, Box::new(|| ()));
                reply.error(Errno::EINTR);
            }
            End::Done | End::Cancelled | End::SessionLost => reply.error(Errno::EIO),
        };
        let deadline = self.patience.map(|patience| Instant::now() + patience);
        let wait = Wait::Range(range.ino, waiter);
        let (thread, on_end) = (caller.pid, Box::new(on_end));
        self.waiters.enter(wait, Waiter { session: Some(session), thread, deadline, on_end });
        self.look_for_range(range.ino, session, waiter);
    }

    /// The grant, or the end of the session, may have come before the wait was entered.
    pub(super) fn look_for_range(&self, ino: Ino, session: SessionId, waiter: Zxid) {
        let wait = Wait::Range(ino, waiter);
        if self.cluster.session() != Some(session) {
            return self.waiters.end(wait, End::SessionLost);
        }
        let token = {
            let tree = self.cluster.tree();
            match tree.lock_outcome(ino, waiter) {
                Some(LockGrant::Queued { .. }) => return,
                Some(LockGrant::Held { token }) => token,
                // It was held, and another thread of its owner gave it back.
                None => tree.zxid(),
            }
        };
        let waiters = Arc::clone(&self.waiters);
        let grant = move || waiters.end(wait, End::Granted(token));
        self.visible.after(token, Box::new(grant));
    }

    /// The lock may have been taken or queued for, and nobody will use it: undo both.
    fn give_back_unknown(self: &Arc<Self>, range: Range, session: SessionId) {
        let (mount, key) = (Arc::clone(self), range.key());
        let unlocked = move || {
            let owner = Owner { session, owner: range.owner };
            let waits = mount.cluster.tree().waits_of(range.ino, owner);
            let is_left =
                |waiter: &Zxid| !mount.waiters.is_waiting(Wait::Range(range.ino, *waiter));
            for waiter in waits.into_iter().filter(is_left) {
                let cancel = Command::CancelWait { ino: range.ino, waiter };
                mount.releases.release(session, key, cancel, Box::new(|| ()));
            }
        };
        self.releases.release_then(session, key, range.unlock(), Box::new(unlocked));
    }

    /// Forgets what an owner holds of a file; in which session that was.
    fn forget_owner(&self, key: Key) -> Option<SessionId> {
        let (session, freed) = self.held.lock().forget(key);
        freed.into_iter().for_each(|fh| self.handles.let_go(fh));
        session
    }
}
