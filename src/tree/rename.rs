//! Rename in its three ways, as a local Linux filesystem does it.

use super::edit::{Edit, INODE};
use super::inode::{Body, Inode};
use super::name::{check_name, check_new_name};
use super::name_key::Cookie;
use super::{Change, Ino, Name, Refusal, RenameHow, Reply, Role};
use crate::limits::DEPTH_MAX;

/// One end of a rename.
#[derive(Clone)]
struct End {
    parent: Ino,
    name: Name,
}

/// What is there now.
#[derive(Clone, Copy)]
struct Found {
    cookie: Cookie,
    ino: Ino,
    is_directory: bool,
}

impl Edit<'_> {
    pub fn rename(
        &mut self,
        from: Ino,
        name: &Name,
        to: Ino,
        new_name: &Name,
        how: RenameHow,
    ) -> Result<Reply, Refusal> {
        check_name(name)?;
        check_new_name(to, new_name)?;
        let from = End { parent: from, name: name.clone() };
        let to = End { parent: to, name: new_name.clone() };
        self.check_directories(&from, &to)?;
        let moved = self.found(&from)?.ok_or(Refusal::NotFound)?;
        let target = self.found(&to)?;
        self.check_moved(moved, &to)?;
        if how == RenameHow::Exchange {
            let other = target.ok_or(Refusal::NotFound)?;
            self.check_moved(other, &from)?;
            self.exchange(&from, moved, &to, other);
            return Ok(Reply::Done);
        }
        if let Some(target) = target {
            if how == RenameHow::NoReplace {
                return Err(Refusal::AlreadyExists);
            }
            if target.ino == moved.ino {
                return Ok(Reply::Done);
            }
            self.check_replaced(moved, target)?;
        } else {
            let growth = to.name.len().saturating_sub(from.name.len());
            self.check_space(0, growth as u64)?;
        }
        self.carry_over(&from, moved, &to, target);
        Ok(Reply::Done)
    }

    /// Tickets stay where they queue, and nothing else may come among them.
    fn check_directories(&self, from: &End, to: &End) -> Result<(), Refusal> {
        let source = self.directory(from.parent)?;
        let target = self.living_directory(to.parent)?;
        if source.state.role == Role::Lock || target.state.role == Role::Lock {
            return Err(Refusal::NotPermitted);
        }
        if [source, target].iter().any(|end| end.state.role == Role::Ephemeral) {
            self.live_session()?;
        }
        Ok(())
    }

    fn found(&self, end: &End) -> Result<Option<Found>, Refusal> {
        let found = self.directory(end.parent)?.entries.find(&end.name);
        found
            .map(|(cookie, ino)| {
                Ok(Found { cookie, ino, is_directory: self.inode(ino)?.is_directory() })
            })
            .transpose()
    }

    /// Whether what was found may go to `to`.
    fn check_moved(&self, moved: Found, to: &End) -> Result<(), Refusal> {
        if moved.ino.is_built_in() {
            return Err(Refusal::Busy);
        }
        if moved.is_directory && self.is_within(to.parent, moved.ino)? {
            return Err(Refusal::Invalid);
        }
        let inode = self.inode(moved.ino)?;
        if matches!(inode.body, Body::Stream(_)) {
            return Err(Refusal::NotPermitted);
        }
        self.check_place(inode, to.parent, &to.name)
    }

    fn check_replaced(&self, moved: Found, target: Found) -> Result<(), Refusal> {
        match (moved.is_directory, target.is_directory) {
            _ if target.ino.is_built_in() => Err(Refusal::Busy),
            (true, false) => Err(Refusal::NotADirectory),
            (false, true) => Err(Refusal::IsADirectory),
            (true, true) if !self.directory(target.ino)?.entries.is_empty() => {
                Err(Refusal::NotEmpty)
            }
            _ => Ok(()),
        }
    }

    /// Whether `directory` is `ancestor` or lies below it.
    ///
    /// # Errors
    /// `NameTooLong` if it lies so deep that looking would take long.
    fn is_within(&self, mut directory: Ino, ancestor: Ino) -> Result<bool, Refusal> {
        for _ in 0..DEPTH_MAX {
            if directory == ancestor {
                return Ok(true);
            }
            match self.tree.parent(directory) {
                Some(parent) if parent != directory => directory = parent,
                _ => return Ok(false),
            }
        }
        Err(Refusal::NameTooLong)
    }

    fn carry_over(&mut self, from: &End, moved: Found, to: &End, target: Option<Found>) {
        self.remove_entry(from.parent, moved.cookie);
        match target {
            Some(target) => self.replace_entry(to.parent, target.cookie, moved.ino),
            None => self.add_entry(to.parent, &to.name, moved.ino),
        }
        self.settle(moved.ino, to.parent);
        self.moved(from, to, moved.ino);
        let leaves = i32::from(moved.is_directory);
        let replaced = i32::from(target.is_some_and(|target| target.is_directory));
        if from.parent == to.parent {
            self.touch_listing(from.parent, -replaced);
        } else {
            self.touch_listing(from.parent, -leaves);
            self.touch_listing(to.parent, leaves - replaced);
        }
        if let Some(target) = target {
            self.drop_link(target.ino);
        }
    }

    fn exchange(&mut self, from: &End, moved: Found, to: &End, other: Found) {
        if moved.ino == other.ino {
            return;
        }
        self.replace_entry(from.parent, moved.cookie, other.ino);
        self.replace_entry(to.parent, other.cookie, moved.ino);
        self.settle(moved.ino, to.parent);
        self.settle(other.ino, from.parent);
        self.moved(from, to, moved.ino);
        self.moved(to, from, other.ino);
        let gain = i32::from(other.is_directory) - i32::from(moved.is_directory);
        if from.parent == to.parent {
            self.touch_listing(from.parent, 0);
        } else {
            self.touch_listing(from.parent, gain);
            self.touch_listing(to.parent, -gain);
        }
    }

    /// The moved inode learns where it is now.
    fn settle(&mut self, ino: Ino, parent: Ino) {
        let now = self.now();
        let inode = self.tree.inodes.get_mut(ino).expect(INODE);
        inode.ctime = now;
        if let Some(directory) = Inode::directory_mut(inode) {
            directory.state.parent = parent;
        }
        self.change(Change::Attributes { ino });
    }

    fn moved(&mut self, from: &End, to: &End, ino: Ino) {
        self.change(Change::Moved {
            from: from.parent,
            name: from.name.clone(),
            to: to.parent,
            new_name: to.name.clone(),
            ino,
        });
    }
}
