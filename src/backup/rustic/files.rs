//! The repository's files as `rustic_core` wants them: a backend over [`Repository`] that never
//! removes anything, reads config and key from the credentials, and withholds snapshots.

use super::duplicate;
use crate::backup::engine::Follower;
use crate::backup::files::{FileId, FileKind, RepositoryFile};
use crate::backup::repository::Repository;
use crate::error::Error;
use bytes::Bytes;
use parking_lot::Mutex;
use rustic_core::{
    BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend,
};
use std::fmt;
use std::sync::Arc;

/// A repository's files while one stream is written, or read.
pub struct RepositoryFiles {
    repository: Arc<Repository>,
    follower: Option<Arc<dyn Follower>>,
}

impl RepositoryFiles {
    pub fn reading(repository: Arc<Repository>) -> RepositoryFiles {
        RepositoryFiles { repository, follower: None }
    }

    pub fn writing(repository: Arc<Repository>, follower: Arc<dyn Follower>) -> RepositoryFiles {
        RepositoryFiles { repository, follower: Some(follower) }
    }

    pub fn repository(&self) -> &Repository {
        &self.repository
    }
}

impl ReadBackend for RepositoryFiles {
    fn location(&self) -> String {
        self.repository.store.root().display().to_string()
    }

    fn list_with_size(&self, kind: FileType) -> RusticResult<Vec<(Id, u32)>> {
        let credentials = &self.repository.credentials;
        let kind = match kind {
            FileType::Config => return Ok(vec![(Id::default(), length(&credentials.config))]),
            FileType::Key => {
                return Ok(vec![(rustic_id(credentials.key_id), length(&credentials.key))]);
            }
            FileType::Pack => FileKind::Pack,
            FileType::Index => FileKind::Index,
            FileType::Snapshot => FileKind::Snapshot,
        };
        let files = self.repository.store.list(kind).map_err(backend)?;
        let size = |file: &RepositoryFile| u32::try_from(file.size).unwrap_or(u32::MAX);
        Ok(files.iter().map(|file| (rustic_id(file.id), size(file))).collect())
    }

    fn read_full(&self, kind: FileType, id: &Id) -> RusticResult<Bytes> {
        let credentials = &self.repository.credentials;
        match (kind, file_kind(kind)) {
            (FileType::Config, _) => Ok(credentials.config.clone().into()),
            (_, None) => Ok(credentials.key.clone().into()),
            (_, Some(kind)) => {
                self.repository.read(kind, file_id(id)).map(Bytes::from).map_err(backend)
            }
        }
    }

    fn read_partial(
        &self,
        kind: FileType,
        id: &Id,
        _cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        let kind = file_kind(kind).ok_or_else(|| never("read a part of config or key"))?;
        self.repository
            .read_at(kind, file_id(id), offset.into(), length as usize)
            .map(Bytes::from)
            .map_err(backend)
    }

    fn warmup_path(&self, _kind: FileType, id: &Id) -> String {
        id.to_hex().to_string()
    }
}

impl WriteBackend for RepositoryFiles {
    fn write_bytes(
        &self,
        kind: FileType,
        id: &Id,
        _cacheable: bool,
        content: BytesList,
    ) -> RusticResult<()> {
        let Some(follower) = &self.follower else {
            return Err(never("write while a snapshot is read"));
        };
        let kind = match file_kind(kind) {
            // Its tree has no size, and it would count although its stream may have been broken.
            Some(FileKind::Snapshot) => return Ok(()),
            Some(kind) => kind,
            None => return Err(never("replace config or key")),
        };
        let parts: Vec<&[u8]> = content.slice().iter().map(|part| &part[..]).collect();
        let file = RepositoryFile { kind, id: file_id(id), size: content.size() as u64 };
        self.repository.store.write(kind, file.id, &parts).map_err(|error| {
            follower.lost(duplicate(&error));
            backend(error)
        })?;
        follower.stored(file);
        Ok(())
    }

    fn remove(&self, _kind: FileType, _id: &Id, _cacheable: bool) -> RusticResult<()> {
        Err(never("remove a file"))
    }
}

/// The two files that make a repository.
pub struct ConfigAndKey {
    pub config: Vec<u8>,
    pub key_id: FileId,
    pub key: Vec<u8>,
}

/// Catches the config and the key of a repository that is being made.
#[derive(Default)]
pub struct NewRepository {
    files: Mutex<Vec<(FileType, FileId, Vec<u8>)>>,
}

impl NewRepository {
    /// What was written.
    pub fn take(&self) -> Result<ConfigAndKey, Error> {
        let (mut config, mut key) = (None, None);
        for (kind, id, content) in self.files.lock().drain(..) {
            match kind {
                FileType::Config => config = Some(content),
                FileType::Key => key = Some((id, content)),
                _ => {}
            }
        }
        match (config, key) {
            (Some(config), Some((key_id, key))) => Ok(ConfigAndKey { config, key_id, key }),
            _ => Err(Error::Backup("a new repository lacks config or key".into())),
        }
    }
}

impl ReadBackend for NewRepository {
    fn location(&self) -> String {
        "a new repository".to_owned()
    }

    fn list_with_size(&self, _kind: FileType) -> RusticResult<Vec<(Id, u32)>> {
        Ok(Vec::new())
    }

    fn read_full(&self, _kind: FileType, _id: &Id) -> RusticResult<Bytes> {
        Err(never("read a new repository"))
    }

    fn read_partial(
        &self,
        _kind: FileType,
        _id: &Id,
        _cacheable: bool,
        _offset: u32,
        _length: u32,
    ) -> RusticResult<Bytes> {
        Err(never("read a new repository"))
    }

    fn warmup_path(&self, _kind: FileType, id: &Id) -> String {
        id.to_hex().to_string()
    }
}

impl WriteBackend for NewRepository {
    fn write_bytes(
        &self,
        kind: FileType,
        id: &Id,
        _cacheable: bool,
        content: BytesList,
    ) -> RusticResult<()> {
        self.files.lock().push((kind, file_id(id), content.slice().concat()));
        Ok(())
    }

    fn remove(&self, _kind: FileType, _id: &Id, _cacheable: bool) -> RusticResult<()> {
        Err(never("remove a file"))
    }
}

impl fmt::Debug for RepositoryFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.location())
    }
}

fn file_kind(kind: FileType) -> Option<FileKind> {
    match kind {
        FileType::Pack => Some(FileKind::Pack),
        FileType::Index => Some(FileKind::Index),
        FileType::Snapshot => Some(FileKind::Snapshot),
        FileType::Config | FileType::Key => None,
    }
}

fn file_id(id: &Id) -> FileId {
    id.to_hex().parse().expect("64 hexadecimal digits are an id")
}

pub fn rustic_id(id: FileId) -> Id {
    id.to_string().parse().expect("64 hexadecimal digits are an id")
}

fn length(content: &[u8]) -> u32 {
    u32::try_from(content.len()).expect("a config or a key is small")
}

fn backend(error: Error) -> Box<RusticError> {
    RusticError::with_source(ErrorKind::Backend, "a repository file", error)
}

fn never(what: &'static str) -> Box<RusticError> {
    RusticError::new(ErrorKind::Backend, format!("an engine may not {what}"))
}
