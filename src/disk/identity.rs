//! `DIR/identity`: whose data directory this is. A few lines of TOML that operators can read.

use super::directory::replace_file;
use crate::error::Error;
use crate::tree::{Member, ReplicaId};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Format of the whole data directory.
pub const FORMAT: u32 = 1;

const PREFACE: &str = "\
# Whose data directory this is. Written by keepfs; do not edit it, and never run two replicas from
# copies of one directory.

";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: ReplicaId,
    pub name: String,
    /// Known once the cluster has been founded, or joined.
    pub cluster: Option<u128>,
    /// The address book as last seen, to find the others with after a restart.
    pub members: Vec<Member>,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    id: u64,
    name: String,
    cluster: Option<String>,
    #[serde(default)]
    members: Vec<FileMember>,
}

#[derive(Serialize, Deserialize)]
struct FileMember {
    id: u64,
    name: String,
    address: String,
    learner: bool,
}

/// Read before the rest, whose shape depends on it.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl Identity {
    /// `None` if there is no such file.
    pub(super) fn read(path: &Path) -> Result<Option<Identity>, Error> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::file("read", path))?,
        };
        let damaged = |problem: String| Error::Damaged { path: path.to_path_buf(), problem };
        let FormatOnly { format } =
            toml::from_str(&text).map_err(|error| damaged(error.message().to_string()))?;
        if format != FORMAT {
            let age = if format > FORMAT { "newer" } else { "older" };
            return Err(Error::DataDirectory {
                path: path.parent().unwrap_or(path).to_path_buf(),
                problem: format!(
                    "written by {age} keepfs (format {format}; this one reads format {FORMAT}); \
                     start it with the keepfs that wrote it"
                ),
            });
        }
        let file: File =
            toml::from_str(&text).map_err(|error| damaged(error.message().to_string()))?;
        let cluster = file
            .cluster
            .map(|hex| u128::from_str_radix(&hex, 16))
            .transpose()
            .map_err(|error| damaged(format!("`cluster`: {error}")))?;
        let members = file.members.into_iter().map(FileMember::into_member).collect();
        Ok(Some(Identity { id: ReplicaId(file.id), name: file.name, cluster, members }))
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), Error> {
        let file = File {
            format: FORMAT,
            id: self.id.0,
            name: self.name.clone(),
            cluster: self.cluster.map(|cluster| format!("{cluster:032x}")),
            members: self.members.iter().map(FileMember::of).collect(),
        };
        let text =
            toml::to_string(&file).map_err(|error| Error::Other(format!("identity: {error}")))?;
        replace_file(path, format!("{PREFACE}{text}").as_bytes())
            .map_err(Error::file("write", path))
    }
}

impl FileMember {
    fn of(member: &Member) -> FileMember {
        FileMember {
            id: member.id.0,
            name: member.name.clone(),
            address: member.address.clone(),
            learner: member.learner,
        }
    }

    fn into_member(self) -> Member {
        Member {
            id: ReplicaId(self.id),
            name: self.name,
            address: self.address,
            learner: self.learner,
        }
    }
}
