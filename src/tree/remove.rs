//! Names that go: unlink, rmdir, and what a session leaves behind.

use super::edit::Edit;
use super::name_key::Cookie;
use super::{Ino, Refusal, Reply};

impl Edit<'_> {
    pub fn unlink(&mut self, parent: Ino, name: &[u8]) -> Result<Reply, Refusal> {
        let (cookie, ino) = self.entry(parent, name)?;
        if self.inode(ino)?.is_directory() {
            return Err(Refusal::IsADirectory);
        }
        self.remove_file(parent, cookie, ino);
        Ok(Reply::Done)
    }

    pub fn remove_directory(&mut self, parent: Ino, name: &[u8]) -> Result<Reply, Refusal> {
        let (cookie, ino) = self.entry(parent, name)?;
        if ino.is_built_in() {
            return Err(Refusal::Busy);
        }
        let directory = self.directory(ino)?;
        if !directory.entries.is_empty() {
            return Err(Refusal::NotEmpty);
        }
        self.remove_directory_entry(parent, cookie, ino);
        Ok(Reply::Done)
    }

    fn remove_file(&mut self, parent: Ino, cookie: Cookie, ino: Ino) {
        if self.tree.locks.ticket_place(ino).is_some() {
            return self.remove_ticket(ino);
        }
        self.remove_entry(parent, cookie);
        self.touch_listing(parent, 0);
        self.drop_link(ino);
    }

    fn remove_directory_entry(&mut self, parent: Ino, cookie: Cookie, ino: Ino) {
        self.remove_entry(parent, cookie);
        self.touch_listing(parent, -1);
        self.drop_link(ino);
    }

    /// Removes an entry whatever it is. What is in a directory goes with it, a bounded piece at a
    /// time: see `work.rs`. An entry that is gone already is passed over.
    pub fn remove_whatever(&mut self, parent: Ino, cookie: Cookie) {
        let Ok(directory) = self.directory(parent) else { return };
        let Some(ino) = directory.entries.get(cookie).map(|entry| entry.ino) else { return };
        match self.directory(ino) {
            Ok(_) => self.remove_directory_entry(parent, cookie, ino),
            Err(_) => self.remove_file(parent, cookie, ino),
        }
    }
}
