//! `O_TRUNC` waits for the first write, so that `echo x > f` replaces the file in one entry and no
//! reader, here or elsewhere, ever sees it empty.
//!
//! The truncation belongs to the inode, not to the handle: whichever write, truncation or allocation
//! comes next through this mount carries it out, as it came after the `open`. When none comes, the
//! last `close` does. `close` means FLUSH here, for only FLUSH is waited for; but a shell that
//! redirects closes a copy of the descriptor before it writes (`dup2(3, 1); close(3)`), so a FLUSH
//! carries the truncation out only if the closing process has no other descriptor on the file. A
//! process that ends without having written leaves it to RELEASE, which nobody waits for: there is
//! nobody left to be told of an error, and other processes may still hold the descriptor.

use crate::mount::handles::Handle;
use crate::mount::{Caller, Mount};
use crate::node::Failure;
use crate::tree::{Command, Ino, Place, Reply, Write};
use std::fs;
use std::sync::Arc;

/// `PF_EXITING` of `include/linux/sched.h`.
const EXITING: u64 = 0x4;

impl Mount {
    /// Whether the file is empty for whoever asks through `fh`.
    pub(in crate::mount) fn sees_truncation(&self, ino: Ino, fh: Option<u64>) -> bool {
        self.handles.truncation_waits(ino)
            && fh.and_then(|fh| self.handles.get(fh)).is_some_and(|handle| handle.truncates())
    }

    /// A taken truncation and a new size in one entry.
    pub(in crate::mount) fn truncate_to(&self, ino: Ino, size: u64, clear_set_id: bool) -> Command {
        let data = Box::default();
        Command::Write(Write { ino, place: Place::Replace(size), data, clear_set_id })
    }

    /// Carries out a truncation that waits, if one does, and then goes on.
    pub(in crate::mount) fn settle_truncation(
        self: &Arc<Self>,
        ino: Ino,
        then: impl FnOnce(&Arc<Mount>, Result<(), Failure>) + Send + 'static,
    ) {
        if !self.handles.take_truncation(ino) {
            return then(self, Ok(()));
        }
        let command = self.truncate_to(ino, 0, false);
        self.submit(command, move |mount, answer: Result<Reply, Failure>| {
            if answer.is_err() {
                mount.handles.put_back_truncation(ino);
            }
            then(mount, answer.map(drop));
        });
    }

    /// Whether this FLUSH is the `close` that carries out the handle's truncation.
    pub(in crate::mount) fn closes_truncated(&self, caller: Caller, handle: &Handle) -> bool {
        handle.truncates()
            && self.handles.truncation_waits(handle.ino)
            && caller.pid != 0
            && !is_exiting(caller.pid)
            && !has_descriptor_on(caller.pid, handle.ino)
    }
}

/// Whether a thread is on its way out; one that cannot be seen is.
fn is_exiting(tid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{tid}/stat")) else { return true };
    // The command's name, in parentheses, may hold anything: fields count from the last one.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let flags = after_name.split_ascii_whitespace().nth(6).and_then(|flags| flags.parse().ok());
    flags.is_none_or(|flags: u64| flags & EXITING != 0)
}

/// Whether a process has a descriptor on this inode number. One on another filesystem that happens
/// to have the same number only makes RELEASE do the work.
fn has_descriptor_on(tid: u32, ino: Ino) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{tid}/fdinfo")) else { return true };
    let line = format!("ino:\t{ino}");
    descriptors.flatten().any(|descriptor| {
        fs::read_to_string(descriptor.path())
            .is_ok_and(|info| info.lines().any(|candidate| candidate == line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_running_process_is_not_exiting_and_its_descriptors_are_seen() {
        let me = std::process::id();
        assert!(!is_exiting(me));
        let file = tempfile::tempfile().unwrap();
        let ino = Ino(file.metadata().unwrap().ino());
        assert!(has_descriptor_on(me, ino));
        assert!(!has_descriptor_on(me, Ino(u64::MAX)));
    }
}
