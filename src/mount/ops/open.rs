//! OPEN, FLUSH, RELEASE.

use super::truncate;
use crate::mount::control::{self, ControlFile};
use crate::mount::handles::{Handle, HandleKind};
use crate::mount::opened::OpenReply;
use crate::mount::{Caller, Mount, answer_empty, errno, orphans};
use crate::tree::{Ino, Kind, LockOwner, SessionId};
use fuser::{Errno, FileHandle, FopenFlags, ReplyEmpty, ReplyOpen};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Mount {
    pub fn open(self: &Arc<Self>, caller: Caller, ino: Ino, flags: i32, reply: ReplyOpen) {
        if control::is_control(ino) {
            return self.open_control(caller, ino, flags, reply);
        }
        let tree = self.cluster.tree();
        let attributes = tree.attributes(ino);
        let is_ticket = tree.ticket(ino).is_some();
        drop(tree);
        let writable = flags & libc::O_ACCMODE != libc::O_RDONLY;
        if writable && !is_ticket {
            if let Some(errno) = self.lost_place(caller, ino) {
                return reply.error(Errno::from_i32(errno));
            }
            if let Some(place) = self.ticket_name(caller, ino) {
                let mode = attributes.map_or(0o600, |now| now.mode);
                return self.open_lost_ticket(caller, place, mode, flags, reply);
            }
        }
        // ESTALE: the kernel looks the path up again, and finds what is there now.
        let Some(attributes) = attributes else { return reply.error(Errno::ESTALE) };
        if attributes.kind == Kind::Stream {
            return self.open_stream(caller, attributes, flags, OpenReply::Open(reply));
        }
        if is_ticket && writable {
            return self.open_ticket(caller, attributes, flags, reply);
        }
        self.open_file(caller, ino, flags, reply);
    }

    /// Enters the handle before asking whether the inode is still there: from then on this session
    /// keeps it, even unlinked.
    fn open_file(&self, caller: Caller, ino: Ino, flags: i32, reply: ReplyOpen) {
        let fopen = self.fopen_flags(flags);
        let mut handle = Handle::new(ino, flags, self.cluster.session(), HandleKind::File);
        handle.opener = caller.pid;
        handle.direct = fopen.contains(FopenFlags::FOPEN_DIRECT_IO);
        let Some(handle) = self.enter(handle) else { return reply.error(Errno::ESTALE) };
        let attributes = self.cluster.tree().attributes(ino);
        match attributes {
            Some(attributes) => {
                self.expect_truncation(&handle);
                OpenReply::Open(reply).opened(
                    FileHandle(handle.fh),
                    fopen,
                    &attributes,
                    Default::default(),
                );
            }
            None => {
                self.close(handle.fh);
                reply.error(Errno::ESTALE);
            }
        }
    }

    fn open_control(self: &Arc<Self>, caller: Caller, ino: Ino, flags: i32, reply: ReplyOpen) {
        if flags & libc::O_ACCMODE != libc::O_RDONLY {
            return reply.error(Errno::EACCES);
        }
        let Some(file) = ControlFile::with_ino(ino) else { return reply.error(Errno::EISDIR) };
        let mount = Arc::clone(self);
        self.control_text(file, caller.uid, move |text| {
            let Some(text) = text else { return reply.error(Errno::EMFILE) };
            let kind = HandleKind::Control(text);
            match mount.handles.open(Handle::new(ino, flags, mount.cluster.session(), kind)) {
                // Direct I/O, for the kernel would believe the size it was told before the text
                // was made, and show one user's text to the next.
                Some(handle) => reply.opened(
                    fuser::FileHandle(handle.fh),
                    FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH,
                ),
                None => reply.error(Errno::ESTALE),
            }
        });
    }

    /// Readers use the kernel's cache, which the notifier keeps right, and need no FLUSH. Writers
    /// do direct I/O: a cached write keeps its page locked until it is answered, and the notifier,
    /// which has to invalidate what another host wrote there, would wait for it, while that host's
    /// mount may be waiting for this one. And what `O_APPEND` puts at the tree's end would stand in
    /// the cache at the end the kernel knew.
    pub(in crate::mount) fn fopen_flags(&self, flags: i32) -> FopenFlags {
        let keep = FopenFlags::FOPEN_KEEP_CACHE;
        match flags & libc::O_ACCMODE {
            libc::O_RDONLY => keep | FopenFlags::FOPEN_NOFLUSH,
            libc::O_WRONLY => keep | FopenFlags::FOPEN_DIRECT_IO,
            _ if self.maps_direct_files.load(Ordering::Relaxed) || flags & libc::O_APPEND != 0 => {
                keep | FopenFlags::FOPEN_DIRECT_IO
            }
            // An older kernel would refuse to map it shared.
            _ => keep,
        }
    }

    /// Looks at the process that closes only where something hangs on it, and on another thread.
    pub fn flush(self: &Arc<Self>, caller: Caller, fh: u64, owner: LockOwner, reply: ReplyEmpty) {
        let Some(handle) = self.handles.get(fh) else { return reply.error(Errno::EBADF) };
        let (ino, session) = (handle.ino, self.cluster.session());
        let mount = Arc::clone(self);
        match &handle.kind {
            HandleKind::Stream(stream) if handle.is_lost(session) => {
                reply.error(self.give_up_stream(stream));
            }
            HandleKind::Stream(stream) => self.flush_stream(caller, &handle, stream, reply),
            HandleKind::Ticket => self.aside.run(move || {
                mount.ticket_flushed(caller, &handle);
                mount.unlock_at_flush(ino, owner, || reply.ok());
            }),
            HandleKind::File if handle.lost_truncation(session) => {
                self.unlock_at_flush(ino, owner, || reply.error(Errno::EIO));
            }
            HandleKind::File if self.may_close_truncated(caller, &handle) => {
                self.aside.run(move || {
                    mount.flush_truncated(caller, &handle, owner, session, reply);
                });
            }
            HandleKind::File | HandleKind::Control(_) => {
                self.unlock_at_flush(ino, owner, || reply.ok());
            }
        }
    }

    /// `session`: believed when the FLUSH came.
    fn flush_truncated(
        self: &Arc<Self>,
        caller: Caller,
        handle: &Handle,
        owner: LockOwner,
        session: Option<SessionId>,
        reply: ReplyEmpty,
    ) {
        let ino = handle.ino;
        if !truncate::is_last_close(caller.pid, ino) {
            return self.unlock_at_flush(ino, owner, || reply.ok());
        }
        if self.is_unprotected(caller, ino, Some(handle), session) {
            return self.unlock_at_flush(ino, owner, || reply.error(Errno::EIO));
        }
        self.settle_truncation(ino, session, move |mount, result| {
            mount.unlock_at_flush(ino, owner, move || {
                answer_empty(reply, result.map_err(errno::of_failure));
            });
        });
    }

    pub fn release(self: &Arc<Self>, fh: u64, reply: ReplyEmpty) {
        let Some(handle) = self.handles.get(fh) else { return reply.error(Errno::EBADF) };
        self.unlock_at_release(fh);
        match &handle.kind {
            HandleKind::Stream(stream) => self.release_stream(stream),
            HandleKind::Ticket => self.ticket_released(&handle),
            HandleKind::File | HandleKind::Control(_) => {}
        }
        // Nobody waits for this answer; the truncation is carried out all the same.
        reply.ok();
        let session = self.cluster.session();
        if !handle.truncates() || handle.is_lost(session) {
            return self.close(fh);
        }
        self.settle_truncation(handle.ino, session, move |mount, result| {
            if let Err(failure) = result {
                log::warn!(
                    "inode {} stays as it was, its truncation failed: {failure:?}",
                    handle.ino
                );
            }
            mount.close(fh);
        });
    }

    /// Enters a handle into the table. `None`: this session has already let go of the inode.
    pub(in crate::mount) fn enter(&self, handle: Handle) -> Option<Arc<Handle>> {
        let handle = self.handles.open(handle)?;
        if handle.may_map() {
            self.mapped.opened(handle.ino);
        }
        Some(handle)
    }

    /// Removes a handle from the table, and lets go of an orphan with its last one.
    pub(in crate::mount) fn close(&self, fh: u64) {
        if let Some(handle) = self.handles.get(fh).filter(|handle| handle.may_map()) {
            self.mapped.closed(handle.ino);
        }
        if let Some(orphan) = self.handles.close(fh) {
            self.let_go(orphan);
        }
    }

    /// An inode without a name goes once nobody here has it open, or is about to.
    pub(in crate::mount) fn let_go(&self, orphan: Ino) {
        self.orphans.let_go(orphan, self.inodes.answered_within(orphan, orphans::SHOWN));
    }
}
