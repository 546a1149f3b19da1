//! Names to inodes.

use crate::limits::NAME_BYTES_MAX;
use crate::mount::attr::{self, GENERATION, TTL, TTL_NONE};
use crate::mount::{Caller, Mount, control, errno};
use crate::tree::{Attributes, Ino, Refusal, Tree};
use fuser::{Errno, ReplyData, ReplyEntry};
use std::time::Duration;

impl Mount {
    pub fn lookup(&self, caller: Caller, parent: Ino, name: &[u8], reply: ReplyEntry) {
        if control::is_control(parent) || (parent == Ino::ROOT && name == control::DIRECTORY_NAME) {
            return match self.control_lookup(parent, name) {
                Some(attr) => reply.entry(&TTL_NONE, &attr, GENERATION),
                None => reply.error(Errno::ENOENT),
            };
        }
        if name.len() > NAME_BYTES_MAX {
            return reply.error(Errno::ENAMETOOLONG);
        }
        let _in_order = self.reply_in_order();
        let tree = self.cluster.tree();
        let ttl = self.name_ttl(&tree, parent, name);
        let own_ticket = (ttl == TTL_NONE).then(|| self.lookup_ticket(caller, parent, name));
        match own_ticket.flatten().map_or_else(|| tree.lookup(parent, name), Ok) {
            Ok(ino) => {
                let attributes = tree.attributes(ino);
                if ttl == TTL_NONE && tree.ticket(ino).is_some() {
                    self.ticket_shown(caller, parent, name, ino);
                }
                drop(tree);
                let Some(attributes) = attributes else { return reply.error(Errno::ESTALE) };
                self.handles.asked(ino, caller.pid);
                self.answer_entry(reply, &attributes, ttl);
            }
            // Inode number zero, unlike ENOENT, lets the kernel remember that there is no such
            // name.
            Err(Refusal::NotFound) => {
                drop(tree);
                reply.entry_with_ttls(&TTL_NONE, &ttl, &attr::absent(), GENERATION);
            }
            Err(refusal) => reply.error(errno::of_refusal(refusal)),
        }
    }

    /// How long the kernel may keep this name; if it may, that is noted.
    pub(in crate::mount) fn name_ttl(&self, tree: &Tree, directory: Ino, name: &[u8]) -> Duration {
        if !attr::names_are_kept(tree, directory) {
            return TTL_NONE;
        }
        self.inodes.gives_name(directory, name);
        TTL
    }

    /// Ends an operation that tells the kernel of an inode under a name: counts the lookup.
    pub(in crate::mount) fn answer_entry(
        &self,
        reply: ReplyEntry,
        attributes: &Attributes,
        name_ttl: Duration,
    ) {
        self.inodes.looked_up(attributes.ino);
        let attr_ttl = self.attr_ttl(attributes.ino).min(name_ttl);
        let attr = attr::file_attr(attributes);
        reply.entry_with_ttls(&attr_ttl, &name_ttl, &attr, GENERATION);
    }

    /// [`Mount::answer_entry`] for what was just made or linked in `parent`.
    pub(in crate::mount) fn answer_new_entry(
        &self,
        reply: ReplyEntry,
        (parent, name): (Ino, &[u8]),
        ino: Ino,
    ) {
        let _in_order = self.reply_in_order();
        let tree = self.cluster.tree();
        let ttl = self.name_ttl(&tree, parent, name);
        match tree.attributes(ino) {
            Some(attributes) => {
                drop(tree);
                self.answer_entry(reply, &attributes, ttl);
            }
            // Made, and removed by another host before this answer left.
            None => reply.error(Errno::ENOENT),
        }
    }

    pub fn forget(&self, ino: Ino, lookups: u64) {
        self.inodes.forget(ino, lookups);
    }

    pub fn readlink(&self, ino: Ino, reply: ReplyData) {
        match self.cluster.tree().symlink_target(ino) {
            Ok(target) => reply.data(&target),
            Err(refusal) => reply.error(errno::of_refusal(refusal)),
        }
    }
}
