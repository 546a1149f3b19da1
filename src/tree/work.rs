//! Work that may be long, done a bounded piece at a time: what a session leaves, what is below a
//! removed directory, grants to very many waiters.
//!
//! The entry that causes it does the first piece, which nearly always is all. For what is left the
//! leader proposes [`super::Command::Work`] until [`Tree::has_work`] says no. How much an entry
//! does follows from the tree alone, so every replica does the same.

use super::edit::Edit;
use super::{Ino, Refusal, Reply, SessionId, Tree};

impl Tree {
    /// Whether anything is left to do: [`super::Command::Work`] goes on with it.
    pub fn has_work(&self) -> bool {
        self.locks.has_work() || !self.ended.is_empty() || !self.doomed.is_empty()
    }

    /// Lets an entry do no more than this beside what it asks for. For tests, before the first one
    /// and after a restart: every replica has to do the same.
    #[cfg(any(test, feature = "sim"))]
    pub fn limit_work(&mut self, work: usize) {
        self.work_in_one_entry = work;
    }
}

impl Edit<'_> {
    pub fn go_on(&mut self) -> Result<Reply, Refusal> {
        if self.session != SessionId::NONE {
            return Err(Refusal::NotPermitted);
        }
        self.work();
        Ok(Reply::Done)
    }

    /// Does a piece of all there is to do: locks first, for others wait for those.
    pub fn work(&mut self) {
        let mut work = self.tree.work_in_one_entry;
        self.take_locks_back(&mut work);
        while work > 0
            && let Some((session, _)) = self.tree.ended.first()
        {
            self.clear_away(session, &mut work);
        }
        while work > 0
            && let Some((directory, ())) = self.tree.doomed.first()
        {
            self.empty(directory, &mut work);
        }
    }

    /// The ephemeral entries of an ended session, then the orphans it had open.
    fn clear_away(&mut self, session: SessionId, work: &mut usize) {
        while *work > 0
            && let Some(((parent, cookie), ())) =
                self.tree.ended.get(session).and_then(|ended| ended.ephemerals.first())
        {
            self.remove_whatever(parent, cookie);
            *work -= 1;
        }
        while *work > 0
            && let Some(ino) = self.first_open_in(session)
        {
            self.release_one(ino, session);
            *work -= 1;
        }
        if *work > 0 {
            *work -= 1;
            self.tree.ended.remove(session);
        }
    }

    /// What is below a removed directory; a directory in it becomes a removed one itself.
    fn empty(&mut self, directory: Ino, work: &mut usize) {
        while *work > 0
            && let Some(cookie) = self.first_in(directory)
        {
            self.remove_whatever(directory, cookie);
            *work -= 1;
        }
        if *work > 0 {
            *work -= 1;
            self.tree.doomed.remove(directory);
            self.free_if_released(directory);
        }
    }

    fn first_open_in(&self, session: SessionId) -> Option<Ino> {
        let ((of, ino), ()) = self.tree.open.from((session, Ino(0))).next()?;
        (of == session).then_some(ino)
    }

    fn first_in(&self, directory: Ino) -> Option<u64> {
        let entries = &self.directory(directory).ok()?.entries;
        entries.after(0).next().map(|(cookie, _)| cookie)
    }
}
