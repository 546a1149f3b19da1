//! Which owners hold ranges through which handles of this mount.

use crate::mount::releases::Key;
use crate::tree::{Ino, LockOwner};
use std::collections::BTreeSet;

/// Two views of the same facts.
#[derive(Default)]
pub struct Held {
    by_owner: BTreeSet<(Ino, LockOwner, u64)>,
    by_handle: BTreeSet<(u64, Ino, LockOwner)>,
}

impl Held {
    pub fn add(&mut self, (ino, owner): Key, fh: u64) {
        self.by_owner.insert((ino, owner, fh));
        self.by_handle.insert((fh, ino, owner));
    }

    /// Whether the owner holds anything of the file.
    pub fn any(&self, key: Key) -> bool {
        self.handles_of(key).next().is_some()
    }

    /// The owner gave back all it held of the file. False if that was nothing; and the handles
    /// through which nothing is held now.
    pub fn forget(&mut self, key: Key) -> (bool, Vec<u64>) {
        let handles: Vec<u64> = self.handles_of(key).collect();
        for &fh in &handles {
            self.by_owner.remove(&(key.0, key.1, fh));
            self.by_handle.remove(&(fh, key.0, key.1));
        }
        let any = !handles.is_empty();
        (any, handles.into_iter().filter(|&fh| self.keys_of(fh).next().is_none()).collect())
    }

    /// The handle is closed; returns what nobody holds through any other handle.
    pub fn close(&mut self, fh: u64) -> Vec<Key> {
        let keys: Vec<Key> = self.keys_of(fh).collect();
        for &(ino, owner) in &keys {
            self.by_owner.remove(&(ino, owner, fh));
            self.by_handle.remove(&(fh, ino, owner));
        }
        keys.into_iter().filter(|&key| !self.any(key)).collect()
    }

    fn handles_of(&self, (ino, owner): Key) -> impl Iterator<Item = u64> {
        self.by_owner.range((ino, owner, 0)..=(ino, owner, u64::MAX)).map(|&(_, _, fh)| fh)
    }

    fn keys_of(&self, fh: u64) -> impl Iterator<Item = Key> {
        let (first, last) = ((fh, Ino(0), 0), (fh, Ino(u64::MAX), u64::MAX));
        self.by_handle.range(first..=last).map(|&(_, ino, owner)| (ino, owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_back_with_the_last_handle_it_was_taken_through() {
        let mut held = Held::default();
        let (one, other) = ((Ino(20), 7), (Ino(21), 7));
        held.add(one, 1);
        held.add(one, 2);
        held.add(other, 2);
        assert_eq!(held.close(1), []);
        assert!(held.any(one));
        assert_eq!(held.close(2), [one, other]);
        assert!(!held.any(one));
    }

    #[test]
    fn an_owner_gives_back_through_all_its_handles() {
        let mut held = Held::default();
        held.add((Ino(20), 7), 1);
        held.add((Ino(20), 7), 2);
        held.add((Ino(20), 8), 2);
        assert_eq!(held.forget((Ino(20), 7)), (true, vec![1]));
        assert_eq!(held.forget((Ino(20), 7)), (false, vec![]));
        assert_eq!(held.forget((Ino(20), 8)), (true, vec![2]));
    }
}
