//! The queue of one `lock` directory: its tickets by sequence. The first one holds.

use super::super::{Ino, Name, Refusal, SessionId, Stamp, TicketInfo, Zxid};
use super::{Dying, Grant, LockGrant, LockTable, queue_of};
use crate::cow::CowMap;
use crate::limits::LOCK_QUEUE_MAX;
use bincode::{Decode, Encode};
use std::sync::Arc;

/// One entry of a `lock` directory.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(super) struct Ticket {
    pub ino: Ino,
    pub name: Name,
    pub session: SessionId,
    pub since: Stamp,
    pub waiter: Zxid,
    /// Set once granted.
    pub token: Option<Zxid>,
    pub who: Arc<TicketInfo>,
}

/// Outlives its last ticket: sequences are not given twice while the directory lives.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub(super) struct TicketQueue {
    last_sequence: u64,
    tickets: CowMap<u64, Ticket, 32>,
}

impl TicketQueue {
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    pub fn push(&mut self, ticket: Ticket) -> u64 {
        self.last_sequence += 1;
        self.tickets.insert(self.last_sequence, ticket);
        self.last_sequence
    }

    pub fn remove(&mut self, sequence: u64) -> Option<Ticket> {
        self.tickets.remove(sequence)
    }

    /// Grants the head, unless it has been granted already, or its session is ending: then its turn
    /// passes when it is taken out.
    pub fn settle(&mut self, token: Zxid, dying: &Dying) -> Option<&Ticket> {
        let (sequence, head) = self.tickets.first()?;
        if head.token.is_some() || dying.contains(head.session) {
            return None;
        }
        let head = self.tickets.get_mut(sequence)?;
        head.token = Some(token);
        Some(head)
    }

    /// Tickets in queue order, from those after `sequence` on.
    pub fn after(&self, sequence: u64) -> impl Iterator<Item = (u64, &Ticket)> {
        self.tickets.from(sequence.saturating_add(1))
    }

    pub fn get(&self, sequence: u64) -> Option<&Ticket> {
        self.tickets.get(sequence)
    }

    /// How many tickets are before this one.
    pub fn position(&self, sequence: u64) -> usize {
        self.tickets.rank(sequence)
    }
}

impl LockTable {
    /// Puts a new ticket at the end of its directory's queue; the first one holds.
    ///
    /// # Errors
    /// `WouldBlock` if it is not the first and not to wait, `NoLocks` if the queue is full.
    pub fn enqueue_ticket(
        &mut self,
        directory: Ino,
        ticket: Ino,
        name: Name,
        session: SessionId,
        zxid: Zxid,
        stamp: Stamp,
        who: &TicketInfo,
        wait: bool,
    ) -> Result<LockGrant, Refusal> {
        let length = self.directories.get(directory).map_or(0, |queue| queue.len());
        if length > 0 && !wait {
            return Err(Refusal::WouldBlock);
        }
        if length >= LOCK_QUEUE_MAX {
            return Err(Refusal::NoLocks);
        }
        let queue = queue_of(&mut self.directories, directory);
        let sequence = queue.push(Ticket {
            ino: ticket,
            name,
            session,
            since: stamp,
            waiter: zxid,
            token: None,
            who: Arc::new(who.clone()),
        });
        self.tickets.insert(ticket, (directory, sequence));
        self.owned.insert((session, directory, sequence), ());
        Ok(match queue.settle(zxid, &self.dying) {
            Some(_) => LockGrant::Held { token: zxid },
            None => LockGrant::Queued { waiter: zxid },
        })
    }

    /// Takes a ticket out of its queue, waiting or holding.
    pub fn remove_ticket(&mut self, ticket: Ino, zxid: Zxid) -> Option<Grant> {
        let directory = self.take_ticket(ticket)?;
        self.settle_tickets(directory, zxid)
    }

    /// The tickets of a session with their directories, in queue order.
    pub(super) fn tickets_of(&self, session: SessionId) -> impl Iterator<Item = (Ino, Ino)> {
        let owned = self.owned.from((session, Ino(0), 0));
        owned.take_while(move |((of, ..), ())| *of == session).filter_map(
            |((_, directory, sequence), ())| {
                let ticket = self.directories.get(directory)?.get(sequence)?;
                Some((directory, ticket.ino))
            },
        )
    }

    /// Removes a ticket without handing on what it held; answers with its directory.
    pub(super) fn take_ticket(&mut self, ticket: Ino) -> Option<Ino> {
        let (directory, sequence) = self.tickets.remove(ticket)?;
        let removed = Arc::make_mut(self.directories.get_mut(directory)?).remove(sequence)?;
        self.owned.remove((removed.session, directory, sequence));
        Some(directory)
    }

    pub(super) fn settle_tickets(&mut self, directory: Ino, zxid: Zxid) -> Option<Grant> {
        let queue = Arc::make_mut(self.directories.get_mut(directory)?);
        let head = queue.settle(zxid, &self.dying)?;
        Some(Grant { session: head.session, ino: head.ino, waiter: head.waiter, token: zxid })
    }
}
