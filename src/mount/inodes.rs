//! Which inodes the kernel holds: it counts lookups, and so do we. What it does not hold needs no
//! invalidation.

use crate::tree::{Ino, Name};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

#[derive(Default)]
pub struct Inodes {
    table: Mutex<HashMap<Ino, Known>>,
    /// Names asked for in the root: every path begins with one.
    root_names: Mutex<BTreeSet<Name>>,
}

/// What the kernel may remember of one inode.
struct Known {
    /// Lookups it has not forgotten yet.
    lookups: u64,
    /// It may hold pages of the data, or of the listing.
    pages: bool,
    /// It may hold names of this directory, absent ones too.
    names: bool,
    answered: Instant,
}

impl Inodes {
    /// The kernel is about to be told of this inode once more. Call it before the reply leaves.
    pub fn looked_up(&self, ino: Ino) {
        let mut table = self.table.lock();
        let known = table.entry(ino).or_insert_with(Known::new);
        known.lookups += 1;
        known.answered = Instant::now();
    }

    pub fn forget(&self, ino: Ino, lookups: u64) {
        let mut table = self.table.lock();
        let Some(known) = table.get_mut(&ino) else { return };
        known.lookups = known.lookups.saturating_sub(lookups);
        if known.lookups == 0 && ino != Ino::ROOT {
            table.remove(&ino);
        }
    }

    pub fn is_known(&self, ino: Ino) -> bool {
        ino == Ino::ROOT || self.table.lock().contains_key(&ino)
    }

    /// Whether the kernel was told of it within `span`, so that it may not have got round to
    /// entering it into its own table.
    pub fn answered_within(&self, ino: Ino, span: Duration) -> bool {
        self.table.lock().get(&ino).is_some_and(|known| known.answered.elapsed() < span)
    }

    /// Pages of its data or listing are about to be handed out.
    pub fn gives_pages(&self, ino: Ino) {
        self.with(ino, |known| known.pages = true);
    }

    /// Whether it was given any since it was looked up. Invalidating them does not end that: a
    /// reader may bring in others before the invalidation is through.
    pub fn may_hold_pages(&self, ino: Ino) -> bool {
        self.with(ino, |known| known.pages).unwrap_or(false)
    }

    /// This name in this directory, or its absence, is about to be told for keeps.
    pub fn gives_name(&self, directory: Ino, name: &[u8]) {
        self.with(directory, |known| known.names = true);
        if directory == Ino::ROOT {
            let mut names = self.root_names.lock();
            if !names.contains(name) {
                names.insert(name.into());
            }
        }
    }

    /// The names the kernel may know in the root.
    pub fn root_names(&self) -> BTreeSet<Name> {
        std::mem::take(&mut self.root_names.lock())
    }

    /// Whether the kernel may hold names of it; it holds none once the caller has invalidated them.
    pub fn takes_names_back(&self, directory: Ino) -> bool {
        self.with(directory, |known| std::mem::take(&mut known.names)).unwrap_or(false)
    }

    pub fn all(&self) -> Vec<Ino> {
        let mut all: Vec<Ino> = self.table.lock().keys().copied().collect();
        all.sort_unstable();
        all
    }

    fn with<T>(&self, ino: Ino, then: impl FnOnce(&mut Known) -> T) -> Option<T> {
        let mut table = self.table.lock();
        if ino == Ino::ROOT {
            return Some(then(table.entry(ino).or_insert_with(Known::new)));
        }
        table.get_mut(&ino).map(then)
    }
}

impl Known {
    fn new() -> Known {
        Known { lookups: 0, pages: false, names: false, answered: Instant::now() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_holds_an_inode_until_it_has_forgotten_every_lookup() {
        let inodes = Inodes::default();
        inodes.looked_up(Ino(20));
        inodes.looked_up(Ino(20));
        inodes.forget(Ino(20), 1);
        assert!(inodes.is_known(Ino(20)));
        inodes.forget(Ino(20), 1);
        assert!(!inodes.is_known(Ino(20)));
        assert!(inodes.is_known(Ino::ROOT));
    }

    #[test]
    fn the_kernel_holds_pages_only_of_inodes_it_holds() {
        let inodes = Inodes::default();
        inodes.gives_pages(Ino(20));
        assert!(!inodes.may_hold_pages(Ino(20)));
        inodes.looked_up(Ino(20));
        assert!(!inodes.may_hold_pages(Ino(20)));
        inodes.gives_pages(Ino(20));
        assert!(inodes.may_hold_pages(Ino(20)));
        inodes.forget(Ino(20), 1);
        assert!(!inodes.may_hold_pages(Ino(20)));
    }
}
