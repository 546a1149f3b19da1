//! What the tree knows of backups: registered hosts (the directories of `/backup/node`), their
//! repositories' credentials, their snapshots' manifests.

use crate::cluster::{Cluster, Failure};
use crate::error::Error;
use crate::tree::{Command, Create, Ino, NewNode, Place, Refusal, RenameHow, Reply, Tree, Write};
use std::io;
use std::sync::Arc;

/// The znode of a host's directory that holds its [`super::credentials::Credentials`].
const CREDENTIALS: &str = ".repository";
const SNAPSHOTS: &str = "snapshots";
const STREAM: &str = "backup";

/// The replicated part of backup. Every call is about one host's directory: `ENOENT` if it is not
/// there.
pub trait Catalogue: Send + Sync {
    /// The registered hosts whose names are text.
    fn hosts(&self) -> Result<Vec<String>, Error>;
    /// Whether this host is registered.
    fn is_registered(&self, host: &str) -> bool;
    /// The credentials, once there are any.
    fn credentials(&self, host: &str) -> Result<Option<Vec<u8>>, Error>;
    /// Stores credentials unless there are some; those that count from now on.
    fn found(&self, host: &str, credentials: &[u8]) -> Result<Vec<u8>, Error>;
    /// The names of the recorded snapshots.
    fn snapshots(&self, host: &str) -> Result<Vec<String>, Error>;
    /// What `backup` reads as now.
    fn latest(&self, host: &str) -> Result<Option<String>, Error>;
    fn manifest(&self, host: &str, snapshot: &str) -> Result<Vec<u8>, Error>;
    /// Records a snapshot: from then on `backup` reads as it.
    fn record(&self, host: &str, snapshot: Recorded) -> Result<(), NotRecorded>;
}

/// A snapshot for the log.
pub struct Recorded {
    pub name: String,
    /// Bytes of the stream.
    pub size: u64,
    pub manifest: Vec<u8>,
}

/// Why a snapshot is not in the log.
#[derive(Debug)]
pub enum NotRecorded {
    /// It is not and will not be.
    Never(Error),
    /// No answer came: it may be there, or come.
    Unknown(Error),
}

/// The catalogue in the replicated tree.
pub struct InTree(pub Arc<dyn Cluster>);

impl Catalogue for InTree {
    fn hosts(&self) -> Result<Vec<String>, Error> {
        names(&self.0.tree(), Ino::BACKUP_NODE)
    }

    fn is_registered(&self, host: &str) -> bool {
        directory(&self.0.tree(), host).is_ok()
    }

    fn credentials(&self, host: &str) -> Result<Option<Vec<u8>>, Error> {
        let tree = self.0.tree();
        let host = directory(&tree, host)?;
        match tree.lookup(host, CREDENTIALS.as_bytes()) {
            Ok(ino) => content(&tree, ino).map(Some),
            Err(Refusal::NotFound) => Ok(None),
            Err(refusal) => Err(refused("read a repository's credentials", refusal)),
        }
    }

    /// Written aside and renamed into place, so that nobody reads half of it; the rename that comes
    /// first in the log wins.
    fn found(&self, host: &str, credentials: &[u8]) -> Result<Vec<u8>, Error> {
        let parent = directory(&self.0.tree(), host)?;
        let nonce = crate::random::bytes::<8>()?;
        let aside = format!("{CREDENTIALS}.{:016x}", u64::from_le_bytes(nonce));
        let aside = aside.into_bytes().into_boxed_slice();
        let name = CREDENTIALS.as_bytes().into();
        let what = "store a repository's credentials";
        let session = self.0.wait_for_session().map_err(|f| failed(what, f))?;
        let submit =
            |command| self.0.submit_and_wait(session, command).map_err(|f| failed(what, f));
        let create = Command::Create(Create {
            parent,
            name: aside.clone(),
            node: NewNode::File,
            mode: 0o600,
            uid: 0,
            gid: 0,
            ticket: None,
            wait: false,
        });
        let Reply::Created { ino, .. } = submit(create)? else {
            return Err(Error::Backup(format!("cannot {what}: a strange answer to a create")));
        };
        submit(Command::Write(Write {
            ino,
            place: Place::At(0),
            data: credentials.into(),
            clear_set_id: false,
        }))?;
        let rename = Command::Rename {
            from: parent,
            name: aside.clone(),
            to: parent,
            new_name: name,
            how: RenameHow::NoReplace,
        };
        match self.0.submit_and_wait(session, rename) {
            Ok(_) => Ok(credentials.to_vec()),
            Err(Failure::Refused(Refusal::AlreadyExists)) => {
                submit(Command::Unlink { parent, name: aside })?;
                self.credentials(host)?
                    .ok_or_else(|| Error::Backup("credentials came and went again".into()))
            }
            Err(failure) => Err(failed(what, failure)),
        }
    }

    fn snapshots(&self, host: &str) -> Result<Vec<String>, Error> {
        let tree = self.0.tree();
        match tree.lookup(directory(&tree, host)?, SNAPSHOTS.as_bytes()) {
            Ok(snapshots) => names(&tree, snapshots),
            Err(Refusal::NotFound) => Ok(Vec::new()),
            Err(refusal) => Err(refused("list snapshots", refusal)),
        }
    }

    fn latest(&self, host: &str) -> Result<Option<String>, Error> {
        let tree = self.0.tree();
        let stream = match tree.lookup(directory(&tree, host)?, STREAM.as_bytes()) {
            Ok(stream) => stream,
            Err(Refusal::NotFound) => return Ok(None),
            Err(refusal) => return Err(refused("find `backup`", refusal)),
        };
        Ok(tree.stream_latest(stream).and_then(|name| text(&name)))
    }

    fn manifest(&self, host: &str, snapshot: &str) -> Result<Vec<u8>, Error> {
        let tree = self.0.tree();
        let found = tree
            .lookup(directory(&tree, host)?, SNAPSHOTS.as_bytes())
            .and_then(|snapshots| tree.lookup(snapshots, snapshot.as_bytes()))
            .map_err(|refusal| refused("find a manifest", refusal))?;
        content(&tree, found)
    }

    fn record(&self, host: &str, snapshot: Recorded) -> Result<(), NotRecorded> {
        let host = directory(&self.0.tree(), host).map_err(NotRecorded::Never)?;
        let command = Command::RecordSnapshot {
            host,
            name: snapshot.name.into_bytes().into(),
            size: snapshot.size,
            manifest: snapshot.manifest.into(),
        };
        let recorded =
            self.0.wait_for_session().and_then(|session| self.0.submit_and_wait(session, command));
        match recorded {
            Ok(_) => Ok(()),
            Err(failure @ (Failure::Unknown | Failure::Stopping)) => {
                Err(NotRecorded::Unknown(failed("record the snapshot", failure)))
            }
            Err(failure) => Err(NotRecorded::Never(failed("record the snapshot", failure))),
        }
    }
}

/// The registered host's directory.
fn directory(tree: &Tree, host: &str) -> Result<Ino, Error> {
    let found = tree.lookup(Ino::BACKUP_NODE, host.as_bytes()).and_then(|ino| {
        match tree.attributes(ino).map(|attributes| attributes.kind) {
            Some(crate::tree::Kind::Directory) => Ok(ino),
            _ => Err(Refusal::NotADirectory),
        }
    });
    found.map_err(|refusal| refused("find the host under /backup/node", refusal))
}

/// The names in a directory that are text.
fn names(tree: &Tree, directory: Ino) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    tree.list(directory, 0, &mut |entry| {
        names.extend(text(entry.name));
        true
    })
    .map_err(|refusal| refused("list", refusal))?;
    Ok(names)
}

fn content(tree: &Tree, ino: Ino) -> Result<Vec<u8>, Error> {
    let size = tree.attributes(ino).map_or(0, |attributes| attributes.size);
    tree.read(ino, 0, size as usize).map_err(|refusal| refused("read", refusal))
}

fn text(name: &[u8]) -> Option<String> {
    std::str::from_utf8(name).ok().map(str::to_owned)
}

/// A refusal as a local error that keeps its errno.
fn refused(attempt: &'static str, refusal: Refusal) -> Error {
    failed(attempt, Failure::Refused(refusal))
}

fn failed(attempt: &'static str, failure: Failure) -> Error {
    let errno = match failure {
        // It was removed meanwhile.
        Failure::Refused(Refusal::Stale) => libc::ENOENT,
        other => other.errno(),
    };
    let source = io::Error::from_raw_os_error(errno);
    Error::File { attempt, path: "/backup/node".into(), source }
}
