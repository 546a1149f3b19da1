//! Names that go or move.

use super::create::is_reserved;
use crate::mount::{Mount, answer_empty, errno};
use crate::tree::{Command, Ino, RenameHow};
use fuser::{Errno, RenameFlags, ReplyEmpty};
use std::sync::Arc;

impl Mount {
    pub fn unlink(self: &Arc<Self>, parent: Ino, name: &[u8], reply: ReplyEmpty) {
        if is_reserved(parent, name) {
            return reply.error(Errno::EPERM);
        }
        let command = Command::Unlink { parent, name: name.into() };
        self.submit_holding([parent, parent], command, reply);
    }

    pub fn rmdir(self: &Arc<Self>, parent: Ino, name: &[u8], reply: ReplyEmpty) {
        if is_reserved(parent, name) {
            return reply.error(Errno::EPERM);
        }
        let command = Command::RemoveDirectory { parent, name: name.into() };
        self.submit_holding([parent, parent], command, reply);
    }

    pub fn rename(
        self: &Arc<Self>,
        (from, name): (Ino, &[u8]),
        (to, new_name): (Ino, &[u8]),
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if is_reserved(from, name) || is_reserved(to, new_name) {
            return reply.error(Errno::EPERM);
        }
        let how = if flags == RenameFlags::empty() {
            RenameHow::Replace
        } else if flags == RenameFlags::RENAME_NOREPLACE {
            RenameHow::NoReplace
        } else if flags == RenameFlags::RENAME_EXCHANGE {
            RenameHow::Exchange
        } else {
            return reply.error(Errno::EINVAL);
        };
        let (name, new_name) = (name.into(), new_name.into());
        let command = Command::Rename { from, name, to, new_name, how };
        self.submit_holding([from, to], command, reply);
    }

    /// Submits a change of names during which the kernel holds these directories' locks.
    fn submit_holding(
        self: &Arc<Self>,
        directories: [Ino; 2],
        command: Command,
        reply: ReplyEmpty,
    ) {
        let held = self.hold(directories);
        self.submit(self.cluster.session(), command, move |_, answer| {
            answer_empty(reply, answer.map_err(errno::of_failure));
            drop(held);
        });
    }
}
