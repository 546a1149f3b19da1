//! What becomes of the tree when its cluster is founded.

use super::directory::Entries;
use super::home::Home;
use super::inode::Inode;
use super::{Ino, NameKey, Tree};
use crate::cow::CowMap;

impl Tree {
    /// Gives every entry its cookie under the cluster's key. Called once, when the cluster is
    /// founded: as a rule only the built-in directories are there.
    pub(super) fn take_key(&mut self, key: NameKey) {
        self.name_key = key;
        let directories = self.inodes.iter().filter(|(_, inode)| inode.is_directory());
        let directories: Vec<Ino> = directories.map(|(ino, _)| ino).collect();
        let mut entries = Vec::new();
        for ino in directories {
            let Some(directory) = self.directory_mut(ino) else { continue };
            for (cookie, entry) in directory.entries.after(0) {
                let owner = directory.owners.get(cookie).copied();
                entries.push((ino, entry.name.clone(), entry.ino, owner));
            }
            directory.entries = Entries::new(key);
            (directory.owners, directory.hidden) = (CowMap::new(), CowMap::new());
        }
        for (_, _, ino, owner) in &entries {
            self.inodes.get_mut(*ino).into_iter().for_each(Inode::leave_home);
            let owner = owner.and_then(|owner| self.owner_mut(owner));
            owner.into_iter().for_each(|session| session.ephemerals = CowMap::new());
        }
        for (parent, name, ino, owner) in entries {
            let Some(directory) = self.directory_mut(parent) else { continue };
            let cookie = directory.entries.add(name.as_bytes(), ino);
            if let Some(owner) = owner {
                directory.owners.insert(cookie, owner);
                let session = self.owner_mut(owner);
                session.into_iter().for_each(|session| {
                    session.ephemerals.insert((parent, cookie), ());
                });
            }
            self.settle_in(ino, Home::of(parent, cookie));
        }
        self.hide_tickets();
    }
}
