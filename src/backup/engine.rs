//! What backup needs of a repository format, so that the crate that knows one can be replaced.
//! An engine cuts, compresses, encrypts and indexes; where files lie, which peers hold them and
//! which snapshots count is not its business.

use super::credentials::Credentials;
use super::files::{FileId, RepositoryFile};
use super::repository::Repository;
use crate::error::Error;
use std::io::Read;
use std::sync::Arc;

/// Follows a stream into its repository, from whichever thread of the engine's.
pub trait Follower: Send + Sync {
    /// A file is durable under its name; packs come before the index that names them.
    fn stored(&self, file: RepositoryFile);
    /// A file could not be stored, so the stream is lost, though the engine may go on reading it
    /// for a while.
    fn lost(&self, error: Error);
}

/// What the repository shall say of a stream besides its bytes.
#[derive(Clone, Debug)]
pub struct Label {
    /// The registered host.
    pub host: String,
    /// When it began.
    pub started: jiff::Timestamp,
}

/// A stream that is in the repository but for its snapshot file.
pub struct Archived {
    /// The snapshot file: content and name. It is the caller's to store, when it shall count.
    pub snapshot: Vec<u8>,
    pub id: FileId,
    /// Bytes of the stream that can be read back.
    pub bytes: u64,
}

/// A repository format. Calls block, use several threads, and hold a few packs in memory.
pub trait Engine: Send + Sync {
    /// Makes a new repository's config, key and password; writes nothing.
    fn create(&self) -> Result<Credentials, Error>;

    /// Stores all of `stream`. An error `stream` gives ends the stream for the engine like its end
    /// would: the caller has to know what it gave, and to compare [`Archived::bytes`].
    fn archive(
        &self,
        repository: &Arc<Repository>,
        stream: Box<dyn Read + Send>,
        label: &Label,
        follower: Arc<dyn Follower>,
    ) -> Result<Archived, Error>;

    /// Opens a snapshot's stream. Loads the repository's index.
    fn open(
        &self,
        repository: &Arc<Repository>,
        snapshot: FileId,
    ) -> Result<Box<dyn Stored>, Error>;
}

/// A stream in a repository.
pub trait Stored: Send + Sync {
    /// Bytes.
    fn size(&self) -> u64;
    /// Up to `length` bytes from `offset`; fewer only at the end. Heals from peers what is damaged
    /// or missing here.
    fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, Error>;
}
