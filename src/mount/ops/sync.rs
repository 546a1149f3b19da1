//! `fsync`: a barrier. Writes are durable on a majority before they are answered, so what is left
//! to do is the other direction: everything committed anywhere before now is applied here, and this
//! host's kernel has been told. A truncation that waits for its first write waits no longer.

use crate::mount::{Mount, errno};
use crate::tree::Ino;
use fuser::ReplyEmpty;
use std::sync::Arc;

impl Mount {
    pub fn fsync(self: &Arc<Self>, ino: Ino, reply: ReplyEmpty) {
        self.settle_truncation(ino, self.cluster.session(), move |mount, settled| match settled {
            Ok(_) => mount.when_stores_are_seen(ino, |mount| mount.pass_barrier(reply)),
            Err(failure) => reply.error(errno::of_failure(failure)),
        });
    }

    fn pass_barrier(self: &Arc<Self>, reply: ReplyEmpty) {
        let mount = Arc::clone(self);
        self.cluster.barrier(Box::new(move |answer| match answer {
            Ok(_) => {
                let zxid = mount.cluster.tree().zxid();
                mount.visible.after(zxid, Box::new(move || reply.ok()));
            }
            Err(failure) => reply.error(errno::of_failure(failure)),
        }));
    }
}
