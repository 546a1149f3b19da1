//! Pages that were changed through shared mappings: written back by the kernel whenever it likes,
//! through whichever descriptor it finds.

use crate::mount::{Caller, Mount, errno};
use crate::tree::{Command, Ino, SetAttributes, Stored, TimeOrStamp};
use fuser::{Errno, ReplyWrite};
use std::sync::Arc;

impl Mount {
    /// A WRITE from the page cache. Of the pages only what differs from what they were is the
    /// mapping's. The reply leaves at once when it is committed: the kernel keeps these pages
    /// locked, and the notifier may be waiting for them. A truncation that waits for its first
    /// write goes on waiting, for the bytes may have been stored before that `open`.
    pub(super) fn write_back(
        self: &Arc<Self>,
        ino: Ino,
        offset: u64,
        data: &[u8],
        reply: ReplyWrite,
    ) {
        // Who stored them is not known.
        let (session, nobody) = (self.cluster.session(), Caller { uid: 0, gid: 0, pid: 0 });
        if self.is_unprotected(nobody, ino, None, session) {
            return reply.error(Errno::EIO);
        }
        let command = match self.mapped.stored(ino, offset, data) {
            Some(stored) => Command::Store(stored),
            // The bytes that were there: a change all the same.
            None => {
                let mtime = Some(TimeOrStamp::Stamp);
                let set = SetAttributes { mtime, ..SetAttributes::default() };
                Command::SetAttributes { ino, set }
            }
        };
        let (length, data) = (data.len() as u32, data.to_vec());
        self.submit(session, command, move |mount, answer| match answer {
            Ok(_) => {
                mount.mapped.taken(ino, offset, &data);
                reply.written(length);
                let is_ticket = mount.cluster.tree().ticket(ino).is_some();
                if is_ticket {
                    mount.ticket_written(ino);
                }
            }
            Err(failure) => reply.error(errno::of_failure(failure)),
        });
    }

    /// Runs `then` once what mappings of this file stored before is seen by every mount, as far as
    /// the kernel has written it back: nobody waited for that then.
    pub(super) fn when_stores_are_seen(
        self: &Arc<Self>,
        ino: Ino,
        then: impl FnOnce(&Arc<Mount>) + Send + 'static,
    ) {
        if !self.mapped.is_mapped(ino) {
            return then(self);
        }
        // Changes nothing, and is answered when every mount shows it, and all before it.
        let nothing = Stored { ino, offset: 0, data: Box::default(), changed: Box::default() };
        let session = self.cluster.session();
        self.submit(session, Command::Store(nothing), move |mount, _| then(mount));
    }
}
