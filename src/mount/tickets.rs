//! Ticket files in `lock` directories.

use super::handles::Handle;
use super::{Caller, Mount};
use crate::tree::{Attributes, Ino, Name};
use fuser::{Errno, ReplyCreate, ReplyOpen};
use std::io;
use std::sync::Arc;

/// What a mount knows of its own tickets beyond the tree.
pub struct Tickets {}

impl Tickets {
    pub fn new() -> io::Result<Tickets> {
        Ok(Tickets {})
    }

    pub fn session_lost(&self) {}
}

impl Mount {
    #[expect(clippy::too_many_arguments, reason = "what the kernel asks with")]
    pub fn create_ticket(
        self: &Arc<Self>,
        caller: Caller,
        directory: Ino,
        name: Name,
        mode: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let _ = (caller, directory, name, mode, flags);
        reply.error(Errno::ENOTSUP);
    }

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

    pub fn lookup_ticket(&self, caller: Caller, directory: Ino, name: &[u8]) -> Option<Ino> {
        let _ = (caller, directory, name);
        None
    }

    pub fn ticket_written(self: &Arc<Self>, ticket: Ino) {
        let _ = ticket;
    }

    pub fn ticket_flushed(&self, caller: Caller, handle: &Handle) {
        let _ = (caller, handle);
    }

    pub fn ticket_released(&self, handle: &Handle) {
        let _ = handle;
    }

    pub fn ticket_gone(&self, ticket: Ino) {
        let _ = ticket;
    }
}
