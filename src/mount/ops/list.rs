//! Listings. Directories are never opened as far as this side knows: the kernel keeps listings in
//! its cache, and the notifier invalidates them.

use crate::mount::attr::{self, GENERATION, TTL_NONE};
use crate::mount::{Mount, control, errno};
use crate::tree::{Attributes, Ino, Tree};
use fuser::{Errno, FileType, INodeNo, ReplyDirectory, ReplyDirectoryPlus, ReplyOpen};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Cookies of `.` and `..`; those of the tree's entries are larger.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

impl Mount {
    /// ENOSYS, once: the kernel then opens directories by itself and caches every listing, which is
    /// what `FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE` would ask for at the price of a round trip each
    /// time.
    pub fn opendir(&self, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    pub fn readdir(&self, directory: Ino, offset: u64, mut reply: ReplyDirectory) {
        if control::is_control(directory) {
            let entries = self.control_list(directory).into_iter().enumerate();
            for (place, (name, ino, kind)) in entries.skip(offset as usize) {
                if reply.add(INodeNo(ino.0), place as u64 + 1, kind, name) {
                    break;
                }
            }
            return reply.ok();
        }
        self.inodes.gives_pages(directory);
        let tree = self.cluster.tree();
        let parent = tree.parent(directory).unwrap_or(Ino::ROOT);
        for (cookie, name, ino) in [(DOT, ".", directory), (DOT_DOT, "..", parent)] {
            if offset < cookie && reply.add(INodeNo(ino.0), cookie, FileType::Directory, name) {
                return reply.ok();
            }
        }
        let listed = tree.list(directory, after(offset), &mut |entry| {
            let kind = attr::file_type(entry.kind);
            !reply.add(INodeNo(entry.ino.0), entry.cookie, kind, OsStr::from_bytes(entry.name))
        });
        drop(tree);
        match listed {
            Ok(()) => reply.ok(),
            Err(refusal) => reply.error(errno::of_refusal(refusal)),
        }
    }

    pub fn readdirplus(&self, directory: Ino, offset: u64, mut reply: ReplyDirectoryPlus) {
        if control::is_control(directory) {
            let entries = self.control_list(directory).into_iter().enumerate();
            for (place, (name, ino, _)) in entries.skip(offset as usize) {
                let Some(attr) = self.control_attr(ino) else { continue };
                let cookie = place as u64 + 1;
                if reply.add(INodeNo(ino.0), cookie, name, &TTL_NONE, &attr, GENERATION) {
                    break;
                }
            }
            return reply.ok();
        }
        self.inodes.gives_pages(directory);
        let _in_order = self.reply_in_order();
        let tree = self.cluster.tree();
        let listed = self.fill(&tree, directory, offset, &mut reply);
        drop(tree);
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    /// Adds entries until the reply is full. Each but `.` and `..` counts as a lookup.
    fn fill(
        &self,
        tree: &Tree,
        directory: Ino,
        offset: u64,
        reply: &mut ReplyDirectoryPlus,
    ) -> Result<(), Errno> {
        let own = tree.attributes(directory).ok_or(Errno::ESTALE)?;
        let parent = tree.parent(directory).and_then(|parent| tree.attributes(parent));
        let dots = [(DOT, ".", own), (DOT_DOT, "..", parent.unwrap_or(own))];
        for (cookie, name, attributes) in dots {
            if offset < cookie && self.add(reply, cookie, name.as_ref(), &attributes, TTL_NONE) {
                return Ok(());
            }
        }
        let each = &mut |entry: crate::tree::DirectoryEntry<'_>| {
            let Some(attributes) = tree.attributes(entry.ino) else { return true };
            let name = OsStr::from_bytes(entry.name);
            let name_ttl = self.name_ttl(tree, directory, entry.name);
            let ttl = name_ttl.min(self.attr_ttl(entry.ino));
            let full = self.add(reply, entry.cookie, name, &attributes, ttl);
            if !full {
                self.inodes.looked_up(entry.ino);
            }
            !full
        };
        tree.list(directory, after(offset), each).map_err(errno::of_refusal)
    }

    fn add(
        &self,
        reply: &mut ReplyDirectoryPlus,
        cookie: u64,
        name: &OsStr,
        attributes: &Attributes,
        ttl: std::time::Duration,
    ) -> bool {
        let attr = attr::file_attr(attributes);
        reply.add(attr.ino, cookie, name, &ttl, &attr, GENERATION)
    }
}

fn after(offset: u64) -> u64 {
    if offset <= DOT_DOT { 0 } else { offset }
}
