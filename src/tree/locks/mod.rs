//! Fair locks: byte ranges of files (`flock`, `fcntl`) and tickets of `lock` directories.
//!
//! First come, first served: a request waits for every conflicting one before it, and a release
//! hands the lock on in the same step, so that nobody polls. The fencing token of a grant is the
//! zxid of the entry that granted it: whoever holds later has the larger token.

mod deadlock;
mod ending;
mod queue;
mod ranges;
mod tickets;
mod view;

use super::{Ino, Lock, LockOwner, Refusal, SessionId, Stamp, Zxid};
use crate::cow::CowMap;
use crate::limits::WORK_IN_ONE_ENTRY_MAX;
use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use queue::RangeQueue;
use ranges::Request;
use std::sync::Arc;
use tickets::TicketQueue;

pub use ending::{EndedLocks, EndedTicket};
pub use ranges::{Owner, Span};

/// All locks of a tree. A clone costs a reference per chunk of 64, and shares the queues, and their
/// chunks, until one of the two changes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LockTable {
    ranges: CowMap<Ino, Arc<RangeQueue>, 64>,
    /// By `lock` directory; a queue stays while its directory does.
    directories: CowMap<Ino, Arc<TicketQueue>, 64>,
    /// Where each owner holds or waits for ranges; follows from `ranges`.
    files: CowMap<(SessionId, LockOwner, Ino), (), 64>,
    /// Holders and waiters in `ranges`; follows from them.
    in_ranges: usize,
    /// Each ticket's directory and sequence; follows from `directories`.
    tickets: CowMap<Ino, (Ino, u64), 64>,
    /// Each session's tickets, by directory and sequence; follows from `directories`.
    owned: CowMap<(SessionId, Ino, u64), (), 64>,
    /// Sessions that ended and have something here yet: nothing is granted to them.
    dying: Dying,
    /// Files whose queues have more to grant than one entry may.
    unsettled: CowMap<Ino, (), 64>,
}

type Dying = CowMap<SessionId, (), 64>;

/// What asking for a lock came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockGrant {
    Held {
        token: Zxid,
    },
    /// A [`Grant`] with this waiter follows, unless it is cancelled.
    Queued {
        waiter: Zxid,
    },
}

/// A waiter that holds now what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub session: SessionId,
    /// The locked file, or the ticket.
    pub ino: Ino,
    /// The zxid under which it queued.
    pub waiter: Zxid,
    pub token: Zxid,
}

impl LockTable {
    /// Takes a range, converting what the same owner holds of it, or queues for it. The grants are
    /// those of others: an exclusive range made shared lets waiters in.
    ///
    /// # Errors `Invalid` for an empty range, `WouldBlock` if it conflicts and is not to wait,
    ///   `Deadlock` if the wait would close a cycle, `NoLocks` if the queue is full.
    pub fn lock(
        &mut self,
        session: SessionId,
        zxid: Zxid,
        stamp: Stamp,
        lock: &Lock,
    ) -> Result<(LockGrant, Vec<Grant>), Refusal> {
        if lock.start > lock.end {
            return Err(Refusal::Invalid);
        }
        let request = Request {
            by: Owner { session, owner: lock.owner },
            span: Span { start: lock.start, end: lock.end },
            mode: lock.mode,
            waiter: zxid,
            since: stamp,
            who: Arc::new(lock.who.clone()),
        };
        let (blocked, has_room) = match self.ranges.get(lock.ino) {
            None => (false, true),
            Some(queue) => match queue.already(&request) {
                Some(token) => return Ok((LockGrant::Held { token }, Vec::new())),
                None => {
                    let blocked = queue.is_blocked(&request);
                    (blocked, queue.has_room(&request, blocked))
                }
            },
        };
        if blocked && !lock.wait {
            return Err(Refusal::WouldBlock);
        }
        if !has_room {
            return Err(Refusal::NoLocks);
        }
        if blocked && deadlock::would_deadlock(self, lock.ino, &request) {
            return Err(Refusal::Deadlock);
        }
        self.files.insert((session, lock.owner, lock.ino), ());
        let by = request.by;
        if blocked {
            self.change(lock.ino, by, zxid, |queue| {
                queue.enqueue(request);
                Vec::new()
            });
            return Ok((LockGrant::Queued { waiter: zxid }, Vec::new()));
        }
        let others = self.change(lock.ino, by, zxid, |queue| queue.grant(request, zxid));
        Ok((LockGrant::Held { token: zxid }, others))
    }

    /// Gives back what the owner holds of `start..=end`. Waiters of that owner go on waiting.
    ///
    /// # Errors
    /// `NoLocks` if it would leave the ends of a longer range in a queue that is full of ranges.
    pub fn unlock(
        &mut self,
        ino: Ino,
        owner: Owner,
        span: Span,
        zxid: Zxid,
    ) -> Result<Vec<Grant>, Refusal> {
        if self.ranges.get(ino).is_some_and(|queue| !queue.has_room_without(owner, span)) {
            return Err(Refusal::NoLocks);
        }
        Ok(self.change(ino, owner, zxid, |queue| queue.release(owner, span)))
    }

    /// Takes back the range a session asked for at `waiter`: from the queue, or, if it was granted
    /// meanwhile, from its holder. A ticket is taken back by [`LockTable::remove_ticket`].
    pub fn cancel(&mut self, ino: Ino, session: SessionId, waiter: Zxid, zxid: Zxid) -> Vec<Grant> {
        let asked_by = self.ranges.get(ino).and_then(|queue| queue.asked_at(waiter));
        match asked_by.filter(|by| by.session == session) {
            Some(owner) => self.change(ino, owner, zxid, |queue| queue.withdraw(owner, waiter)),
            None => Vec::new(),
        }
    }

    /// The inode is no more: neither are its ranges, nor the queue if it was a `lock` directory.
    pub fn forget(&mut self, ino: Ino) {
        self.unsettled.remove(ino);
        if let Some(queue) = self.ranges.remove(ino) {
            self.in_ranges -= queue.len();
            let requests = queue.held().map(|held| &held.request).chain(queue.waiting());
            for by in requests.map(|request| request.by) {
                self.files.remove((by.session, by.owner, ino));
            }
        }
        if let Some(queue) = self.directories.remove(ino) {
            for (sequence, ticket) in queue.after(0) {
                self.tickets.remove(ticket.ino);
                self.owned.remove((ticket.session, ino, sequence));
            }
        }
    }

    /// The inodes on which an owner holds or waits for ranges.
    fn inodes_of(&self, owner: Owner) -> impl Iterator<Item = Ino> {
        let files = self.files_from((owner.session, owner.owner, Ino(0)));
        files.take_while(move |(by, _)| *by == owner).map(|(_, ino)| ino)
    }

    /// The owners of a session, each with an inode on which it holds or waits for ranges.
    fn files_of(&self, session: SessionId) -> impl Iterator<Item = (Owner, Ino)> {
        let files = self.files_from((session, 0, Ino(0)));
        files.take_while(move |(by, _)| by.session == session)
    }

    fn files_from(&self, first: (SessionId, LockOwner, Ino)) -> impl Iterator<Item = (Owner, Ino)> {
        let files = self.files.from(first);
        files.map(|((session, owner, ino), ())| (Owner { session, owner }, ino))
    }

    /// Changes one file's queue on behalf of `owner` and hands on what that frees.
    fn change(
        &mut self,
        ino: Ino,
        owner: Owner,
        zxid: Zxid,
        change: impl FnOnce(&mut RangeQueue) -> Vec<Span>,
    ) -> Vec<Grant> {
        if !self.files.contains((owner.session, owner.owner, ino)) {
            return Vec::new();
        }
        let mut is_known = false;
        let freed = self.with_queue(ino, |queue| {
            let freed = change(queue);
            is_known = queue.knows(owner);
            freed
        });
        if !is_known {
            self.files.remove((owner.session, owner.owner, ino));
        }
        self.settle(ino, freed, zxid)
    }

    /// Grants what can be granted now, as much as one entry may.
    fn settle(&mut self, ino: Ino, freed: Vec<Span>, zxid: Zxid) -> Vec<Grant> {
        let mut granted = Vec::new();
        if !freed.is_empty() {
            let dying = self.dying.clone();
            granted = self.with_queue(ino, |queue| queue.settle(freed, zxid, &dying));
            if granted.len() >= WORK_IN_ONE_ENTRY_MAX {
                self.unsettled.insert(ino, ());
            }
        }
        if self.ranges.get(ino).is_some_and(|queue| queue.is_empty()) {
            self.ranges.remove(ino);
        }
        grants(ino, granted, zxid)
    }

    /// Changes a file's queue, which is made if it is missing, and the count of all.
    fn with_queue<T>(&mut self, ino: Ino, change: impl FnOnce(&mut RangeQueue) -> T) -> T {
        let queue = queue_of(&mut self.ranges, ino);
        let before = queue.len();
        let result = change(queue);
        self.in_ranges = self.in_ranges + queue.len() - before;
        result
    }
}

/// The queue of an inode, made if it is missing, for writing.
fn queue_of<Q: Clone + Default>(queues: &mut CowMap<Ino, Arc<Q>, 64>, ino: Ino) -> &mut Q {
    if !queues.contains(ino) {
        queues.insert(ino, Arc::default());
    }
    Arc::make_mut(queues.get_mut(ino).expect("it has just been looked for"))
}

fn grants(ino: Ino, granted: Vec<Request>, token: Zxid) -> Vec<Grant> {
    let grant = |request: Request| Grant {
        session: request.by.session,
        ino,
        waiter: request.waiter,
        token,
    };
    granted.into_iter().map(grant).collect()
}

/// The queues and what is left to do: the rest follows from the queues.
impl Encode for LockTable {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.ranges.encode(encoder)?;
        self.directories.encode(encoder)?;
        self.dying.encode(encoder)?;
        self.unsettled.encode(encoder)
    }
}

impl<Context> Decode<Context> for LockTable {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut table = LockTable {
            ranges: Decode::decode(decoder)?,
            directories: Decode::decode(decoder)?,
            dying: Decode::decode(decoder)?,
            unsettled: Decode::decode(decoder)?,
            ..LockTable::default()
        };
        for (ino, queue) in table.ranges.iter() {
            table.in_ranges += queue.len();
            let requests = queue.held().map(|held| &held.request).chain(queue.waiting());
            for by in requests.map(|request| request.by) {
                table.files.insert((by.session, by.owner, ino), ());
            }
        }
        for (directory, queue) in table.directories.iter() {
            for (sequence, ticket) in queue.after(0) {
                table.tickets.insert(ticket.ino, (directory, sequence));
                table.owned.insert((ticket.session, directory, sequence), ());
            }
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{LockMode, TicketInfo};

    const FILES: u64 = 100_000;
    const WAITERS: u64 = 10_000;

    fn lock(ino: u64, owner: LockOwner) -> Lock {
        let who = TicketInfo { pid: 1, uid: 0, command: Box::default() };
        let (ino, mode) = (Ino(ino), LockMode::Exclusive);
        Lock { ino, owner, start: 0, end: u64::MAX, mode, wait: true, who }
    }

    /// Every chunk that `left` has for itself.
    fn copied(left: &LockTable, right: &LockTable) -> usize {
        let queues = left.ranges.iter().filter_map(|(ino, queue)| {
            let other = right.ranges.get(ino).filter(|other| !Arc::ptr_eq(queue, other))?;
            Some(queue.unshared(other))
        });
        queues.sum::<usize>()
            + left.ranges.unshared(&right.ranges)
            + left.directories.unshared(&right.directories)
            + left.files.unshared(&right.files)
            + left.tickets.unshared(&right.tickets)
            + left.owned.unshared(&right.owned)
    }

    #[test]
    fn a_clone_of_many_locks_shares_them_and_a_change_copies_few() {
        let (mut table, session) = (LockTable::default(), SessionId(1));
        let mut zxid = 0;
        let mut take = |table: &mut LockTable, ino, owner| {
            zxid += 1;
            table.lock(session, zxid, zxid, &lock(ino, owner)).unwrap();
        };
        (0..FILES).for_each(|file| take(&mut table, 100 + file, file));
        (0..WAITERS).for_each(|waiter| take(&mut table, 100, FILES + waiter));
        assert_eq!(table.len() as u64, FILES + WAITERS);
        let clone = table.clone();
        assert_eq!(copied(&table, &clone), 0);
        take(&mut table, 100, FILES * 2);
        assert!(copied(&table, &clone) <= 6, "{} chunks", copied(&table, &clone));
        let owner = Owner { session, owner: 50 };
        table.unlock(Ino(150), owner, Span { start: 0, end: u64::MAX }, FILES * 3).unwrap();
        assert!(copied(&table, &clone) <= 12, "{} chunks", copied(&table, &clone));
        assert_eq!(clone.len() as u64, FILES + WAITERS);
    }
}
