//! The engine: restic's repository format by `rustic_core`. Nothing else names that crate.
//!
//! Three of its habits shape this module:
//! 1. It learns a stream's size only after it has written the stream's tree, and writes 0 there:
//!    its own restore copes, restic's makes an empty file. So the tree it wrote serves only to find
//!    the stream's blobs; the tree that counts is sealed here (`seal.rs`), with the size.
//! 2. It takes a failing reader for the end of the stream and saves a snapshot all the same. So the
//!    snapshot it saves is withheld (`files.rs`), and what it stored is counted by the index.
//! 3. Packs grow with the repository unless told otherwise, and several are in memory at once.

mod files;
mod seal;

use super::credentials::Credentials;
use super::engine::{Archived, Engine, Follower, Label, Stored};
use super::files::{FileId, FileKind};
use super::repository::Repository;
use crate::error::Error;
use crate::limits::BACKUP_PACK_BYTES;
use crate::random;
use files::{ConfigAndKey, NewRepository, RepositoryFiles};
use parking_lot::Mutex;
use rustic_core::repofile::{MasterKey, Metadata, Node, NodeType, SnapshotFile, Tree};
use rustic_core::vfs;
use rustic_core::{
    BackupOptions, ConfigOptions, Credentials as RusticCredentials, DataId, IndexedFullStatus,
    KeyOptions, OpenStatus, ParentOptions, ReadSource, ReadSourceEntry, Repository as Rustic,
    RepositoryBackends, RepositoryOptions, RusticError, RusticResult, SnapshotOptions,
    WriteBackend,
};
use std::io::{self, Read};
use std::iter::{Once, once};
use std::path::PathBuf;
use std::sync::Arc;

/// The stream's path in a snapshot: `restic dump latest /backup`.
const STREAM_PATH: &str = "/backup";

/// Level 1 costs two thirds of level 3's CPU; a backup runs beside what the host is for.
const ZSTD_LEVEL: i32 = 1;

/// `rustic_core` 0.13.
pub struct RusticEngine;

impl Engine for RusticEngine {
    fn create(&self) -> Result<Credentials, Error> {
        let password: String =
            random::bytes::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let new = Arc::new(NewRepository::default());
        let repository = rustic(new.clone())?
            .init(&RusticCredentials::password(&password), &KeyOptions::default(), &config())
            .map_err(|error| failed("make a repository", *error))?;
        let key = repository.key();
        let repository = repository.config().id.to_hex().parse()?;
        let ConfigAndKey { config, key_id, key: key_file } = new.take()?;
        let master_key = [key.encrypt, key.mac.k, key.mac.r].concat();
        Ok(Credentials {
            version: 1,
            repository,
            password,
            master_key,
            config,
            key_id,
            key: key_file,
        })
    }

    fn archive(
        &self,
        repository: &Arc<Repository>,
        stream: Box<dyn Read + Send>,
        label: &Label,
        follower: Arc<dyn Follower>,
    ) -> Result<Archived, Error> {
        let attempt = "archive the stream";
        let files = RepositoryFiles::writing(repository.clone(), follower.clone());
        let rustic =
            open(files)?.to_indexed_ids().map_err(|error| failed("load the index", *error))?;
        let options = BackupOptions::default()
            .parent_opts(ParentOptions::default().force(true))
            .no_scan(true);
        let source = OneStream::new(stream, label);
        let draft = rustic
            .archive(&options, &source, draft(label)?, &[PathBuf::from(STREAM_PATH)])
            .map_err(|error| failed(attempt, *error))?;
        // Loaded anew: the blobs just written are found only there.
        let rustic =
            rustic.drop_index().to_indexed().map_err(|error| failed("load the index", *error))?;
        let mut node = rustic
            .node_from_snapshot_and_path(&draft, STREAM_PATH)
            .map_err(|error| failed(attempt, *error))?;
        let blobs = Blobs::of(&rustic, &node)?;
        node.meta.size = blobs.size;
        let key = &repository.credentials.master_key;
        let tree =
            seal::store_tree(&repository.store, key, Tree { nodes: vec![node] }, &*follower)?;
        let snapshot = SnapshotFile { tree, id: Default::default(), ..draft };
        let json = serde_json::to_vec(&snapshot).expect("a snapshot file is plain data");
        let snapshot = seal::seal(key, &json)?;
        let id = FileId::of(&snapshot);
        Ok(Archived { snapshot, id, bytes: blobs.size })
    }

    fn open(
        &self,
        repository: &Arc<Repository>,
        snapshot: FileId,
    ) -> Result<Box<dyn Stored>, Error> {
        Opened::new(repository, snapshot)
            .or_else(|error| {
                let indexes = repository.store.list(FileKind::Index)?;
                let indexes = indexes.into_iter().map(|file| (file.kind, file.id));
                match repository.heal(indexes.chain([(FileKind::Snapshot, snapshot)]))? {
                    0 => Err(error),
                    _ => Opened::new(repository, snapshot),
                }
            })
            .map(|opened| Box::new(opened) as Box<dyn Stored>)
    }
}

/// Where a stream's blobs are.
struct Blobs {
    /// Where each blob begins in the stream, and its pack.
    places: Vec<(u64, FileId)>,
    /// Of all together, bytes.
    size: u64,
}

impl Blobs {
    /// Fails if the index lacks one.
    fn of(rustic: &Rustic<IndexedFullStatus>, node: &Node) -> Result<Blobs, Error> {
        let mut blobs = Blobs { places: Vec::new(), size: 0 };
        for id in node.content.iter().flatten() {
            let entry = rustic
                .get_index_entry::<DataId>(id)
                .map_err(|error| failed("find a blob of the stream", *error))?;
            blobs.places.push((blobs.size, entry.pack.to_hex().parse()?));
            blobs.size += u64::from(entry.data_length());
        }
        Ok(blobs)
    }

    /// The packs of the bytes from `start` to `end`.
    fn packs(&self, start: u64, end: u64) -> impl Iterator<Item = FileId> {
        let first = self.places.partition_point(|(at, _)| *at <= start).saturating_sub(1);
        let mut packs: Vec<_> = self.places[first..]
            .iter()
            .take_while(|(at, _)| *at < end)
            .map(|(_, pack)| *pack)
            .collect();
        packs.sort();
        packs.dedup();
        packs.into_iter()
    }
}

/// A snapshot's stream, with the repository's index in memory.
struct Opened {
    rustic: Rustic<IndexedFullStatus>,
    file: vfs::OpenFile,
    blobs: Blobs,
    repository: Arc<Repository>,
}

impl Opened {
    fn new(repository: &Arc<Repository>, snapshot: FileId) -> Result<Opened, Error> {
        let attempt = "open a snapshot";
        let rustic = open(RepositoryFiles::reading(repository.clone()))?
            .to_indexed()
            .map_err(|error| failed("load the index", *error))?;
        let snapshots = rustic
            .get_snapshots(&[snapshot.to_string()])
            .map_err(|error| failed(attempt, *error))?;
        let snapshot = snapshots.first().ok_or_else(|| Error::Backup("no snapshot came".into()))?;
        let node = || {
            rustic
                .node_from_snapshot_and_path(snapshot, STREAM_PATH)
                .map_err(|error| failed(attempt, *error))
        };
        let node = node().or_else(|error| {
            let tree = rustic
                .get_index_entry(&snapshot.tree)
                .map_err(|error| failed("find the tree of a snapshot", *error))?;
            match repository.heal([(FileKind::Pack, tree.pack.to_hex().parse()?)])? {
                0 => Err(error),
                _ => node(),
            }
        })?;
        let file = rustic.open_file(&node).map_err(|error| failed(attempt, *error))?;
        let blobs = Blobs::of(&rustic, &node)?;
        Ok(Opened { rustic, file, blobs, repository: repository.clone() })
    }

    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        self.rustic
            .read_file_at(&self.file, offset as usize, length)
            .map(Vec::from)
            .map_err(|error| failed("read a snapshot", *error))
    }
}

impl Stored for Opened {
    fn size(&self) -> u64 {
        self.blobs.size
    }

    fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let end = self.blobs.size.min(offset.saturating_add(length as u64));
        if offset >= end {
            return Ok(Vec::new());
        }
        let length = (end - offset) as usize;
        self.read(offset, length).or_else(|error| {
            let packs = self.blobs.packs(offset, end).map(|pack| (FileKind::Pack, pack));
            match self.repository.heal(packs)? {
                0 => Err(error),
                _ => self.read(offset, length),
            }
        })
    }
}

/// One reader as the only file of a snapshot.
struct OneStream {
    stream: Mutex<Option<Box<dyn Read + Send>>>,
    node: Node,
}

impl OneStream {
    fn new(stream: Box<dyn Read + Send>, label: &Label) -> OneStream {
        let meta = Metadata {
            mode: Some(0o600),
            mtime: Some(label.started),
            uid: Some(0),
            gid: Some(0),
            ..Metadata::default()
        };
        let node = Node::new_node(STREAM_PATH[1..].as_ref(), NodeType::File, meta);
        OneStream { stream: Mutex::new(Some(stream)), node }
    }
}

impl ReadSource for OneStream {
    type Open = Box<dyn Read + Send>;
    type Iter = Once<RusticResult<ReadSourceEntry<Self::Open>>>;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Self::Iter {
        let open = self.stream.lock().take();
        once(Ok(ReadSourceEntry { path: STREAM_PATH.into(), node: self.node.clone(), open }))
    }
}

/// How a new repository packs.
fn config() -> ConfigOptions {
    let pack = format!("{BACKUP_PACK_BYTES}B").parse().expect("a number of bytes is a size");
    let mut config = ConfigOptions::default();
    config.set_compression = Some(ZSTD_LEVEL);
    // Every blob is read back by its MAC whenever it is used; reading it at once as well is for
    // machines whose memory is not to be trusted.
    config.set_extra_verify = Some(false);
    config.set_datapack_size = Some(pack);
    config.set_datapack_size_limit = Some(pack);
    config.set_datapack_growfactor = Some(0);
    config.set_treepack_growfactor = Some(0);
    config
}

/// The snapshot before its tree is known.
fn draft(label: &Label) -> Result<SnapshotFile, Error> {
    SnapshotOptions::default()
        .host(label.host.clone())
        .time(label.started.to_zoned(jiff::tz::TimeZone::UTC))
        .command("keepfs".to_owned())
        .to_snapshot()
        .map_err(|error| failed("describe a snapshot", *error))
}

fn open(files: RepositoryFiles) -> Result<Rustic<OpenStatus>, Error> {
    let key = master_key(&files.repository().credentials.master_key)?;
    rustic(Arc::new(files))?
        .open(&RusticCredentials::Masterkey(key))
        .map_err(|error| failed("open the repository", *error))
}

fn rustic(files: Arc<dyn WriteBackend>) -> Result<Rustic<()>, Error> {
    let mut options = RepositoryOptions::default();
    options.no_cache = true;
    Rustic::new(&options, &RepositoryBackends::new(files, None))
        .map_err(|error| failed("open the repository", *error))
}

/// The 64 bytes of [`Credentials::master_key`] as the crate's key.
fn master_key(bytes: &[u8]) -> Result<MasterKey, Error> {
    let mut key = MasterKey::new();
    key.encrypt = bytes[..32].to_vec();
    key.mac.k = bytes[32..48].to_vec();
    key.mac.r = bytes[48..].to_vec();
    Ok(key)
}

/// A [`RusticError`] with its causes in one line, and with the errno of the file error among them.
fn failed(attempt: &'static str, error: RusticError) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut sentences = Vec::new();
    while let Some(inner) = cause {
        if let Some(error @ Error::File { .. }) = inner.downcast_ref::<Error>() {
            return duplicate(error);
        }
        let rustic = inner.downcast_ref::<RusticError>();
        let rustic = rustic.or_else(|| inner.downcast_ref::<Box<RusticError>>().map(|b| &**b));
        sentences.push(rustic.map_or_else(|| inner.to_string(), RusticError::display_log));
        cause = inner.source();
    }
    Error::Backup(format!("cannot {attempt}: {}", sentences.join(": ").replace('\n', " ")))
}

/// An error for one more listener: of a file's, with its errno; of others, the sentence.
fn duplicate(error: &Error) -> Error {
    match error {
        Error::File { attempt, path, source } => {
            let source = match source.raw_os_error() {
                Some(errno) => io::Error::from_raw_os_error(errno),
                None => io::Error::new(source.kind(), source.to_string()),
            };
            Error::File { attempt, path: path.clone(), source }
        }
        Error::Backup(sentence) => Error::Backup(sentence.clone()),
        other => Error::Backup(other.to_string()),
    }
}
