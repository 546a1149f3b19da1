//! The manifest of a snapshot: the content of the znode `/backup/node/NAME/snapshots/SNAPSHOT`.

use super::files::{FileId, RepositoryFile};
use crate::error::Error;
use serde::{Deserialize, Serialize};

/// Read by people, scripts and every later version: fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of this layout; 1.
    pub version: u32,
    /// The registered host.
    pub host: String,
    pub repository: FileId,
    /// The snapshot's id for restic; its file's name.
    pub snapshot: FileId,
    pub kind: Kind,
    /// Of the stream.
    pub bytes: u64,
    /// Of the stream, taken while it was written.
    pub sha256: FileId,
    /// RFC 3339, UTC.
    pub started: String,
    pub finished: String,
    /// The replica the stream was written at.
    pub writer: String,
    /// The snapshot file and the index files this stream added: what it takes, besides the packs
    /// the repository's indexes name, to read it.
    pub files: Vec<RepositoryFile>,
    /// The packs this stream added.
    pub packs: Packs,
    /// Who had all of it, durable and verified, when the snapshot was recorded.
    pub holders: Vec<Holder>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Every byte was given and stored; restores alone.
    Full,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packs {
    pub count: u64,
    /// On disk, after deduplication and compression.
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub replica: String,
    /// When it said so, by its clock. RFC 3339, UTC.
    pub at: String,
}

impl Manifest {
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("a manifest is plain data");
        json.push(b'\n');
        json
    }

    pub fn from_json(json: &[u8]) -> Result<Manifest, Error> {
        serde_json::from_slice(json)
            .map_err(|error| Error::Backup(format!("a manifest is not as written: {error}")))
    }

    /// The znode's name: when it was finished, and the start of its id.
    pub fn name(finished: jiff::Timestamp, snapshot: FileId) -> String {
        format!("{}-{}", finished.strftime("%Y-%m-%dT%H-%M-%SZ"), snapshot.short())
    }
}

/// As in manifests and receipts: RFC 3339 in UTC, whole seconds.
pub fn timestamp(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
