//! [`Inode`]: one znode as the tree keeps it. Small, for there may be millions.

use super::content::Content;
use super::directory::Directory;
use super::home::Home;
use super::version::Version;
use super::{Attributes, Ino, Kind, Name, NewNode, Role, SessionId, Zxid};
use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Permission bits, set-id and sticky.
pub(super) const MODE_BITS: u32 = 0o7777;
pub(super) const SET_UID: u32 = 0o4000;
pub(super) const SET_GID: u32 = 0o2000;
pub(super) const GROUP_EXEC: u32 = 0o0010;

#[derive(Clone, Encode, Decode)]
pub(super) struct Inode {
    pub body: Body,
    /// What few znodes have.
    pub rare: Option<Arc<Rare>>,
    /// Where it has its name, one of them if it has several.
    pub home: Home,
    pub atime: i64,
    pub mtime: i64,
    pub ctime: i64,
    pub czxid: Zxid,
    pub mzxid: Zxid,
    pub version: Version,
    pub aversion: u32,
    pub uid: u32,
    pub gid: u32,
    /// 0 for an orphan.
    pub links: u32,
    /// Within [`MODE_BITS`].
    pub mode: u16,
}

/// A million inodes have to fit, with data and names, into 350 MB.
const _: () = assert!(size_of::<Inode>() <= 104);

#[derive(Clone, Encode, Decode)]
pub(super) enum Body {
    File(Content),
    Directory(Arc<Directory>),
    Symlink(Arc<[u8]>),
    Fifo,
    Socket,
    CharDevice { rdev: u32 },
    BlockDevice { rdev: u32 },
    Stream(Arc<Stream>),
}

#[derive(Clone, Default, Encode, Decode)]
pub(super) struct Rare {
    /// The session an ephemeral entry or a ticket goes with.
    pub owner: Option<SessionId>,
    pub xattrs: BTreeMap<Name, Box<[u8]>>,
    /// Where a file with several names has the others.
    pub homes: Homes,
}

/// At most `LINKS_MAX`. They follow from the entries, as [`Home`] does.
#[derive(Clone, Default)]
pub(super) struct Homes(Vec<Home>);

impl Encode for Homes {
    fn encode<E: Encoder>(&self, _: &mut E) -> Result<(), EncodeError> {
        Ok(())
    }
}

impl<Context> Decode<Context> for Homes {
    fn decode<D: Decoder<Context = Context>>(_: &mut D) -> Result<Self, DecodeError> {
        Ok(Homes::default())
    }
}

bincode::impl_borrow_decode!(Homes);

/// `/backup/node/NAME/backup`: its bytes are kept outside the tree.
#[derive(Clone, Default, Encode, Decode)]
pub(super) struct Stream {
    pub size: u64,
    /// The newest snapshot's name.
    pub latest: Option<Name>,
}

impl Body {
    /// What a new znode is made of; directories need to know their place: see `create.rs`.
    pub fn of(node: &NewNode, directory: impl FnOnce() -> Directory) -> Body {
        match node {
            NewNode::File => Body::File(Content::empty()),
            NewNode::Directory => Body::Directory(Arc::new(directory())),
            NewNode::Symlink { target } => Body::Symlink(target[..].into()),
            NewNode::Fifo => Body::Fifo,
            NewNode::Socket => Body::Socket,
            NewNode::CharDevice { rdev } => Body::CharDevice { rdev: *rdev },
            NewNode::BlockDevice { rdev } => Body::BlockDevice { rdev: *rdev },
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Body::File(_) => Kind::File,
            Body::Directory(_) => Kind::Directory,
            Body::Symlink(_) => Kind::Symlink,
            Body::Fifo => Kind::Fifo,
            Body::Socket => Kind::Socket,
            Body::CharDevice { .. } => Kind::CharDevice,
            Body::BlockDevice { .. } => Kind::BlockDevice,
            Body::Stream(_) => Kind::Stream,
        }
    }

    fn size(&self) -> u64 {
        match self {
            Body::File(content) => content.size(),
            Body::Directory(directory) => directory.entries.len() as u64,
            Body::Symlink(target) => target.len() as u64,
            Body::Stream(stream) => stream.size,
            Body::Fifo | Body::Socket | Body::CharDevice { .. } | Body::BlockDevice { .. } => 0,
        }
    }

    fn rdev(&self) -> u32 {
        match self {
            Body::CharDevice { rdev } | Body::BlockDevice { rdev } => *rdev,
            _ => 0,
        }
    }
}

impl Inode {
    pub fn new(body: Body, mode: u32, uid: u32, gid: u32, zxid: Zxid, now: i64) -> Inode {
        Inode {
            links: if matches!(body, Body::Directory(_)) { 2 } else { 1 },
            body,
            rare: None,
            home: Home::NONE,
            atime: now,
            mtime: now,
            ctime: now,
            czxid: zxid,
            mzxid: zxid,
            version: Version::default(),
            aversion: 0,
            uid,
            gid,
            mode: (mode & MODE_BITS) as u16,
        }
    }

    pub fn mode(&self) -> u32 {
        u32::from(self.mode)
    }

    pub fn set_mode(&mut self, mode: u32) {
        self.mode = (mode & MODE_BITS) as u16;
    }

    /// What an unprivileged writer or a new owner must not keep: set-user-id always, set-group-id
    /// only with group-execute (without it the bit means something else).
    pub fn clear_set_id(&mut self) {
        let mut mode = self.mode() & !SET_UID;
        if mode & GROUP_EXEC != 0 {
            mode &= !SET_GID;
        }
        self.set_mode(mode);
    }

    /// The data changed: its version and times.
    pub fn touch_data(&mut self, zxid: Zxid, now: i64) {
        self.version = self.version.next();
        self.mzxid = zxid;
        self.mtime = now;
        self.ctime = now;
    }

    pub fn is_directory(&self) -> bool {
        matches!(self.body, Body::Directory(_))
    }

    pub fn directory(&self) -> Option<&Directory> {
        match &self.body {
            Body::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    pub fn directory_mut(&mut self) -> Option<&mut Directory> {
        match &mut self.body {
            Body::Directory(directory) => Some(Arc::make_mut(directory)),
            _ => None,
        }
    }

    pub fn owner(&self) -> SessionId {
        self.rare.as_ref().and_then(|rare| rare.owner).unwrap_or(SessionId::NONE)
    }

    pub fn set_owner(&mut self, owner: SessionId) {
        if owner == self.owner() {
            return;
        }
        self.rare_mut(|rare| rare.owner = (owner != SessionId::NONE).then_some(owner));
    }

    /// It has a name here, maybe one of several.
    pub fn settle_in(&mut self, home: Home) {
        if self.home == Home::NONE {
            self.home = home;
        } else if home != Home::NONE {
            self.rare_mut(|rare| rare.homes.0.push(home));
        }
    }

    /// It has no name anywhere, for the moment.
    pub fn leave_home(&mut self) {
        self.home = Home::NONE;
        if self.rare.as_ref().is_some_and(|rare| !rare.homes.0.is_empty()) {
            self.rare_mut(|rare| rare.homes.0.clear());
        }
    }

    /// It has no name here any more.
    pub fn move_out(&mut self, home: Home) {
        let others = self.rare.as_ref().map_or(&[][..], |rare| &rare.homes.0);
        if let Some(at) = others.iter().rposition(|other| *other == home) {
            self.rare_mut(|rare| rare.homes.0.swap_remove(at));
        } else if self.home == home {
            let last = others.len().checked_sub(1);
            self.home =
                last.and_then(|_| self.rare_mut(|rare| rare.homes.0.pop())).unwrap_or(Home::NONE);
        }
    }

    /// Changes the rare part, and drops it when nothing is left in it.
    pub fn rare_mut<T>(&mut self, change: impl FnOnce(&mut Rare) -> T) -> T {
        let rare = Arc::make_mut(self.rare.get_or_insert_default());
        let result = change(rare);
        if rare.owner.is_none() && rare.xattrs.is_empty() && rare.homes.0.is_empty() {
            self.rare = None;
        }
        result
    }

    /// Bytes of data and xattrs kept in memory, as the tree's limit counts them.
    pub fn stored(&self) -> u64 {
        let body = match &self.body {
            Body::File(content) => content.stored(),
            Body::Symlink(target) => target.len() as u64,
            _ => 0,
        };
        body + self.rare.as_ref().map_or(0, |rare| rare.xattr_bytes())
    }

    pub fn attributes(&self, ino: Ino) -> Attributes {
        let directory = self.directory().map(|directory| &directory.state);
        Attributes {
            ino,
            kind: self.body.kind(),
            mode: self.mode(),
            uid: self.uid,
            gid: self.gid,
            links: self.links,
            size: self.body.size(),
            rdev: self.body.rdev(),
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            czxid: self.czxid,
            mzxid: self.mzxid,
            pzxid: directory.map_or(0, |directory| directory.pzxid),
            version: self.version.get(),
            cversion: directory.map_or(0, |directory| directory.cversion),
            aversion: u64::from(self.aversion),
            owner: self.owner(),
            role: directory.map_or(Role::Plain, |directory| directory.role),
        }
    }
}

impl Rare {
    pub fn xattr_bytes(&self) -> u64 {
        self.xattrs.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()
    }
}
