//! [`Tree::check`]: whether the tree is sound, told from everything in it. For tests and
//! simulations: it walks the whole tree.

use super::inode::{Body, Inode};
use super::{Ino, Role, Tree};
use std::collections::BTreeMap;

impl Tree {
    /// # Errors
    /// The first contradiction, in a sentence.
    pub fn check(&self) -> Result<(), String> {
        let names = self.names()?;
        for (ino, inode) in self.inodes.iter() {
            self.check_links(ino, inode, names.get(&ino).copied().unwrap_or(0))?;
            self.check_directory(ino, inode)?;
        }
        self.check_sessions()?;
        self.check_usage()
    }

    /// How many names each inode has.
    fn names(&self) -> Result<BTreeMap<Ino, u32>, String> {
        let mut names = BTreeMap::new();
        for (parent, inode) in self.inodes.iter() {
            let Some(directory) = inode.directory() else { continue };
            for (cookie, entry) in directory.entries.after(0) {
                let name = entry.name.as_bytes();
                if directory.entries.find(name) != Some((cookie, entry.ino)) {
                    return Err(format!("a name in {parent} is not found by looking it up"));
                }
                if !self.inodes.contains(entry.ino) {
                    return Err(format!("a name in {parent} means {}, which is gone", entry.ino));
                }
                *names.entry(entry.ino).or_insert(0) += 1;
            }
        }
        Ok(names)
    }

    fn check_links(&self, ino: Ino, inode: &Inode, names: u32) -> Result<(), String> {
        let orphan = self.orphans.contains(ino);
        let waits_for_name = names == 0 && !orphan && self.locks.ticket(ino).is_some();
        let expected = match inode.directory() {
            None => names + u32::from(waits_for_name),
            Some(_) if names == 0 && ino != Ino::ROOT => 0,
            Some(directory) => {
                let entries = directory.entries.after(0);
                let is_directory = |ino| self.inodes.get(ino).is_some_and(Inode::is_directory);
                2 + entries.filter(|(_, entry)| is_directory(entry.ino)).count() as u32
            }
        };
        if inode.links != expected {
            return Err(format!("{ino} counts {} links but has {expected}", inode.links));
        }
        if orphan != (inode.links == 0) {
            return Err(format!("{ino} has {} links; among the orphans: {orphan}", inode.links));
        }
        let found = self.path(ino).and_then(|path| self.at_path(&path));
        let has_path = names > 0 || ino == Ino::ROOT;
        // Below a removed directory there are none.
        if found != has_path.then_some(ino) && (found.is_some() || self.doomed.is_empty()) {
            return Err(format!("{ino} has {names} names, but its path leads to {found:?}"));
        }
        if inode.is_directory() && names > 1 {
            return Err(format!("directory {ino} has {names} names"));
        }
        Ok(())
    }

    fn at_path(&self, path: &[u8]) -> Option<Ino> {
        let mut names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        names.try_fold(Ino::ROOT, |parent, name| self.lookup(parent, name).ok())
    }

    fn check_directory(&self, ino: Ino, inode: &Inode) -> Result<(), String> {
        let Some(directory) = inode.directory() else { return Ok(()) };
        let mut at = ino;
        for _ in 0..=self.inodes.len() {
            match self.parent(at) {
                Some(Ino::ROOT) => return self.check_tickets(ino),
                Some(_) if self.doomed.contains(at) => return self.check_tickets(ino),
                Some(parent) if parent != at => at = parent,
                _ => break,
            }
        }
        if inode.links == 0 && directory.entries.is_empty() {
            return Ok(());
        }
        Err(format!("directory {ino} does not lead up to the root"))
    }

    /// In a `lock` directory every entry is a ticket, and the first of its name.
    fn check_tickets(&self, ino: Ino) -> Result<(), String> {
        let Some(directory) = self.inodes.get(ino).and_then(Inode::directory) else {
            return Ok(());
        };
        let mut firsts = BTreeMap::new();
        let mut tickets = 0;
        for (_, name, ticket) in self.locks.tickets_after(ino, 0) {
            firsts.entry(&**name).or_insert(ticket);
            tickets += 1;
        }
        let hidden = directory.hidden.len();
        if directory.state.role != Role::Lock {
            let sound = tickets == 0 && hidden == 0;
            return if sound { Ok(()) } else { Err(format!("{ino} is no lock but has tickets")) };
        }
        let entries = directory.entries.after(0);
        let shown: BTreeMap<_, _> =
            entries.map(|(_, entry)| (entry.name.as_bytes(), entry.ino)).collect();
        if shown != firsts {
            return Err(format!(
                "lock {ino} shows {shown:?}, but the first tickets are {firsts:?}"
            ));
        }
        if shown.len() + hidden != tickets {
            return Err(format!("lock {ino} has {tickets} tickets, {hidden} of them hidden"));
        }
        Ok(())
    }

    /// What belongs to a session belongs to a live one, and both sides know.
    fn check_sessions(&self) -> Result<(), String> {
        for (session, of) in self.sessions.iter().chain(self.ended.iter()) {
            for ((parent, cookie), ()) in of.ephemerals.iter() {
                let directory = self.inodes.get(parent).and_then(Inode::directory);
                let owner = directory.and_then(|directory| directory.owners.get(cookie).copied());
                let exists = directory.is_some_and(|found| found.entries.get(cookie).is_some());
                if owner != Some(session) || !exists {
                    return Err(format!(
                        "session {session} owns an entry of {parent} that does not"
                    ));
                }
            }
        }
        let owned = self.inodes.iter().filter_map(|(_, inode)| inode.directory());
        let owned: usize = owned.map(|directory| directory.owners.len()).sum();
        let sessions = self.sessions.iter().chain(self.ended.iter());
        let known: usize = sessions.map(|(_, session)| session.ephemerals.len()).sum();
        if owned != known {
            return Err(format!("{owned} entries have an owner, but sessions own {known}"));
        }
        let is_known = |session| self.sessions.contains(session) || self.ended.contains(session);
        let mut open_in = BTreeMap::new();
        for ((session, ino), ()) in self.open.iter() {
            if !is_known(session) {
                return Err(format!("orphan {ino} waits for a session that is gone"));
            }
            *open_in.entry(ino).or_insert(0) += 1;
        }
        for (ino, orphan) in self.orphans.iter() {
            let open = open_in.remove(&ino).unwrap_or(0);
            if orphan.open_in != open || (open == 0 && !self.doomed.contains(ino)) {
                return Err(format!("orphan {ino} counts {} but {open} know it", orphan.open_in));
            }
        }
        if let Some(ino) = self
            .doomed
            .iter()
            .map(|(ino, _)| ino)
            .chain(open_in.into_keys())
            .find(|ino| !self.orphans.contains(*ino))
        {
            return Err(format!("{ino} is open or doomed but no orphan"));
        }
        let stray = self
            .locks
            .all()
            .into_iter()
            .find(|lock| !is_known(lock.session) || !self.inodes.contains(lock.ino));
        stray.map_or(Ok(()), |lock| Err(format!("a lock on {} belongs to nobody", lock.ino)))
    }

    fn check_usage(&self) -> Result<(), String> {
        let mut bytes = 0;
        for (ino, inode) in self.inodes.iter() {
            bytes += inode.stored();
            if let Body::Directory(directory) = &inode.body {
                let names = directory.entries.after(0);
                bytes += names.map(|(_, entry)| entry.name.as_bytes().len() as u64).sum::<u64>();
            }
            if ino.0 >= self.next_ino {
                return Err(format!("{ino} is there before its number was given"));
            }
        }
        if bytes != self.bytes {
            return Err(format!("the tree counts {} bytes but has {bytes}", self.bytes));
        }
        Ok(())
    }
}
