//! New names: create and link. What creating means is the directory's role.

use super::directory::Directory;
use super::edit::Edit;
use super::inode::{Body, Inode, SET_GID, Stream};
use super::name::{check_name, check_new_name};
use super::{Create, Ino, Name, NewNode, Refusal, Reply, Role};
use crate::limits::{LINKS_MAX, SYMLINK_BYTES_MAX};
use std::sync::Arc;

/// The name under a registered host whose file is a backup stream.
pub(super) const STREAM_NAME: &[u8] = b"backup";

/// Numbers in use that are tried one after the other before a `sequential` directory jumps over
/// some.
const NUMBERS_IN_A_ROW: u32 = 100;

impl Edit<'_> {
    pub fn create(&mut self, create: &Create) -> Result<Reply, Refusal> {
        check_new_name(create.parent, &create.name)?;
        check_node(&create.node)?;
        let directory = self.living_directory(create.parent)?;
        match directory.state.role {
            Role::Lock => {
                return self.create_ticket(create);
            }
            Role::Sequential => return self.create_in_sequence(create),
            Role::Ephemeral => {
                self.live_session()?;
            }
            Role::Plain | Role::Locks => {}
        }
        let ino = self.create_named(create, &create.name)?;
        Ok(Reply::Created { ino, name: None })
    }

    /// The name gets the directory's next number.
    fn create_in_sequence(&mut self, create: &Create) -> Result<Reply, Refusal> {
        let directory = self.directory(create.parent)?;
        let mut counter = directory.state.counter;
        let mut tried: u32 = 0;
        let name = loop {
            let number = format!("{counter:010}");
            let name: Name = [&create.name[..], number.as_bytes()].concat().into();
            // Names that somebody put there are passed over, ever faster: a few dozen tries.
            counter = counter.saturating_add(1 << (tried / NUMBERS_IN_A_ROW).min(40));
            tried += 1;
            if directory.entries.find(&name).is_none() {
                break name;
            }
        };
        check_name(&name)?;
        let ino = self.create_named(create, &name)?;
        if let Some(directory) = self.tree.directory_mut(create.parent) {
            directory.state.counter = counter;
            directory.state.last_created = Some(name.clone());
        }
        Ok(Reply::Created { ino, name: Some(name) })
    }

    fn create_named(&mut self, create: &Create, name: &[u8]) -> Result<Ino, Refusal> {
        if self.directory(create.parent)?.entries.find(name).is_some() {
            return Err(Refusal::AlreadyExists);
        }
        let target = if let NewNode::Symlink { target } = &create.node { target.len() } else { 0 };
        self.check_space(1, (name.len() + target) as u64)?;
        let inode = self.new_inode(create)?;
        let links = i32::from(inode.is_directory());
        let ino = self.add_inode(inode);
        self.add_entry(create.parent, name, ino);
        self.touch_listing(create.parent, links);
        Ok(ino)
    }

    /// An inode made in `create.parent`, with what it takes over from there.
    pub fn new_inode(&self, create: &Create) -> Result<Inode, Refusal> {
        let parent = self.inode(create.parent)?;
        let role = match self.directory(create.parent)?.state.role {
            Role::Locks => Role::Lock,
            _ => Role::Plain,
        };
        let zxid = self.zxid();
        let key = self.tree.name_key;
        let body = Body::of(&create.node, || Directory::new(create.parent, role, zxid, key));
        let is_stream = matches!(body, Body::File(_)) && self.is_stream_place(create);
        let body = if is_stream { Body::Stream(Arc::default()) } else { body };
        let (mut mode, mut gid) = (create.mode, create.gid);
        if parent.mode() & SET_GID != 0 {
            gid = parent.gid;
            if create.node == NewNode::Directory {
                mode |= SET_GID;
            }
        }
        Ok(Inode::new(body, mode, create.uid, gid, zxid, self.now()))
    }

    fn is_stream_place(&self, create: &Create) -> bool {
        *create.name == *STREAM_NAME && self.is_backup_host(create.parent)
    }

    /// Whether a directory is `/backup/node/NAME`.
    pub fn is_backup_host(&self, directory: Ino) -> bool {
        directory != Ino::BACKUP_NODE
            && self.directory(directory).is_ok_and(|host| host.state.parent == Ino::BACKUP_NODE)
    }

    pub fn link(&mut self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Reply, Refusal> {
        check_new_name(parent, name)?;
        let inode = self.inode(ino)?;
        if inode.links == 0 {
            return Err(Refusal::NotFound);
        }
        let directory = self.living_directory(parent)?;
        if inode.is_directory()
            || matches!(inode.body, Body::Stream(_))
            || directory.state.role == Role::Lock
            || self.tree.locks.ticket_place(ino).is_some()
        {
            return Err(Refusal::NotPermitted);
        }
        self.check_place(inode, parent, name)?;
        if directory.state.role == Role::Ephemeral {
            self.live_session()?;
        }
        if directory.entries.find(name).is_some() {
            return Err(Refusal::AlreadyExists);
        }
        if inode.links >= LINKS_MAX {
            return Err(Refusal::TooManyLinks);
        }
        self.check_space(0, name.len() as u64)?;
        let now = self.now();
        if let Some(inode) = self.tree.inodes.get_mut(ino) {
            inode.links += 1;
            inode.ctime = now;
        }
        self.add_entry(parent, name, ino);
        self.touch_listing(parent, 0);
        self.change(super::Change::Attributes { ino });
        Ok(Reply::Done)
    }

    /// A file in the place of a backup stream has to be made there: data of the tree is none.
    pub fn check_place(&self, inode: &Inode, parent: Ino, name: &[u8]) -> Result<(), Refusal> {
        let is_data = matches!(inode.body, Body::File(_));
        if is_data && name == STREAM_NAME && self.is_backup_host(parent) {
            return Err(Refusal::NotPermitted);
        }
        Ok(())
    }

    /// A file of the cluster's own making, owned by root.
    pub fn add_own(&mut self, parent: Ino, name: &[u8], body: Body, mode: u32) -> Ino {
        let inode = Inode::new(body, mode, 0, 0, self.zxid(), self.now());
        let links = i32::from(inode.is_directory());
        let ino = self.add_inode(inode);
        self.add_entry(parent, name, ino);
        self.touch_listing(parent, links);
        ino
    }

    /// The stream of a host, for [`Edit::record_snapshot`].
    pub fn stream_mut(&mut self, ino: Ino) -> Option<&mut Stream> {
        match &mut self.tree.inodes.get_mut(ino)?.body {
            Body::Stream(stream) => Some(Arc::make_mut(stream)),
            _ => None,
        }
    }
}

fn check_node(node: &NewNode) -> Result<(), Refusal> {
    match node {
        NewNode::Symlink { target } if target.is_empty() => Err(Refusal::NotFound),
        NewNode::Symlink { target } if target.contains(&0) => Err(Refusal::Invalid),
        NewNode::Symlink { target } if target.len() > SYMLINK_BYTES_MAX => {
            Err(Refusal::NameTooLong)
        }
        _ => Ok(()),
    }
}
