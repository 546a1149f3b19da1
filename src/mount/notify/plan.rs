//! What the kernel has to be told of a batch: each inode and each name once.

use super::super::attr::names_are_kept;
use super::super::inodes::Inodes;
use super::super::kernel::Pages;
use crate::tree::{Change, Ino, Kind, Name, Tree};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Attributes to forget, and whether pages go along.
    pub inodes: BTreeMap<Ino, Pages>,
    pub names: BTreeSet<(Ino, Name)>,
    /// A directory whose names were kept no longer keeps them.
    pub all_names: bool,
}

/// What a batch is read against.
pub struct Knowledge<'a> {
    pub tree: &'a Tree,
    pub inodes: &'a Inodes,
}

impl Plan {
    /// A change some other session made: the kernel knows nothing of it.
    pub fn add_foreign(&mut self, change: &Change, knowledge: &Knowledge<'_>) {
        match change {
            Change::Attributes { ino } => {
                self.attributes(*ino, knowledge);
                self.role(*ino, knowledge);
            }
            Change::Data { ino, .. } => self.data(*ino, knowledge),
            Change::Added { parent, name, ino } | Change::Removed { parent, name, ino } => {
                self.name(*parent, name, knowledge);
                self.attributes(*ino, knowledge);
            }
            Change::Replaced { parent, name, old, new } => {
                self.name(*parent, name, knowledge);
                self.attributes(*old, knowledge);
                self.attributes(*new, knowledge);
            }
            Change::Freed { ino } => self.attributes(*ino, knowledge),
            Change::Moved { .. }
            | Change::Orphaned { .. }
            | Change::Granted { .. }
            | Change::SessionOpened { .. }
            | Change::SessionEnded { .. }
            | Change::Members => {}
        }
    }

    /// A change the kernel asked for itself, so that its caches follow of their own accord, but for
    /// what this daemon did behind its back: tickets, numbered names, snapshots, and pages that a
    /// reader brought in while a write was on its way.
    pub fn add_own(&mut self, change: &Change, knowledge: &Knowledge<'_>) {
        match change {
            Change::Attributes { ino } => {
                self.role(*ino, knowledge);
                let Some(attributes) = knowledge.tree.attributes(*ino) else { return };
                let by_daemon = match attributes.kind {
                    Kind::Stream => true,
                    Kind::Directory => !names_are_kept(knowledge.tree, *ino),
                    _ => false,
                };
                if by_daemon {
                    self.attributes(*ino, knowledge);
                }
            }
            Change::Data { ino, .. } => {
                let attributes = knowledge.tree.attributes(*ino);
                let is_stream = attributes.is_some_and(|now| now.kind == Kind::Stream);
                if is_stream || knowledge.inodes.may_hold_pages(*ino) {
                    self.data(*ino, knowledge);
                }
            }
            Change::Added { parent, .. }
            | Change::Removed { parent, .. }
            | Change::Replaced { parent, .. }
                if !names_are_kept(knowledge.tree, *parent) =>
            {
                self.add_foreign(change, knowledge);
            }
            _ => {}
        }
    }

    fn attributes(&mut self, ino: Ino, knowledge: &Knowledge<'_>) {
        if knowledge.inodes.is_known(ino) {
            self.inodes.entry(ino).or_insert(Pages::Keep);
        }
    }

    /// The data of a file, or the listing of a directory.
    fn data(&mut self, ino: Ino, knowledge: &Knowledge<'_>) {
        self.attributes(ino, knowledge);
        if knowledge.inodes.takes_pages_back(ino) {
            self.inodes.insert(ino, Pages::Forget);
        }
    }

    fn name(&mut self, parent: Ino, name: &Name, knowledge: &Knowledge<'_>) {
        if !knowledge.inodes.is_known(parent) {
            return;
        }
        self.data(parent, knowledge);
        if names_are_kept(knowledge.tree, parent) {
            self.names.insert((parent, name.clone()));
        }
    }

    /// A directory that has become one whose names are not kept leaves none behind.
    fn role(&mut self, ino: Ino, knowledge: &Knowledge<'_>) {
        let directory = knowledge.tree.attributes(ino).is_some_and(|a| a.kind == Kind::Directory);
        if directory
            && knowledge.inodes.is_known(ino)
            && !names_are_kept(knowledge.tree, ino)
            && knowledge.inodes.takes_names_back(ino)
        {
            self.all_names = true;
        }
    }
}
