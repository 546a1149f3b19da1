//! Ticket files: creating a name in a `lock` directory, or opening one for writing, takes a place
//! in the directory's queue and waits for the grant.
//!
//! A CREATE must not wait, for the kernel holds the directory's lock meanwhile. So whoever has to
//! wait is queued and answered with ESTALE: the kernel looks the name up again, is shown the
//! asker's own ticket (even while others go by that name before it), and sends OPEN of that, which
//! may wait ([`arrivals`]).

mod arrivals;

use super::handles::{Handle, HandleKind};
use super::opened::OpenReply;
use super::process_watch::ProcessWatch;
use super::waiters::{End, Wait, Waiter};
use super::{Caller, Mount, errno, processes};
use crate::cluster::Failure;
use crate::tree::{
    Attributes, Command, Create, Ino, LockView, Name, NewNode, Refusal, Reply, SessionId,
    TicketInfo, Zxid,
};
use arrivals::{Arrivals, Asker};
use fuser::{Errno, FileHandle, FopenFlags, ReplyCreate, ReplyOpen};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest content that is looked at for a process id, bytes.
const PID_BYTES_MAX: u64 = 32;

/// What a mount knows of its own tickets beyond the tree.
pub struct Tickets {
    /// Queued, and not yet opened by those who queued them.
    arrivals: Arrivals,
    /// Handles whose last descriptor so far was closed by the end of its process.
    bereft: Mutex<HashSet<u64>>,
    /// The processes whose ids are in tickets, by ticket.
    watch: ProcessWatch,
}

/// A place in a queue somebody asks for.
struct Asked {
    caller: Caller,
    directory: Ino,
    name: Name,
    /// Permission bits of the ticket.
    mode: u32,
    flags: i32,
}

impl Asked {
    fn command(&self, who: TicketInfo) -> Command {
        let wait = self.flags & (libc::O_EXCL | libc::O_NONBLOCK) == 0;
        let create = Create {
            parent: self.directory,
            name: self.name.clone(),
            node: NewNode::File,
            mode: self.mode,
            uid: self.caller.uid,
            gid: self.caller.gid,
            ticket: Some(who.clone()),
            wait,
        };
        if self.is_exclusive() {
            return Command::Create(create);
        }
        let (directory, name) = (self.directory, self.name.clone());
        Command::JoinQueue { directory, name, ticket: who, create: Box::new(create), wait }
    }

    fn is_exclusive(&self) -> bool {
        self.flags & libc::O_EXCL != 0
    }

    fn errno_of(&self, failure: Failure) -> Errno {
        match failure {
            Failure::Refused(Refusal::WouldBlock) if self.is_exclusive() => Errno::EEXIST,
            failure => errno::of_failure(failure),
        }
    }
}

impl Tickets {
    /// Fails if threads or descriptors are used up.
    pub fn new() -> io::Result<Tickets> {
        let watch = ProcessWatch::start()?;
        Ok(Tickets { arrivals: Arrivals::default(), bereft: Mutex::default(), watch })
    }
}

impl Mount {
    /// CREATE in a directory whose role is `lock`. `mode`: permission bits, the umask taken off.
    pub fn create_ticket(
        self: &Arc<Self>,
        caller: Caller,
        directory: Ino,
        name: Name,
        mode: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let asked = Asked { caller, directory, name, mode, flags };
        self.take_place(asked, OpenReply::Create(reply));
    }

    /// OPEN for writing of an existing ticket: the asker's own is waited for, for another's the
    /// asker queues under the same name.
    pub fn open_ticket(
        self: &Arc<Self>,
        caller: Caller,
        attributes: Attributes,
        flags: i32,
        reply: ReplyOpen,
    ) {
        let (ino, mode) = (attributes.ino, attributes.mode);
        let found = self.cluster.tree().ticket(ino);
        let Some(ticket) = found else { return reply.error(Errno::ESTALE) };
        let reply = OpenReply::Open(reply);
        if !self.is_own(&ticket, ino, caller.pid) {
            let name = ticket.ticket.map(|(name, _)| name).unwrap_or_default();
            let asked = Asked { caller, directory: ticket.ino, name, mode, flags };
            return self.take_place(asked, reply);
        }
        match ticket.token {
            Some(token) => self.open_when_visible(ino, token, flags, reply),
            None if flags & libc::O_NONBLOCK != 0 => reply.error(Errno::EAGAIN),
            None => self.wait_for_ticket(ticket, ino, caller.pid, flags, reply),
        }
        self.waiters.end(Wait::Arrival(ino), End::Done);
    }

    /// OPEN for writing of a ticket that is gone since the caller was shown it: it queues under
    /// that name. (A ticket of its own that is gone is [`Mount::lost_place`].)
    pub fn open_lost_ticket(
        self: &Arc<Self>,
        caller: Caller,
        (directory, name): (Ino, Name),
        mode: u32,
        flags: i32,
        reply: ReplyOpen,
    ) {
        let asked = Asked { caller, directory, name, mode, flags };
        self.take_place(asked, OpenReply::Open(reply));
    }

    /// Directory and name of a ticket that this caller was shown last, if it is this one.
    pub fn ticket_name(&self, caller: Caller, ticket: Ino) -> Option<(Ino, Name)> {
        self.tickets.arrivals.name_shown(caller.pid, ticket)
    }

    /// What was written through a ticket's handle is committed: if the ticket's content is the id
    /// of a process here, the ticket goes when that process does.
    pub fn ticket_written(self: &Arc<Self>, ticket: Ino) {
        let (content, view) = {
            let tree = self.cluster.tree();
            let small = tree.attributes(ticket).is_some_and(|now| now.size <= PID_BYTES_MAX);
            let content =
                small.then(|| tree.read(ticket, 0, PID_BYTES_MAX as usize).ok()).flatten();
            (content, tree.ticket(ticket))
        };
        let Some(view) = view else { return };
        let (session, directory) = (view.session, view.ino);
        let number = content.and_then(|content| process_id(&content));
        let process = number.and_then(|number| processes::process_named_by(view.pid, number));
        self.tickets.watch.forget(ticket.0);
        let Some(process) = process else { return };
        let mount = Arc::downgrade(self);
        let ended = move || {
            if let Some(mount) = mount.upgrade() {
                mount.drop_ticket(session, directory, ticket);
            }
        };
        if self.tickets.watch.watch(ticket.0, process, Box::new(ended)).is_err() {
            self.drop_ticket(session, directory, ticket);
        }
    }

    /// FLUSH of a ticket's handle.
    pub fn ticket_flushed(&self, caller: Caller, handle: &Handle) {
        let mut bereft = self.tickets.bereft.lock();
        match processes::ending(caller.pid) {
            processes::Ending::NotEnding => bereft.remove(&handle.fh),
            _ => bereft.insert(handle.fh),
        };
    }

    /// RELEASE of a ticket's handle. A ticket that is still empty when the process that had it open
    /// ends goes with it: nothing in it says whom else to wait for.
    pub fn ticket_released(&self, handle: &Handle) {
        if !self.tickets.bereft.lock().remove(&handle.fh) {
            return;
        }
        let (view, size) = {
            let tree = self.cluster.tree();
            (tree.ticket(handle.ino), tree.attributes(handle.ino).map(|now| now.size))
        };
        if let (Some(view), Some(0)) = (view, size) {
            self.drop_ticket(view.session, view.ino, handle.ino);
        }
    }

    /// The inode lost its last name: if it was a ticket, nobody waits for it any more.
    pub fn ticket_gone(&self, ticket: Ino) {
        self.waiters.end(Wait::Ticket(ticket), End::Cancelled);
        self.waiters.end(Wait::Arrival(ticket), End::Cancelled);
        self.tickets.watch.forget(ticket.0);
    }

    /// Whether this ticket was taken by the process of `thread`.
    fn is_own(&self, ticket: &LockView, ino: Ino, thread: u32) -> bool {
        let same_process = || ticket.pid != 0 && processes::process_of(thread) == Some(ticket.pid);
        Some(ticket.session) == self.cluster.session()
            && (self.tickets.arrivals.expects(ino, thread) || same_process())
    }

    fn take_place(self: &Arc<Self>, asked: Asked, reply: OpenReply) {
        let asker = (asked.caller.pid, asked.directory, asked.name.clone());
        if let Some(errno) = self.lost_place_under(&asker) {
            return reply.error(Errno::from_i32(errno));
        }
        let session = self.cluster.session();
        self.introduce(asked.caller, move |mount, who| {
            mount.take_place_as(who, asked, asker, session, reply)
        });
    }

    fn take_place_as(
        self: &Arc<Self>,
        who: TicketInfo,
        asked: Asked,
        asker: Asker,
        session: Option<SessionId>,
        reply: OpenReply,
    ) {
        let process = who.pid;
        let before = self.cluster.tree().zxid();
        let command = asked.command(who);
        self.in_session(session, move |mount, session| {
            let session = match session {
                Ok(session) => session,
                Err(failure) => return reply.error(asked.errno_of(failure)),
            };
            mount.submit(Some(session), command, move |mount, answer| match answer {
                Ok(Reply::Granted { ino, token }) if reply.is_create() => {
                    mount.open_when_visible(ino, token, asked.flags, reply);
                }
                Ok(Reply::Granted { ino, .. } | Reply::Queued { ino, .. }) => {
                    mount.expect_opener(session, ino, asker);
                    reply.error(Errno::ESTALE);
                }
                Ok(_) => reply.error(Errno::EIO),
                Err(failure) => {
                    reply.error(asked.errno_of(failure));
                    if failure == Failure::Unknown {
                        mount.drop_unknown(session, asked, process, before);
                    }
                }
            });
        });
    }

    fn wait_for_ticket(
        self: &Arc<Self>,
        view: LockView,
        ticket: Ino,
        thread: u32,
        flags: i32,
        reply: OpenReply,
    ) {
        let (mount, session, directory) = (Arc::clone(self), view.session, view.ino);
        let on_end = move |end| match end {
            End::Granted(_) => mount.open_granted(ticket, flags, reply),
            End::Interrupted | End::TimedOut => {
                mount.drop_ticket(session, directory, ticket);
                reply.error(Errno::EINTR);
            }
            End::Cancelled => reply.error(Errno::ECANCELED),
            End::SessionLost | End::Done => reply.error(Errno::EIO),
        };
        let deadline = self.patience.map(|patience| Instant::now() + patience);
        let wait = Wait::Ticket(ticket);
        let (session, on_end) = (Some(session), Box::new(on_end));
        self.waiters.enter(wait, Waiter { session, thread, deadline, on_end });
        self.look_for_ticket(ticket, view.session);
    }

    /// The grant, the removal or the session's end may have come before the wait was entered.
    pub(super) fn look_for_ticket(&self, ticket: Ino, session: SessionId) {
        let wait = Wait::Ticket(ticket);
        if self.cluster.session() != Some(session) {
            return self.waiters.end(wait, End::SessionLost);
        }
        let found = self.cluster.tree().ticket(ticket);
        match found.map(|view| view.token) {
            None => self.waiters.end(wait, End::Cancelled),
            Some(None) => (),
            Some(Some(token)) => {
                let waiters = Arc::clone(&self.waiters);
                let grant = move || waiters.end(wait, End::Granted(token));
                self.visible.after(token, Box::new(grant));
            }
        }
    }

    fn open_when_visible(self: &Arc<Self>, ticket: Ino, token: Zxid, flags: i32, reply: OpenReply) {
        let mount = Arc::clone(self);
        let open = move || mount.open_granted(ticket, flags, reply);
        self.visible.after(token, Box::new(open));
    }

    fn open_granted(&self, ticket: Ino, flags: i32, reply: OpenReply) {
        let (attributes, view) = {
            let tree = self.cluster.tree();
            (tree.attributes(ticket), tree.ticket(ticket))
        };
        let (Some(attributes), Some(view)) = (attributes, view) else {
            return reply.error(Errno::ECANCELED);
        };
        if self.cluster.session() != Some(view.session) {
            return reply.error(Errno::EIO);
        }
        let fopen = self.fopen_flags(flags);
        let mut handle = Handle::new(ticket, flags, Some(view.session), HandleKind::Ticket);
        handle.direct = fopen.contains(FopenFlags::FOPEN_DIRECT_IO);
        let Some(handle) = self.enter(handle) else { return reply.error(Errno::ECANCELED) };
        self.handles.hold(handle.fh, view.session, view.pid);
        if reply.is_create() {
            self.inodes.looked_up(ticket);
        }
        reply.opened(FileHandle(handle.fh), fopen, &attributes, Duration::ZERO);
    }

    /// Gives up a ticket of this mount's, waiting or holding.
    fn drop_ticket(&self, session: SessionId, directory: Ino, ticket: Ino) {
        let command = Command::DropTicket { directory, ticket };
        self.releases.release(session, (ticket, 0), command, Box::new(|| ()));
    }

    /// The ticket may have been taken, and nobody will open it. Once a later command has got
    /// through, the proposal cannot take effect any more: then whatever it made is dropped.
    fn drop_unknown(
        self: &Arc<Self>,
        session: SessionId,
        asked: Asked,
        process: u32,
        before: Zxid,
    ) {
        let mount = Arc::clone(self);
        let directory = asked.directory;
        let drop_it = move || {
            let tree = mount.cluster.tree();
            let name = &asked.name;
            let tickets = tree.tickets_asked_for(session, directory, name, process, before);
            drop(tree);
            for ticket in tickets {
                mount.drop_ticket(session, directory, ticket);
            }
        };
        let nothing = Command::CancelWait { ino: directory, waiter: 0 };
        self.releases.release_then(session, (directory, 0), nothing, Box::new(drop_it));
    }
}

/// A decimal number alone, as `echo $$` writes it.
fn process_id(content: &[u8]) -> Option<u32> {
    let digits = content.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::process_id;

    #[test]
    fn a_pid_is_a_number_and_nothing_else() {
        assert_eq!(process_id(b"4711\n"), Some(4711));
        assert_eq!(process_id(b" 1 "), Some(1));
        for other in [&b""[..], b"\n", b"+1", b"-1", b"12 34", b"0x10", b"99999999999", b"me"] {
            assert_eq!(process_id(other), None, "{other:?}");
        }
    }
}
