//! `DIR/identity`: whose data directory this is. A few lines of TOML that operators can read.

use super::private::replace_file;
use crate::error::Error;
use crate::tree::{Incarnation, Member, ReplicaId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Format of the whole data directory.
pub const FORMAT: u32 = 2;

const PREFACE: &str = "\
# Whose data directory this is. Written by keepfs; do not edit it, and never run two replicas from
# copies of one directory.

";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// 0 while it is about to join.
    pub id: ReplicaId,
    pub name: String,
    /// Of this directory: as long as it, and nowhere else.
    pub incarnation: Incarnation,
    /// Known once the cluster has been founded, or joined.
    pub cluster: Option<u128>,
    /// The address book as last seen, to find the others with after a restart; founders whose
    /// incarnation it does not tell have the one they were first heard with.
    pub members: Vec<Member>,
    /// The newest start that each member was heard of.
    pub heard: BTreeMap<ReplicaId, u64>,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    id: u64,
    name: String,
    incarnation: Hex,
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
    #[serde(default)]
    incarnation: Hex,
    /// The newest start heard of.
    #[serde(default)]
    start: Hex,
}

/// A number that TOML has no room for, in hexadecimal.
#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Hex(u64);

impl From<Hex> for String {
    fn from(Hex(number): Hex) -> String {
        format!("{number:016x}")
    }
}

impl TryFrom<String> for Hex {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Hex, Self::Error> {
        u64::from_str_radix(&text, 16).map(Hex)
    }
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
        let starts = file.members.iter().filter(|member| member.start.0 != 0);
        Ok(Some(Identity {
            id: ReplicaId(file.id),
            name: file.name,
            incarnation: file.incarnation.0,
            cluster,
            heard: starts.map(|member| (ReplicaId(member.id), member.start.0)).collect(),
            members: file.members.into_iter().map(FileMember::into_member).collect(),
        }))
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), Error> {
        let file = File {
            format: FORMAT,
            id: self.id.0,
            name: self.name.clone(),
            incarnation: Hex(self.incarnation),
            cluster: self.cluster.map(|cluster| format!("{cluster:032x}")),
            members: self.members.iter().map(|member| self.file_member(member)).collect(),
        };
        let text =
            toml::to_string(&file).map_err(|error| Error::Other(format!("identity: {error}")))?;
        replace_file(path, format!("{PREFACE}{text}").as_bytes())
            .map_err(Error::file("write", path))
    }

    fn file_member(&self, member: &Member) -> FileMember {
        FileMember {
            id: member.id.0,
            name: member.name.clone(),
            address: member.address.clone(),
            learner: member.learner,
            incarnation: Hex(member.incarnation),
            start: Hex(self.heard.get(&member.id).copied().unwrap_or_default()),
        }
    }
}

impl FileMember {
    fn into_member(self) -> Member {
        Member {
            id: ReplicaId(self.id),
            name: self.name,
            address: self.address,
            learner: self.learner,
            incarnation: self.incarnation.0,
        }
    }
}
