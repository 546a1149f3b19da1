//! What peers may do here: push files of a repository, fetch them, list them.

use super::files::{FileKind, RepositoryFile};
use super::manifest::timestamp;
use super::metrics::Metrics;
use super::peers::Name;
use super::repository::Stores;
use super::store::Store;
use crate::error::Error;
use crate::peers::bulk::BulkHandler;
use crate::tree::ReplicaId;
use std::fmt::Write;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;

/// Serves the repositories of this replica. Knows no node: the node's peers hold it.
pub struct Service {
    pub stores: Arc<Stores>,
    pub metrics: Arc<Metrics>,
}

impl BulkHandler for Service {
    /// The receipt is the time at which the file was durable here, RFC 3339.
    fn receive(
        &self,
        _from: ReplicaId,
        name: &str,
        length: u64,
        data: &mut dyn Read,
    ) -> io::Result<Vec<u8>> {
        let name = Name::parse(name).map_err(io::Error::other)?;
        let Name::File { repository, kind, id } = name else {
            return Err(io::Error::other("a listing cannot be pushed"));
        };
        let store = self.stores.get(repository).map_err(told)?;
        let here = RepositoryFile { kind, id, size: length };
        if store.open_file(kind, id).is_ok_and(|(_, size)| size == here.size) {
            io::copy(&mut data.take(length), &mut io::sink())?;
        } else {
            store.receive(kind, id, length, data).map_err(told)?;
            self.metrics.received();
        }
        Ok(timestamp(jiff::Timestamp::now()).into_bytes())
    }

    fn fetch(
        &self,
        _from: ReplicaId,
        name: &str,
        offset: u64,
        length: u64,
    ) -> io::Result<(u64, Box<dyn Read + Send>)> {
        let name = Name::parse(name).map_err(io::Error::other)?;
        let store = self.stores.existing(name.repository()).map_err(told)?;
        let (mut content, size): (Box<dyn ReadSeek>, u64) = match name {
            Name::File { kind, id, .. } => {
                let (file, size) = store.open_file(kind, id).map_err(told)?;
                (Box::new(file), size)
            }
            Name::Listing { .. } => {
                let text = listing(&store).map_err(told)?;
                let size = text.len() as u64;
                (Box::new(Cursor::new(text)), size)
            }
        };
        let offset = offset.min(size);
        content.seek(SeekFrom::Start(offset))?;
        let length = length.min(size - offset);
        Ok((length, Box::new(content.take(length))))
    }
}

trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

/// Everything here, a file a line.
fn listing(store: &Store) -> Result<String, Error> {
    let mut text = String::new();
    for kind in FileKind::ALL {
        for file in store.list(kind)? {
            writeln!(text, "{file}").expect("a string takes all that is written");
        }
    }
    Ok(text)
}

/// An error in a form a peer can be told: its errno, or its sentence.
fn told(error: Error) -> io::Error {
    match error {
        Error::File { source, .. } if source.raw_os_error().is_some() => source,
        other => io::Error::other(other.to_string()),
    }
}
