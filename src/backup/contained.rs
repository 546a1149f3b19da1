//! An engine whose panics are errors: `rustic_core` unwraps, also on threads of its own, what it
//! reads from the disk. A repository that went bad fails its own streams, not the replica.

use super::credentials::Credentials;
use super::engine::{Archived, Engine, Follower, Label, Stored};
use super::files::FileId;
use super::repository::Repository;
use crate::error::Error;
use crate::panics;
use std::io::Read;
use std::sync::Arc;

pub struct Contained(pub Arc<dyn Engine>);

struct ContainedStored(Box<dyn Stored>);

fn contained<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let panicked = |why| Err(Error::Backup(format!("the repository's engine gave up: {why}")));
    panics::contained(call).unwrap_or_else(panicked)
}

impl Engine for Contained {
    fn create(&self) -> Result<Credentials, Error> {
        contained(|| self.0.create())
    }

    fn archive(
        &self,
        repository: &Arc<Repository>,
        stream: Box<dyn Read + Send>,
        label: &Label,
        follower: Arc<dyn Follower>,
    ) -> Result<Archived, Error> {
        contained(|| self.0.archive(repository, stream, label, follower))
    }

    fn open(
        &self,
        repository: &Arc<Repository>,
        snapshot: FileId,
    ) -> Result<Box<dyn Stored>, Error> {
        let stored = contained(|| self.0.open(repository, snapshot))?;
        Ok(Box::new(ContainedStored(stored)))
    }
}

impl Stored for ContainedStored {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        contained(|| self.0.read_at(offset, length))
    }
}
