//! The replica's own care for backups, on one thread: recorded snapshots become countable here, and
//! what this replica missed while it was away is fetched from peers.

use super::Context;
use super::files::{FileKind, RepositoryFile};
use super::manifest::Manifest;
use super::peers::Peer;
use super::repository::Repository;
use crate::error::Error;
use crossbeam_channel::RecvTimeoutError;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long a snapshot may wait for the log to have it. Far over every timeout of a writer's.
const PENDING_MAX: Duration = Duration::from_secs(24 * 3600);

pub struct Keeper {
    context: Arc<Context>,
    /// The (host, snapshot) that were found whole.
    kept: BTreeSet<(String, String)>,
    /// What went wrong in the last round, so that the log hears of it once.
    troubles: BTreeSet<String>,
}

impl Keeper {
    pub fn new(context: Arc<Context>) -> Keeper {
        Keeper { context, kept: BTreeSet::new(), troubles: BTreeSet::new() }
    }

    /// Until the backup stops.
    pub fn run(mut self) {
        let every = self.context.config.catch_up;
        while let Err(RecvTimeoutError::Timeout) = self.context.stopping.recv_timeout(every) {
            self.round();
        }
    }

    fn round(&mut self) {
        let mut troubles = BTreeSet::new();
        match self.context.catalogue.hosts() {
            Ok(hosts) => {
                self.kept.retain(|(host, _)| hosts.contains(host));
                for host in hosts {
                    if let Err(error) = self.look_after(&host) {
                        troubles.insert(format!("backup of {host}: {error}"));
                    }
                }
            }
            Err(error) => drop(troubles.insert(error.to_string())),
        }
        for trouble in troubles.difference(&self.troubles) {
            log::warn!("{trouble}");
        }
        self.troubles = troubles;
    }

    fn look_after(&mut self, host: &str) -> Result<(), Error> {
        let context = self.context.clone();
        let mut names = context.catalogue.snapshots(host)?;
        names.retain(|name| !self.kept.contains(&(host.to_owned(), name.clone())));
        let Some(repository) = context.repositories.of_host(host, &*context.catalogue)? else {
            return Ok(());
        };
        // One that cannot be kept now must not keep the others waiting.
        let mut outcome = Ok(());
        for name in names {
            if context.is_stopping() {
                return outcome;
            }
            match self.keep(&repository, host, &name) {
                Ok(()) => drop(self.kept.insert((host.to_owned(), name))),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        forget_old_pending(&repository)?;
        outcome
    }

    /// Sees that everything of a recorded snapshot is here.
    fn keep(&self, repository: &Repository, host: &str, name: &str) -> Result<(), Error> {
        let manifest = Manifest::from_json(&self.context.catalogue.manifest(host, name)?)?;
        let missing = |file: &RepositoryFile| !repository.store.has(file.kind, file.id);
        if manifest.files.iter().any(missing) {
            self.catch_up(repository, &manifest)?;
        }
        repository.store.promote(manifest.snapshot)
    }

    /// Fetches what a peer has that has all of it, and this replica has not: packs, then indexes,
    /// then the snapshot.
    fn catch_up(&self, repository: &Repository, manifest: &Manifest) -> Result<(), Error> {
        let (host, snapshot) = (&manifest.host, manifest.snapshot.short());
        let held = |peer: &Peer| manifest.holders.iter().any(|holder| holder.replica == peer.name);
        let mut peers = self.context.peers.others();
        // Those that had it when it was recorded come first; others may have caught up since.
        peers.sort_by_key(|peer| !held(peer));
        let mut problem = Error::Backup(format!("no peer holds all of snapshot {snapshot}"));
        for peer in peers {
            let theirs = match repository.listing_of(&peer) {
                Ok(theirs) => theirs,
                Err(error) => {
                    problem = error;
                    continue;
                }
            };
            // Its snapshot file came last, so what that needs is there as well.
            if !manifest.files.iter().all(|file| theirs.contains(file)) {
                continue;
            }
            log::info!("backup of {host}: fetching snapshot {snapshot}, which this replica missed");
            for file in theirs.iter().filter(|file| file.kind != FileKind::Snapshot) {
                if self.context.is_stopping() {
                    return Err(Error::Backup("keepfs is stopping".into()));
                }
                if !repository.store.has(file.kind, file.id) {
                    repository.fetch(file.kind, file.id)?;
                }
            }
            for file in manifest.files.iter() {
                if !repository.store.has(file.kind, file.id) {
                    repository.fetch(file.kind, file.id)?;
                }
            }
            log::info!("backup of {host}: snapshot {snapshot} is here now");
            return Ok(());
        }
        Err(problem)
    }
}

/// Snapshots whose manifest never came: their writer failed after it had copied them here.
fn forget_old_pending(repository: &Repository) -> Result<(), Error> {
    for file in repository.store.pending()? {
        if repository.store.pending_age(file.id)? > PENDING_MAX {
            log::info!("backup: forgetting snapshot {}, which was never recorded", file.id.short());
            repository.store.forget_pending(file.id)?;
        }
    }
    Ok(())
}
