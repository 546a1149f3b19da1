//! The way from the answer ESTALE, which sends the kernel to look a name up again, to the OPEN of
//! what it is shown then.
//!
//! The kernel comes back once: a second ESTALE would be the caller's. But it may take its time, for
//! it needs the directory's lock again, for which thousands may be waiting. So the place in the
//! queue is kept as long as the thread can still be on its way, and what became of a place that is
//! gone is remembered until the thread has heard it.

use crate::mount::waiters::{End, Wait, Waiter};
use crate::mount::{Caller, Mount, processes};
use crate::tree::{Ino, Name, SessionId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the OPEN may take before there is a look at what its thread does.
const ARRIVAL: Duration = Duration::from_secs(5);
/// How long until the next look at a thread that was found asleep, and how often in a row it may be
/// found so: between two requests of one `open` it only sleeps while we answer.
const ASLEEP: Duration = Duration::from_secs(1);
const ASLEEP_MAX: u32 = 3;
/// How long a thread that runs may be on its way. One that waits for a lock of the kernel's, as for
/// the directory, may be so for ever.
const RUNNING_MAX: Duration = Duration::from_secs(60);
/// How long it is remembered what became of a place, if nobody asks.
const NEWS: Duration = Duration::from_secs(60);
/// Lookups that are remembered at most.
const LOOKED_UP_MAX: usize = 4096;

/// A thread, and the name in the directory it asked for.
pub(super) type Asker = (u32, Ino, Name);

#[derive(Default)]
pub struct Arrivals {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// More than one only for thread 0, which stands for all outside the pid namespace.
    by_asker: HashMap<Asker, Vec<Arrival>>,
    by_ticket: HashMap<Ino, Asker>,
    /// The last ticket each thread was shown, with the name: it may be gone when its OPEN comes.
    looked_up: HashMap<u32, (Ino, Name, Ino)>,
}

struct Arrival {
    ticket: Ino,
    /// The place is gone: the error for it, and since when.
    over: Option<(i32, Instant)>,
}

impl Arrivals {
    fn expect(&self, ticket: Ino, asker: Asker) {
        let mut table = self.table.lock();
        table.by_ticket.insert(ticket, asker.clone());
        let arrival = Arrival { ticket, over: None };
        table.by_asker.entry(asker).or_default().push(arrival);
    }

    /// The ticket whose OPEN this asker has been sent to.
    fn find(&self, asker: &Asker) -> Option<Ino> {
        let table = self.table.lock();
        let waiting = |arrival: &&Arrival| arrival.over.is_none();
        table.by_asker.get(asker)?.iter().find(waiting).map(|arrival| arrival.ticket)
    }

    pub fn expects(&self, ticket: Ino, thread: u32) -> bool {
        self.table.lock().by_ticket.get(&ticket).is_some_and(|asker| asker.0 == thread)
    }

    /// The OPEN came, or nobody will.
    fn done(&self, ticket: Ino) {
        self.table.lock().remove(ticket);
    }

    /// The place is gone; whoever comes for it is told so.
    fn over(&self, ticket: Ino, errno: i32) {
        let mut table = self.table.lock();
        table.forget_old_news();
        let Table { by_asker, by_ticket, .. } = &mut *table;
        let Some(of_asker) = by_ticket.get(&ticket).and_then(|asker| by_asker.get_mut(asker))
        else {
            return;
        };
        for arrival in of_asker.iter_mut().filter(|arrival| arrival.ticket == ticket) {
            arrival.over = Some((errno, Instant::now()));
        }
    }

    /// What became of a place of this asker. Told once.
    fn take_news(&self, asker: &Asker) -> Option<i32> {
        let mut table = self.table.lock();
        let news = |arrival: &Arrival| Some((arrival.ticket, arrival.over?.0));
        let (ticket, errno) = table.by_asker.get(asker)?.iter().find_map(news)?;
        table.remove(ticket);
        Some(errno)
    }

    /// What became of the place that this ticket was, if it was this thread's. Told once.
    fn take_news_of(&self, ticket: Ino, thread: u32) -> Option<i32> {
        let mut table = self.table.lock();
        let asker = table.by_ticket.get(&ticket).filter(|asker| asker.0 == thread)?;
        let arrivals = table.by_asker.get(asker)?.iter();
        let (errno, _) = arrivals.filter(|of| of.ticket == ticket).find_map(|of| of.over)?;
        table.remove(ticket);
        Some(errno)
    }

    fn shown(&self, thread: u32, directory: Ino, name: &[u8], ticket: Ino) {
        let looked_up = &mut self.table.lock().looked_up;
        if looked_up.len() >= LOOKED_UP_MAX {
            looked_up.clear();
        }
        looked_up.insert(thread, (directory, name.into(), ticket));
    }

    /// Directory and name of the ticket this thread was last shown, if it is this one.
    pub fn name_shown(&self, thread: u32, ticket: Ino) -> Option<(Ino, Name)> {
        let mut table = self.table.lock();
        let (directory, name, shown) = table.looked_up.remove(&thread)?;
        (shown == ticket).then_some((directory, name))
    }
}

impl Table {
    fn remove(&mut self, ticket: Ino) {
        let Some(asker) = self.by_ticket.remove(&ticket) else { return };
        if let Some(of_asker) = self.by_asker.get_mut(&asker) {
            of_asker.retain(|arrival| arrival.ticket != ticket);
            if of_asker.is_empty() {
                self.by_asker.remove(&asker);
            }
        }
    }

    fn forget_old_news(&mut self) {
        let is_old = |arrival: &Arrival| arrival.over.is_some_and(|(_, at)| at.elapsed() > NEWS);
        let of_all = self.by_asker.values().flatten();
        let old: Vec<Ino> = of_all.filter(|a| is_old(a)).map(|a| a.ticket).collect();
        old.into_iter().for_each(|ticket| self.remove(ticket));
    }
}

impl Mount {
    /// The kernel sends OPEN of this ticket next; should it not, the ticket goes.
    pub(super) fn expect_opener(self: &Arc<Self>, session: SessionId, ticket: Ino, asker: Asker) {
        let (thread, directory, _) = asker;
        self.tickets.arrivals.expect(ticket, asker);
        let place = Place { session, ticket, directory, thread, since: Instant::now() };
        self.await_opener(place, ARRIVAL, 0);
    }

    fn await_opener(self: &Arc<Self>, place: Place, patience: Duration, asleep: u32) {
        let mount = Arc::clone(self);
        let on_end = move |end| {
            let arrivals = &mount.tickets.arrivals;
            match end {
                End::Done | End::Granted(_) => arrivals.done(place.ticket),
                End::Cancelled => arrivals.over(place.ticket, libc::ECANCELED),
                End::SessionLost => arrivals.over(place.ticket, libc::EIO),
                End::Interrupted => {
                    arrivals.done(place.ticket);
                    mount.drop_ticket(place.session, place.directory, place.ticket);
                }
                End::TimedOut => mount.look_for_opener(place, asleep),
            }
        };
        let deadline = Some(Instant::now() + patience);
        let (session, on_end) = (Some(place.session), Box::new(on_end));
        let waiter = Waiter { session, thread: place.thread, deadline, on_end };
        self.waiters.enter(Wait::Arrival(place.ticket), waiter);
        if self.cluster.tree().ticket(place.ticket).is_none() {
            self.waiters.end(Wait::Arrival(place.ticket), End::Cancelled);
        }
    }

    /// The OPEN has been long in coming.
    fn look_for_opener(self: &Arc<Self>, place: Place, asleep: u32) {
        let on_its_way = match processes::progress(place.thread) {
            processes::Progress::Blocked => true,
            processes::Progress::Running => place.since.elapsed() < RUNNING_MAX,
            processes::Progress::Asleep => false,
        };
        if on_its_way {
            self.await_opener(place, ARRIVAL, 0);
        } else if asleep < ASLEEP_MAX {
            self.await_opener(place, ASLEEP, asleep + 1);
        } else {
            self.tickets.arrivals.over(place.ticket, libc::EINTR);
            self.drop_ticket(place.session, place.directory, place.ticket);
        }
    }

    /// The ticket that `name` means to this caller alone, between its place in the queue and its
    /// OPEN.
    pub fn lookup_ticket(&self, caller: Caller, directory: Ino, name: &[u8]) -> Option<Ino> {
        self.tickets.arrivals.find(&(caller.pid, directory, name.into()))
    }

    /// This caller is about to be shown a ticket under this name.
    pub fn ticket_shown(&self, caller: Caller, directory: Ino, name: &[u8], ticket: Ino) {
        self.tickets.arrivals.shown(caller.pid, directory, name, ticket);
    }

    /// The error for who comes to open a ticket that was its own and is gone.
    pub fn lost_place(&self, caller: Caller, ticket: Ino) -> Option<i32> {
        self.tickets.arrivals.take_news_of(ticket, caller.pid)
    }

    /// The error for who comes back for a name and has no place under it any more.
    pub(super) fn lost_place_under(&self, asker: &Asker) -> Option<i32> {
        self.tickets.arrivals.take_news(asker)
    }
}

/// A place in a queue that is kept for its opener.
#[derive(Clone, Copy)]
struct Place {
    session: SessionId,
    ticket: Ino,
    directory: Ino,
    thread: u32,
    since: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(thread: u32) -> Asker {
        (thread, Ino(5), b"me"[..].into())
    }

    #[test]
    fn a_thread_is_shown_its_own_ticket_until_it_has_opened_it() {
        let arrivals = Arrivals::default();
        arrivals.expect(Ino(30), asker(7));
        arrivals.expect(Ino(31), asker(8));
        assert_eq!(arrivals.find(&asker(7)), Some(Ino(30)));
        assert!(arrivals.expects(Ino(31), 8) && !arrivals.expects(Ino(31), 7));
        arrivals.done(Ino(30));
        assert_eq!(arrivals.find(&asker(7)), None);
        assert_eq!(arrivals.find(&asker(8)), Some(Ino(31)));
    }

    #[test]
    fn what_became_of_a_place_is_told_once() {
        let arrivals = Arrivals::default();
        arrivals.expect(Ino(30), asker(7));
        arrivals.over(Ino(30), libc::ECANCELED);
        assert_eq!(arrivals.find(&asker(7)), None);
        assert_eq!(arrivals.take_news(&asker(8)), None);
        assert_eq!(arrivals.take_news_of(Ino(30), 8), None);
        assert_eq!(arrivals.take_news(&asker(7)), Some(libc::ECANCELED));
        assert_eq!(arrivals.take_news(&asker(7)), None);
        assert!(!arrivals.expects(Ino(30), 7));
        arrivals.expect(Ino(31), asker(7));
        arrivals.over(Ino(31), libc::EIO);
        assert_eq!(arrivals.take_news_of(Ino(31), 7), Some(libc::EIO));
    }

    #[test]
    fn the_name_of_a_ticket_that_was_shown_is_known_at_its_open() {
        let arrivals = Arrivals::default();
        arrivals.shown(7, Ino(5), b"me", Ino(30));
        assert_eq!(arrivals.name_shown(7, Ino(31)), None, "it went on to something else");
        arrivals.shown(7, Ino(5), b"me", Ino(30));
        assert_eq!(arrivals.name_shown(7, Ino(30)), Some((Ino(5), b"me"[..].into())));
        for thread in 0..2 * LOOKED_UP_MAX as u32 {
            arrivals.shown(thread, Ino(5), b"me", Ino(30));
        }
        assert!(arrivals.table.lock().looked_up.len() <= LOOKED_UP_MAX);
    }
}
