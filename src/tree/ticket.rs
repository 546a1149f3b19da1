//! The doors to the lock queues: tickets in `lock` directories, ranges of files.
//!
//! A ticket is a file that queues. Of several tickets with one name only the first in the queue is
//! the entry of that name; the others are hidden, inodes with a link but no entry, until it is
//! their turn.

use super::directory::Directory;
use super::edit::Edit;
use super::inode::Inode;
use super::locks::{EndedTicket, LockGrant, Owner, Span};
use super::name::check_name;
use super::name_key::Cookie;
use super::{
    Create, Ino, Lock, LockOwner, Name, NewNode, Refusal, Reply, Role, TicketInfo, Tree, Zxid,
};

impl Edit<'_> {
    /// A name made in a `lock` directory; the caller has looked at the name and the directory.
    pub fn create_ticket(&mut self, create: &Create) -> Result<Reply, Refusal> {
        let nobody = TicketInfo { pid: 0, uid: 0, command: Box::default() };
        let who = create.ticket.as_ref().unwrap_or(&nobody);
        if self.directory(create.parent)?.entries.find(&create.name).is_some() {
            return Err(Refusal::AlreadyExists);
        }
        self.add_ticket(create, who, None)
    }

    /// Another opener of a ticket's name; if that is gone by now, its first.
    pub fn join_queue(
        &mut self,
        directory: Ino,
        name: &Name,
        who: &TicketInfo,
        create: &Create,
        wait: bool,
    ) -> Result<Reply, Refusal> {
        check_name(name)?;
        let queue = self.living_directory(directory)?;
        if queue.state.role != Role::Lock {
            return Err(Refusal::Invalid);
        }
        let taken = queue.entries.find(name).map(|(cookie, _)| cookie);
        let create = Create { parent: directory, name: name.clone(), wait, ..create.clone() };
        self.add_ticket(&create, who, taken)
    }

    /// `behind`: the entry that another ticket has under this name.
    fn add_ticket(
        &mut self,
        create: &Create,
        who: &TicketInfo,
        behind: Option<Cookie>,
    ) -> Result<Reply, Refusal> {
        if create.node != NewNode::File {
            return Err(Refusal::NotPermitted);
        }
        let session = self.live_session()?;
        self.check_space(1, create.name.len() as u64)?;
        let mut inode = self.new_inode(create)?;
        inode.set_owner(session);
        let (ino, name) = (Ino(self.tree.next_ino), create.name.clone());
        let (zxid, stamp) = (self.zxid(), self.stamp());
        let granted = self.tree.locks.enqueue_ticket(
            create.parent,
            ino,
            name,
            session,
            zxid,
            stamp,
            who,
            create.wait,
        )?;
        self.add_inode(inode);
        match behind {
            Some(cookie) => self.tree.hide_ticket(create.parent, cookie, ino),
            None => {
                self.add_entry(create.parent, &create.name, ino);
                self.touch_listing(create.parent, 0);
            }
        }
        Ok(match granted {
            LockGrant::Held { token } => Reply::Granted { ino, token },
            LockGrant::Queued { waiter } => Reply::Queued { ino, waiter },
        })
    }

    pub fn drop_ticket(&mut self, directory: Ino, ticket: Ino) -> Result<Reply, Refusal> {
        let session = self.live_session()?;
        let found = self.tree.locks.ticket(ticket).filter(|found| found.ino == directory);
        if found.ok_or(Refusal::NotFound)?.session != session {
            return Err(Refusal::NotPermitted);
        }
        self.remove_ticket(ticket);
        Ok(Reply::Done)
    }

    /// Takes a ticket out of its queue and its directory; the next one holds.
    pub fn remove_ticket(&mut self, ticket: Ino) {
        let zxid = self.zxid();
        let place = self.tree.locks.ticket_place(ticket);
        let Some((directory, sequence, name)) = place else { return };
        let name = name.clone();
        let granted = self.tree.locks.remove_ticket(ticket, zxid);
        self.hand_on_name(directory, &name, ticket, sequence);
        self.granted(granted);
    }

    /// The ticket has left the queue: the next one of its name becomes the entry.
    fn hand_on_name(&mut self, directory: Ino, name: &[u8], ticket: Ino, sequence: u64) {
        let Ok(found) = self.directory(directory) else { return };
        let Some((cookie, shown)) = found.entries.find(name) else { return };
        if shown != ticket {
            self.show_ticket(directory, (cookie, sequence));
            return self.drop_link(ticket);
        }
        if let Some((place, next)) = found.next_hidden(cookie) {
            self.show_ticket(directory, place);
            self.replace_entry(directory, cookie, next);
        } else {
            self.remove_entry(directory, cookie);
        }
        self.touch_listing(directory, 0);
        self.drop_link(ticket);
    }

    /// A ticket is hidden no more.
    fn show_ticket(&mut self, directory: Ino, place: (Cookie, u64)) {
        if let Some(directory) = self.tree.directory_mut(directory) {
            directory.hidden.remove(place);
        }
    }

    pub fn lock(&mut self, lock: &Lock) -> Result<Reply, Refusal> {
        let session = self.live_session()?;
        self.inode(lock.ino)?;
        let (zxid, stamp) = (self.zxid(), self.stamp());
        let (granted, others) = self.tree.locks.lock(session, zxid, stamp, lock)?;
        self.granted(others);
        Ok(match granted {
            LockGrant::Held { token } => Reply::Granted { ino: lock.ino, token },
            LockGrant::Queued { waiter } => Reply::Queued { ino: lock.ino, waiter },
        })
    }

    pub fn unlock(
        &mut self,
        ino: Ino,
        owner: LockOwner,
        start: u64,
        end: u64,
    ) -> Result<Reply, Refusal> {
        let owner = Owner { session: self.live_session()?, owner };
        let zxid = self.zxid();
        let granted = self.tree.locks.unlock(ino, owner, Span { start, end }, zxid)?;
        self.granted(granted);
        Ok(Reply::Done)
    }

    /// A wait that is over already is nothing to refuse.
    pub fn cancel_wait(&mut self, ino: Ino, waiter: Zxid) -> Result<Reply, Refusal> {
        let (session, zxid) = (self.live_session()?, self.zxid());
        match self.tree.locks.ticket(ino) {
            Some(found) if found.waiter == waiter && found.session == session => {
                self.remove_ticket(ino);
            }
            _ => {
                let granted = self.tree.locks.cancel(ino, session, waiter, zxid);
                self.granted(granted);
            }
        }
        Ok(Reply::Done)
    }

    /// A piece of the locks and tickets of sessions that ended.
    pub fn take_locks_back(&mut self, work: &mut usize) {
        let zxid = self.zxid();
        let ended = self.tree.locks.take_back(zxid, work);
        for EndedTicket { directory, name, ticket, sequence } in ended.tickets {
            self.hand_on_name(directory, &name, ticket, sequence);
        }
        self.granted(ended.grants);
    }
}

impl Directory {
    /// The first hidden ticket behind the entry, in queue order.
    fn next_hidden(&self, cookie: Cookie) -> Option<((Cookie, u64), Ino)> {
        let (place, ticket) = self.hidden.from((cookie, 0)).next()?;
        (place.0 == cookie).then_some((place, *ticket))
    }
}

impl Tree {
    /// A ticket of a name that another one has waits behind that entry.
    fn hide_ticket(&mut self, directory: Ino, cookie: Cookie, ticket: Ino) {
        let place = self.locks.ticket_place(ticket);
        let (_, sequence, _) = place.expect("a ticket that is hidden waits in its queue");
        if let Some(directory) = self.directory_mut(directory) {
            directory.hidden.insert((cookie, sequence), ticket);
        }
    }

    /// Finds the hidden tickets: they follow from the queues and the entries.
    pub(super) fn hide_tickets(&mut self) {
        let mut hidden = Vec::new();
        for directory in self.locks.directories() {
            let Some(Some(found)) = self.inodes.get(directory).map(Inode::directory) else {
                continue;
            };
            for (_, name, ticket) in self.locks.tickets_after(directory, 0) {
                if let Some((cookie, shown)) = found.entries.find(name)
                    && shown != ticket
                {
                    hidden.push((directory, cookie, ticket));
                }
            }
        }
        for (directory, cookie, ticket) in hidden {
            self.hide_ticket(directory, cookie, ticket);
        }
    }
}
