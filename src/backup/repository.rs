//! The repositories of this replica. A repository belongs to one registered host and lies at
//! `DATA/backup/repository/ID/`, under its id, so that a host's directory can be renamed, or
//! removed and made again; `DATA/backup/node/NAME` is a symlink to it, for people.

use super::catalogue::Catalogue;
use super::credentials::Credentials;
use super::files::{FileId, FileKind, RepositoryFile};
use super::metrics::Metrics;
use super::peers::{Name, Peer, Peers};
use super::store::{self, Store};
use crate::error::Error;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One host's repository: what is here, and what peers can give.
pub struct Repository {
    pub credentials: Credentials,
    pub store: Arc<Store>,
    peers: Arc<dyn Peers>,
    metrics: Arc<Metrics>,
}

impl Repository {
    pub fn id(&self) -> FileId {
        self.credentials.repository
    }

    /// A file's content; fetched from a peer if it is missing here.
    pub fn read(&self, kind: FileKind, id: FileId) -> Result<Vec<u8>, Error> {
        self.or_fetch(kind, id, || self.store.read(kind, id))
    }

    /// A part of a file; the file is fetched from a peer if it is missing here, or too short.
    pub fn read_at(
        &self,
        kind: FileKind,
        id: FileId,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, Error> {
        self.or_fetch(kind, id, || self.store.read_at(kind, id, offset, length))
    }

    /// Replaces those of `files` whose content does not have its name by a peer's copies. How many
    /// were replaced.
    pub fn heal(
        &self,
        files: impl IntoIterator<Item = (FileKind, FileId)>,
    ) -> Result<usize, Error> {
        let mut healed = 0;
        for (kind, id) in files {
            let present = self.store.has(kind, id);
            if present && self.store.verify(kind, id)? {
                continue;
            }
            if present {
                log::error!(
                    "backup: {} {id} is damaged here: {}",
                    kind.name(),
                    self.store.root().display()
                );
                self.store.set_aside_damaged(kind, id)?;
            }
            self.fetch(kind, id)?;
            healed += 1;
        }
        Ok(healed)
    }

    /// Gets a file from any peer that has it.
    pub fn fetch(&self, kind: FileKind, id: FileId) -> Result<(), Error> {
        let name = Name::File { repository: self.id(), kind, id };
        let mut problems = Vec::new();
        for peer in self.peers.others() {
            let fetched = self
                .peers
                .fetch(peer.id, &name)
                .map_err(|error| Error::Backup(error.to_string()))
                .and_then(|(length, mut data)| {
                    self.store.receive(kind, id, length, &mut data).map(|()| length)
                });
            match fetched {
                Ok(length) => {
                    log::info!("backup: {} {} came from {}", kind.name(), id.short(), peer.name);
                    self.metrics.fetched(length);
                    return Ok(());
                }
                Err(error) => problems.push(format!("{}: {error}", peer.name)),
            }
        }
        let problems = problems.join("; ");
        Err(Error::Backup(format!("no peer gives {} {id}: {problems}", kind.name())))
    }

    /// What a peer has of this repository.
    pub fn listing_of(&self, peer: &Peer) -> Result<BTreeSet<RepositoryFile>, Error> {
        let name = Name::Listing { repository: self.id() };
        let attempt = "ask for a repository's listing from";
        let (_, data) =
            self.peers.fetch(peer.id, &name).map_err(Error::network(attempt, &peer.name))?;
        let lines = BufReader::new(data).lines();
        lines.map(|line| line.map_err(Error::network(attempt, &peer.name))?.parse()).collect()
    }

    /// Gives a peer a file; its receipt, once the file is verified and durable there.
    pub fn push(&self, peer: &Peer, file: RepositoryFile) -> Result<Vec<u8>, Error> {
        let (mut content, length) = self.store.open_file(file.kind, file.id)?;
        let name = Name::File { repository: self.id(), kind: file.kind, id: file.id };
        let receipt = self
            .peers
            .push(peer.id, &name, length, &mut content)
            .map_err(Error::network("copy a backup to", &peer.name))?;
        self.metrics.pushed(length);
        Ok(receipt)
    }

    fn or_fetch<T>(
        &self,
        kind: FileKind,
        id: FileId,
        read: impl Fn() -> Result<T, Error>,
    ) -> Result<T, Error> {
        match read() {
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.fetch(kind, id)?;
                read()
            }
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::UnexpectedEof => {
                self.heal([(kind, id)])?;
                read()
            }
            other => other,
        }
    }
}

/// The files of every repository of this replica, each opened once.
pub struct Stores {
    /// `DATA/backup/repository`.
    root: PathBuf,
    open: Mutex<BTreeMap<FileId, Arc<Store>>>,
}

impl Stores {
    /// The files of a repository, known to the tree here or not yet.
    pub fn get(&self, id: FileId) -> Result<Arc<Store>, Error> {
        let mut open = self.open.lock();
        if let Some(store) = open.get(&id) {
            return Ok(store.clone());
        }
        let store = Arc::new(Store::open(&self.root.join(id.to_string()))?);
        open.insert(id, store.clone());
        Ok(store)
    }

    /// The files of a repository that has been here before.
    pub fn existing(&self, id: FileId) -> Result<Arc<Store>, Error> {
        let root = self.root.join(id.to_string());
        std::fs::metadata(&root).map_err(Error::file("open", root))?;
        self.get(id)
    }
}

/// All repositories of this replica.
pub struct Repositories {
    pub stores: Arc<Stores>,
    /// `DATA/backup/node`. Locked while a link in it is made.
    links: Mutex<PathBuf>,
    peers: Arc<dyn Peers>,
    metrics: Arc<Metrics>,
}

impl Repositories {
    /// `root` is `DATA/backup`.
    pub fn open(
        root: &Path,
        peers: Arc<dyn Peers>,
        metrics: Arc<Metrics>,
    ) -> Result<Repositories, Error> {
        let (repositories, links) = (root.join("repository"), root.join("node"));
        store::make_directory(&repositories)?;
        store::make_directory(&links)?;
        let stores = Arc::new(Stores { root: repositories, open: Mutex::default() });
        Ok(Repositories { stores, links: Mutex::new(links), peers, metrics })
    }

    /// The host's repository; `None` before its first stream.
    pub fn of_host(
        &self,
        host: &str,
        catalogue: &dyn Catalogue,
    ) -> Result<Option<Arc<Repository>>, Error> {
        match catalogue.credentials(host)? {
            Some(json) => self.with(host, Credentials::from_json(&json)?).map(Some),
            None => Ok(None),
        }
    }

    /// The host's repository, made if this is its first stream. When two replicas make it at once,
    /// both get the one the log took. `create` makes a new one's credentials, and writes nothing.
    pub fn of_host_or_new(
        &self,
        host: &str,
        catalogue: &dyn Catalogue,
        create: impl FnOnce() -> Result<Credentials, Error>,
    ) -> Result<Arc<Repository>, Error> {
        if let Some(repository) = self.of_host(host, catalogue)? {
            return Ok(repository);
        }
        let mine = create()?;
        let chosen = Credentials::from_json(&catalogue.found(host, &mine.to_json())?)?;
        if chosen.repository == mine.repository {
            log::info!("backup: made the repository of {host}, {}", chosen.repository.short());
        }
        self.with(host, chosen)
    }

    fn with(&self, host: &str, credentials: Credentials) -> Result<Arc<Repository>, Error> {
        let store = self.stores.get(credentials.repository)?;
        store.materialise(&credentials)?;
        self.link(host, credentials.repository)?;
        let (peers, metrics) = (self.peers.clone(), self.metrics.clone());
        Ok(Arc::new(Repository { credentials, store, peers, metrics }))
    }

    /// Makes `node/HOST` lead to the repository.
    fn link(&self, host: &str, id: FileId) -> Result<(), Error> {
        let links = self.links.lock();
        let link = links.join(host);
        let target = Path::new("../repository").join(id.to_string());
        if std::fs::read_link(&link).is_ok_and(|now| now == target) {
            return Ok(());
        }
        let aside = links.with_file_name("link-aside");
        let linked = match std::fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => std::os::unix::fs::symlink(&target, &aside),
        };
        linked.and_then(|()| std::fs::rename(&aside, &link)).map_err(Error::file("link", &link))
    }
}
