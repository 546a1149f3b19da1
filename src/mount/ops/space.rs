//! `statfs`: from the tree here, so that `df` never hangs.

use crate::limits::NAME_BYTES_MAX;
use crate::mount::Mount;
use fuser::ReplyStatfs;

/// The unit of the counts below, bytes.
const UNIT_BYTES: u32 = 4096;

impl Mount {
    pub fn statfs(&self, reply: ReplyStatfs) {
        let usage = self.cluster.tree().usage();
        let unit = u64::from(UNIT_BYTES);
        let blocks = usage.limits.tree_bytes / unit;
        let free = blocks.saturating_sub(usage.bytes.div_ceil(unit));
        let inodes = usage.limits.inodes;
        let names = NAME_BYTES_MAX as u32;
        let free_inodes = inodes.saturating_sub(usage.inodes);
        reply.statfs(blocks, free, free, inodes, free_inodes, UNIT_BYTES, names, UNIT_BYTES);
    }
}
