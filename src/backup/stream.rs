//! The life of one stream, on a thread of its own:
//!
//! 1. the host's repository is opened, or made;
//! 2. the engine archives what the writer gives, while packs already go to the peers;
//! 3. what the engine stored is compared with what the writer gave, by the [`Witness`];
//! 4. the snapshot file is stored as pending, and copied to the peers after all it needs;
//! 5. with copies on a majority of the replicas, the manifest goes through the log;
//! 6. the snapshot counts here; the writer's `close` is answered.
//!
//! Whatever fails, no snapshot is recorded, nor left under `snapshots/`; packs that stay are
//! nobody's. A file that cannot be stored here fails the writer's next write, with its errno.

use super::Context;
use super::catalogue::{NotRecorded, Recorded};
use super::engine::{Archived, Follower, Label};
use super::files::{FileKind, RepositoryFile};
use super::intake::{End, Intake, Step, Witness, refuse};
use super::manifest::{Holder, Kind, Manifest, Packs, timestamp};
use super::replicate::{Queue, Receipt, Replication};
use super::repository::Repository;
use crate::cluster::streams::StreamDone;
use crate::error::Error;
use crossbeam_channel::{Receiver, Sender, bounded, select};
use jiff::Timestamp;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// A stream being written for `host`.
pub struct Stream {
    pub context: Arc<Context>,
    pub host: String,
    pub steps: Receiver<Step>,
    pub started: Timestamp,
}

/// Passes on what the engine stores, and that it cannot.
struct Progress {
    added: Mutex<Vec<RepositoryFile>>,
    to_peers: Arc<Queue>,
    /// Room for one error: the first counts.
    lost: Sender<Error>,
}

impl Follower for Progress {
    fn stored(&self, file: RepositoryFile) {
        self.added.lock().push(file);
        self.to_peers.push(file);
    }

    fn lost(&self, error: Error) {
        let _ = self.lost.try_send(error);
    }
}

/// All but the writer's answer: what a stream has become.
struct Stored {
    name: String,
    manifest: Manifest,
    done: StreamDone<()>,
}

impl Stream {
    pub fn run(self) {
        let context = &self.context;
        let (tell_lost, lost) = bounded(1);
        let (intake, witness) = Intake::new(
            &self.host,
            self.steps.clone(),
            context.stopping.clone(),
            lost.clone(),
            context.metrics.clone(),
        );
        let stored = self.store(intake, &witness, tell_lost, &lost);
        context.active.lock().remove(&self.host);
        context.metrics.ended(stored.is_ok());
        match stored {
            Ok(stored) => {
                self.report(&stored);
                (stored.done)(Ok(()));
            }
            Err(error) => {
                log::error!("backup of {}: no snapshot came of it: {error}", self.host);
                let end = witness.lock().end.take();
                match end {
                    Some(End::Finished(done)) => refuse(Step::Finish(done), error.errno()),
                    _ => self.drain(error.errno()),
                }
            }
        }
    }

    fn store(
        &self,
        intake: Intake,
        witness: &Mutex<Witness>,
        tell_lost: Sender<Error>,
        lost: &Receiver<Error>,
    ) -> Result<Stored, Error> {
        let began = Instant::now();
        let context = &self.context;
        let engine = &*context.engine;
        let repository =
            context
                .repositories
                .of_host_or_new(&self.host, &*context.catalogue, || engine.create())?;
        let replication = Replication::start(&repository, &*context.peers)?;
        let label = Label { host: self.host.clone(), started: self.started };
        let progress = Arc::new(Progress {
            added: Mutex::default(),
            to_peers: replication.queue(),
            lost: tell_lost,
        });
        let archived = engine.archive(&repository, Box::new(intake), &label, progress.clone());
        let archived = judge(archived, &mut witness.lock(), lost)?;
        let RepositoryFile { size, .. } = self.keep_pending(&repository, &archived)?;
        let snapshot = RepositoryFile { kind: FileKind::Snapshot, id: archived.id, size };
        let patience = began.elapsed().max(context.config.straggler);
        let receipts = replication.finish(snapshot, context.peers.majority(), patience);
        let mut files = std::mem::take(&mut *progress.added.lock());
        files.push(snapshot);
        let holders = self.holders(receipts).or_else(|error| {
            repository.store.forget_pending(archived.id)?;
            Err(error)
        })?;
        let manifest = self.manifest(&repository, &archived, &witness.lock(), files, holders);
        let name = self.record(&repository, &manifest)?;
        match witness.lock().end.take() {
            Some(End::Finished(done)) => Ok(Stored { name, manifest, done }),
            _ => unreachable!("a stream was judged whole without its writer's end"),
        }
    }

    fn keep_pending(
        &self,
        repository: &Repository,
        archived: &Archived,
    ) -> Result<RepositoryFile, Error> {
        let (kind, id) = (FileKind::Snapshot, archived.id);
        repository.store.write(kind, id, &[&archived.snapshot])?;
        Ok(RepositoryFile { kind, id, size: archived.snapshot.len() as u64 })
    }

    /// Who has it; an error unless that is a majority of the replicas.
    fn holders(&self, receipts: Vec<Receipt>) -> Result<Vec<Holder>, Error> {
        let peers = &self.context.peers;
        let mut holders =
            vec![Holder { replica: peers.me().name, at: timestamp(Timestamp::now()) }];
        let mut missing = Vec::new();
        for Receipt { peer, at } in receipts {
            match at {
                Ok(at) => holders.push(Holder { replica: peer.name, at }),
                Err(error) => {
                    log::warn!("backup of {}: {} has no copy yet: {error}", self.host, peer.name);
                    missing.push(peer.name);
                }
            }
        }
        if holders.len() < peers.majority() {
            let source = io::Error::from_raw_os_error(libc::ENOTCONN);
            return Err(Error::network("copy a backup to", missing.join(", "))(source));
        }
        Ok(holders)
    }

    fn manifest(
        &self,
        repository: &Repository,
        archived: &Archived,
        witness: &Witness,
        files: Vec<RepositoryFile>,
        holders: Vec<Holder>,
    ) -> Manifest {
        let (packs, files): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.kind == FileKind::Pack);
        Manifest {
            version: 1,
            host: self.host.clone(),
            repository: repository.id(),
            snapshot: archived.id,
            kind: Kind::Full,
            bytes: witness.bytes,
            sha256: witness.digest(),
            started: timestamp(self.started),
            finished: timestamp(Timestamp::now()),
            writer: self.context.peers.me().name,
            files,
            packs: Packs {
                count: packs.len() as u64,
                bytes: packs.iter().map(|pack| pack.size).sum(),
            },
            holders,
        }
    }

    /// Puts the manifest in the log; the name it has there.
    fn record(&self, repository: &Repository, manifest: &Manifest) -> Result<String, Error> {
        let name = Manifest::name(Timestamp::now(), manifest.snapshot);
        let snapshot =
            Recorded { name: name.clone(), size: manifest.bytes, manifest: manifest.to_json() };
        match self.context.catalogue.record(&self.host, snapshot) {
            Ok(()) => {
                if let Err(error) = repository.store.promote(manifest.snapshot) {
                    log::warn!("backup of {}: {error}; the keeper will try again", self.host);
                }
                Ok(name)
            }
            Err(NotRecorded::Never(error)) => {
                repository.store.forget_pending(manifest.snapshot)?;
                Err(error)
            }
            // It stays pending: should the log have it after all, it will count.
            Err(NotRecorded::Unknown(error)) => Err(error),
        }
    }

    fn report(&self, stored: &Stored) {
        let Manifest { bytes, packs, holders, .. } = &stored.manifest;
        let holders: Vec<_> = holders.iter().map(|holder| holder.replica.as_str()).collect();
        log::info!(
            "backup of {}: {} stored, {} MiB, of which {} MiB new on disk; on {}",
            self.host,
            stored.name,
            bytes >> 20,
            packs.bytes >> 20,
            holders.join(", "),
        );
    }

    /// Answers what the writer still wants of a stream that is lost.
    fn drain(&self, errno: i32) {
        loop {
            let step = select! {
                recv(self.steps) -> step => step,
                recv(self.context.stopping) -> _ => return,
            };
            match step {
                Ok(step @ Step::Write { .. }) => refuse(step, errno),
                Ok(last) => return refuse(last, errno),
                Err(_) => return,
            }
        }
    }
}

/// Whether the engine stored what the writer gave, all of it, to its end. Of the errors, the first
/// one is told: the engine's own is often only a consequence.
fn judge(
    archived: Result<Archived, Error>,
    witness: &mut Witness,
    lost: &Receiver<Error>,
) -> Result<Archived, Error> {
    if let Some(End::Broken(error)) = witness.end.take_if(|end| matches!(end, End::Broken(_))) {
        return Err(error);
    }
    if let Ok(error) = lost.try_recv() {
        return Err(error);
    }
    if witness.end.is_none() {
        archived?;
        return Err(Error::Backup("the engine stopped before the end of the stream".into()));
    }
    let archived = archived?;
    if witness.bytes == 0 {
        let source = io::Error::from_raw_os_error(libc::ENODATA);
        return Err(Error::file("make a snapshot of no bytes for", "backup")(source));
    }
    if archived.bytes != witness.bytes {
        let (stored, given) = (archived.bytes, witness.bytes);
        return Err(Error::Backup(format!("{stored} bytes were stored, {given} were given")));
    }
    Ok(archived)
}
