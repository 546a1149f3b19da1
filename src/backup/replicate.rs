//! Copying a stream's files to every other replica while it is being written.
//!
//! A thread for each peer pushes packs and indexes as they appear, so that little is left to do
//! when the writer closes. That is only a head start: at the end the peer's listing is compared
//! with the local one, what it lacks is pushed (also what it missed of earlier streams, whose blobs
//! this one may share), and the snapshot file goes last. So a receipt means: this peer can restore
//! it alone.
//!
//! Once a majority of the replicas has everything, the rest are waited for only so long: one whose
//! disk hangs, or that has years of backups to catch up with, would hold up the writer. Its own
//! keeper fetches what it lacks.

use super::files::{FileKind, RepositoryFile};
use super::peers::{Peer, Peers};
use super::repository::Repository;
use crate::error::Error;
use crate::tree::ReplicaId;
use crossbeam_channel::{Receiver, unbounded};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a peer that did not take a file is left alone.
const PAUSE: Duration = Duration::from_secs(5);

/// One stream on its way to the peers. Dropped, it stops after the files under way.
pub struct Replication {
    queue: Arc<Queue>,
    peers: Vec<Peer>,
    answers: Receiver<Answer>,
}

/// How a peer's thread ended.
type Answer = (ReplicaId, Result<String, Error>);

/// A peer's answer at the end: when it had everything, or why it has not.
pub struct Receipt {
    pub peer: Peer,
    pub at: Result<String, Error>,
}

impl Replication {
    pub fn start(repository: &Arc<Repository>, peers: &dyn Peers) -> Result<Replication, Error> {
        let queue = Arc::new(Queue::default());
        let (tell, answers) = unbounded();
        let replication = Replication { queue: queue.clone(), peers: peers.others(), answers };
        for peer in &replication.peers {
            let copier =
                Copier { peer: peer.clone(), repository: repository.clone(), queue: queue.clone() };
            let (id, tell) = (peer.id, tell.clone());
            std::thread::Builder::new()
                .name(format!("backup to {}", peer.name))
                .spawn(move || {
                    // Nobody listens any more if the stream has ended without this peer.
                    let _ = tell.send((id, copier.run()));
                })
                .map_err(|error| Error::Backup(format!("cannot start a thread: {error}")))?;
        }
        Ok(replication)
    }

    /// To be told of each file that is durable here.
    pub fn queue(&self) -> Arc<Queue> {
        self.queue.clone()
    }

    /// Gives every peer the rest and this snapshot, and waits for their answers: once `enough`
    /// replicas, this one among them, have everything, no longer than `patience` in all.
    pub fn finish(
        self,
        snapshot: RepositoryFile,
        enough: usize,
        patience: Duration,
    ) -> Vec<Receipt> {
        self.queue.finish(snapshot);
        let deadline = Instant::now() + patience;
        let mut answers = BTreeMap::new();
        while answers.len() < self.peers.len() {
            let copies = 1 + answers.values().filter(|at: &&Result<_, _>| at.is_ok()).count();
            let answer = match copies >= enough {
                true => self.answers.recv_deadline(deadline).ok(),
                false => self.answers.recv().ok(),
            };
            let Some((peer, at)) = answer else { break };
            answers.insert(peer, at);
        }
        let late = || Err(Error::Backup("it is late, and will fetch the rest by itself".into()));
        let receipt = |peer: &Peer| Receipt {
            peer: peer.clone(),
            at: answers.remove(&peer.id).unwrap_or_else(late),
        };
        self.peers.iter().map(receipt).collect()
    }
}

impl Drop for Replication {
    fn drop(&mut self) {
        self.queue.cancel();
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
    /// Nothing comes after it.
    snapshot: Option<RepositoryFile>,
    cancelled: bool,
}

enum Work {
    Push(RepositoryFile),
    Finish(RepositoryFile),
    Cancel,
}

impl Queue {
    pub fn push(&self, file: RepositoryFile) {
        self.state.lock().files.push(file);
        self.changed.notify_all();
    }

    fn finish(&self, snapshot: RepositoryFile) {
        self.state.lock().snapshot = Some(snapshot);
        self.changed.notify_all();
    }

    fn cancel(&self) {
        self.state.lock().cancelled = true;
        self.changed.notify_all();
    }

    fn is_cancelled(&self) -> bool {
        self.state.lock().cancelled
    }

    fn wait(&self, next: usize) -> Work {
        let mut state = self.state.lock();
        loop {
            if state.cancelled {
                return Work::Cancel;
            }
            if let Some(snapshot) = state.snapshot {
                return Work::Finish(snapshot);
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
        let goes_on = |state: &mut State| !state.cancelled && state.snapshot.is_none();
        self.changed.wait_while_for(&mut state, goes_on, PAUSE);
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
                Work::Finish(snapshot) => return self.complete(snapshot),
                Work::Cancel => return Err(dropped()),
            }
        }
    }

    /// Gives the peer all it lacks, then the snapshot; its receipt.
    fn complete(&self, snapshot: RepositoryFile) -> Result<String, Error> {
        let theirs = self.repository.listing_of(&self.peer)?;
        for kind in [FileKind::Pack, FileKind::Index] {
            for file in self.repository.store.list(kind)? {
                if self.queue.is_cancelled() {
                    return Err(dropped());
                }
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

fn dropped() -> Error {
    Error::Backup("the stream was dropped".into())
}
