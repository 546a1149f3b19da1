//! [`Edit`]: one entry of the log being applied. Commands look first, refuse if they must, and only
//! then change the tree by the steps here, which cannot fail: a refused command has changed
//! nothing. What they are given was looked up in the same entry; if it is not there, the tree
//! contradicts itself, and a replica that goes on would make it worse.

use super::directory::Directory;
use super::home::Home;
use super::inode::Inode;
use super::locks::Grant;
use super::name_key::Cookie;
use super::{Change, Ino, Refusal, Role, SessionId, Stamp, Tree, Zxid};

const ENTRY: &str = "an entry that was looked up is there";
pub(super) const INODE: &str = "an inode that has a name, or had one, is there";

pub(super) struct Edit<'t> {
    pub tree: &'t mut Tree,
    /// Who proposed the entry.
    pub session: SessionId,
    pub changes: Vec<Change>,
}

/// Looking.
impl Edit<'_> {
    pub fn zxid(&self) -> Zxid {
        self.tree.zxid
    }

    pub fn stamp(&self) -> Stamp {
        self.tree.stamp
    }

    /// The stamp as znodes keep it.
    pub fn now(&self) -> i64 {
        self.tree.stamp as i64
    }

    /// # Errors
    /// `SessionExpired` for an entry that no session proposed.
    pub fn live_session(&self) -> Result<SessionId, Refusal> {
        if self.tree.sessions.contains(self.session) {
            Ok(self.session)
        } else {
            Err(Refusal::SessionExpired)
        }
    }

    /// # Errors
    /// `Stale`.
    pub fn inode(&self, ino: Ino) -> Result<&Inode, Refusal> {
        self.tree.inodes.get(ino).ok_or(Refusal::Stale)
    }

    /// # Errors
    /// `Stale`, `NotADirectory`.
    pub fn directory(&self, ino: Ino) -> Result<&Directory, Refusal> {
        self.inode(ino)?.directory().ok_or(Refusal::NotADirectory)
    }

    /// A directory that can get a new name: not one that was removed.
    ///
    /// # Errors
    /// `Stale`, `NotADirectory`, `NotFound`.
    pub fn living_directory(&self, ino: Ino) -> Result<&Directory, Refusal> {
        let inode = self.inode(ino)?;
        let directory = inode.directory().ok_or(Refusal::NotADirectory)?;
        if inode.links == 0 { Err(Refusal::NotFound) } else { Ok(directory) }
    }

    /// # Errors
    /// `Stale`, `NotADirectory`, `NotFound`.
    pub fn entry(&self, parent: Ino, name: &[u8]) -> Result<(Cookie, Ino), Refusal> {
        self.directory(parent)?.entries.find(name).ok_or(Refusal::NotFound)
    }

    /// Whether the tree may keep so much more.
    ///
    /// # Errors
    /// `NoSpace`.
    pub fn check_space(&self, inodes: u64, bytes: u64) -> Result<(), Refusal> {
        let tree = &self.tree;
        let full = bytes > 0 && tree.bytes.saturating_add(bytes) > tree.limits.tree_bytes
            || inodes > 0 && tree.inodes.len() as u64 + inodes > tree.limits.inodes;
        if full { Err(Refusal::NoSpace) } else { Ok(()) }
    }
}

/// Changing names.
impl Edit<'_> {
    pub fn change(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Lets `name`, which is free, mean `ino`.
    pub fn add_entry(&mut self, parent: Ino, name: &[u8], ino: Ino) {
        let cookie = self.directory_of(parent).entries.add(name, ino);
        self.tree.bytes += name.len() as u64;
        self.tree.settle_in(ino, Home::of(parent, cookie));
        self.own_entry(parent, cookie, ino);
        self.change(Change::Added { parent, name: name.into(), ino });
    }

    /// Lets the name mean another inode; the caller says what becomes of the one it meant.
    pub fn replace_entry(&mut self, parent: Ino, cookie: Cookie, new: Ino) {
        self.disown_entry(parent, cookie);
        let directory = self.directory_of(parent);
        let old = directory.entries.set(cookie, new).expect(ENTRY);
        let name = directory.entries.get(cookie).expect(ENTRY).name.as_bytes().into();
        self.move_out(old, Home::of(parent, cookie));
        self.tree.settle_in(new, Home::of(parent, cookie));
        self.own_entry(parent, cookie, new);
        self.change(Change::Replaced { parent, name, old, new });
    }

    /// Lets the name mean nothing; the caller says what becomes of the inode.
    pub fn remove_entry(&mut self, parent: Ino, cookie: Cookie) {
        self.disown_entry(parent, cookie);
        let entry = self.directory_of(parent).entries.remove(cookie).expect(ENTRY);
        let name = entry.name.as_bytes();
        self.keep_less(name.len() as u64);
        self.move_out(entry.ino, Home::of(parent, cookie));
        self.change(Change::Removed { parent, name: name.into(), ino: entry.ino });
    }

    fn move_out(&mut self, ino: Ino, home: Home) {
        self.inode_of(ino).move_out(home);
    }

    fn directory_of(&mut self, ino: Ino) -> &mut Directory {
        self.tree.directory_mut(ino).expect("a directory that was looked up is there")
    }

    pub fn inode_of(&mut self, ino: Ino) -> &mut Inode {
        self.tree.inodes.get_mut(ino).expect(INODE)
    }

    fn keep_less(&mut self, bytes: u64) {
        let kept = self.tree.bytes.checked_sub(bytes);
        self.tree.bytes = kept.expect("the tree counts all that it keeps");
    }

    /// The listing of `parent` changed, its subdirectories by `links`.
    pub fn touch_listing(&mut self, parent: Ino, links: i32) {
        let (zxid, now) = (self.zxid(), self.now());
        let inode = self.inode_of(parent);
        inode.mtime = now;
        inode.ctime = now;
        // A removed directory, which is being emptied, has none.
        if inode.links > 0 {
            let counted = inode.links.checked_add_signed(links);
            inode.links = counted.expect("a directory has a link for each of its subdirectories");
        }
        let directory = inode.directory_mut().expect("only a directory has a listing");
        directory.state.pzxid = zxid;
        directory.state.cversion += 1;
        self.change(Change::Attributes { ino: parent });
    }

    /// An entry of an `ephemeral` directory goes with the session that made it.
    fn own_entry(&mut self, parent: Ino, cookie: Cookie, ino: Ino) {
        let session = self.session;
        let Ok(directory) = self.directory(parent) else { return };
        if directory.state.role != Role::Ephemeral {
            return;
        }
        let Some(owner) = self.tree.session_mut(session) else { return };
        owner.ephemerals.insert((parent, cookie), ());
        if let Some(directory) = self.tree.directory_mut(parent) {
            directory.owners.insert(cookie, session);
        }
        if let Some(inode) = self.tree.inodes.get_mut(ino) {
            inode.set_owner(session);
        }
    }

    fn disown_entry(&mut self, parent: Ino, cookie: Cookie) {
        let Some(Some(directory)) = self.tree.inodes.get(parent).map(Inode::directory) else {
            return;
        };
        if directory.owners.is_empty() {
            return;
        }
        let ino = directory.entries.get(cookie).map(|entry| entry.ino);
        let owners = self.tree.directory_mut(parent).map(|directory| &mut directory.owners);
        let Some(session) = owners.and_then(|owners| owners.remove(cookie)) else { return };
        if let Some(owner) = self.tree.owner_mut(session) {
            owner.ephemerals.remove((parent, cookie));
        }
        if let Some(inode) = ino.and_then(|ino| self.tree.inodes.get_mut(ino))
            && inode.owner() == session
        {
            inode.set_owner(SessionId::NONE);
        }
    }
}

/// Changing inodes.
impl Edit<'_> {
    /// A new number, with its inode.
    pub fn add_inode(&mut self, inode: Inode) -> Ino {
        let ino = Ino(self.tree.next_ino);
        self.tree.next_ino += 1;
        self.tree.bytes += inode.stored();
        self.tree.inodes.insert(ino, inode);
        ino
    }

    /// Changes what an inode keeps, and the tree's count of it.
    pub fn change_stored<T>(
        &mut self,
        ino: Ino,
        change: impl FnOnce(&mut Inode) -> T,
    ) -> Option<T> {
        let inode = self.tree.inodes.get_mut(ino)?;
        let before = inode.stored();
        let result = change(inode);
        let after = inode.stored();
        self.tree.bytes += after;
        self.keep_less(before);
        Some(result)
    }

    pub fn free(&mut self, ino: Ino) {
        if let Some(inode) = self.tree.inodes.remove(ino) {
            self.keep_less(inode.stored());
            self.tree.locks.forget(ino);
            self.change(Change::Freed { ino });
        }
    }

    pub fn granted(&mut self, grants: impl IntoIterator<Item = Grant>) {
        let granted = grants.into_iter().map(|grant| Change::Granted {
            session: grant.session,
            ino: grant.ino,
            waiter: grant.waiter,
            token: grant.token,
        });
        self.changes.extend(granted);
    }
}
