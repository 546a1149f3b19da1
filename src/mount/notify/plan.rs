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
            Change::Data { ino, .. } | Change::Stored { ino, .. } => self.data(*ino, knowledge),
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
            | Change::SessionMoved { .. }
            | Change::SessionEnded { .. }
            | Change::Members
            | Change::Programs
            | Change::Level { .. } => {}
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
        if knowledge.inodes.may_hold_pages(ino) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: Ino = Ino::ROOT;
    const FILE: Ino = Ino(20);

    /// The kernel holds `FILE`, and pages of it and of the root's listing.
    fn inodes() -> Inodes {
        let inodes = Inodes::default();
        inodes.looked_up(FILE);
        inodes.gives_pages(FILE);
        inodes.gives_pages(PARENT);
        inodes
    }

    fn plan(inodes: &Inodes, own: bool, change: Change) -> Plan {
        let tree = Tree::new();
        let knowledge = Knowledge { tree: &tree, inodes };
        let mut plan = Plan::default();
        if own {
            plan.add_own(&change, &knowledge);
        } else {
            plan.add_foreign(&change, &knowledge);
        }
        plan
    }

    fn added(parent: Ino) -> Change {
        Change::Added { parent, name: b"f"[..].into(), ino: FILE }
    }

    #[test]
    fn what_the_kernel_does_not_hold_is_left_alone() {
        let nothing = Inodes::default();
        let data = Change::Data { ino: FILE, offset: 0, length: 1 };
        assert_eq!(plan(&nothing, false, data), Plan::default());
        assert_eq!(plan(&nothing, false, Change::Attributes { ino: FILE }), Plan::default());
        assert_eq!(plan(&nothing, false, added(Ino(30))), Plan::default());
    }

    #[test]
    fn a_foreign_change_of_data_takes_pages_back_if_there_may_be_any() {
        let data = Change::Data { ino: FILE, offset: 0, length: 1 };
        let read = plan(&inodes(), false, data.clone());
        assert_eq!(read.inodes, BTreeMap::from([(FILE, Pages::Forget)]));
        let unread = Inodes::default();
        unread.looked_up(FILE);
        let unread = plan(&unread, false, data);
        assert_eq!(unread.inodes, BTreeMap::from([(FILE, Pages::Keep)]));
    }

    #[test]
    fn a_foreign_name_is_forgotten_with_the_listing_it_is_new_in() {
        let plan = plan(&inodes(), false, added(PARENT));
        assert_eq!(plan.names, BTreeSet::from([(PARENT, b"f"[..].into())]));
        let wanted = BTreeMap::from([(PARENT, Pages::Forget), (FILE, Pages::Keep)]);
        assert_eq!(plan.inodes, wanted);
    }

    #[test]
    fn the_kernel_knows_what_it_asked_for_but_not_who_read_meanwhile() {
        assert_eq!(plan(&inodes(), true, added(PARENT)), Plan::default());
        assert_eq!(plan(&inodes(), true, Change::Attributes { ino: FILE }), Plan::default());
        let data = Change::Data { ino: FILE, offset: 0, length: 1 };
        let read_meanwhile = plan(&inodes(), true, data.clone());
        assert_eq!(read_meanwhile.inodes, BTreeMap::from([(FILE, Pages::Forget)]));
        let unread = Inodes::default();
        unread.looked_up(FILE);
        assert_eq!(plan(&unread, true, data), Plan::default());
    }

    #[test]
    fn tickets_of_this_host_are_news_to_its_kernel_but_no_names_to_forget() {
        let inodes = inodes();
        inodes.looked_up(Ino::BACKUP_LOCK);
        let plan = plan(&inodes, true, added(Ino::BACKUP_LOCK));
        assert_eq!(plan.names, BTreeSet::new());
        assert!(plan.inodes.contains_key(&Ino::BACKUP_LOCK));
    }
}
