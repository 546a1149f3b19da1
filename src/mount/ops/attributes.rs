//! `stat`, `chmod`, `chown`, `truncate`, `utimensat`.

use crate::mount::attr::{self, TTL, TTL_NONE};
use crate::mount::handles::{Handle, HandleKind, Truncation};
use crate::mount::kernel::Pages;
use crate::mount::{Caller, Mount, control, errno};
use crate::tree::{Command, Ino, Kind, SetAttributes};
use fuser::{Errno, ReplyAttr, TimeOrNow};
use std::sync::Arc;
use std::time::Duration;

/// What SETATTR asks for; `None` stays as it is.
pub struct AskedAttributes {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<TimeOrNow>,
    pub mtime: Option<TimeOrNow>,
}

impl AskedAttributes {
    /// Whether `open` with `O_TRUNC` asks so; `truncate` does too.
    fn is_truncation_at_open(&self, fh: Option<u64>) -> bool {
        let (mode, owner) = (self.mode.is_some(), self.uid.or(self.gid).is_some());
        let times = self.atime.is_some() || self.mtime.is_some();
        self.size == Some(0) && fh.is_none() && !(mode || owner || times)
    }
}

impl Mount {
    pub fn getattr(&self, caller: Caller, ino: Ino, fh: Option<u64>, reply: ReplyAttr) {
        if control::is_control(ino) {
            return match self.control_attr(ino) {
                Some(attr) => reply.attr(&TTL_NONE, &attr),
                None => reply.error(Errno::ENOENT),
            };
        }
        self.handles.asked(ino, caller.pid);
        let _in_order = self.reply_in_order();
        let attributes = self.cluster.tree().attributes(ino);
        // ESTALE rather than ENOENT: the kernel then looks the path up anew.
        let Some(attributes) = attributes else { return reply.error(Errno::ESTALE) };
        let mut attr = attr::file_attr(&attributes);
        if self.handles.truncation_waits(ino) && self.is_truncator(caller, ino, fh) {
            attr.size = 0;
            attr.blocks = 0;
        }
        reply.attr(&self.attr_ttl(ino), &attr);
    }

    pub(in crate::mount) fn attr_ttl(&self, ino: Ino) -> Duration {
        if self.handles.attributes_hold(ino) { TTL } else { TTL_NONE }
    }

    pub fn setattr(
        self: &Arc<Self>,
        caller: Caller,
        ino: Ino,
        asked: AskedAttributes,
        fh: Option<u64>,
        reply: ReplyAttr,
    ) {
        if control::is_control(ino) {
            return reply.error(Errno::EPERM);
        }
        let Some(current) = self.cluster.tree().attributes(ino) else {
            return reply.error(Errno::ESTALE);
        };
        if current.kind == Kind::Stream && asked.size.is_some() {
            return self.resize_stream(ino, asked.size.unwrap_or(0), fh, reply);
        }
        let session = self.cluster.session();
        let handle = fh.and_then(|fh| self.handles.get(fh));
        if self.is_unprotected(caller, ino, handle.as_deref(), session) {
            return reply.error(Errno::EIO);
        }
        if asked.is_truncation_at_open(fh) && caller.pid != 0 {
            let truncation = Truncation { clear_set_id: caller.uid != 0, session };
            if self.handles.put_off_truncation(ino, caller.pid, truncation) {
                return self.answer_put_off(ino, reply);
            }
        }
        let size = asked.size;
        // Only truncation asks whether the caller is privileged: `chown` takes set-id bits off
        // files for everyone.
        let changes_owner = asked.uid.is_some() || asked.gid.is_some();
        let clear_set_id = (changes_owner && current.kind != Kind::Directory)
            || (size.is_some() && caller.uid != 0);
        let set = SetAttributes {
            mode: asked.mode.map(|mode| mode & 0o7777),
            uid: asked.uid,
            gid: asked.gid,
            size,
            atime: asked.atime.map(attr::time_to_set),
            mtime: asked.mtime.map(attr::time_to_set),
            clear_set_id,
        };
        let truncation = size.and_then(|_| self.handles.take_truncation(ino, session));
        let command = match (size, truncation) {
            (Some(size), Some(truncation)) => truncation.then_to(ino, size, clear_set_id),
            _ => Command::SetAttributes { ino, set },
        };
        self.submit(session, command, move |mount, answer| match answer {
            Ok(_) => {
                if let Some(size) = size {
                    mount.mapped.zeroed(ino, size, u64::MAX);
                }
                mount.answer_attributes(ino, reply);
            }
            Err(failure) => {
                if let Some(truncation) = truncation {
                    mount.handles.put_back_truncation(ino, truncation);
                }
                reply.error(errno::of_failure(failure));
            }
        });
    }

    /// A stream that is being written can make a hole at its end; what is stored cannot change. The
    /// kernel's truncation for `O_TRUNC` follows the OPEN, which has begun a stream anew already.
    fn resize_stream(self: &Arc<Self>, ino: Ino, size: u64, fh: Option<u64>, reply: ReplyAttr) {
        let handle = fh.and_then(|fh| self.handles.get(fh));
        let is_begun = |handle: &Handle| {
            handle.ino == ino
                && handle.is_writable()
                && matches!(handle.kind, HandleKind::Stream(_))
        };
        if fh.is_none() && size == 0 && self.handles.any(is_begun) {
            return self.answer_attributes(ino, reply);
        }
        let Some(HandleKind::Stream(stream)) = handle.as_deref().map(|handle| &handle.kind) else {
            return reply.error(Errno::EPERM);
        };
        let mount = Arc::clone(self);
        self.grow_stream(stream, size, move |grown| match grown {
            Ok(()) => mount.answer_attributes(ino, reply),
            Err(errno) => reply.error(errno),
        });
    }

    /// The kernel has to ask for attributes when they are next wanted.
    pub(super) fn forget_attributes(&self, ino: Ino) {
        if let Some(kernel) = self.kernel.get()
            && let Err(error) = kernel.forget_inode(ino, Pages::Keep)
        {
            log::warn!("the kernel could not be told to ask for attributes: {error}");
        }
    }

    pub(super) fn answer_attributes(&self, ino: Ino, reply: ReplyAttr) {
        let _in_order = self.reply_in_order();
        let attributes = self.cluster.tree().attributes(ino);
        match attributes {
            Some(attributes) => reply.attr(&self.attr_ttl(ino), &attr::file_attr(&attributes)),
            None => reply.error(Errno::ESTALE),
        }
    }
}
