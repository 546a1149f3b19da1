//! Fair locks: byte ranges of files (`flock`, `fcntl`) and tickets of `lock` directories.
//!
//! First come, first served: a request waits for every conflicting one before it, and a release
//! hands the lock on in the same step, so that nobody polls. The fencing token of a grant is the
//! zxid of the entry that granted it: whoever holds later has the larger token.

mod deadlock;
mod queue;
mod ranges;
mod tickets;
mod view;

use super::{Ino, Lock, LockOwner, Name, Refusal, SessionId, Stamp, Zxid};
use crate::limits::LOCK_QUEUE_MAX;
use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use queue::RangeQueue;
use ranges::Request;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tickets::TicketQueue;

pub use ranges::{Owner, Span};

/// All locks of a tree. A clone shares the queues until one of the two changes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LockTable {
    ranges: BTreeMap<Ino, Arc<RangeQueue>>,
    /// By `lock` directory; a queue stays while its directory does.
    directories: BTreeMap<Ino, Arc<TicketQueue>>,
    /// Where each owner holds or waits for ranges; follows from `ranges`.
    files: BTreeSet<(SessionId, LockOwner, Ino)>,
    /// Each ticket's directory and sequence; follows from `directories`.
    tickets: BTreeMap<Ino, (Ino, u64)>,
    /// Each session's tickets, by directory and sequence; follows from `directories`.
    owned: BTreeSet<(SessionId, Ino, u64)>,
}

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

/// What a session's end does to the locks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndedLocks {
    pub grants: Vec<Grant>,
    /// (directory, name, ticket): already out of their queues, to be removed from their
    /// directories.
    pub tickets: Vec<(Ino, Name, Ino)>,
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
        let (blocked, length) = match self.ranges.get(&lock.ino) {
            None => (false, 0),
            Some(queue) => match queue.already(&request) {
                Some(token) => return Ok((LockGrant::Held { token }, Vec::new())),
                None => (queue.is_blocked(&request), queue.len()),
            },
        };
        if blocked && !lock.wait {
            return Err(Refusal::WouldBlock);
        }
        if length >= LOCK_QUEUE_MAX {
            return Err(Refusal::NoLocks);
        }
        if blocked && deadlock::would_deadlock(self, lock.ino, &request) {
            return Err(Refusal::Deadlock);
        }
        self.files.insert((session, lock.owner, lock.ino));
        let queue = Arc::make_mut(self.ranges.entry(lock.ino).or_default());
        if blocked {
            queue.enqueue(request);
            return Ok((LockGrant::Queued { waiter: zxid }, Vec::new()));
        }
        let freed = queue.grant(request, zxid);
        Ok((LockGrant::Held { token: zxid }, grants(lock.ino, queue.settle(freed, zxid), zxid)))
    }

    /// Gives back what the owner holds of `start..=end`. Waiters of that owner go on waiting.
    pub fn unlock(&mut self, ino: Ino, owner: Owner, span: Span, zxid: Zxid) -> Vec<Grant> {
        self.change(ino, owner, zxid, |queue| queue.release(owner, span))
    }

    /// Takes back the range a session asked for at `waiter`: from the queue, or, if it was granted
    /// meanwhile, from its holder. A ticket is taken back by [`LockTable::remove_ticket`].
    pub fn cancel(&mut self, ino: Ino, session: SessionId, waiter: Zxid, zxid: Zxid) -> Vec<Grant> {
        let asked_by = |queue: &Arc<RangeQueue>| {
            let held = queue.held().map(|held| &held.request);
            let found = held.chain(queue.waiting()).find(|request| request.waiter == waiter);
            found.map(|request| request.by).filter(|by| by.session == session)
        };
        match self.ranges.get(&ino).and_then(asked_by) {
            Some(owner) => self.change(ino, owner, zxid, |queue| queue.withdraw(owner, waiter)),
            None => Vec::new(),
        }
    }

    /// Takes back everything of a session, and only then hands it on: nothing is granted to what
    /// ends with the session.
    pub fn end_session(&mut self, session: SessionId, zxid: Zxid) -> EndedLocks {
        let mut ended = EndedLocks::default();
        let files: Vec<_> = self.files_of(session).collect();
        let mut freed: BTreeMap<Ino, Vec<Span>> = BTreeMap::new();
        for (owner, ino) in files {
            self.files.remove(&(session, owner.owner, ino));
            if let Some(queue) = self.ranges.get_mut(&ino) {
                let spans = Arc::make_mut(queue).withdraw_all(owner);
                freed.entry(ino).or_default().extend(spans);
            }
        }
        for (ino, spans) in freed {
            ended.grants.extend(self.settle(ino, spans, zxid));
        }
        let tickets: Vec<_> = self.tickets_of(session).collect();
        for (directory, ticket) in &tickets {
            if let Some((_, name)) = self.ticket_place(*ticket) {
                ended.tickets.push((*directory, name.clone(), *ticket));
            }
            self.take_ticket(*ticket);
        }
        let directories: BTreeSet<Ino> = tickets.iter().map(|(directory, _)| *directory).collect();
        for directory in directories {
            ended.grants.extend(self.settle_tickets(directory, zxid));
        }
        ended
    }

    /// The inode is no more: neither are its ranges, nor the queue if it was a `lock` directory.
    pub fn forget(&mut self, ino: Ino) {
        if let Some(queue) = self.ranges.remove(&ino) {
            let requests = queue.held().map(|held| &held.request).chain(queue.waiting());
            for by in requests.map(|request| request.by) {
                self.files.remove(&(by.session, by.owner, ino));
            }
        }
        if let Some(queue) = self.directories.remove(&ino) {
            for (sequence, ticket) in queue.after(0) {
                self.tickets.remove(&ticket.ino);
                self.owned.remove(&(ticket.session, ino, sequence));
            }
        }
    }

    /// The inodes on which an owner holds or waits for ranges.
    fn inodes_of(&self, owner: Owner) -> impl Iterator<Item = Ino> {
        let first = (owner.session, owner.owner, Ino(0));
        let last = (owner.session, owner.owner, Ino(u64::MAX));
        self.files.range(first..=last).map(|(_, _, ino)| *ino)
    }

    /// The owners of a session, each with an inode on which it holds or waits for ranges.
    fn files_of(&self, session: SessionId) -> impl Iterator<Item = (Owner, Ino)> {
        let (first, last) = ((session, 0, Ino(0)), (session, u64::MAX, Ino(u64::MAX)));
        let files = self.files.range(first..=last);
        files.map(|(session, owner, ino)| (Owner { session: *session, owner: *owner }, *ino))
    }

    /// Changes one file's queue on behalf of `owner` and hands on what that frees.
    fn change(
        &mut self,
        ino: Ino,
        owner: Owner,
        zxid: Zxid,
        change: impl FnOnce(&mut RangeQueue) -> Vec<Span>,
    ) -> Vec<Grant> {
        if !self.files.contains(&(owner.session, owner.owner, ino)) {
            return Vec::new();
        }
        let Some(queue) = self.ranges.get_mut(&ino) else { return Vec::new() };
        let queue = Arc::make_mut(queue);
        let freed = change(queue);
        if !queue.knows(owner) {
            self.files.remove(&(owner.session, owner.owner, ino));
        }
        self.settle(ino, freed, zxid)
    }

    fn settle(&mut self, ino: Ino, freed: Vec<Span>, zxid: Zxid) -> Vec<Grant> {
        let Some(queue) = self.ranges.get_mut(&ino) else { return Vec::new() };
        let granted = Arc::make_mut(queue).settle(freed, zxid);
        if queue.is_empty() {
            self.ranges.remove(&ino);
        }
        grants(ino, granted, zxid)
    }
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

/// Only the queues: the rest follows from them.
impl Encode for LockTable {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.ranges.encode(encoder)?;
        self.directories.encode(encoder)
    }
}

impl<Context> Decode<Context> for LockTable {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut table = LockTable {
            ranges: Decode::decode(decoder)?,
            directories: Decode::decode(decoder)?,
            ..LockTable::default()
        };
        for (ino, queue) in &table.ranges {
            let requests = queue.held().map(|held| &held.request).chain(queue.waiting());
            table.files.extend(requests.map(|held| (held.by.session, held.by.owner, *ino)));
        }
        for (directory, queue) in &table.directories {
            for (sequence, ticket) in queue.after(0) {
                table.tickets.insert(ticket.ino, (*directory, sequence));
                table.owned.insert((ticket.session, *directory, sequence));
            }
        }
        Ok(table)
    }
}
