//! What readers may ask of the locks.

use super::super::{Ino, LockMode, LockView, Name, SessionId, Zxid};
use super::queue::RangeQueue;
use super::ranges::{Held, Owner, Request, Span};
use super::tickets::{Ticket, TicketQueue};
use super::{LockGrant, LockTable};

impl LockTable {
    /// Holders, then waiters in the order of asking: ranges of a file, tickets of a `lock`
    /// directory.
    pub fn of(&self, ino: Ino) -> Vec<LockView> {
        let mut views = Vec::new();
        if let Some(queue) = self.directories.get(ino) {
            tickets_of(ino, queue, &mut views);
        }
        if let Some(queue) = self.ranges.get(ino) {
            ranges_of(ino, queue, &mut views);
        }
        views
    }

    /// The holder or waiter a ticket's inode stands for.
    pub fn ticket(&self, ticket: Ino) -> Option<LockView> {
        let (directory, sequence) = *self.tickets.get(ticket)?;
        let queue = self.directories.get(directory)?;
        let found = queue.get(sequence)?;
        Some(view_of_ticket(directory, sequence, found, queue.position(sequence)))
    }

    /// The `lock` directory whose ticket this inode is, and the ticket's sequence and name.
    pub fn ticket_place(&self, ticket: Ino) -> Option<(Ino, u64, &Name)> {
        let (directory, sequence) = *self.tickets.get(ticket)?;
        let found = self.directories.get(directory)?.get(sequence)?;
        Some((directory, sequence, &found.name))
    }

    /// The first holder of a file's ranges, or of a `lock` directory.
    pub fn holder(&self, ino: Ino) -> Option<LockView> {
        let held = self.ranges.get(ino).and_then(|queue| queue.held().next());
        let ticket = || {
            let (sequence, head) = self.directories.get(ino)?.after(0).next()?;
            Some(view_of_ticket(ino, sequence, head, 0)).filter(|view| view.token.is_some())
        };
        held.map(|held| view_of_held(ino, held)).or_else(ticket)
    }

    /// What became of the range of this file that was queued at `waiter`; `None` if it was given
    /// back or cancelled.
    pub fn outcome(&self, ino: Ino, waiter: Zxid) -> Option<LockGrant> {
        Some(match self.ranges.get(ino)?.outcome(waiter)? {
            Some(token) => LockGrant::Held { token },
            None => LockGrant::Queued { waiter },
        })
    }

    /// Holders and waiters.
    pub fn len(&self) -> usize {
        self.in_ranges + self.tickets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything, by inode.
    pub fn all(&self) -> Vec<LockView> {
        let mut views = Vec::new();
        for (ino, queue) in self.directories.iter() {
            tickets_of(ino, queue, &mut views);
        }
        for (ino, queue) in self.ranges.iter() {
            ranges_of(ino, queue, &mut views);
        }
        views.sort_by_key(|view| view.ino);
        views
    }

    /// The tickets of a `lock` directory after `sequence` (0: all), in queue order.
    pub fn tickets_after(
        &self,
        directory: Ino,
        sequence: u64,
    ) -> impl Iterator<Item = (u64, &Name, Ino)> {
        let queue = self.directories.get(directory);
        let tickets = queue.into_iter().flat_map(move |queue| queue.after(sequence));
        tickets.map(|(sequence, ticket)| (sequence, &ticket.name, ticket.ino))
    }

    /// The `lock` directories that have had a ticket.
    pub fn directories(&self) -> impl Iterator<Item = Ino> {
        self.directories.iter().map(|(ino, _)| ino)
    }

    /// What an owner waits for in a file: under which zxids it queued.
    pub fn waits_of(&self, ino: Ino, owner: Owner) -> Vec<Zxid> {
        let queue = self.ranges.get(ino).into_iter();
        queue.flat_map(|queue| queue.waits_of(owner)).map(|request| request.waiter).collect()
    }

    /// The tickets of a session in a directory that a process asked for under a name, later than at
    /// `after`.
    pub fn tickets_asked_for(
        &self,
        session: SessionId,
        directory: Ino,
        name: &[u8],
        pid: u32,
        after: Zxid,
    ) -> Vec<Ino> {
        let Some(queue) = self.directories.get(directory) else { return Vec::new() };
        let owned = self.owned.from((session, directory, 0));
        let owned = owned.map(|(place, ())| place);
        let owned = owned.take_while(|(of, at, _)| (*of, *at) == (session, directory));
        let tickets = owned.filter_map(|(_, _, sequence)| queue.get(sequence));
        tickets
            .filter(|ticket| {
                ticket.waiter > after && ticket.who.pid == pid && *ticket.name == *name
            })
            .map(|ticket| ticket.ino)
            .collect()
    }

    /// What stands in the way of such a range right now (`F_GETLK`).
    pub fn conflict(&self, ino: Ino, owner: Owner, span: Span, mode: LockMode) -> Option<LockView> {
        self.ranges.get(ino)?.obstacle(owner, span, mode).map(|held| view_of_held(ino, held))
    }

    /// How many ranges and tickets a session holds or waits for (ranges: files, per owner).
    pub fn count_of(&self, session: SessionId) -> usize {
        self.files_of(session).count() + self.tickets_of(session).count()
    }
}

fn tickets_of(directory: Ino, queue: &TicketQueue, views: &mut Vec<LockView>) {
    let tickets = queue.after(0).enumerate();
    views.extend(tickets.map(|(position, (sequence, ticket))| {
        view_of_ticket(directory, sequence, ticket, position)
    }));
}

fn ranges_of(ino: Ino, queue: &RangeQueue, views: &mut Vec<LockView>) {
    views.extend(queue.held().map(|held| view_of_held(ino, held)));
    let waiting = queue.positions();
    views.extend(
        waiting.map(|(request, position)| LockView { position, ..view_of_request(ino, request) }),
    );
}

fn view_of_ticket(directory: Ino, sequence: u64, ticket: &Ticket, position: usize) -> LockView {
    LockView {
        ino: directory,
        ticket: Some((ticket.name.clone(), ticket.ino)),
        session: ticket.session,
        owner: 0,
        start: 0,
        end: i64::MAX as u64,
        mode: LockMode::Exclusive,
        pid: ticket.who.pid,
        uid: ticket.who.uid,
        command: ticket.who.command.clone(),
        since: ticket.since,
        waiter: ticket.waiter,
        token: ticket.token,
        position,
        sequence,
    }
}

fn view_of_held(ino: Ino, held: &Held) -> LockView {
    LockView { token: Some(held.token), ..view_of_request(ino, &held.request) }
}

fn view_of_request(ino: Ino, request: &Request) -> LockView {
    LockView {
        ino,
        ticket: None,
        session: request.by.session,
        owner: request.by.owner,
        start: request.span.start,
        end: request.span.end,
        mode: request.mode,
        pid: request.who.pid,
        uid: request.who.uid,
        command: request.who.command.clone(),
        since: request.since,
        waiter: request.waiter,
        token: None,
        position: 0,
        sequence: 0,
    }
}
