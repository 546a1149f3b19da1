//! `flock` and `fcntl`.

use super::handles::Handle;
use super::{Caller, Mount};
use crate::tree::{Ino, LockOwner};
use fuser::{Errno, ReplyEmpty, ReplyLock};
use std::sync::Arc;

impl Mount {
    /// `F_GETLK`. `range` is inclusive at both ends.
    pub fn getlk(
        &self,
        caller: Caller,
        ino: Ino,
        owner: LockOwner,
        range: (u64, u64),
        typ: i32,
        reply: ReplyLock,
    ) {
        let _ = (caller, ino, owner, range, typ);
        reply.error(Errno::ENOSYS);
    }

    /// `flock`, `F_SETLK`, `F_SETLKW` (`sleep`). `typ` is `F_RDLCK`, `F_WRLCK` or `F_UNLCK`.
    #[expect(clippy::too_many_arguments, reason = "what the kernel asks with")]
    pub fn setlk(
        self: &Arc<Self>,
        caller: Caller,
        ino: Ino,
        fh: u64,
        owner: LockOwner,
        range: (u64, u64),
        typ: i32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        let _ = (caller, ino, fh, owner, range, typ, sleep);
        reply.error(Errno::ENOSYS);
    }

    /// FLUSH: the process `owner` closed a descriptor of the inode, so its `fcntl` locks there go.
    /// Does not wait.
    pub fn unlock_at_flush(self: &Arc<Self>, handle: &Handle, owner: LockOwner) {
        let _ = (handle, owner);
    }

    /// RELEASE: the open file description is gone. `flock_owner` says it held an `flock`; `fcntl`
    /// locks taken through a read-only handle go here too, for such handles get no FLUSH
    /// (`FOPEN_NOFLUSH`). Does not wait.
    pub fn unlock_at_release(self: &Arc<Self>, handle: &Handle, flock_owner: Option<LockOwner>) {
        let _ = (handle, flock_owner);
    }
}
