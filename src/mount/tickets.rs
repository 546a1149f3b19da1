//! Ticket files in `lock` directories.

use super::handles::Handle;
use super::{Caller, Mount};
use crate::tree::{Attributes, Ino, Name};
use fuser::{Errno, ReplyCreate, ReplyOpen};
use std::sync::Arc;

impl Mount {
    /// CREATE in a directory whose role is `lock`. `mode`: permission bits, the umask taken off.
    /// Own the reply; answer ESTALE once the ticket is queued, and the kernel sends OPEN.
    pub fn create_ticket(
        self: &Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: Name,
        mode: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let _ = (caller, parent, name, mode, flags);
        reply.error(Errno::ENOTSUP);
    }

    /// OPEN for writing of an existing ticket (`Tree::ticket` knows `attributes.ino`).
    pub fn open_ticket(
        self: &Arc<Self>,
        caller: Caller,
        attributes: Attributes,
        flags: i32,
        reply: ReplyOpen,
    ) {
        let _ = (caller, attributes, flags);
        reply.error(Errno::ENOTSUP);
    }

    /// `data` written through a handle of kind `Ticket` is committed: it may name a process.
    pub fn ticket_written(self: &Arc<Self>, handle: &Handle, data: &[u8]) {
        let _ = (handle, data);
    }
}
