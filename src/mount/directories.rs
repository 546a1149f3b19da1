//! Directories whose kernel lock an operation of this host holds right now.
//!
//! While CREATE, MKDIR, UNLINK or RENAME is unanswered the kernel holds the lock of the directory,
//! and invalidating a name in it waits for that lock. The answer may in turn wait for other mounts
//! to show the change, each of which may be in the same position: so the notifier never waits for a
//! name's invalidation once an operation of this host turns up in its directory.

use super::Mount;
use crate::tree::Ino;
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub struct Directories {
    table: Mutex<Table>,
    contended: (Sender<()>, Receiver<()>),
}

#[derive(Default)]
struct Table {
    held: HashMap<Ino, usize>,
    /// Where the notifier is invalidating names right now.
    announced: HashSet<Ino>,
}

impl Default for Directories {
    fn default() -> Self {
        Directories { table: Mutex::default(), contended: bounded(1) }
    }
}

/// Two directories are held until this is dropped; drop it after the reply has left.
pub struct Held {
    mount: Arc<Mount>,
    directories: [Ino; 2],
}

impl Drop for Held {
    fn drop(&mut self) {
        self.mount.directories.release(self.directories);
    }
}

impl Mount {
    /// An operation that changes names in these directories (twice the same, if it is one) begins.
    pub(super) fn hold(self: &Arc<Self>, directories: [Ino; 2]) -> Held {
        self.directories.take(directories);
        Held { mount: Arc::clone(self), directories }
    }
}

impl Directories {
    fn take(&self, directories: [Ino; 2]) {
        let mut table = self.table.lock();
        for directory in directories {
            *table.held.entry(directory).or_default() += 1;
            if table.announced.contains(&directory) {
                // Full: it has been told already.
                let _ = self.contended.0.try_send(());
            }
        }
    }

    fn release(&self, directories: [Ino; 2]) {
        let mut table = self.table.lock();
        for directory in directories {
            if let Some(count) = table.held.get_mut(&directory) {
                *count -= 1;
                if *count == 0 {
                    table.held.remove(&directory);
                }
            }
        }
    }

    /// The notifier is about to invalidate names in these. False: an operation of this host holds
    /// one of them. Otherwise [`Directories::contended`] fires should one begin to.
    pub fn announce(&self, directories: impl IntoIterator<Item = Ino>) -> bool {
        let mut table = self.table.lock();
        table.announced = directories.into_iter().collect();
        let _ = self.contended.1.try_recv();
        !table.announced.iter().any(|directory| table.held.contains_key(directory))
    }

    pub fn contended(&self) -> &Receiver<()> {
        &self.contended.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_in_an_announced_directory_is_told() {
        let directories = Directories::default();
        assert!(directories.announce([Ino(20), Ino(21)]));
        directories.take([Ino(30), Ino(30)]);
        assert!(directories.contended().try_recv().is_err());
        directories.take([Ino(30), Ino(21)]);
        assert!(directories.contended().try_recv().is_ok());
    }

    #[test]
    fn a_directory_is_held_until_every_operation_in_it_is_answered() {
        let directories = Directories::default();
        directories.take([Ino(20), Ino(20)]);
        directories.take([Ino(20), Ino(21)]);
        directories.release([Ino(20), Ino(20)]);
        assert!(!directories.announce([Ino(20)]));
        directories.release([Ino(20), Ino(21)]);
        assert!(directories.announce([Ino(20)]));
    }
}
