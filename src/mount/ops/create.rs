//! New names: files, directories, links, nodes.

use crate::cluster::Failure;
use crate::mount::handles::{Handle, HandleKind};
use crate::mount::opened::OpenReply;
use crate::mount::{Caller, Mount, control, errno};
use crate::tree::{Command, Create, Ino, Kind, Name, NewNode, Refusal, Reply, Role};
use fuser::{Errno, FileHandle, FopenFlags, ReplyCreate, ReplyEntry};
use std::sync::Arc;

impl Mount {
    pub fn mkdir(
        self: &Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        mode: u32,
        reply: ReplyEntry,
    ) {
        self.make(caller, parent, name, NewNode::Directory, mode, reply);
    }

    pub fn symlink(
        self: &Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        target: &[u8],
        reply: ReplyEntry,
    ) {
        let node = NewNode::Symlink { target: target.into() };
        self.make(caller, parent, name, node, 0o777, reply);
    }

    pub fn mknod(
        self: &Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        mode: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let node = match mode & libc::S_IFMT {
            libc::S_IFREG => NewNode::File,
            libc::S_IFIFO => NewNode::Fifo,
            libc::S_IFSOCK => NewNode::Socket,
            libc::S_IFCHR => NewNode::CharDevice { rdev },
            libc::S_IFBLK => NewNode::BlockDevice { rdev },
            _ => return reply.error(Errno::EINVAL),
        };
        self.make(caller, parent, name, node, mode, reply);
    }

    pub fn link(self: &Arc<Self>, ino: Ino, parent: Ino, name: &[u8], reply: ReplyEntry) {
        if control::is_control(parent) || control::is_control(ino) {
            return reply.error(Errno::EPERM);
        }
        let held = self.hold([parent, parent]);
        let name = Name::from(name);
        let command = Command::Link { ino, parent, name: name.clone() };
        self.submit(self.cluster.session(), command, move |mount, answer| {
            match answer {
                Ok(_) => mount.answer_new_entry(reply, (parent, &name), ino),
                Err(failure) => reply.error(errno::of_failure(failure)),
            }
            drop(held);
        });
    }

    fn make(
        self: &Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        node: NewNode,
        mode: u32,
        reply: ReplyEntry,
    ) {
        if is_reserved(parent, name) {
            return reply.error(Errno::EPERM);
        }
        let held = self.hold([parent, parent]);
        let name = Name::from(name);
        let create = self.new_entry(caller, parent, name.clone(), node, mode);
        self.submit(self.cluster.session(), Command::Create(create), move |mount, answer| {
            match answer {
                Ok(Reply::Created { ino, .. }) => {
                    mount.answer_new_entry(reply, (parent, &name), ino);
                }
                Ok(_) => reply.error(Errno::EIO),
                Err(failure) => reply.error(errno::of_failure(failure)),
            }
            drop(held);
        });
    }

    /// A command that creates `name`. A set-group-id directory gives its group, and to directories
    /// the bit as well; the kernel leaves that to the filesystem.
    pub(in crate::mount) fn new_entry(
        &self,
        caller: Caller,
        parent: Ino,
        name: Name,
        node: NewNode,
        mode: u32,
    ) -> Create {
        let (mode, uid, gid) = (mode & 0o7777, caller.uid, caller.gid);
        Create { parent, name, node, mode, uid, gid, ticket: None, wait: false }
    }

    pub fn create(
        self: &Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        mode: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        if is_reserved(parent, name) {
            return reply.error(Errno::EPERM);
        }
        let role = self.cluster.tree().attributes(parent).map(|directory| directory.role);
        if role == Some(Role::Lock) {
            return self.create_ticket(caller, parent, name.into(), mode & 0o7777, flags, reply);
        }
        let held = self.hold([parent, parent]);
        let asked = Name::from(name);
        let create = self.new_entry(caller, parent, asked.clone(), NewNode::File, mode);
        self.submit(self.cluster.session(), Command::Create(create), move |mount, answer| {
            match answer {
                Ok(Reply::Created { ino, name }) => {
                    let created = Created { parent, asked, ino, name };
                    mount.open_created(caller, created, flags, reply);
                }
                Ok(_) => reply.error(Errno::EIO),
                // Another host was faster. On ESTALE the kernel looks the name up again and opens
                // what is there, with the permission checks that has.
                Err(Failure::Refused(Refusal::AlreadyExists)) if flags & libc::O_EXCL == 0 => {
                    reply.error(Errno::ESTALE);
                }
                Err(failure) => reply.error(errno::of_failure(failure)),
            }
            drop(held);
        });
    }

    fn open_created(
        self: &Arc<Self>,
        caller: Caller,
        created: Created,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let _in_order = self.reply_in_order();
        let tree = self.cluster.tree();
        let ino = created.ino;
        let ttl = self.name_ttl(&tree, created.parent, &created.asked);
        let attributes = tree.attributes(ino);
        drop(tree);
        let Some(attributes) = attributes else { return reply.error(Errno::ESTALE) };
        if attributes.kind == Kind::Stream {
            return self.open_stream(caller, attributes, flags, OpenReply::Create(reply));
        }
        let fopen = self.fopen_flags(flags);
        let mut handle = Handle::new(ino, flags, self.cluster.session(), HandleKind::File);
        handle.created = created.name;
        handle.opener = caller.pid;
        handle.direct = fopen.contains(FopenFlags::FOPEN_DIRECT_IO);
        let Some(handle) = self.enter(handle) else { return reply.error(Errno::ESTALE) };
        self.inodes.looked_up(ino);
        OpenReply::Create(reply).opened(FileHandle(handle.fh), fopen, &attributes, ttl);
    }
}

/// The outcome of a CREATE.
struct Created {
    parent: Ino,
    /// What the kernel takes for the name.
    asked: Name,
    ino: Ino,
    /// The name a `sequential` directory gave instead.
    name: Option<Name>,
}

/// Names that are not the tree's to give.
pub(super) fn is_reserved(parent: Ino, name: &[u8]) -> bool {
    control::is_control(parent) || (parent == Ino::ROOT && name == control::DIRECTORY_NAME)
}
