//! WRITE and FALLOCATE. A write is committed before it is answered: its error is the caller's,
//! while one at `close` would never reach a shell.

use crate::mount::handles::{Handle, HandleKind};
use crate::mount::{Caller, Mount, answer_empty, errno};
use crate::tree::{AllocateHow, Command, Ino, Place, Reply, SessionId, Write};
use fuser::{Errno, ReplyEmpty, ReplyWrite, WriteFlags};
use std::sync::Arc;

/// What WRITE brings.
pub struct Writing<'a> {
    pub offset: u64,
    pub data: &'a [u8],
    pub write_flags: WriteFlags,
    /// The open flags as they are now.
    pub flags: i32,
}

impl Mount {
    pub fn write(
        self: &Arc<Self>,
        caller: Caller,
        ino: Ino,
        fh: u64,
        writing: Writing<'_>,
        reply: ReplyWrite,
    ) {
        let Some(handle) = self.handles.get(fh) else { return reply.error(Errno::EBADF) };
        match &handle.kind {
            HandleKind::Stream(stream) => {
                if self.is_unprotected(caller, ino, Some(&handle), self.cluster.session()) {
                    return reply.error(self.give_up_stream(stream));
                }
                self.write_stream(caller, stream, writing.offset, writing.data, reply);
            }
            HandleKind::Control(_) => reply.error(Errno::EBADF),
            HandleKind::File | HandleKind::Ticket
                if writing.write_flags.contains(WriteFlags::FUSE_WRITE_CACHE) =>
            {
                self.write_back(ino, writing.offset, writing.data, reply);
            }
            HandleKind::File | HandleKind::Ticket => {
                self.write_file(caller, ino, handle, writing, reply);
            }
        }
    }

    fn write_file(
        self: &Arc<Self>,
        caller: Caller,
        ino: Ino,
        handle: Arc<Handle>,
        writing: Writing<'_>,
        reply: ReplyWrite,
    ) {
        let session = self.cluster.session();
        if self.is_unprotected(caller, ino, Some(&handle), session) {
            return reply.error(Errno::EIO);
        }
        let appends = writing.flags & libc::O_APPEND != 0;
        let truncation = self.handles.take_truncation(ino, session);
        let place = match (truncation, appends) {
            (Some(_), true) => Place::Replace(0),
            (Some(_), false) => Place::Replace(writing.offset),
            (None, true) => Place::End,
            (None, false) => Place::At(writing.offset),
        };
        let clear_set_id = writing.write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID)
            || truncation.is_some_and(|truncation| truncation.clear_set_id);
        let data = writing.data.into();
        let is_ticket = matches!(handle.kind, HandleKind::Ticket);
        let loses_set_id = clear_set_id && self.has_set_id(ino);
        let command = Command::Write(Write { ino, place, data, clear_set_id });
        self.submit(session, command, move |mount, answer| match answer {
            Ok(Reply::Written { length, .. }) => {
                if loses_set_id {
                    // The kernel takes note that size and times have changed, but not the mode.
                    mount.forget_attributes(ino);
                }
                if is_ticket {
                    mount.ticket_written(ino);
                }
                if !handle.direct {
                    // The kernel keeps these pages locked; the notifier may be waiting for them.
                    return reply.written(length);
                }
                mount.when_pages_are_right(ino, move || reply.written(length));
            }
            Ok(_) => reply.error(Errno::EIO),
            Err(failure) => {
                if let Some(truncation) = truncation {
                    mount.handles.put_back_truncation(ino, truncation);
                }
                reply.error(errno::of_failure(failure));
            }
        });
    }

    fn has_set_id(&self, ino: Ino) -> bool {
        let attributes = self.cluster.tree().attributes(ino);
        attributes.is_some_and(|now| now.mode & (libc::S_ISUID | libc::S_ISGID) != 0)
    }

    /// A reader on this host may have brought pages in while the change was on its way: then the
    /// notifier takes them back first.
    fn when_pages_are_right(&self, ino: Ino, then: impl FnOnce() + Send + 'static) {
        if self.inodes.may_hold_pages(ino) {
            let zxid = self.cluster.tree().zxid();
            self.visible.after(zxid, Box::new(then));
        } else {
            then();
        }
    }

    pub fn fallocate(
        self: &Arc<Self>,
        caller: Caller,
        ino: Ino,
        fh: u64,
        (offset, length): (u64, u64),
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Some(handle) = self.handles.get(fh) else { return reply.error(Errno::EBADF) };
        if matches!(handle.kind, HandleKind::Stream(_) | HandleKind::Control(_)) {
            return reply.error(Errno::ENOTSUP);
        }
        let session = self.cluster.session();
        if self.is_unprotected(caller, ino, Some(&handle), session) {
            return reply.error(Errno::EIO);
        }
        let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let how = match mode & !libc::FALLOC_FL_KEEP_SIZE {
            0 if keep_size => AllocateHow::KeepSize,
            0 => AllocateHow::Grow,
            libc::FALLOC_FL_PUNCH_HOLE if keep_size => AllocateHow::PunchHole,
            libc::FALLOC_FL_ZERO_RANGE => AllocateHow::ZeroRange { keep_size },
            _ => return reply.error(Errno::ENOTSUP),
        };
        let allocate = Command::Allocate { ino, offset, length, how };
        self.settle_truncation(ino, session, move |mount, settled| match settled {
            Ok(session) => mount.allocate(session, allocate, reply),
            Err(failure) => reply.error(errno::of_failure(failure)),
        });
    }

    fn allocate(self: &Arc<Self>, session: Option<SessionId>, command: Command, reply: ReplyEmpty) {
        let zeroed = match command {
            Command::Allocate {
                ino,
                offset,
                length,
                how: AllocateHow::PunchHole | AllocateHow::ZeroRange { .. },
            } => Some((ino, offset, offset.saturating_add(length))),
            _ => None,
        };
        self.submit(session, command, move |mount, answer| {
            if let (Ok(_), Some((ino, from, to))) = (&answer, zeroed) {
                mount.mapped.zeroed(ino, from, to);
            }
            answer_empty(reply, answer.map_err(errno::of_failure));
        });
    }
}
