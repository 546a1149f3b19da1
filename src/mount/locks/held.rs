//! Which owners hold ranges through which handles of this mount.

use crate::mount::releases::Key;
use crate::tree::{Ino, LockOwner, SessionId};
use std::collections::{BTreeMap, BTreeSet};

/// Two views of the same facts.
#[derive(Default)]
pub struct Held {
    /// The session in which each was granted.
    by_owner: BTreeMap<(Ino, LockOwner, u64), SessionId>,
    by_handle: BTreeSet<(u64, Ino, LockOwner)>,
}

impl Held {
    pub fn add(&mut self, session: SessionId, (ino, owner): Key, fh: u64) {
        self.by_owner.insert((ino, owner, fh), session);
        self.by_handle.insert((fh, ino, owner));
    }

    /// The session, the newest of them, in which the owner holds anything of the file.
    pub fn session(&self, (ino, owner): Key) -> Option<SessionId> {
        self.by_owner.range((ino, owner, 0)..=(ino, owner, u64::MAX)).map(|(_, s)| *s).max()
    }

    /// This session and those before it are over, and all that was held in them.
    pub fn session_lost(&mut self, lost: SessionId) {
        let Held { by_owner, by_handle } = self;
        by_owner.retain(|&(ino, owner, fh), session| {
            let keeps = *session > lost;
            if !keeps {
                by_handle.remove(&(fh, ino, owner));
            }
            keeps
        });
    }

    /// The owner gave back all it held of the file. In which session; and the handles through which
    /// nothing is held now.
    pub fn forget(&mut self, key: Key) -> (Option<SessionId>, Vec<u64>) {
        let session = self.session(key);
        let handles: Vec<u64> = self.handles_of(key).collect();
        for &fh in &handles {
            self.by_owner.remove(&(key.0, key.1, fh));
            self.by_handle.remove(&(fh, key.0, key.1));
        }
        (session, handles.into_iter().filter(|&fh| self.keys_of(fh).next().is_none()).collect())
    }

    /// The handle is closed; returns what nobody holds through any other handle.
    pub fn close(&mut self, fh: u64) -> Vec<(SessionId, Key)> {
        let keys: Vec<Key> = self.keys_of(fh).collect();
        let mut left = Vec::new();
        for (ino, owner) in keys {
            self.by_handle.remove(&(fh, ino, owner));
            let session = self.by_owner.remove(&(ino, owner, fh));
            if let Some(session) = session.filter(|_| self.session((ino, owner)).is_none()) {
                left.push((session, (ino, owner)));
            }
        }
        left
    }

    fn handles_of(&self, (ino, owner): Key) -> impl Iterator<Item = u64> {
        self.by_owner.range((ino, owner, 0)..=(ino, owner, u64::MAX)).map(|(&(_, _, fh), _)| fh)
    }

    fn keys_of(&self, fh: u64) -> impl Iterator<Item = Key> {
        let (first, last) = ((fh, Ino(0), 0), (fh, Ino(u64::MAX), u64::MAX));
        self.by_handle.range(first..=last).map(|&(_, ino, owner)| (ino, owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SessionId = SessionId(5);

    #[test]
    fn a_lock_is_given_back_with_the_last_handle_it_was_taken_through() {
        let mut held = Held::default();
        let (one, other) = ((Ino(20), 7), (Ino(21), 7));
        held.add(NOW, one, 1);
        held.add(NOW, one, 2);
        held.add(NOW, other, 2);
        assert_eq!(held.close(1), []);
        assert_eq!(held.session(one), Some(NOW));
        assert_eq!(held.close(2), [(NOW, one), (NOW, other)]);
        assert_eq!(held.session(one), None);
    }

    #[test]
    fn an_owner_gives_back_through_all_its_handles() {
        let mut held = Held::default();
        held.add(NOW, (Ino(20), 7), 1);
        held.add(NOW, (Ino(20), 7), 2);
        held.add(NOW, (Ino(20), 8), 2);
        assert_eq!(held.forget((Ino(20), 7)), (Some(NOW), vec![1]));
        assert_eq!(held.forget((Ino(20), 7)), (None, vec![]));
        assert_eq!(held.forget((Ino(20), 8)), (Some(NOW), vec![2]));
    }

    #[test]
    fn a_lost_session_takes_what_was_held_in_it_and_nothing_of_the_next() {
        let mut held = Held::default();
        held.add(SessionId(3), (Ino(20), 7), 1);
        held.add(NOW, (Ino(20), 8), 2);
        held.session_lost(SessionId(3));
        assert_eq!(held.session((Ino(20), 7)), None);
        assert_eq!(held.close(1), []);
        assert_eq!(held.session((Ino(20), 8)), Some(NOW));
    }
}
