//! The doors to the lock queues: tickets in `lock` directories, ranges of files.
//!
//! A ticket is a file that queues. Of several tickets with one name only the first in the queue is
//! the entry of that name; the others are hidden, inodes with a link but no entry, until it is
//! their turn.

use super::edit::Edit;
use super::locks::{LockGrant, Owner, Span};
use super::name::check_name;
use super::{
    Create, Ino, Lock, LockOwner, Name, NewNode, Refusal, Reply, Role, SessionId, TicketInfo, Zxid,
};

impl Edit<'_> {
    /// A name made in a `lock` directory; the caller has looked at the name and the directory.
    pub fn create_ticket(&mut self, create: &Create) -> Result<Reply, Refusal> {
        let nobody = TicketInfo { pid: 0, uid: 0, command: Box::default() };
        let who = create.ticket.as_ref().unwrap_or(&nobody);
        if self.directory(create.parent)?.entries.find(&create.name).is_some() {
            return Err(Refusal::AlreadyExists);
        }
        self.add_ticket(create, who, false)
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
        let taken = queue.entries.find(name).is_some();
        let create = Create { parent: directory, name: name.clone(), wait, ..create.clone() };
        self.add_ticket(&create, who, taken)
    }

    fn add_ticket(
        &mut self,
        create: &Create,
        who: &TicketInfo,
        hidden: bool,
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
        if !hidden {
            self.add_entry(create.parent, &create.name, ino);
            self.touch_listing(create.parent, 0);
        } else if let Some(directory) = self.tree.directory_mut(create.parent) {
            directory.state.hidden += 1;
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
        let Some((directory, name)) = self.tree.locks.ticket_place(ticket) else { return };
        let name = name.clone();
        let granted = self.tree.locks.remove_ticket(ticket, zxid);
        self.hand_on_name(directory, &name, ticket);
        self.granted(granted);
    }

    /// The ticket has left the queue: the next one of its name becomes the entry.
    fn hand_on_name(&mut self, directory: Ino, name: &[u8], ticket: Ino) {
        let Ok(found) = self.directory(directory) else { return };
        let hidden = found.state.hidden;
        let visible = found.entries.find(name).filter(|(_, ino)| *ino == ticket);
        let Some((cookie, _)) = visible else {
            self.set_hidden(directory, hidden.saturating_sub(1));
            return self.drop_link(ticket);
        };
        let next = self.tree.locks.ticket_named(directory, name).filter(|_| hidden > 0);
        if let Some(next) = next {
            self.set_hidden(directory, hidden - 1);
            self.replace_entry(directory, cookie, next);
        } else {
            self.remove_entry(directory, cookie);
        }
        self.touch_listing(directory, 0);
        self.drop_link(ticket);
    }

    fn set_hidden(&mut self, directory: Ino, hidden: u32) {
        if let Some(directory) = self.tree.directory_mut(directory) {
            directory.state.hidden = hidden;
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

    /// The locks and tickets of a session that ended.
    pub fn end_locks(&mut self, session: SessionId) {
        let zxid = self.zxid();
        let ended = self.tree.locks.end_session(session, zxid);
        for (directory, name, ticket) in ended.tickets {
            self.hand_on_name(directory, &name, ticket);
        }
        self.granted(ended.grants);
    }
}
