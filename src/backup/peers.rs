//! The other replicas, as far as backup talks to them: it pushes and fetches files by name.
//!
//! Names: `REPOSITORY/KIND/ID` is a file; `REPOSITORY/files` can be fetched only and lists what the
//! peer has, a [`super::files::RepositoryFile`] a line.

use super::files::{FileId, FileKind};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::peers::bulk::{Bulk, BulkHandler};
use crate::tree::ReplicaId;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

/// The kind of bulk traffic backup is.
const BULK_KIND: &str = "backup";

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub id: ReplicaId,
    pub name: String,
}

/// The replicas of this cluster.
pub trait Peers: Send + Sync {
    fn me(&self) -> Peer;
    /// Every other replica, reachable or not.
    fn others(&self) -> Vec<Peer>;
    /// How many copies outlive the loss of any minority.
    fn majority(&self) -> usize;
    /// Pushes `length` bytes; the receipt comes once they are verified and durable there.
    fn push(
        &self,
        to: ReplicaId,
        name: &Name,
        length: u64,
        data: &mut dyn Read,
    ) -> io::Result<Vec<u8>>;
    /// The length and the bytes of what the peer has under `name`.
    fn fetch(&self, from: ReplicaId, name: &Name) -> io::Result<(u64, Box<dyn Read + Send>)>;
    /// From now on, `handler` answers what peers push and fetch.
    fn serve(&self, handler: Arc<dyn BulkHandler>);
}

/// The replicas of the cluster that this one is of.
pub struct Replicas {
    pub me: Peer,
    pub cluster: Arc<dyn Cluster>,
    pub bulk: Bulk,
}

impl Peers for Replicas {
    fn me(&self) -> Peer {
        self.me.clone()
    }

    fn others(&self) -> Vec<Peer> {
        let tree = self.cluster.tree();
        let others = tree.members().iter().filter(|member| member.id != self.me.id);
        others.map(|member| Peer { id: member.id, name: member.name.clone() }).collect()
    }

    fn majority(&self) -> usize {
        self.cluster.tree().members().iter().filter(|member| !member.learner).count() / 2 + 1
    }

    fn push(
        &self,
        to: ReplicaId,
        name: &Name,
        length: u64,
        data: &mut dyn Read,
    ) -> io::Result<Vec<u8>> {
        self.bulk.push(to, BULK_KIND, &name.to_string(), length, data)
    }

    fn fetch(&self, from: ReplicaId, name: &Name) -> io::Result<(u64, Box<dyn Read + Send>)> {
        self.bulk.fetch(from, BULK_KIND, &name.to_string(), 0, u64::MAX)
    }

    fn serve(&self, handler: Arc<dyn BulkHandler>) {
        self.bulk.serve(BULK_KIND, handler);
    }
}

/// What can be asked of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    File { repository: FileId, kind: FileKind, id: FileId },
    Listing { repository: FileId },
}

impl Name {
    pub fn repository(&self) -> FileId {
        match *self {
            Name::File { repository, .. } | Name::Listing { repository } => repository,
        }
    }

    pub fn parse(text: &str) -> Result<Name, Error> {
        let words: Vec<_> = text.split('/').collect();
        match words[..] {
            [repository, "files"] => Ok(Name::Listing { repository: repository.parse()? }),
            [repository, kind, id] => Ok(Name::File {
                repository: repository.parse()?,
                kind: kind.parse()?,
                id: id.parse()?,
            }),
            _ => Err(Error::Backup(format!("{text:?} is nothing a peer may ask for"))),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::File { repository, kind, id } => write!(f, "{repository}/{}/{id}", kind.name()),
            Name::Listing { repository } => write!(f, "{repository}/files"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_repositories() {
        let repository = FileId::of(b"r");
        let file = Name::File { repository, kind: FileKind::Index, id: FileId::of(b"i") };
        for name in [file, Name::Listing { repository }] {
            assert_eq!(Name::parse(&name.to_string()).unwrap(), name);
        }
        for wrong in ["", "../files", "x/pack/y", &format!("{repository}/config/{repository}")] {
            assert!(Name::parse(wrong).is_err(), "{wrong} was taken");
        }
    }
}
