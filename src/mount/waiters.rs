//! Replies owed to the kernel: who waits for what, and how the wait ends.
//!
//! A wait ends exactly once: whoever takes it out of the table (a grant, a signal, a deadline, the
//! end of the session) answers it. So that no grant is missed, a waiter is entered first and then
//! looks at the tree whether it holds already.

use crate::tree::{Ino, SessionId, Zxid};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// The grant of the range of this file that was queued under this zxid.
    Range(Ino, Zxid),
    /// The grant of this ticket. Threads of one process may wait together.
    Ticket(Ino),
    /// The OPEN that follows a CREATE or OPEN answered with ESTALE: nothing is owed, but a ticket
    /// whose opener never comes must not stay in the queue.
    Arrival(Ino),
    /// The end of a backup stream, by its handle; the kernel does not let go of a FLUSH, so only
    /// who is to die is let go of.
    Close(u64),
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// What it was for has happened: the opener came, the stream ended.
    Done,
    /// With this fencing token; every change before the grant is visible here.
    Granted(Zxid),
    /// What was waited for is gone: somebody removed the waiting ticket.
    Cancelled,
    /// The thread has a signal to take, or is gone.
    Interrupted,
    /// The deadline passed.
    TimedOut,
    /// The session ended, and the place in the queue with it.
    SessionLost,
}

/// Runs once, on any thread; must not block.
pub type OnEnd = Box<dyn FnOnce(End) + Send>;

/// One wait.
pub struct Waiter {
    /// The wait ends with this session; `None`: with none.
    pub session: Option<SessionId>,
    /// The thread that is blocked, in the daemon's pid namespace; 0 if it lives outside: such a
    /// wait cannot be interrupted.
    pub thread: u32,
    /// Ends with [`End::TimedOut`] then.
    pub deadline: Option<Instant>,
    pub on_end: OnEnd,
}

/// One of those that wait for the same.
pub type WaiterId = (Wait, u64);

/// All that wait in one mount.
#[derive(Default)]
pub struct Waiters {
    table: Mutex<Table>,
    /// The table is no longer empty, or is closed.
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    waiting: BTreeMap<WaiterId, Waiter>,
    entered: u64,
    closed: bool,
}

/// What the thread that looks for interruptions needs to know of a wait.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    pub id: WaiterId,
    pub thread: u32,
    pub deadline: Option<Instant>,
}

impl Waiters {
    /// Enters a wait. After the mount has closed the table it ends at once.
    pub fn enter(&self, wait: Wait, waiter: Waiter) {
        let mut table = self.table.lock();
        if table.closed {
            drop(table);
            return (waiter.on_end)(End::SessionLost);
        }
        table.entered += 1;
        let id = (wait, table.entered);
        table.waiting.insert(id, waiter);
        drop(table);
        self.changed.notify_all();
    }

    /// Ends all waits for this; there may be none (any more).
    pub fn end(&self, wait: Wait, end: End) {
        let mut table = self.table.lock();
        let of_it = table.waiting.range((wait, 0)..=(wait, u64::MAX));
        let ids: Vec<WaiterId> = of_it.map(|(&id, _)| id).collect();
        let taken: Vec<_> = ids.iter().filter_map(|id| table.waiting.remove(id)).collect();
        drop(table);
        taken.into_iter().for_each(|waiter| (waiter.on_end)(end));
    }

    /// Ends one wait, unless it has ended already.
    pub fn end_one(&self, id: WaiterId, end: End) {
        let taken = self.table.lock().waiting.remove(&id);
        if let Some(waiter) = taken {
            (waiter.on_end)(end);
        }
    }

    pub fn is_waiting(&self, wait: Wait) -> bool {
        self.table.lock().waiting.range((wait, 0)..=(wait, u64::MAX)).next().is_some()
    }

    /// What is waited for, each once.
    pub fn waits(&self) -> Vec<Wait> {
        let mut waits: Vec<Wait> = self.table.lock().waiting.keys().map(|id| id.0).collect();
        waits.dedup();
        waits
    }

    /// This session and those before it are gone: every wait in them is over.
    pub fn session_lost(&self, lost: SessionId) {
        let mut table = self.table.lock();
        let of_it = |waiter: &Waiter| waiter.session.is_some_and(|session| session <= lost);
        let (ended, left): (BTreeMap<_, _>, _) =
            std::mem::take(&mut table.waiting).into_iter().partition(|(_, it)| of_it(it));
        table.waiting = left;
        drop(table);
        ended.into_values().for_each(|waiter| (waiter.on_end)(End::SessionLost));
    }

    /// The mount goes: ends every wait, and those still to come.
    pub fn close(&self) {
        let mut table = self.table.lock();
        table.closed = true;
        let lost = std::mem::take(&mut table.waiting);
        drop(table);
        self.changed.notify_all();
        lost.into_values().for_each(|waiter| (waiter.on_end)(End::SessionLost));
    }

    /// Sleeps while nobody waits, then `pause`, and tells all that wait; `None` once closed.
    pub fn next_look(&self, pause: Duration) -> Option<Vec<Watched>> {
        let mut table = self.table.lock();
        while table.waiting.is_empty() && !table.closed {
            self.changed.wait(&mut table);
        }
        let until = Instant::now() + pause;
        while !table.closed && !self.changed.wait_until(&mut table, until).timed_out() {}
        if table.closed {
            return None;
        }
        let watched = |(&id, waiter): (&WaiterId, &Waiter)| Watched {
            id,
            thread: waiter.thread,
            deadline: waiter.deadline,
        };
        Some(table.waiting.iter().map(watched).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{Receiver, unbounded};

    fn enter_in(waiters: &Waiters, session: Option<u64>, wait: Wait) -> Receiver<End> {
        let (tell, told) = unbounded();
        let on_end = Box::new(move |end| tell.send(end).unwrap());
        let session = session.map(SessionId);
        waiters.enter(wait, Waiter { session, thread: 0, deadline: None, on_end });
        told
    }

    fn enter(waiters: &Waiters, wait: Wait) -> Receiver<End> {
        enter_in(waiters, Some(1), wait)
    }

    #[test]
    fn a_wait_ends_once_and_with_it_all_for_the_same() {
        let waiters = Waiters::default();
        let ticket = Wait::Ticket(Ino(7));
        let [first, second] = [enter(&waiters, ticket), enter(&waiters, ticket)];
        assert_eq!(waiters.waits(), [ticket]);
        for other in [Wait::Ticket(Ino(8)), Wait::Range(Ino(7), 7)] {
            waiters.end(other, End::Cancelled);
        }
        waiters.end(ticket, End::Granted(9));
        waiters.end(ticket, End::Interrupted);
        for told in [first, second] {
            assert_eq!(told.try_iter().collect::<Vec<_>>(), [End::Granted(9)]);
        }
    }

    #[test]
    fn a_lost_session_ends_its_waits_but_no_streams_and_none_of_the_next() {
        let waiters = Waiters::default();
        let lock = enter(&waiters, Wait::Range(Ino(3), u64::MAX));
        let ticket = enter(&waiters, Wait::Arrival(Ino(3)));
        let stream = enter_in(&waiters, None, Wait::Close(0));
        let next = enter_in(&waiters, Some(2), Wait::Range(Ino(3), u64::MAX - 1));
        waiters.session_lost(SessionId(1));
        assert_eq!(lock.try_recv(), Ok(End::SessionLost));
        assert_eq!(ticket.try_recv(), Ok(End::SessionLost));
        assert!(stream.try_recv().is_err() && next.try_recv().is_err());
        waiters.close();
        assert_eq!(stream.try_recv(), Ok(End::SessionLost));
        assert_eq!(next.try_recv(), Ok(End::SessionLost));
        assert_eq!(enter(&waiters, Wait::Range(Ino(3), 1)).try_recv(), Ok(End::SessionLost));
        assert!(waiters.next_look(Duration::ZERO).is_none());
    }
}
