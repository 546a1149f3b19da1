//! A replica that does not run: what its data directory holds, and how the last survivor of a
//! cluster goes on alone.

use super::recovery;
use crate::disk::{DataDirectory, Disk, Identity, LogState, LogWrite, RaftLog};
use crate::error::Error;
use crate::replica::SnapshotMark;
use crate::replica::entry::{self, EntryError};
use crate::tree::{LEVEL, Member, Newer, Tree};
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, ConfState, Entry, EntryType, HardState};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Bytes of entries read at once.
const READ_BYTES: u64 = 4 << 20;

/// What `keepfs inspect` tells. No secrets.
#[derive(Debug, Serialize)]
pub struct Inspection {
    pub data: PathBuf,
    /// The process that runs on it; then there is nothing of its log here.
    pub running: Option<String>,
    pub name: String,
    pub id: u64,
    /// Hexadecimal.
    pub incarnation: String,
    /// Hexadecimal; `None`: the cluster is not founded, or not joined.
    pub cluster: Option<String>,
    pub members: Vec<InspectedMember>,
    pub log: Option<Result<InspectedLog, String>>,
    pub snapshots: Vec<InspectedSnapshot>,
}

#[derive(Debug, Serialize)]
pub struct InspectedMember {
    pub id: u64,
    pub name: String,
    pub address: String,
    pub learner: bool,
    /// Hexadecimal; `None`: not heard of yet.
    pub incarnation: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct InspectedLog {
    pub term: u64,
    /// The replica voted for in this term; 0: none.
    pub vote: u64,
    /// What is known here to be committed: more may be.
    pub commit: u64,
    pub first: u64,
    pub last: u64,
    pub bytes: u64,
}

#[derive(Debug, Serialize)]
pub struct InspectedSnapshot {
    pub index: u64,
    pub term: u64,
    pub bytes: u64,
}

/// Reads what can be read. [`Error::DataDirectory`] if it is no replica's directory.
pub fn inspect(data: &Path) -> Result<Inspection, Error> {
    let identity = DataDirectory::identity_in(data)?.ok_or_else(|| no_replica(data))?;
    let running = DataDirectory::user_of(data)?;
    let hex = |number: u64| format!("{number:016x}");
    let member = |member: &Member| InspectedMember {
        id: member.id.0,
        name: member.name.clone(),
        address: member.address.clone(),
        learner: member.learner,
        incarnation: (member.incarnation != 0).then(|| hex(member.incarnation)),
    };
    let log = match &running {
        Some(_) => None,
        None => Some(inspect_log(data).map_err(|error| error.to_string())),
    };
    let snapshots = DataDirectory::snapshots_in(data)?.into_iter();
    let snapshots = snapshots.map(|file| InspectedSnapshot {
        index: file.index,
        term: file.term,
        bytes: file.bytes,
    });
    Ok(Inspection {
        data: data.to_path_buf(),
        running,
        id: identity.id.0,
        incarnation: hex(identity.incarnation),
        cluster: identity.cluster.map(|cluster| format!("{cluster:032x}")),
        members: identity.members.iter().map(member).collect(),
        name: identity.name,
        log,
        snapshots: snapshots.collect(),
    })
}

fn inspect_log(data: &Path) -> Result<InspectedLog, Error> {
    let directory = DataDirectory::open(data)?;
    let log = RaftLog::open(&directory.log())?;
    let LogState { hard_state, base, span } = log.state();
    let (first, last) = span.unwrap_or((base + 1, base));
    let HardState { term, vote, commit, .. } = hard_state;
    Ok(InspectedLog { term, vote, commit, first, last, bytes: log.bytes() })
}

/// The directory was moved, and is as new as it was: its replica votes as before. Its name.
pub fn trust_place(data: &Path) -> Result<String, Error> {
    let identity = DataDirectory::identity_in(data)?.ok_or_else(|| no_replica(data))?;
    DataDirectory::open(data)?.settle()?;
    Ok(identity.name)
}

/// What became of a survivor.
#[derive(Debug)]
pub struct Survivor {
    pub name: String,
    /// The last entry that is in its tree now.
    pub last: u64,
    /// The entries among them that were not known to be committed.
    pub uncommitted: u64,
    pub inodes: u64,
    /// Those that were members, and are none any more.
    pub gone: Vec<String>,
}

/// Makes a replica whose cluster has lost its majority for good the only one of a new cluster, with
/// all that its log holds, be it known to be committed or not. The others of the old cluster,
/// should they come back, are strangers to it. May be done again if it was interrupted.
pub fn stand_alone(data: &Path) -> Result<Survivor, Error> {
    let identity = DataDirectory::identity_in(data)?.ok_or_else(|| no_replica(data))?;
    if identity.cluster.is_none() {
        return Err(Error::DataDirectory {
            path: data.to_path_buf(),
            problem: "belongs to no cluster yet: there is nothing to recover".into(),
        });
    }
    let directory = DataDirectory::open(data)?;
    let disk = RaftLog::open(&directory.log())?;
    let snapshots = directory.snapshots()?;
    let (recovered, mut tree) = recovery::recover(directory.path(), &disk, &snapshots, LEVEL)?;
    apply_all(data, &disk, &mut tree, recovered.last)?;
    let before = identity.members.clone();
    let identity = alone(identity)?;
    tree.refound(identity.cluster.unwrap_or_default(), identity.members.clone());
    let mut conf = ConfState::default();
    conf.voters.push(identity.id.0);
    let term = recovered.hard_state.term + 1;
    let mark = SnapshotMark { index: tree.zxid(), term, conf };
    let failed = |source| Error::File { attempt: "write into", path: data.to_path_buf(), source };
    snapshots.write(&mark, |to| tree.write_snapshot(to)).map_err(failed)?;
    let mut hard_state = HardState::default();
    (hard_state.term, hard_state.commit) = (term, mark.index);
    let restart_after = Some(mark.index);
    let hard_state = Some(hard_state);
    disk.write(&[LogWrite { restart_after, hard_state, ..LogWrite::default() }]).map_err(failed)?;
    directory.write_identity(&identity)?;
    let others = before.into_iter().filter(|member| member.id != identity.id);
    Ok(Survivor {
        name: identity.name,
        last: recovered.last,
        uncommitted: recovered.last.saturating_sub(recovered.hard_state.commit),
        inodes: tree.usage().inodes,
        gone: others.map(|member| member.name).collect(),
    })
}

/// The same replica, in a cluster of its own.
fn alone(old: Identity) -> Result<Identity, Error> {
    let random = DataDirectory::new_incarnation;
    let own = old.members.iter().find(|member| member.id == old.id).cloned().ok_or_else(|| {
        Error::Other(format!("{} is no member of its own cluster: it was removed", old.name))
    })?;
    let incarnation = random()?;
    Ok(Identity {
        cluster: Some(u128::from(random()?) << 64 | u128::from(random()?)),
        members: vec![Member { learner: false, incarnation, ..own }],
        heard: Default::default(),
        incarnation,
        ..old
    })
}

fn apply_all(data: &Path, disk: &RaftLog, tree: &mut Tree, last: u64) -> Result<(), Error> {
    let damaged = |problem: String| Error::Damaged { path: data.join("log"), problem };
    while tree.zxid() < last {
        let read = disk.entries(tree.zxid() + 1, last + 1, READ_BYTES);
        for entry in read.map_err(|error| damaged(error.to_string()))? {
            let index = entry.index;
            apply(tree, entry).map_err(|why| match why {
                EntryError::Newer(newer) => newer_log(data, newer),
                why => damaged(format!("entry {index}: {why}")),
            })?;
        }
    }
    Newer::check(tree.level(), LEVEL).map_err(|newer| newer_log(data, newer))
}

fn newer_log(data: &Path, newer: Newer) -> Error {
    Error::Refused(format!("{} was {newer}", data.join("log").display()))
}

/// As [`crate::replica::Replica::apply`] has it, but that nobody is told.
fn apply(tree: &mut Tree, entry: Entry) -> Result<(), EntryError> {
    let bytes = match entry.get_entry_type() {
        EntryType::EntryNormal => entry.data,
        _ => {
            let mut change = ConfChangeV2::default();
            let merged = change.merge_from_bytes(&entry.data);
            merged.map_err(|error| EntryError::Damaged(error.to_string()))?;
            entry.context
        }
    };
    if bytes.is_empty() {
        tree.skip(entry.index);
        return Ok(());
    }
    let (stamp, proposal) = entry::decode(&bytes, LEVEL)?;
    tree.apply(entry.index, stamp, &proposal);
    Ok(())
}

fn no_replica(data: &Path) -> Error {
    Error::DataDirectory {
        path: data.to_path_buf(),
        problem: "is no replica's: it has no `identity`".into(),
    }
}
