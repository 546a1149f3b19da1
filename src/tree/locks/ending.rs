//! What a session leaves behind, taken back a bounded piece at a time.

use super::super::{Ino, Name, SessionId, Zxid};
use super::ranges::Span;
use super::{Grant, LockTable};
use std::collections::{BTreeMap, BTreeSet};

/// What ended sessions gave back in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndedLocks {
    pub grants: Vec<Grant>,
    /// Already out of their queues, to be removed from their directories.
    pub tickets: Vec<EndedTicket>,
}

/// A ticket that has left its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedTicket {
    pub directory: Ino,
    pub name: Name,
    pub ticket: Ino,
    pub sequence: u64,
}

impl LockTable {
    /// Nothing is granted to the session from now on; [`LockTable::take_back`] takes what it has.
    pub fn end_session(&mut self, session: SessionId) {
        if self.files_of(session).next().is_some() || self.tickets_of(session).next().is_some() {
            self.dying.insert(session, ());
        }
    }

    /// Whether [`LockTable::take_back`] has anything to do.
    pub fn has_work(&self) -> bool {
        !self.dying.is_empty() || !self.unsettled.is_empty()
    }

    /// Takes back what ended sessions hold and wait for, and grants what one entry could not, as
    /// far as `work` goes, which is lowered by what was done. One step may go over it by the ranges
    /// of one file.
    pub fn take_back(&mut self, zxid: Zxid, work: &mut usize) -> EndedLocks {
        let mut ended = EndedLocks::default();
        while *work > 0
            && let Some((ino, ())) = self.unsettled.first()
        {
            self.unsettled.remove(ino);
            let granted = self.settle(ino, vec![Span::WHOLE], zxid);
            *work = work.saturating_sub(granted.len().max(1));
            ended.grants.extend(granted);
        }
        while *work > 0
            && let Some((session, ())) = self.dying.first()
        {
            self.take_ranges(session, zxid, work, &mut ended);
            self.take_tickets(session, zxid, work, &mut ended);
            if *work > 0 {
                *work -= 1;
                self.dying.remove(session);
            }
        }
        ended
    }

    fn take_ranges(
        &mut self,
        session: SessionId,
        zxid: Zxid,
        work: &mut usize,
        ended: &mut EndedLocks,
    ) {
        let files: Vec<_> = self.files_of(session).take(*work).collect();
        let mut freed: BTreeMap<Ino, Vec<Span>> = BTreeMap::new();
        for (owner, ino) in files {
            if *work == 0 {
                break;
            }
            self.files.remove((session, owner.owner, ino));
            let spans = self.with_queue(ino, |queue| queue.withdraw_all(owner));
            *work = work.saturating_sub(spans.len().max(1));
            freed.entry(ino).or_default().extend(spans);
        }
        for (ino, spans) in freed {
            let granted = self.settle(ino, spans, zxid);
            *work = work.saturating_sub(granted.len());
            ended.grants.extend(granted);
        }
    }

    fn take_tickets(
        &mut self,
        session: SessionId,
        zxid: Zxid,
        work: &mut usize,
        ended: &mut EndedLocks,
    ) {
        let tickets: Vec<_> = self.tickets_of(session).take(*work).collect();
        *work -= tickets.len();
        for (directory, ticket) in &tickets {
            if let Some((_, sequence, name)) = self.ticket_place(*ticket) {
                let (directory, ticket, name) = (*directory, *ticket, name.clone());
                ended.tickets.push(EndedTicket { directory, name, ticket, sequence });
            }
            self.take_ticket(*ticket);
        }
        let directories: BTreeSet<Ino> = tickets.iter().map(|(directory, _)| *directory).collect();
        for directory in directories {
            ended.grants.extend(self.settle_tickets(directory, zxid));
        }
    }
}
