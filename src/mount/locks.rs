//! `flock` and `fcntl`.

use super::{Caller, Mount};
use crate::tree::{Ino, LockOwner};
use fuser::{Errno, ReplyEmpty, ReplyLock};
use std::sync::Arc;

/// Which owners hold ranges through which handles of this mount.
#[derive(Default)]
pub struct Held {}

/// A range somebody wants to lock or unlock.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub ino: Ino,
    /// The handle it is asked for through.
    pub fh: u64,
    pub owner: LockOwner,
    pub start: u64,
    /// Inclusive.
    pub end: u64,
}

impl Mount {
    pub fn getlk(&self, range: Range, typ: i32, reply: ReplyLock) {
        let _ = (range, typ);
        reply.error(Errno::ENOSYS);
    }

    pub fn setlk(
        self: &Arc<Self>,
        caller: Caller,
        range: Range,
        typ: i32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        let _ = (caller, range, typ, sleep);
        reply.error(Errno::ENOSYS);
    }

    pub fn unlock_at_flush(
        &self,
        ino: Ino,
        owner: LockOwner,
        then: impl FnOnce() + Send + 'static,
    ) {
        let _ = (ino, owner);
        then();
    }

    pub fn unlock_at_release(&self, fh: u64) {
        let _ = fh;
    }
}
