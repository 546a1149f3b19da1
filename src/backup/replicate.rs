//! Copying a stream's files to every other replica while it is being written.
//!
//! A thread for each peer pushes packs and indexes as they appear, so that little is left to do
//! when the writer closes. That is only a head start: at the end the peer's listing is compared
//! with the local one, what it lacks is pushed (also what it missed of earlier streams, whose blobs
//! this one may share), and the snapshot file goes last. So a receipt means: this peer can restore
//! it alone.

use super::files::{FileKind, RepositoryFile};
use super::peers::{Peer, Peers};
use super::repository::Repository;
use crate::error::Error;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a peer that did not take a file is left alone.
const PAUSE: Duration = Duration::from_secs(5);

/// One stream on its way to the peers. Dropped, it stops after the files under way.
pub struct Replication {
    queue: Arc<Queue>,
    workers: Vec<(Peer, JoinHandle<Result<String, Error>>)>,
}

/// A peer's answer at the end: when it had everything, or why it has not.
pub struct Receipt {
    pub peer: Peer,
    pub at: Result<String, Error>,
}

impl Replication {
    pub fn start(repository: &Arc<Repository>, peers: &dyn Peers) -> Result<Replication, Error> {
        let queue = Arc::new(Queue::default());
        let mut replication = Replication { queue: queue.clone(), workers: Vec::new() };
        for peer in peers.others() {
            let copier =
                Copier { peer: peer.clone(), repository: repository.clone(), queue: queue.clone() };
            let thread = std::thread::Builder::new()
                .name(format!("backup to {}", peer.name))
                .spawn(move || copier.run())
                .map_err(|error| Error::Backup(format!("cannot start a thread: {error}")))?;
            replication.workers.push((peer, thread));
        }
        Ok(replication)
    }

    /// To be told of each file that is durable here.
    pub fn queue(&self) -> Arc<Queue> {
        self.queue.clone()
    }

    /// Gives every peer the rest and this snapshot, and waits for their answers.
    pub fn finish(mut self, snapshot: RepositoryFile) -> Vec<Receipt> {
        self.queue.end(End::Finish(snapshot));
        let workers = std::mem::take(&mut self.workers);
        let answer = |thread: JoinHandle<_>| {
            thread.join().unwrap_or_else(|_| Err(Error::Backup("a copying thread died".into())))
        };
        workers.into_iter().map(|(peer, thread)| Receipt { peer, at: answer(thread) }).collect()
    }
}

impl Drop for Replication {
    fn drop(&mut self) {
        self.queue.end(End::Cancel);
    }
}

/// The files to copy.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// In the order they were written.
    files: Vec<RepositoryFile>,
    end: Option<End>,
}

#[derive(Clone, Copy)]
enum End {
    Finish(RepositoryFile),
    Cancel,
}

enum Work {
    Push(RepositoryFile),
    End(End),
}

impl Queue {
    pub fn push(&self, file: RepositoryFile) {
        self.state.lock().files.push(file);
        self.changed.notify_all();
    }

    /// The first end counts.
    fn end(&self, end: End) {
        self.state.lock().end.get_or_insert(end);
        self.changed.notify_all();
    }

    fn wait(&self, next: usize) -> Work {
        let mut state = self.state.lock();
        loop {
            if let Some(end) = state.end {
                return Work::End(end);
            }
            if let Some(file) = state.files.get(next) {
                return Work::Push(*file);
            }
            self.changed.wait(&mut state);
        }
    }

    /// Waits for the end, but not longer than `PAUSE`.
    fn pause(&self) {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| state.end.is_none(), PAUSE);
    }
}

/// One peer's thread.
struct Copier {
    peer: Peer,
    repository: Arc<Repository>,
    queue: Arc<Queue>,
}

impl Copier {
    fn run(self) -> Result<String, Error> {
        let mut next = 0;
        let mut complained = false;
        loop {
            match self.queue.wait(next) {
                Work::Push(file) => match self.repository.push(&self.peer, file) {
                    Ok(_) => next += 1,
                    Err(error) => {
                        if !std::mem::replace(&mut complained, true) {
                            log::warn!("backup: {error}; will be tried again");
                        }
                        self.queue.pause();
                    }
                },
                Work::End(End::Finish(snapshot)) => return self.complete(snapshot),
                Work::End(End::Cancel) => {
                    return Err(Error::Backup("the stream was dropped".into()));
                }
            }
        }
    }

    /// Gives the peer all it lacks, then the snapshot; its receipt.
    fn complete(&self, snapshot: RepositoryFile) -> Result<String, Error> {
        let theirs = self.repository.listing_of(&self.peer)?;
        for kind in [FileKind::Pack, FileKind::Index] {
            for file in self.repository.store.list(kind)? {
                if !theirs.contains(&file) {
                    self.repository.push(&self.peer, file)?;
                }
            }
        }
        let receipt = self.repository.push(&self.peer, snapshot)?;
        String::from_utf8(receipt).map_err(|_| {
            Error::Backup(format!("{} gave a receipt that is no text", self.peer.name))
        })
    }
}
