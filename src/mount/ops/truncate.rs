//! `O_TRUNC` waits for the first write, so that `echo x > f` replaces the file in one entry and no
//! reader, here or elsewhere, ever sees it empty.
//!
//! The kernel sends OPEN, and then SETATTR with size 0 and no handle, which is `open`'s if that
//! thread has asked for nothing in between. `truncate(2)` sends the same, but looks at the file's
//! permissions before: so OPEN takes the attributes away from the kernel, which then has to ask for
//! them, and until that `open` is over it may not keep them ([`Mount::expect_truncation`]).
//! `truncate(2)` is carried out at once. `O_TRUNC` is answered with the size the file has, and the
//! kernel believes it. (`FUSE_ATOMIC_O_TRUNC` would save the round trip, but the kernel
//! then takes the size to be zero by itself, and readers on this host find the file empty.)
//!
//! The truncation belongs to the inode, not to the handle: whichever write, truncation or
//! allocation comes next through this mount carries it out, as it came after the `open`. When none
//! comes, the last `close` does. `close` means FLUSH here, for only FLUSH is waited for; but a
//! shell that redirects closes a copy of the descriptor before it writes (`dup2(3, 1); close(3)`),
//! so a FLUSH carries the truncation out only if the closing process has no other descriptor on the
//! file among its lowest [`COPIES_BELOW`], where copies are made. A process that ends without
//! having written leaves it to RELEASE, which nobody waits for: there is nobody left to be told of
//! an error, and other processes may still hold the descriptor.

use crate::cluster::Failure;
use crate::mount::handles::{Handle, Truncation};
use crate::mount::kernel::Pages;
use crate::mount::{Caller, Mount, proc, processes};
use crate::tree::{Command, Ino, Place, SessionId, Write};
use fuser::{Errno, ReplyAttr};
use std::sync::Arc;

/// How many descriptors of a closing process are looked at. A copy beyond is not seen: then the
/// file is empty already while it is being replaced.
const COPIES_BELOW: usize = 256;

impl Truncation {
    /// This truncation and a new size in one entry.
    pub(super) fn then_to(self, ino: Ino, size: u64, clear_set_id: bool) -> Command {
        let clear_set_id = clear_set_id || self.clear_set_id;
        let (place, data) = (Place::Replace(size), Box::default());
        Command::Write(Write { ino, place, data, clear_set_id })
    }
}

impl Mount {
    /// An OPEN for writing is about to be answered: its SETATTR, should it be with `O_TRUNC`, is to
    /// be told from that of a `truncate` by the same thread.
    pub(super) fn expect_truncation(&self, handle: &Arc<Handle>) {
        if handle.is_writable() && handle.direct && handle.opener != 0 {
            self.handles.may_truncate(handle);
            self.forget_attributes(handle.ino);
        }
    }

    /// The answer to an `O_TRUNC` that was put off: the file as it is; or EROFS, if there is nobody
    /// to carry it out.
    pub(super) fn answer_put_off(&self, ino: Ino, reply: ReplyAttr) {
        if self.cluster.status().quorum {
            return self.answer_attributes(ino, reply);
        }
        self.handles.take_truncation(ino, self.cluster.session());
        reply.error(Errno::EROFS);
    }

    /// Whether what comes through `fh` finds the file empty.
    pub(super) fn sees_truncation(&self, ino: Ino, fh: u64) -> bool {
        self.handles.truncation_waits(ino)
            && self.handles.get(fh).is_some_and(|handle| handle.truncates())
    }

    /// Whether who asks for attributes is to be told that the file is empty: it has opened the file
    /// with `O_TRUNC`.
    ///
    /// `fstat` comes without a handle. To keep its answer from becoming the size for everybody, the
    /// attributes are invalidated first: the kernel then passes the answer on, but does not keep
    /// it. That takes no lock that a request could hold. With a handle it is `lseek` to the end
    /// that asks, which reads the size that is kept.
    pub(super) fn is_truncator(&self, caller: Caller, ino: Ino, fh: Option<u64>) -> bool {
        if let Some(fh) = fh {
            return self.handles.get(fh).is_some_and(|handle| handle.truncates());
        }
        let Some(asker) = processes::process_of(caller.pid) else { return false };
        let truncators = self.handles.truncators(ino);
        let is_one = truncators.iter().any(|thread| processes::process_of(*thread) == Some(asker));
        if is_one && let Some(kernel) = self.kernel.get() {
            let _ = kernel.forget_inode(ino, Pages::Keep);
        }
        is_one
    }

    /// Carries out a truncation that waits, if one does, in the session that the caller was
    /// checked under, and then goes on in that one.
    pub(super) fn settle_truncation(
        self: &Arc<Self>,
        ino: Ino,
        checked: Option<SessionId>,
        then: impl FnOnce(&Arc<Mount>, Result<Option<SessionId>, Failure>) + Send + 'static,
    ) {
        let Some(truncation) = self.handles.take_truncation(ino, checked) else {
            return then(self, Ok(checked));
        };
        let command = truncation.then_to(ino, 0, false);
        let settled = move |mount: &Arc<Mount>, settled: Result<_, Failure>| {
            if settled.is_err() {
                mount.handles.put_back_truncation(ino, truncation);
            }
            then(mount, settled);
        };
        self.in_session(checked, move |mount, session| match session {
            Ok(session) => mount.submit(Some(session), command, move |mount, answer| {
                settled(mount, answer.map(|_| Some(session)));
            }),
            Err(failure) => settled(mount, Err(failure)),
        });
    }

    /// Whether a FLUSH of this handle may be the `close` that carries out its truncation.
    pub(super) fn may_close_truncated(&self, caller: Caller, handle: &Handle) -> bool {
        handle.truncates() && self.handles.truncation_waits(handle.ino) && caller.pid != 0
    }
}

/// Whether a FLUSH by this thread, which is not answered yet, is of the last descriptor its process
/// has on the file, and closed it of its own accord.
pub(super) fn is_last_close(thread: u32, ino: Ino) -> bool {
    processes::ending(thread) == processes::Ending::NotEnding && !has_descriptor_on(thread, ino)
}

/// Whether a process has a descriptor on this inode number. One on another filesystem that happens
/// to have the same number only makes RELEASE do the work.
fn has_descriptor_on(thread: u32, ino: Ino) -> bool {
    let Ok(descriptors) = proc::descriptors(thread) else { return true };
    let is_on = |info: String| {
        processes::field(&info, "ino:").is_some_and(|number| number.parse() == Ok(ino.0))
    };
    descriptors.take(COPIES_BELOW).filter_map(|descriptor| descriptor.info()).any(is_on)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_descriptors_of_a_process_are_seen() {
        let me = std::process::id();
        let file = tempfile::tempfile().unwrap();
        let ino = Ino(file.metadata().unwrap().ino());
        assert!(has_descriptor_on(me, ino));
        assert!(!has_descriptor_on(me, Ino(u64::MAX)));
    }
}
