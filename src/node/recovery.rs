//! What the data directory knows when a replica starts: the newest snapshot that can be read, and
//! the log after it.

use super::snapshots;
use crate::disk::{Disk, LogState, LogWrite, Snapshots};
use crate::error::Error;
use crate::replica::{LogReader, Recovered, SnapshotMark};
use crate::tree::{Level, Tree};
use log::{info, warn};
use raft::eraftpb::Entry;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

/// The end of the log to hand over in memory, bytes.
const TAIL_BYTES: usize = 8 << 20;
/// The same, entries.
const TAIL_ENTRIES: u64 = 16_384;
const READ_BYTES: u64 = 4 << 20;

/// Older entries, for the replica.
pub struct Reader(pub Arc<dyn Disk>);

impl LogReader for Reader {
    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> io::Result<Vec<Entry>> {
        self.0.entries(low, high, max_bytes)
    }
}

/// The replica's state and its tree as of the snapshot; committed entries are applied again.
/// [`Error::Refused`] if that is of a level which a program that `can` do so much cannot read.
pub fn recover(
    data: &Path,
    disk: &dyn Disk,
    snapshots: &Snapshots,
    can: Level,
) -> Result<(Recovered, Tree), Error> {
    let (snapshot, tree) = newest(data, snapshots, can)?;
    let log = disk.state();
    if snapshot.index < log.base {
        return Err(Error::Damaged {
            path: data.join("snapshots"),
            problem: format!(
                "the log begins after {}, but the newest snapshot that can be read is at {}. Move \
                 {} away and let this replica join again",
                log.base,
                snapshot.index,
                data.display()
            ),
        });
    }
    let failed = |source| Error::File { attempt: "read the log in", path: data.into(), source };
    let (log, tail) = agree(disk, log, &snapshot).map_err(failed)?;
    let (first, last) = log.span.unwrap_or((snapshot.index + 1, snapshot.index));
    info!("recovered: snapshot at {}, log {first}..={last}", snapshot.index);
    Ok((Recovered { hard_state: log.hard_state, snapshot, first, last, tail }, tree))
}

/// The newest readable snapshot. A damaged one is set aside by falling back to the one before; one
/// of a newer program is not.
fn newest(data: &Path, snapshots: &Snapshots, can: Level) -> Result<(SnapshotMark, Tree), Error> {
    let path = data.join("snapshots");
    for file in snapshots.list().map_err(Error::file("list", path))? {
        match snapshots::load(&file.path, can) {
            Ok(loaded) => return Ok(loaded),
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                return Err(Error::Refused(format!("{} was {error}", file.path.display())));
            }
            Err(error) => warn!("{} is not used: {error}", file.path.display()),
        }
    }
    Ok((SnapshotMark::default(), Tree::new()))
}

/// Makes log and snapshot agree. They differ after a crash between the arrival of a leader's
/// snapshot and the new beginning of the log; a snapshot holds only what was committed, so it wins.
fn agree(
    disk: &dyn Disk,
    log: LogState,
    snapshot: &SnapshotMark,
) -> io::Result<(LogState, Vec<Entry>)> {
    let Some((first, last)) = log.span else { return Ok((log, Vec::new())) };
    let same_term = |index: u64| -> io::Result<bool> {
        let entries = disk.entries(index, index + 1, u64::MAX)?;
        Ok(entries.first().is_some_and(|entry| entry.term == snapshot.term))
    };
    let agrees = snapshot.index < first || (snapshot.index <= last && same_term(snapshot.index)?);
    if agrees {
        return Ok((log, tail(disk, first, last)?));
    }
    warn!("the log ({first}..={last}) starts anew after the snapshot at {}", snapshot.index);
    let mut hard_state = log.hard_state;
    hard_state.commit = hard_state.commit.max(snapshot.index);
    if hard_state.term < snapshot.term {
        hard_state.term = snapshot.term;
        hard_state.vote = 0;
    }
    disk.write(&[LogWrite {
        restart_after: Some(snapshot.index),
        hard_state: Some(hard_state),
        ..LogWrite::default()
    }])?;
    Ok((disk.state(), Vec::new()))
}

fn tail(disk: &dyn Disk, first: u64, last: u64) -> io::Result<Vec<Entry>> {
    let mut tail = VecDeque::new();
    let mut bytes = 0;
    let mut next = first.max((last + 1).saturating_sub(TAIL_ENTRIES));
    while next <= last {
        let read = disk.entries(next, last + 1, READ_BYTES)?;
        next += read.len() as u64;
        for entry in read {
            bytes += entry.data.len();
            tail.push_back(entry);
        }
        while bytes > TAIL_BYTES && tail.len() > 1 {
            bytes -= tail.pop_front().map_or(0, |entry| entry.data.len());
        }
    }
    Ok(tail.into())
}
