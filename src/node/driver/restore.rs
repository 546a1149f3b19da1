//! A snapshot takes the tree's place.

use super::Driver;
use crate::replica::Batch;
use crate::tree::Tree;
use log::info;
use std::sync::Arc;

impl Driver {
    pub(super) fn restore(&mut self, tree: Tree) {
        let last = tree.zxid();
        self.replace_tree(tree);
        self.trigger.restored();
        self.shared.metrics.snapshots_restored.add(1);
        info!("the tree is now the leader's snapshot at {last}");
        self.publish(Batch { last, applied: Vec::new(), reset: true });
    }

    fn replace_tree(&mut self, new: Tree) {
        let shared = Arc::clone(&self.shared);
        let mut tree = shared.tree.write();
        let old = std::mem::replace(&mut *tree, new);
        self.replica.restored(&tree);
        self.announce_session();
        drop(tree);
        // A million inodes are not let go of in a moment.
        let thread = std::thread::Builder::new().name("keepfs-old-tree".into());
        if let Err(error) = thread.spawn(move || drop(old)) {
            log::warn!("the old tree held up this replica, for want of a thread: {error}");
        }
    }
}
